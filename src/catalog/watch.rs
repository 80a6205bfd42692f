//! Reloads the catalog when it is asked to (SIGHUP) and when its files change (contract P9).
//!
//! Polling, not notifications: a stat of a few files a second costs nothing and works on every file system and with
//! every way of replacing a file.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::Current;
use crate::clock::Clock;
use crate::files::Files;

/// A changed file is looked at again after this time, and loaded once two looks agree: it may still be being written.
const SETTLE: Duration = Duration::from_millis(100);
/// How often a replaced snapshot that is still held is looked at.
const REPLACED: Duration = Duration::from_secs(1);
/// Loading 10 million links keeps every core busy for seconds; clicks come first.
const NICE: i32 = 10;

/// Runs until the other end of `asked` is dropped; for a thread of its own. `interval` of `None`: only when asked.
pub fn watch(current: &Current, interval: Option<Duration>, asked: &Receiver<()>, clock: &dyn Clock) {
    // Of this thread and of those that it starts. Refused, they only compete.
    let _ = rustix::process::nice(NICE);
    let mut changed: Option<Files> = None;
    loop {
        let idle = current.drop_replaced();
        let wait = match (&changed, idle) {
            (Some(_), _) => Some(SETTLE),
            (None, true) => interval,
            (None, false) => Some(interval.map_or(REPLACED, |interval| interval.min(REPLACED))),
        };
        let ready = match receive(asked, wait) {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => interval.is_some() && settled(current, &mut changed),
        };
        if ready {
            changed = None;
            // `reload` has logged and counted it.
            let _ = current.reload(clock.now());
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
fn settled(current: &Current, changed: &mut Option<Files>) -> bool {
    if !current.has_changed() {
        *changed = None;
        return false;
    }
    let look = Some(current.look());
    let settled = *changed == look;
    *changed = look;
    settled
}
