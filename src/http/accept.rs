//! Accepting connections, also those for which there is no room: they hear 503 or are refused, and are not left hanging
//! (contract E34).
//!
//! Invariant: whatever accepting fails of, `poll` returns: who polls it can still end slow connections and stop.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::gate::Gate;
use super::listen::BACKLOG;
use super::places::Door;
use super::reserve::{RESERVE, Words};
use super::rush::{Newcomers, Rush};

/// How long nothing is accepted after the system had no room for a connection, and not even for one to say no to.
const NO_ROOM: Duration = Duration::from_millis(50);
/// The same after another process, one that takes over, has shut a socket that it shares with us.
const SHUT_ELSEWHERE: Duration = Duration::from_millis(5);
/// How often it is waited for room at the end, for those who wait to be accepted; then they are reset.
const LAST_WAITS: usize = 20;

pub struct Acceptor {
    gate: Gate,
    /// Those who came before the gate was shut, and have not been let in.
    line: Line,
    door: Arc<Door>,
    words: Words,
    newcomers: Arc<Newcomers>,
    rush: Rush,
    /// Nothing is accepted before it ends.
    pause: Option<Pin<Box<Sleep>>>,
    fails: Fails,
}

impl Acceptor {
    /// Whoever is turned away hears `words`.
    pub fn new(
        listener: std::net::TcpListener,
        door: Arc<Door>,
        words: Words,
        newcomers: Arc<Newcomers>,
    ) -> io::Result<Acceptor> {
        let (gate, line) = (Gate::new(listener)?, Line::at(door.clone()));
        let (rush, fails) = (Rush::default(), Fails::default());
        Ok(Acceptor { gate, line, door, words, newcomers, rush, pause: None, fails })
    }

    /// The next connection that there is a descriptor for; those for which there is none are turned away.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if self.newcomers.poll_room(cx).is_pending() {
                if self.line.is_empty() && self.rush.stands() {
                    self.look_who_waits();
                }
                return Poll::Pending;
            }
            let accepted = match self.line.next() {
                Some(waited) => with_peer(waited),
                None => match self.gate.poll_accept(cx) {
                    Poll::Ready(accepted) => accepted,
                    Poll::Pending => {
                        self.rush.rests();
                        return Poll::Pending;
                    }
                },
            };
            self.rush.comes();
            match accepted {
                // Where TLS is spoken it is seen more closely who has to be told (`Handshakes::is_behind`).
                Ok((stream, _)) if self.words == Words::Http && self.rush.tells_next() => self.turn_away(stream),
                Ok(accepted) if RESERVE.spares_what_was_accepted() => return Poll::Ready(accepted),
                Ok((stream, _)) => self.turn_away(stream),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    self.pause = Some(Box::pin(sleep(SHUT_ELSEWHERE)))
                }
                Err(error) => self.without_room(&error),
            }
        }
    }

    /// They are let in in their turn. When there are too many, all others are refused until the last of these was; where
    /// nobody can be refused, the last ones are told that there is no room.
    fn look_who_waits(&mut self) {
        self.take_in();
        let fitting = self.rush.fitting(self.line.len());
        if fitting == self.line.len() {
            return;
        }
        if self.gate.may_shut() {
            self.gate.shut();
            self.door.count_shut();
            return;
        }
        while self.line.len() > fitting
            && let Some(last) = self.line.give_up_last()
        {
            RESERVE.turn_away(last, &self.door, self.words);
        }
    }

    fn take_in(&mut self) {
        while self.line.len() < BACKLOG as usize && self.door.has_room_in_line() {
            match self.gate.accept_now() {
                Ok(stream) if RESERVE.spares_what_was_accepted() => self.line.add(stream),
                Ok(stream) => RESERVE.turn_away(stream, &self.door, self.words),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => break,
            }
        }
    }

    fn without_room(&mut self, error: &io::Error) {
        self.fails.tell(error);
        if !is_of_descriptors(error) || !self.answer_one() {
            self.pause = Some(Box::pin(sleep(NO_ROOM)));
        }
    }

    /// What the kernel has accepted for us already, at the end: closing the listener would reset it.
    pub async fn next_waiting(&mut self) -> Option<(TcpStream, SocketAddr)> {
        let mut waits = 0;
        loop {
            match self.line.next().map_or_else(|| self.gate.accept_now(), Ok).and_then(with_peer) {
                Ok(accepted) if RESERVE.spares_what_was_accepted() => return Some(accepted),
                Ok((stream, _)) => self.turn_away(stream),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if is_of_descriptors(&error) && self.somebody_waits() && waits < LAST_WAITS => {
                    if !self.answer_one() {
                        waits += 1;
                        sleep(NO_ROOM).await;
                    }
                }
                Err(_) => return None,
            }
        }
    }

    /// Without a descriptor: who waits hears it with one that is given up for that. False when nobody could be answered.
    fn answer_one(&self) -> bool {
        // Without descriptors accepting fails also when nobody waits. Whoever is leaving may stay then.
        self.somebody_waits() && RESERVE.answer_one(&self.door, self.words, || self.gate.accept_now())
    }

    fn somebody_waits(&self) -> bool {
        let mut waits = [PollFd::new(&self.gate, PollFlags::IN)];
        rustix::event::poll(&mut waits, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// The answer to a connection for which there is no place: without hearing it.
    pub fn turn_away(&self, stream: TcpStream) {
        RESERVE.turn_stream_away(stream, &self.door, self.words);
    }

    /// Once a second.
    pub fn sweep(&mut self) {
        RESERVE.sweep();
        self.fails.sweep();
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        RESERVE.close(&self.door);
    }
}

/// Those who were accepted and have not been let in: each takes a place of the door, so that no more are open than it may
/// have.
struct Line {
    streams: VecDeque<std::net::TcpStream>,
    door: Arc<Door>,
}

impl Line {
    fn at(door: Arc<Door>) -> Line {
        Line { streams: VecDeque::new(), door }
    }

    fn len(&self) -> usize {
        self.streams.len()
    }

    fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    fn add(&mut self, stream: std::net::TcpStream) {
        self.door.stand_in_line();
        self.streams.push_back(stream);
    }

    fn next(&mut self) -> Option<std::net::TcpStream> {
        let first = self.streams.pop_front();
        first.inspect(|_| self.door.leave_line(1))
    }

    fn give_up_last(&mut self) -> Option<std::net::TcpStream> {
        let last = self.streams.pop_back();
        last.inspect(|_| self.door.leave_line(1))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.door.leave_line(self.streams.len());
    }
}

fn with_peer(stream: std::net::TcpStream) -> io::Result<(TcpStream, SocketAddr)> {
    let peer = stream.peer_addr()?;
    Ok((TcpStream::from_std(stream)?, peer))
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
    use ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NotConnected)
}

/// The process, or the system, has no file descriptor left.
fn is_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
