//! What the spools of a directory tell each other: that something was synced, that a segment is wanted, how much room
//! there is.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::room::Room;

#[derive(Default)]
pub struct Watch {
    moves: AtomicU64,
    gate: Mutex<()>,
    moved: Condvar,
    keeper: Mutex<bool>,
    keeper_wanted: Condvar,
    pub room: Room,
    /// Somebody waits for `moved`: otherwise telling costs one addition.
    waiting: AtomicU64,
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

    /// Asks the keeper to look after the segments now.
    pub fn wake_keeper(&self) {
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.keeper_wanted.notify_all();
    }

    pub fn wait_for_keeper_call(&self, at_most: Duration) {
        let wanted = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.keeper_wanted.wait_timeout_while(wanted, at_most, |wanted| !*wanted);
        if let Ok((mut wanted, _)) = waited {
            *wanted = false;
        }
    }
}
