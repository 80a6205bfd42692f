//! The guard between socket and hyper: hyper only ever sees whole request heads that are in order.
//!
//! A head that came whole, the usual case, is read where it lies in hyper's own buffer; nothing is copied but the fields
//! behind those that nobody reads. Only parts of heads, refused ones and forgotten bodies wait here.
//!
//! Invariant: bytes reach hyper in the order in which they came; behind a refusal, or a request after whose answer the
//! connection closes, none do.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::{Body, Head, find_end};
use super::limits::{Bodies, FAREWELL_BYTES, FORGOTTEN_BODY_BYTES};
use super::places::Place;
use super::refusal::Refusal;
use super::watch::Wait;
use super::wire::Wire;

/// What the next bytes from the client are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Head,
    /// So many bytes of a body for the service.
    Body(u64),
    /// So many bytes of a body that nobody wants.
    Forgotten(u64),
    /// A chunked body and what follows it: hyper finds its end, then the connection closes.
    Chunked,
    /// Nothing that anybody will read.
    Ended,
}

pub struct Guard<W> {
    stream: W,
    place: Place,
    next: Next,
    /// Came, but is not whole yet.
    held: Vec<u8>,
    /// How much of `held` was searched for the end of a head.
    searched: usize,
    /// Goes to hyper before anything else, from `given` on.
    ready: Vec<u8>,
    given: usize,
    /// Bytes that are still read after our goodbye; `None` before it.
    farewell: Option<usize>,
}

impl<W: Wire> Guard<W> {
    pub fn new(stream: W, place: Place) -> Guard<W> {
        let (held, ready) = (Vec::new(), Vec::new());
        let mut guard = Guard { stream, place, next: Next::Head, held, searched: 0, ready, given: 0, farewell: None };
        if guard.place.is_surplus {
            // Said before it is asked for: a place must be free again soon.
            guard.refuse(Refusal::Overloaded);
        }
        guard
    }

    /// Takes what came where it lies, and returns how much of it hyper gets as it lies there.
    fn admit(&mut self, came: &mut [u8]) -> usize {
        let (mut from, mut to) = (0, 0);
        while from < came.len() {
            let rest = &mut came[from..];
            let taken = match self.next {
                Next::Body(left) => {
                    let now = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.body_came(left - now as u64);
                    came.copy_within(from..from + now, to);
                    to += now;
                    now
                }
                Next::Chunked => {
                    came.copy_within(from.., to);
                    return to + came.len() - from;
                }
                // Many heads may lie here one behind the other; where the last bytes end one, each is whole.
                Next::Head if rest.ends_with(b"\r\n\r\n") && !self.is_closing() => {
                    match Head::read(rest, self.place.places().door.keeps) {
                        Ok(head) if head.is_plain() && self.passes(&head) => {
                            let length = head.compact(&mut rest[..head.length]);
                            self.head_came(&head);
                            if from != to {
                                came.copy_within(from..from + length, to);
                            }
                            to += length;
                            head.length
                        }
                        _ => break,
                    }
                }
                _ => break,
            };
            from += taken;
        }
        self.held.extend_from_slice(&came[from..]);
        self.take_held();
        to
    }

