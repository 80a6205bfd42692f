//! The old process: hands its sockets over to who asks, and is told when it may drain.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::DoorName;
use super::message::{Message, VERSION};
use super::wire::{self, Link, MOST_AT_ONCE};

/// How long a new process may take for its first word, and to take what is sent.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take from there to its being ready: it opens its doors only. Others wait so long to be heard.
const OPENING: Duration = Duration::from_secs(30);
/// After an error of the socket itself.
const PAUSE: Duration = Duration::from_secs(1);

/// What is handed over while somebody may ask. Its sockets are ours once more: a port is closed when these are, too.
#[derive(Default)]
pub struct Offer(Mutex<Vec<(DoorName, OwnedFd)>>);

/// An offer that can be asked for, at `path`.
pub struct Offered {
    listener: OwnedFd,
    offer: Arc<Offer>,
    role: &'static str,
}

impl Offer {
    pub fn of<'a>(sockets: impl IntoIterator<Item = (DoorName, BorrowedFd<'a>)>) -> io::Result<Arc<Offer>> {
        let copies = sockets.into_iter().map(|(door, socket)| Ok((door, socket.try_clone_to_owned()?)));
        Ok(Arc::new(Offer(Mutex::new(copies.collect::<io::Result<_>>()?))))
    }

    /// Nothing is handed over any more.
    pub fn close(&self) {
        self.sockets().clear();
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<(DoorName, OwnedFd)>> {
        // Nothing under this lock panics half way.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What can be sent without holding up who closes.
    fn copies(&self) -> io::Result<Vec<(DoorName, OwnedFd)>> {
        self.sockets().iter().map(|(door, socket)| Ok((*door, socket.try_clone()?))).collect()
    }
}

impl Offered {
    /// Makes the directory where there is none: a role that keeps nothing on its disk has not made it.
    pub fn at(path: &Path, role: &'static str, offer: Arc<Offer>) -> io::Result<Offered> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        Ok(Offered { listener: wire::listen(path)?, offer, role })
    }

    /// Answers one after the other until one is ready; then calls `drain` and returns. For a thread of its own.
    pub fn serve(self, drain: impl FnOnce()) {
        loop {
            match wire::accept(&self.listener) {
                Ok(link) => match self.hear(&link) {
                    Ok(true) => {
                        drain();
                        // It knows by itself that we drain if this does not reach it: our end follows.
                        let _ = link.send(&Message::Draining, &[]);
                        return;
                    }
                    Ok(false) => {}
                    Err(error) => {
                        let pid = link.peer();
                        tracing::warn!(pid, %error, "another process began to take over and did not; this one goes on");
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "nobody can take over for now");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// True when it is ready in our place.
    fn hear(&self, link: &Link) -> io::Result<bool> {
        link.wait_at_most(PATIENCE)?;
        if !link.is_of_our_user()? {
            link.send(&Message::Refused { why: "this process belongs to another user".to_owned() }, &[])?;
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let refusal = match link.receive()? {
            (Message::Hello { version: VERSION, role }, _) if role == self.role => None,
            (Message::Hello { version: VERSION, role }, _) => Some(format!("{} runs here, not {role}", self.role)),
            (Message::Hello { version, .. }, _) => {
                Some(format!("version {VERSION} of taking over is spoken here, not {version}: stop it, then start"))
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let sockets = self.offer.copies()?;
        let refusal = refusal.or_else(|| sockets.is_empty().then(|| "it is stopping already".to_owned()));
        if let Some(why) = refusal {
            link.send(&Message::Refused { why }, &[])?;
            return Ok(false);
        }
        tracing::info!(pid = link.peer(), "another process is about to take over");
        for door in DoorName::ALL {
            let of_door = sockets.iter().filter(|(of, _)| *of == door).map(|(_, socket)| socket.as_fd());
            for some in of_door.collect::<Vec<_>>().chunks(MOST_AT_ONCE) {
                link.send(&Message::Sockets { door, count: some.len() }, some)?;
            }
        }
        link.send(&Message::All { count: sockets.len() }, &[])?;
        drop(sockets);
        link.wait_at_most(OPENING)?;
        match link.receive()? {
            (Message::Ready, _) => Ok(true),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
