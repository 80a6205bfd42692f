//! What the spools of a directory tell each other: that something was synced, that a segment or room is wanted, how much
//! room there is.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::room::Room;

#[derive(Default)]
pub struct Watch {
    moves: AtomicU64,
    gate: Mutex<()>,
    moved: Condvar,
    /// Somebody waits for `moved`: otherwise telling costs one addition.
    waiting: AtomicU64,
    /// Asks the maker to look after segments made ahead.
    pub maker: Bell,
    /// Asks the keeper to look after old segments.
    pub keeper: Bell,
    pub room: Room,
    /// Bytes that the file system had no room for, though the limit would allow them.
    pub wanted: AtomicU64,
}

impl Watch {
    /// A synced position moved.
    pub fn moved(&self) {
        self.moves.fetch_add(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            drop(self.gate.lock());
            self.moved.notify_all();
        }
    }

    /// How many moves there were; for `wait`.
    pub fn moves(&self) -> u64 {
        self.moves.load(SeqCst)
    }

    /// Returns when there was a move after `seen`, at the latest after `at_most`.
    pub fn wait(&self, seen: u64, at_most: Duration) {
        self.waiting.fetch_add(1, SeqCst);
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.moved.wait_timeout_while(gate, at_most, |()| self.moves.load(SeqCst) == seen));
        self.waiting.fetch_sub(1, SeqCst);
    }
}

/// Calls one thread that has something else to do most of the time.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_all();
    }

    /// Returns when it was rung, at the latest after `at_most`. True when it was.
    pub fn wait(&self, at_most: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        match self.heard.wait_timeout_while(rung, at_most, |rung| !*rung) {
            Ok((mut rung, _)) => std::mem::take(&mut rung),
            Err(_) => false,
        }
    }
}
