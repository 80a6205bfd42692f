//! Who had the ports before this process and who gets them after it: a supervisor, a process that runs, nobody.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Failure;
use super::threads::Lost;
use crate::config::Config;
use crate::handover::{self, AskError, DoorName, Found, Named, Offer, Offered, Predecessor};
use crate::http;
use crate::supervisor;

/// How a role comes to its ports.
pub struct Arrival {
    role: &'static str,
    takeover: bool,
    activated: Vec<Named>,
}

/// Sockets that are bound already.
#[derive(Default)]
pub struct Handed {
    sockets: Vec<Named>,
    from: Origin,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Origin {
    /// Each is bound again at every start, whatever the config says.
    #[default]
    Supervisor,
    /// It has what its own config said.
    Predecessor,
}

impl Arrival {
    /// For the thread that called, before there are others.
    pub fn new(role: &'static str, takeover: bool) -> Result<Arrival, Failure> {
        let activated = supervisor::activated().map_err(Failure::usage)?;
        Ok(Arrival { role, takeover, activated })
    }

    /// Asks for the sockets of the process that runs. What is built before this call is not built in vain for it: it goes
    /// on until it is told that we answer.
    pub fn ask(self, config: &Config) -> Result<(Handed, Option<Predecessor>), Failure> {
        let activated = Handed { sockets: self.activated, from: Origin::Supervisor };
        if !self.takeover {
            return Ok((activated, None));
        }
        let path = handover::socket_path(config.data_directory(), self.role);
        match handover::ask(&path, self.role) {
            Ok(Found::Running(predecessor, sockets)) => {
                Ok((Handed { sockets, from: Origin::Predecessor }, Some(predecessor)))
            }
            Ok(Found::Nobody) => {
                tracing::info!(socket = %path.display(), "nobody to take over from; this is a start like any other");
                Ok((activated, None))
            }
            Err(error) => {
                let message = format!("--takeover: {}: {error}; it goes on as before", path.display());
                Err(if matches!(error, AskError::Io(_)) { Failure::internal(message) } else { Failure::usage(message) })
            }
        }
    }
}

impl Handed {
    /// Those of a door, those of one address beside each other. `wanted` is what the config says: a supervisor may have
    /// bound something else and is right, of a predecessor only what is wanted still is taken.
    pub fn take(&mut self, door: DoorName, wanted: SocketAddr) -> std::io::Result<Vec<Vec<TcpListener>>> {
        let from = self.from;
        let mut groups: Vec<(SocketAddr, Vec<TcpListener>)> = Vec::new();
        for Named { socket, .. } in self.sockets.extract_if(.., |named| named.door == door) {
            let address = socket.local_addr()?;
            let is_wanted = address.ip() == wanted.ip() && (wanted.port() == 0 || wanted.port() == address.port());
            if from == Origin::Predecessor && !is_wanted {
                continue;
            }
            match groups.iter_mut().find(|(known, _)| *known == address) {
                Some((_, group)) => group.push(socket),
                None => groups.push((address, vec![socket])),
            }
        }
        Ok(groups.into_iter().map(|(_, group)| group).collect())
    }

    /// One more socket where there are fewer than workers. A supervisor keeps its own open over a restart and knows no
    /// other: one of ours would have a queue that a restart resets, so there the queue is shared.
    pub fn one_more(&self, group: &[TcpListener]) -> std::io::Result<TcpListener> {
        let own = || group[0].local_addr().and_then(http::listen);
        match self.from {
            Origin::Predecessor => own().or_else(|_| group[0].try_clone()),
            Origin::Supervisor => group[0].try_clone(),
        }
    }

    /// What no door took. A predecessor's are closed with this; a supervisor's stay open with it, and nobody accepts there.
    pub fn finish(self) {
        if self.from == Origin::Supervisor {
            for Named { door, socket } in &self.sockets {
                let address = socket.local_addr().map(|address| address.to_string()).unwrap_or_default();
                tracing::warn!(door = door.word(), address, "a socket was given for a door that is not opened");
            }
        }
    }
}

/// Who may take over from this process.
pub struct Successor(oneshot::Receiver<()>);

impl Successor {
    /// To be called once the doors are open: tells the predecessor so, and offers the sockets to whoever comes next.
    pub async fn expect(
        config: &Config,
        role: &'static str,
        predecessor: Option<Predecessor>,
        offer: Arc<Offer>,
        lost: &Lost,
    ) -> Result<Successor, Failure> {
        if let Some(predecessor) = predecessor {
            let pid = predecessor.pid();
            match tokio::task::spawn_blocking(|| predecessor.drain()).await.map_err(Failure::internal)? {
                Ok(()) => tracing::info!(pid, "took over; the process before drains"),
                // It was killed, or hangs: the sockets are ours, whatever becomes of it.
                Err(error) => tracing::warn!(pid, %error, "took over; the process before does not say that it drains"),
            }
        }
        let (tell, ready) = oneshot::channel();
        let path = handover::socket_path(config.data_directory(), role);
        match Offered::at(&path, role, offer) {
            Ok(offered) => {
                // It returns when it has handed over, and else only by a panic.
                let drain = move || {
                    // Nobody is left to hear it when the process drains already.
                    let _ = tell.send(());
                };
                lost.spawn("takeover", || true, move || offered.serve(drain)).map(drop)?;
            }
            Err(error) => tracing::warn!(socket = %path.display(), %error, "no process can take over from this one"),
        }
        Ok(Successor(ready))
    }

    /// Waits until another process answers in place of this one: for ever, where none can.
    pub async fn is_ready(&mut self) {
        if (&mut self.0).await.is_err() {
            std::future::pending().await
        }
    }
}
