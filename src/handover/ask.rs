//! The new process: asks for the sockets, and later says that it answers.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use super::message::{Message, VERSION};
use super::wire::{self, Link};
use super::{DoorName, Named};

/// How long the old process may take for a message. It has a thread for this alone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages with sockets. A process has at most 256 workers with two sockets each, and what its predecessors had.
const MOST_MESSAGES: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the process there belongs to another user")]
    OtherUser,
    #[error("the running process refuses: {0}")]
    Refused(String),
    #[error("the running process said what nobody expected")]
    Unexpected,
    #[error("the running process does not answer: {0}")]
    Io(#[from] io::Error),
}

pub enum Found {
    /// Nobody to take over from.
    Nobody,
    /// Its sockets; it goes on answering until it is told. Of one that died on the way those that it gave.
    Running(Predecessor, Vec<Named>),
}

/// The process that runs, and does not know yet that it will end.
pub struct Predecessor {
    link: Link,
    path: PathBuf,
    role: String,
}

impl std::fmt::Debug for Predecessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Predecessor({:?})", self.pid())
    }
}

/// Asks the process of `role` behind `path` for its sockets.
pub fn ask(path: &Path, role: &str) -> Result<Found, AskError> {
    let Some(link) = wire::connect(path, PATIENCE)? else { return Ok(Found::Nobody) };
    if !link.is_of_our_user()? {
        return Err(AskError::OtherUser);
    }
    let predecessor = Predecessor { link, path: path.to_owned(), role: role.to_owned() };
    let link = &predecessor.link;
    let mut found = Vec::new();
    match link.send(&Message::Hello { version: VERSION, role: role.to_owned() }, &[]) {
        Err(error) if is_of_its_end(&error) => return Ok(Found::Running(predecessor, found)),
        sent => sent?,
    }
    for _ in 0..MOST_MESSAGES {
        let received = match link.receive() {
            // It died. What it gave is ours; the other ports are free, or it goes on and they are not.
            Err(error) if is_of_its_end(&error) => return Ok(Found::Running(predecessor, found)),
            received => received?,
        };
        match received {
            (Message::Sockets { door, count }, sockets) if sockets.len() == count => {
                for socket in sockets {
                    found.push(named(door, socket)?);
                }
            }
            (Message::All { count }, none) if count == found.len() && none.is_empty() => {
                return Ok(Found::Running(predecessor, found));
            }
            (Message::Refused { why }, _) => return Err(AskError::Refused(why)),
            _ => return Err(AskError::Unexpected),
        }
    }
    Err(AskError::Unexpected)
}

impl Predecessor {
    pub fn pid(&self) -> Option<i32> {
        self.link.peer()
    }

    /// Says that we answer, and hears that it drains. An error leaves nothing undone here: the sockets are ours. One that lives
    /// and has given us up (we took too long) would go on for ever beside us, so it is asked once more.
    pub fn drain(self) -> Result<(), AskError> {
        let Err(error) = self.say_ready() else { return Ok(()) };
        match ask(&self.path, &self.role) {
            Ok(Found::Running(again, _)) if again.pid() == self.pid() => again.say_ready(),
            _ => Err(error),
        }
    }

    fn say_ready(&self) -> Result<(), AskError> {
        self.link.send(&Message::Ready, &[])?;
        match self.link.receive()? {
            (Message::Draining, none) if none.is_empty() => Ok(()),
            (Message::Refused { why }, _) => Err(AskError::Refused(why)),
            _ => Err(AskError::Unexpected),
        }
    }
}

fn is_of_its_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Only what listens for TCP is taken for a listener, or one that would and was shut in a rush (`http::gate`).
fn named(door: DoorName, socket: OwnedFd) -> Result<Named, AskError> {
    let fd = socket.as_fd();
    let is_internet =
        [AddressFamily::INET, AddressFamily::INET6].contains(&socket_domain(fd).map_err(io::Error::from)?);
    let is_stream = socket_type(fd).map_err(io::Error::from)? == SocketType::STREAM;
    let listens = socket_acceptconn(fd).map_err(io::Error::from)?;
    let socket = TcpListener::from(socket);
    if !is_internet || !is_stream || !(listens || crate::http::is_shut(&socket)) {
        return Err(AskError::Io(ErrorKind::InvalidData.into()));
    }
    Ok(Named { door, socket })
}
