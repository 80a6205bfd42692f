//! What consumers that share their work know of the others: the touch index of all, and how far the clicks' topic is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::click::{ClickId, VisitorKey};
use crate::time::TimeMs;
use crate::touch::{Found, Labels};

/// Whether one consumer does everything, or many share a database.
#[derive(Default)]
pub enum Layout {
    /// Touches are in the store and every decision is made at once.
    #[default]
    Alone,
    /// Touches are elsewhere, and a decision waits for them.
    Shared(Arc<Sharing>),
}

/// How long decisions wait, and the catalog this process has had made the active one.
#[derive(Default)]
pub struct Sharing {
    pub grace_ms: i64,
    pub unknown_key_wait_ms: i64,
    /// Its hash. Only a catalog that is new is made the active one: two processes with different files do not take turns.
    offered: Mutex<Option<String>>,
}

impl Sharing {
    pub fn new(grace_ms: i64, unknown_key_wait_ms: i64) -> Sharing {
        Sharing { grace_ms, unknown_key_wait_ms, offered: Mutex::default() }
    }

    fn offered(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.offered.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn has_offered(&self, hash: &str) -> bool {
        self.offered().as_deref() == Some(hash)
    }

    /// Whether this process has offered none yet.
    pub fn is_first(&self) -> bool {
        self.offered().is_none()
    }

    pub fn offer(&self, hash: &str) {
        *self.offered() = Some(hash.to_owned());
    }
}

/// Of each partition of clicks an offset.
pub type Offsets = BTreeMap<i32, i64>;

/// A look-up in the shared index, and how far the index was at that moment.
#[derive(Debug, Default)]
pub struct Looked {
    /// As the visitors stood in the question.
    pub found: Vec<Found>,
    /// The first offset of each partition that is not in the index.
    pub positions: Offsets,
}

/// Nothing is known at the moment.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Two real implementations: Redis with Kafka, and a model of both in tests.
pub trait SharedTouches {
    /// The end of each partition of clicks: every click that anybody has read by now is below.
    fn ends(&mut self) -> Result<Offsets, Unavailable>;

    /// How far the index is. Partitions of which it has nothing are left out.
    fn positions(&mut self) -> Result<Offsets, Unavailable>;

    /// The clicks of each visitor since a time.
    fn find(&mut self, visitors: &[(VisitorKey, TimeMs)]) -> Result<Looked, Unavailable>;

    fn labels(&mut self, clicks: &[ClickId]) -> Result<Vec<Option<Labels>>, Unavailable>;
}

/// Whether everything below `ends` is in an index that is at `positions`.
pub fn covers(positions: &Offsets, ends: &Offsets) -> bool {
    ends.iter().all(|(partition, end)| *end <= 0 || positions.get(partition).is_some_and(|next| next >= end))
}

/// Whether an index at `positions` may be one of the partitions that end there. Partitions without an end are left out:
/// nothing waits for them.
pub fn is_below(positions: &Offsets, ends: &Offsets) -> bool {
    positions.iter().all(|(partition, next)| ends.get(partition).is_none_or(|end| next <= end))
}
