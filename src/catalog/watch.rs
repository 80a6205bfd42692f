//! The catalog's part of watching files: it is loaded beside the clicks, not before them.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::Current;
use crate::clock::Clock;
use crate::files::{self, Files, Reloaded};

/// Loading 10 million links keeps every core busy for seconds; clicks come first.
const NICE: i32 = 10;

/// Runs until the other end of `asked` is dropped; for a thread of its own. `interval` of `None`: only when asked.
pub fn watch<A>(current: &Current, interval: Option<Duration>, asked: &Receiver<A>, clock: &dyn Clock) {
    // Of this thread and of those that it starts. Refused, they only compete.
    let _ = rustix::process::nice(NICE);
    files::watch(&[&Watched { current, clock }], interval, asked);
}

struct Watched<'a> {
    current: &'a Current,
    clock: &'a dyn Clock,
}

impl Reloaded for Watched<'_> {
    fn changed(&self) -> Option<Files> {
        self.current.changed()
    }

    fn reload(&self) {
        // It has logged and counted what came of it.
        let _ = self.current.reload(self.clock.now());
    }

    fn drop_replaced(&self) -> bool {
        self.current.drop_replaced()
    }
}
