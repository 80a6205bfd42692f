//! The guard between TLS and hyper where HTTP/2 is spoken. hyper and h2 hold most of its limits; this one holds those of
//! frames that ask for nothing, and those of time, for the sweep (contract E33). It reads heads of frames and changes
//! nothing.
//!
//! Invariant: a client that says too much is told so, closed and counted; hyper sees nothing behind that.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frames, PREFACE_BYTES, calm_down};
use super::places::Place;
use super::streams::{Flood, Streams};
use super::watch::Wait;
use super::wire::Tls;

pub struct FrameGuard {
    stream: Tls,
    place: Place,
    coming: Frames,
    going: Frames,
    streams: Streams,
    /// The client takes nothing at the moment.
    is_stuck: bool,
}

impl FrameGuard {
    pub fn new(stream: Tls, place: Place) -> FrameGuard {
        let streams = Streams::new(place.places().now());
        if place.is_surplus {
            // A place must be free again soon, whether or not it asks for anything.
            place.watch.starts(Wait::Farewell, place.places().now());
        }
        let (coming, going) = (Frames::after(PREFACE_BYTES), Frames::after(0));
        FrameGuard { stream, place, coming, going, streams, is_stuck: false }
    }

    fn came(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        let FrameGuard { coming, streams, place, .. } = self;
        let now = place.places().now();
        let read = coming.read(bytes, |frame| streams.came(frame, now));
        self.notice();
        read
    }

    fn went(&mut self, bytes: &[u8]) {
        let FrameGuard { going, streams, .. } = self;
        // Ours are never too many.
        let _ = going.read(bytes, |frame| {
            streams.went(frame);
            Ok::<(), Flood>(())
        });
    }

    /// Tells the sweep what the connection waits for now, and the door what happened.
    fn notice(&mut self) {
        let (places, watch) = (self.place.places(), &self.place.watch);
        let now = places.now();
        let tally = std::mem::take(&mut self.streams.tally);
        if tally.opened > 0 {
            watch.asked();
            places.http2.streams.add_shared(tally.opened);
        }
        if tally.resets > 0 {
            places.http2.resets.add_shared(tally.resets);
        }
        if tally.too_large > 0 {
            places.http2.too_large.add_shared(tally.too_large);
        }
        let waits = |wait: Wait, is_new: bool, waits: bool| {
            if is_new || !waits {
                watch.ends(wait);
            }
            if waits {
                watch.starts(wait, now);
            }
        };
        waits(Wait::Head, false, self.coming.is_within_control() || self.streams.in_headers());
        waits(Wait::Body, tally.body_ended, self.streams.any_has_body());
        waits(Wait::Write, tally.answered, self.is_stuck || self.streams.any_is_answered());
        let (is_idle, is_leaving) = (self.streams.are_none(), places.door.is_draining() || watch.is_leaving());
        waits(Wait::Idle, false, is_idle && !is_leaving);
        if !self.place.is_surplus {
            waits(Wait::Farewell, false, is_idle && is_leaving);
        }
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.is_stuck = written.is_pending();
        self.notice();
        written
    }

    /// As far as that can be said at once, and not in the middle of something else.
    fn says_calm_down(&mut self, cx: &mut Context<'_>) -> io::Error {
        self.place.places().http2.floods.add_shared(1);
        if !self.going.is_within() {
            let frame = calm_down(self.streams.newest());
            if Pin::new(&mut self.stream).poll_write(cx, &frame).is_ready() {
                let _ = Pin::new(&mut self.stream).poll_flush(cx);
            }
        }
        io::Error::new(ErrorKind::ConnectionAborted, "frames that ask for nothing")
    }
}

impl AsyncRead for FrameGuard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut guard.stream).poll_read(cx, buffer))?;
        match guard.came(&buffer.filled()[before..]) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Flood) => Poll::Ready(Err(guard.says_calm_down(cx))),
        }
    }
}

impl AsyncWrite for FrameGuard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.went(&bytes[..count]);
        }
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut left)) = written {
            for slice in slices {
                let now = left.min(slice.len());
                self.went(&slice[..now]);
                left -= now;
            }
        }
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// What TLS holds back was taken by nobody yet.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if self.is_stuck != flushed.is_pending() {
            self.is_stuck = flushed.is_pending();
            self.notice();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let places = self.place.places();
        self.place.watch.starts(Wait::Farewell, places.now());
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
