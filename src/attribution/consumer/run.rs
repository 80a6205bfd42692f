//! The thread: one consumer per data directory, or one of many at a database; begun anew after every failure.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{AttributionMetrics, Consumer, Rules, Source};
use crate::clock;
use crate::lock::{Doing, Lock};
use crate::store::{OpenError, Place, Store, StoreError};

const CONSUMING: Doing = Doing { it: "consumes", done: "consumed" };

/// The pause after a failure: doubled each time up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long nothing new is waited for before spools are listed again.
const IDLE: Duration = Duration::from_millis(500);

/// A round takes at least this long, so that a trickle of clicks does not cost a transaction each.
const PACE: Duration = Duration::from_millis(10);

pub struct Parts<S> {
    pub source: S,
    pub place: Place,
    pub rules: Rules,
    pub metrics: Arc<AttributionMetrics>,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a panic, told above")]
    Panicked,
}

impl Failed {
    fn kind(&self) -> &'static str {
        match self {
            Failed::Open(error) => error.kind(),
            Failed::Store(error) => error.kind(),
            Failed::Panicked => "panic",
        }
    }
}

/// Consumes until `stop` says so; returns after the transaction at hand. Where another process consumes already, waits
/// for its end (contract P11).
pub fn run<S: Source>(mut parts: Parts<S>, stop: impl Fn() -> bool) {
    let _lock = match &parts.place {
        Place::Sqlite(path) => match Lock::wait(&lock_path(path), CONSUMING, &stop) {
            Some(lock) => Some(lock),
            None => return,
        },
        // There the marks say who was first.
        Place::Postgres(_) => None,
    };
    parts.metrics.consuming.set(1);
    let mut pause = SHORTEST_PAUSE;
    while !stop() {
        let began = Instant::now();
        // What a panic left half done ends with the transaction and with what was remembered, as after any failure.
        let consumed = std::panic::catch_unwind(AssertUnwindSafe(|| consume(&mut parts, &stop)));
        if let Err(error) = consumed.unwrap_or(Err(Failed::Panicked)) {
            if began.elapsed() > 2 * LONGEST_PAUSE {
                pause = SHORTEST_PAUSE;
            }
            parts.metrics.count_store_error(error.kind());
            tracing::error!(%error, pause_ms = pause.as_millis() as u64, "attribution begins anew");
            clock::sleep(pause, &stop);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    parts.metrics.consuming.set(0);
}

/// Until the first failure. What it remembered ends with it.
fn consume<S: Source>(parts: &mut Parts<S>, stop: &dyn Fn() -> bool) -> Result<(), Failed> {
    let store = Store::open(&parts.place)?;
    let mut consumer = Consumer::new(&mut parts.source, store, &parts.rules, &parts.metrics)?;
    while !stop() {
        let began = Instant::now();
        let applied = consumer.round(stop)?;
        if applied == 0 {
            consumer.wait(IDLE);
        }
        std::thread::sleep(PACE.saturating_sub(began.elapsed()));
    }
    Ok(())
}

/// Beside the store.
fn lock_path(store_path: &Path) -> PathBuf {
    let mut name = store_path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
