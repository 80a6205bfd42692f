//! Reads again what files say, when asked (SIGHUP) and when they change (contract P9): the catalog, certificates, the lists
//! of the edge.
//!
//! Polling, not notifications: a stat of a few files a second costs nothing and works on every file system and with
//! every way of replacing a file.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::Files;

/// A changed file is looked at again after this time, and read once two looks agree: it may still be being written, and of
/// certificate and key one is written after the other.
const SETTLE: Duration = Duration::from_millis(100);
/// How often what was replaced and is still held is looked at.
const REPLACED: Duration = Duration::from_secs(1);

/// What files say, and who reads it meanwhile.
pub trait Reloaded {
    /// What lies there now, when a file is not what the last reading found, whether that was taken or refused.
    fn changed(&self) -> Option<Files>;

    /// Reads again; logs and counts what came of it. What is bad leaves what there is.
    fn reload(&self);

    /// Drops what was replaced and nobody else holds any more; false when something is still held.
    fn drop_replaced(&self) -> bool;
}

/// Runs until the other end of `asked` is dropped; for a thread of its own. `interval` of `None`: only when asked. What it is
/// asked with is dropped when that is done.
pub fn watch<A>(all: &[&dyn Reloaded], interval: Option<Duration>, asked: &Receiver<A>) {
    let mut changed: Vec<Option<Files>> = all.iter().map(|_| None).collect();
    loop {
        // Counted, so that each is asked.
        let is_held = all.iter().filter(|one| !one.drop_replaced()).count() > 0;
        let wait = match (changed.iter().any(Option::is_some), is_held) {
            (true, _) => Some(SETTLE),
            (false, false) => interval,
            (false, true) => Some(interval.map_or(REPLACED, |interval| interval.min(REPLACED))),
        };
        let question = match receive(asked, wait) {
            Ok(question) => Some(question),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => None,
        };
        for (one, changed) in all.iter().zip(&mut changed) {
            if question.is_some() || (interval.is_some() && has_settled(*one, changed)) {
                *changed = None;
                one.reload();
            }
        }
    }
}

fn receive<A>(asked: &Receiver<A>, wait: Option<Duration>) -> Result<A, RecvTimeoutError> {
    match wait {
        Some(wait) => asked.recv_timeout(wait),
        None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// True when the files differ from those that were read and did not change between two looks.
fn has_settled(one: &dyn Reloaded, changed: &mut Option<Files>) -> bool {
    let look = one.changed();
    let settled = look.is_some() && *changed == look;
    *changed = look;
    settled
}
