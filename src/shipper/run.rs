//! The thread: one shipper for each directory of spools.

use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use super::lock::Lock;
use super::{Parts, Shipper};

/// Between looks whether the process that ships is gone.
const LOCK_EVERY: Duration = Duration::from_millis(500);

/// The pause after a panic: one that comes again and again costs little.
const AFTER_PANIC: Duration = Duration::from_secs(5);

/// How often a wait looks whether to stop.
const LOOK: Duration = Duration::from_millis(20);

/// How long the end waits for what was handed over.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Ships until `stop` says so. Where another process ships already, waits for its end.
pub fn run(parts: Parts, stop: impl Fn() -> bool) {
    let Some(_lock) = lock(&parts, &stop) else { return };
    let metrics = parts.metrics.clone();
    metrics.shipping.set(1);
    let mut shipper = Shipper::new(parts);
    while !stop() {
        // Redirects do not end for a panic here. Everything begins anew from the cursors on disk.
        if std::panic::catch_unwind(AssertUnwindSafe(|| shipper.round())).is_err() {
            metrics.count_error("panic");
            tracing::error!("shipping begins anew after a panic");
            shipper = Shipper::new(shipper.parts);
            sleep(AFTER_PANIC, &stop);
        }
    }
    shipper.finish();
    metrics.shipping.set(0);
}

impl Shipper {
    /// What was handed over is waited for a moment, so that less is sent twice; then all cursors go to disk.
    fn finish(&mut self) {
        self.hear_at_once(LAST_WAIT);
        self.save(true);
    }
}

/// `None` when told to stop before it was free.
fn lock(parts: &Parts, stop: &impl Fn() -> bool) -> Option<Lock> {
    let directory = parts.spools.directory();
    let mut told = None;
    while !stop() {
        let error = match Lock::take(directory) {
            Ok(lock) => return Some(lock),
            Err(error) => error,
        };
        // Said once for each reason, not twice a second.
        if told.replace(error.kind()) != Some(error.kind()) {
            let directory = directory.display();
            match error.kind() {
                ErrorKind::WouldBlock => tracing::info!(%directory, "another process ships; waiting for its end"),
                _ => tracing::error!(%directory, %error, "nothing is shipped: the lock cannot be made; trying again"),
            }
        }
        sleep(LOCK_EVERY, stop);
    }
    None
}

fn sleep(pause: Duration, stop: &impl Fn() -> bool) {
    let until = Instant::now() + pause;
    while !stop() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}
