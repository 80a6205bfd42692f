//! The thread: one shipper for each directory of spools.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Parts, Shipper};
use crate::clock;
use crate::lock::{Doing, Lock};

const SHIPPING: Doing = Doing { it: "ships", done: "shipped" };

/// The pause after a panic: one that comes again and again costs little.
const AFTER_PANIC: Duration = Duration::from_secs(5);

/// How long the end waits for what was handed over.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Ships until `stop` says so. Where another process ships already, waits for its end.
pub fn run(parts: Parts, stop: impl Fn() -> bool) {
    let Some(_lock) = Lock::wait(&lock_path(parts.spools.directory()), SHIPPING, &stop) else { return };
    let metrics = parts.metrics.clone();
    metrics.shipping.set(1);
    let mut shipper = Shipper::new(parts);
    while !stop() {
        // Redirects do not end for a panic here. Everything begins anew from the cursors on disk.
        if std::panic::catch_unwind(AssertUnwindSafe(|| shipper.round())).is_err() {
            metrics.count_error("panic");
            tracing::error!("shipping begins anew after a panic");
            shipper = Shipper::new(shipper.parts);
            clock::sleep(AFTER_PANIC, &stop);
        }
    }
    shipper.finish();
    metrics.shipping.set(0);
}

/// One process ships from a directory of spools at a time.
pub fn lock_path(directory: &Path) -> PathBuf {
    directory.join("shipper.lock")
}

impl Shipper {
    /// What was handed over is waited for a moment, so that less is sent twice; then all cursors go to disk.
    fn finish(&mut self) {
        self.hear_at_once(LAST_WAIT);
        self.save(true);
    }
}
