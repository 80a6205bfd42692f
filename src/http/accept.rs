//! Accepting connections, also those for which there is no room: they hear 503 and are not left hanging (contract E34).
//!
//! Invariant: whatever accepting fails of, `poll` returns: who polls it can still end slow connections and stop.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use super::limits::HEAD_BYTES;
use super::places::Door;
use super::refusal::{RETRY_AFTER_S, Refusal};

/// How long nothing is accepted after the system had no room for a connection, and not even for one to say no to.
const NO_ROOM: Duration = Duration::from_millis(50);
/// How long a connection that was turned away may read why.
const LEAVING: Duration = Duration::from_secs(1);

pub struct Acceptor {
    listener: TcpListener,
    door: Arc<Door>,
    /// The one that has been leaving for longest first.
    leaving: VecDeque<Leaving>,
    /// A descriptor to give up when there are no others: it lets one connection in to hear 503.
    spare: Option<File>,
    /// Nothing is accepted before it ends.
    pause: Option<Pin<Box<Sleep>>>,
    fails: Fails,
}

impl Acceptor {
    pub fn new(listener: std::net::TcpListener, door: Arc<Door>) -> io::Result<Acceptor> {
        listener.set_nonblocking(true)?;
        let (listener, leaving) = (TcpListener::from_std(listener)?, VecDeque::new());
        Ok(Acceptor { listener, door, leaving, spare: spare(), pause: None, fails: Fails::default() })
    }

    /// The next connection that there is a descriptor for; those for which there is none are turned away.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok(accepted) => return Poll::Ready(accepted),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => self.without_room(&error, cx),
            }
        }
    }

    fn without_room(&mut self, error: &io::Error, cx: &mut Context<'_>) {
        self.fails.tell(error);
        let accepted = if is_of_descriptors(error) && self.give_up_a_descriptor() {
            self.listener.poll_accept(cx)
        } else {
            Poll::Pending
        };
        match accepted {
            Poll::Ready(Ok((stream, _))) => self.turn_away(stream),
            _ => {
                self.spare = self.spare.take().or_else(spare);
                self.pause = Some(Box::pin(sleep(NO_ROOM)));
            }
        }
    }

    /// What the kernel has accepted for us already, at the end: closing the listener would reset it.
    pub fn next_waiting(&mut self) -> Option<(TcpStream, SocketAddr)> {
        loop {
            match self.accept_now() {
                Ok(accepted) => return Some(accepted),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if is_of_descriptors(&error) && self.give_up_a_descriptor() => {
                    let (stream, _) = self.accept_now().ok()?;
                    self.turn_away(stream);
                }
                Err(_) => return None,
            }
        }
    }

    fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let stream = std::net::TcpStream::from(rustix::net::accept_with(self.listener.as_fd(), flags)?);
        let peer = stream.peer_addr()?;
        Ok((TcpStream::from_std(stream)?, peer))
    }

    /// The answer to a connection for which there is no place: without hearing it.
    pub fn turn_away(&mut self, stream: TcpStream) {
        let status = Refusal::Overloaded.status();
        let answer = format!(
            "HTTP/1.1 {status}\r\nretry-after: {RETRY_AFTER_S}\r\ncache-control: no-store\r\ncontent-length: 0\r\n\
             connection: close\r\n\r\n"
        );
        if rustix::net::send(&stream, answer.as_bytes(), SendFlags::DONTWAIT).is_err() {
            return;
        }
        self.door.turn_away();
        // The end is said now; the socket closes when the client may have heard it.
        let _ = rustix::net::shutdown(&stream, rustix::net::Shutdown::Write);
        let lingers = self.door.may_linger() || (self.leaving.pop_front().is_some() && self.door.may_linger());
        let leaving = Leaving { stream, since: Instant::now(), door: lingers.then(|| self.door.clone()) };
        if lingers {
            self.leaving.push_back(leaving);
        }
    }

    /// Once a second: closes those that had the time to leave, and gets ready for the next lack of descriptors.
    pub fn sweep(&mut self) {
        while self.leaving.front().is_some_and(|leaving| leaving.since.elapsed() >= LEAVING) {
            self.leaving.pop_front();
        }
        self.spare = self.spare.take().or_else(spare);
        self.fails.sweep();
    }

    fn give_up_a_descriptor(&mut self) -> bool {
        self.leaving.pop_front().is_some() || self.spare.take().is_some()
    }
}

/// Any file does; `None` when there is no descriptor for it now.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// A connection that was answered and not heard. What it has sent is read before the close, or else the close would
/// take the answer back.
struct Leaving {
    stream: TcpStream,
    since: Instant,
    /// Where it counts as leaving.
    door: Option<Arc<Door>>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let _ = rustix::net::recv(&self.stream, &mut [0; HEAD_BYTES], RecvFlags::DONTWAIT);
        self.door.iter().for_each(|door| door.left());
    }
}

/// Whether accepting fails, told when that changes and not for each connection.
#[derive(Default)]
struct Fails {
    told: bool,
    since_sweep: bool,
}

impl Fails {
    fn tell(&mut self, error: &io::Error) {
        if !self.told {
            tracing::warn!("connections are turned away, there is no room for them: {error}");
        }
        (self.told, self.since_sweep) = (true, true);
    }

    fn sweep(&mut self) {
        if self.told && !self.since_sweep {
            tracing::info!("connections are accepted again");
            self.told = false;
        }
        self.since_sweep = false;
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// The process, or the system, has no file descriptor left.
fn is_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
