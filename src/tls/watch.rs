//! Certificates' part of watching files: both doors' by one thread.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::server::Server;
use crate::clock::Clock;
use crate::files::{self, Files, Reloaded};

/// Runs until the other end of `asked` is dropped; for a thread of its own. `interval` of `None`: only when asked.
pub fn watch<A>(servers: &[Arc<Server>], interval: Option<Duration>, asked: &Receiver<A>, clock: &dyn Clock) {
    let watched: Vec<_> = servers.iter().map(|server| Watched { server, clock }).collect();
    let all: Vec<&dyn Reloaded> = watched.iter().map(|one| one as &dyn Reloaded).collect();
    files::watch(&all, interval, asked);
}

struct Watched<'a> {
    server: &'a Server,
    clock: &'a dyn Clock,
}

impl Reloaded for Watched<'_> {
    fn changed(&self) -> Option<Files> {
        self.server.current.changed()
    }

    fn reload(&self) {
        self.server.current.reload(self.clock.now());
    }

    /// A handshake holds them for moments only, and they are small: nothing is kept to be dropped here.
    fn drop_replaced(&self) -> bool {
        true
    }
}
