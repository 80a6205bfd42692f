//! The descriptor that is kept for those who come when there are no others, so that they hear 503 (contract E34).
//!
//! The table of descriptors is the process's: one that is closed here may be had by whoever accepts next, on any thread and
//! door. So the reserve is the process's too. It is a file nobody needs, or connections that were answered and are leaving:
//! closing one of these lets the next one in to be answered.
//!
//! Invariant: while nothing is in reserve, whoever is accepted is turned away and becomes the reserve. So of all acceptors
//! none lets a connection in with the last descriptor that another one gave up.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::limits::HEAD_BYTES;
use super::places::Door;
use super::refusal::{RETRY_AFTER_S, Refusal};

/// How long a connection that was turned away may read why.
const LEAVING: Duration = Duration::from_secs(1);

pub static RESERVE: Reserve = Reserve::new();

pub struct Reserve {
    /// Nothing is kept, or something is being given up at this moment: then `kept` knows.
    may_be_empty: AtomicBool,
    kept: Mutex<Kept>,
}

/// Each door bounds how many of its connections are leaving.
struct Kept {
    spare: Option<File>,
    /// The one that has been leaving for longest first.
    leaving: VecDeque<Leaving>,
}

impl Reserve {
    const fn new() -> Reserve {
        let kept = Kept { spare: None, leaving: VecDeque::new() };
        Reserve { may_be_empty: AtomicBool::new(true), kept: Mutex::new(kept) }
    }

    /// Before anybody accepts, while there are descriptors.
    pub fn fill(&self) {
        self.settle(&mut self.kept());
    }

    /// Whether a connection that was accepted may stay: not with the last descriptor, given up to answer another one.
    pub fn spares_what_was_accepted(&self) -> bool {
        // Set before that descriptor was closed, so whoever has it now sees it.
        !self.may_be_empty.load(SeqCst) || self.settle(&mut self.kept())
    }

    /// Gives up a descriptor for `accept` and answers who came with it. False when nothing was kept, or somebody else was
    /// faster.
    pub fn answer_one(&self, door: &Arc<Door>, words: Words, accept: impl FnOnce() -> io::Result<TcpStream>) -> bool {
        let mut kept = self.giving_up();
        if kept.leaving.pop_front().is_none() {
            kept.spare = None;
        }
        let accepted = accept();
        let was_accepted = accepted.is_ok();
        if let Some(leaving) = accepted.ok().and_then(|stream| Leaving::answered(stream, door, words)) {
            kept.linger(leaving);
        }
        self.settle(&mut kept);
        was_accepted
    }

    /// Answers a connection for which there is no place, without hearing it.
    pub fn turn_away(&self, stream: TcpStream, door: &Arc<Door>, words: Words) {
        if let Some(leaving) = Leaving::answered(stream, door, words) {
            let mut kept = self.kept();
            kept.linger(leaving);
            self.settle(&mut kept);
        }
    }

    /// The same of a connection that is the runtime's.
    pub fn turn_stream_away(&self, stream: tokio::net::TcpStream, door: &Arc<Door>, words: Words) {
        match stream.into_std() {
            Ok(stream) => self.turn_away(stream, door, words),
            Err(error) => tracing::debug!("a connection could not be turned away: {error}"),
        }
    }

    /// Once a second: closes those that had the time to leave.
    pub fn sweep(&self) {
        let mut kept = self.giving_up();
        kept.fill();
        while kept.leaving.front().is_some_and(|leaving| leaving.since.elapsed() >= LEAVING) {
            kept.leaving.pop_front();
        }
        self.settle(&mut kept);
    }

    /// Closes those that are leaving by a door where nobody accepts any more.
    pub fn close(&self, door: &Arc<Door>) {
        let mut kept = self.giving_up();
        kept.leaving.retain(|leaving| !Arc::ptr_eq(&leaving.door, door));
        self.settle(&mut kept);
    }

    fn giving_up(&self) -> MutexGuard<'_, Kept> {
        let kept = self.kept();
        self.may_be_empty.store(true, SeqCst);
        kept
    }

    /// After each change: an empty reserve takes a descriptor if it can have one. Whether something is kept now.
    fn settle(&self, kept: &mut Kept) -> bool {
        if kept.leaving.is_empty() {
            kept.fill();
        }
        let is_empty = kept.leaving.is_empty() && kept.spare.is_none();
        self.may_be_empty.store(is_empty, SeqCst);
        !is_empty
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing under this lock panics half way.
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Kept {
    /// Any file does; none when there is no descriptor for it now.
    fn fill(&mut self) {
        self.spare = self.spare.take().or_else(|| File::open("/dev/null").ok());
    }

    /// Where as many are leaving by its door as may, the first of them makes room.
    fn linger(&mut self, mut leaving: Leaving) {
        let door = leaving.door.clone();
        leaving.is_counted = door.may_linger() || (self.end_first_of(&door) && door.may_linger());
        if leaving.is_counted {
            self.leaving.push_back(leaving);
        }
    }

    fn end_first_of(&mut self, door: &Arc<Door>) -> bool {
        let first = self.leaving.iter().position(|leaving| Arc::ptr_eq(&leaving.door, door));
        first.and_then(|index| self.leaving.remove(index)).is_some()
    }
}

/// How a connection is told that there is no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// An answer 503.
    Http,
    /// A fatal alert `internal_error` (RFC 8446 6.2): without a handshake nothing else can be said.
    Tls,
}

impl Words {
    fn answer(self) -> String {
        if self == Words::Tls {
            return "\x15\x03\x03\x00\x02\x02\x50".to_owned();
        }
        let status = Refusal::Overloaded.status();
        format!(
            "HTTP/1.1 {status}\r\nretry-after: {RETRY_AFTER_S}\r\ncache-control: no-store\r\ncontent-length: 0\r\n\
             connection: close\r\n\r\n"
        )
    }
}

/// A connection that was answered and not heard. What it has sent is read before the close, or else the close would
/// take the answer back.
struct Leaving {
    stream: TcpStream,
    since: Instant,
    door: Arc<Door>,
    /// Among those that are leaving by the door.
    is_counted: bool,
}

impl Leaving {
    /// `None` when the client has gone already.
    fn answered(stream: TcpStream, door: &Arc<Door>, words: Words) -> Option<Leaving> {
        let answer = words.answer();
        rustix::net::send(&stream, answer.as_bytes(), SendFlags::DONTWAIT).ok()?;
        door.turn_away();
        // The end is said now; the socket closes when the client may have heard it.
        let _ = rustix::net::shutdown(&stream, Shutdown::Write);
        Some(Leaving { stream, since: Instant::now(), door: door.clone(), is_counted: false })
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let _ = rustix::net::recv(&self.stream, &mut [0; HEAD_BYTES], RecvFlags::DONTWAIT);
        if self.is_counted {
            self.door.left();
        }
    }
}
