//! Reloads certificates when it is asked to (SIGHUP) and when their files change (contract P9).
//!
//! As the catalog's files are watched, and for the same reasons: by looking.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::server::Server;
use crate::clock::Clock;
use crate::files::Files;

/// A changed file is looked at again after this time, and loaded once two looks agree: certificate and key are written
/// one after the other.
const SETTLE: Duration = Duration::from_millis(100);

/// Runs until the other end of `asked` is dropped; for a thread of its own. `interval` of `None`: only when asked.
pub fn watch(servers: &[Arc<Server>], interval: Option<Duration>, asked: &Receiver<()>, clock: &dyn Clock) {
    let mut changed: Vec<Option<Files>> = servers.iter().map(|_| None).collect();
    loop {
        let settles = changed.iter().any(Option::is_some);
        let was_asked = match receive(asked, if settles { Some(SETTLE) } else { interval }) {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => false,
        };
        for (server, changed) in servers.iter().zip(&mut changed) {
            if was_asked || settled(server, changed) {
                *changed = None;
                server.current.reload(clock.now());
            }
        }
    }
}

fn receive(asked: &Receiver<()>, wait: Option<Duration>) -> Result<(), RecvTimeoutError> {
    match wait {
        Some(wait) => asked.recv_timeout(wait),
        None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// True when the files differ from those that were loaded and did not change between two looks.
fn settled(server: &Server, changed: &mut Option<Files>) -> bool {
    if !server.current.has_changed() {
        *changed = None;
        return false;
    }
    let look = Some(server.current.look());
    let settled = *changed == look;
    *changed = look;
    settled
}