    /// Goes through what is held and makes ready what is whole.
    fn take_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        let mut at = 0;
        while at < held.len() {
            let rest = &held[at..];
            at += match self.next {
                Next::Head => match self.whole_head(rest) {
                    Ok(Some(head)) => {
                        self.make_ready(&head, &rest[..head.length]);
                        head.length
                    }
                    Ok(None) => break,
                    Err(refusal) => {
                        self.refuse(refusal);
                        rest.len()
                    }
                },
                Next::Body(left) => {
                    let now = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.ready.extend_from_slice(&rest[..now]);
                    self.body_came(left - now as u64);
                    now
                }
                Next::Forgotten(left) => {
                    let now = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.body_came(left - now as u64);
                    now
                }
                Next::Chunked => {
                    self.ready.extend_from_slice(rest);
                    rest.len()
                }
                Next::Ended => rest.len(),
            };
        }
        if at == held.len() {
            self.searched = 0;
            self.place.watch.ends(Wait::Head);
        } else {
            self.held = if at == 0 { held } else { held[at..].to_vec() };
            self.place.watch.starts(Wait::Head, self.place.places().now());
        }
    }

    fn whole_head(&mut self, bytes: &[u8]) -> Result<Option<Head>, Refusal> {
        match find_end(bytes, self.searched)? {
            None => {
                self.searched = bytes.len();
                Ok(None)
            }
            Some(_) => {
                self.searched = 0;
                Head::read(bytes, self.place.places().door.keeps).map(Some)
            }
        }
    }

    /// Whether hyper may have this head with nothing added, and the connection goes on after it.
    fn passes(&self, head: &Head) -> bool {
        match (self.place.places().door.bodies, head.body) {
            (_, Body::None) => true,
            (Bodies::Passed, Body::Length(_)) => true,
            (Bodies::Passed, Body::Chunked) | (Bodies::Forgotten, _) => false,
        }
    }

    fn make_ready(&mut self, head: &Head, bytes: &[u8]) {
        let forgets = self.place.places().door.bodies == Bodies::Forgotten;
        let last = self.is_closing()
            || match head.body {
                Body::None => false,
                Body::Length(length) => forgets && (length > FORGOTTEN_BODY_BYTES || head.expects),
                Body::Chunked => true,
            };
        head.rewrite(bytes, last, forgets, &mut self.ready);
        self.head_came(head);
        if last && (forgets || head.body == Body::None) {
            self.next = Next::Ended;
        }
    }

    fn head_came(&mut self, head: &Head) {
        let forgets = self.place.places().door.bodies == Bodies::Forgotten;
        self.next = match head.body {
            Body::None => Next::Head,
            Body::Length(length) if forgets => Next::Forgotten(length),
            Body::Length(length) => Next::Body(length),
            Body::Chunked => Next::Chunked,
        };
        let (watch, now) = (&self.place.watch, self.place.places().now());
        watch.ends(Wait::Head);
        watch.asked();
        if self.next != Next::Head {
            watch.starts(Wait::Body, now);
        }
    }

    fn body_came(&mut self, left: u64) {
        self.next = match self.next {
            _ if left == 0 => Next::Head,
            Next::Forgotten(_) => Next::Forgotten(left),
            _ => Next::Body(left),
        };
        if left == 0 {
            self.place.watch.ends(Wait::Body);
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.ready.extend_from_slice(refusal.head().as_bytes());
        self.next = Next::Ended;
        self.place.watch.ends(Wait::Idle);
    }

    /// Each further answer is the connection's last.
    fn is_closing(&self) -> bool {
        self.place.places().door.is_draining()
    }

    /// hyper asks for a next head only when the answer before is written: a read that waits for one is idleness.
    fn notice_idleness(&self, waits: bool) {
        let watch = &self.place.watch;
        if !waits {
            watch.ends(Wait::Idle);
        } else if self.next == Next::Head && self.held.is_empty() {
            watch.starts(Wait::Idle, self.place.places().now());
        }
    }

    fn give_ready(&mut self, buffer: &mut ReadBuf<'_>) {
        let now = buffer.remaining().min(self.ready.len() - self.given);
        buffer.put_slice(&self.ready[self.given..self.given + now]);
        self.given += now;
        if self.given == self.ready.len() {
            // Rare enough to give the memory back: an idle connection holds none here.
            self.ready = Vec::new();
            self.given = 0;
        }
    }

    /// Whether the client may have sent what nobody has read: closing now would reset the connection, and the client
    /// might lose the answer.
    fn leaves_bytes_unread(&self) -> bool {
        self.next != Next::Head || !self.held.is_empty() || self.is_closing()
    }
}

impl<W: Wire> AsyncRead for Guard<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = &mut *self;
        loop {
            if !guard.ready.is_empty() {
                guard.give_ready(buffer);
                return Poll::Ready(Ok(()));
            }
            if guard.next == Next::Ended {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            let read = Pin::new(&mut guard.stream).poll_read(cx, buffer);
            guard.notice_idleness(read.is_pending());
            ready!(read)?;
            let came = &mut buffer.filled_mut()[before..];
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = if guard.held.is_empty() {
                guard.admit(came)
            } else {
                guard.held.extend_from_slice(came);
                guard.take_held();
                0
            };
            buffer.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<W: Wire> AsyncWrite for Guard<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // What a wire holds back was taken by nobody yet.
        if W::IS_SOCKET { flushed } else { self.wrote(flushed) }
    }

    /// Closing the socket says goodbye too, with a system call less; only where bytes are left unread it takes a
    /// farewell: ours, then whatever still comes, up to a bound, then the close. TLS has a goodbye of its own.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = &mut *self;
        if guard.farewell.is_none() {
            let leaves_bytes_unread = guard.leaves_bytes_unread();
            if W::IS_SOCKET && !leaves_bytes_unread {
                return Poll::Ready(Ok(()));
            }
            guard.place.watch.starts(Wait::Farewell, guard.place.places().now());
            ready!(Pin::new(&mut guard.stream).poll_shutdown(cx))?;
            guard.farewell = Some(if leaves_bytes_unread { FAREWELL_BYTES } else { 0 });
        }
        let mut scratch = [0; 4_096];
        while let Some(left @ 1..) = guard.farewell {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut guard.stream).poll_read(cx, &mut buffer))?;
            let came = buffer.filled().len();
            guard.farewell = Some(if came == 0 { 0 } else { left.saturating_sub(came) });
        }
        Poll::Ready(Ok(()))
    }
}

impl<W> Guard<W> {
    fn wrote<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let (watch, now) = (&self.place.watch, self.place.places().now());
        match &written {
            Poll::Pending => watch.starts(Wait::Write, now),
            Poll::Ready(_) => watch.ends(Wait::Write),
        }
        written
    }
}
