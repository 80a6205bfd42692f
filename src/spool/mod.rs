//! The log on the disk of the machine that answered: one writer, one chain of records.
//!
//! Signatures for the other stages; bodies follow.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a spool carries; each kind feeds one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    Clicks,
    /// Refunds too.
    Conversions,
}

/// Random 64-bit name of one writer's lifetime; 16 lower-case hex digits in events and paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In the page cache of the kernel when answered: survives kill -9. fdatasync in the background.
    Process,
    /// On disk when answered: survives a power cut.
    Disk,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub directory: PathBuf,
    pub segment_bytes: u64,
    pub durability: Durability,
    pub sync_interval: Duration,
    /// How long an answer waits for its fdatasync; `None`: without limit.
    pub disk_wait_max: Option<Duration>,
    /// `None`: 10 % of the file system, at least 1 GiB.
    pub max_bytes: Option<u64>,
    pub keep: Duration,
}

/// All spools of a directory: recovers what is there, makes new ones, keeps and deletes.
pub struct Spools {}

/// The one writer of one spool. Not shared: a worker owns its own.
pub struct Writer {}

/// Waits until a record is on disk. Cheap to clone, usable from any thread or task.
#[derive(Clone)]
pub struct Durable {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSpooled {
    #[error("the spool is full")]
    Full,
    #[error("the disk under the spool fails")]
    Failing,
    #[error("a record of {0} bytes is too large for a segment")]
    TooLarge(usize),
}

/// The record is spooled but its fdatasync did not return in time, or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not known to be on disk")]
pub struct NotDurable;

impl Spools {
    /// Opens the directory, making it if needed; recovers, seals and keeps what earlier lifetimes left there.
    pub fn open(_options: Options) -> std::io::Result<Spools> {
        unimplemented!()
    }

    /// Makes a new spool. `worker` only tells apart the spools of one start.
    pub fn writer(&self, _topic: Topic, _worker: u16) -> std::io::Result<Writer> {
        unimplemented!()
    }
}

impl Writer {
    pub fn id(&self) -> SpoolId {
        unimplemented!()
    }

    /// The sequence number that the next record will have: events carry it inside.
    pub fn next_seq(&self) -> u64 {
        unimplemented!()
    }

    /// Appends without a system call. An error takes no number.
    pub fn append(&mut self, _record: &[u8]) -> Result<u64, NotSpooled> {
        unimplemented!()
    }

    pub fn durable(&self) -> Durable {
        unimplemented!()
    }
}

impl Durable {
    /// Returns when `seq` is on disk. `max_wait` of `None` waits without limit; a known failure returns at once.
    pub async fn wait(&self, _seq: u64, _max_wait: Option<Duration>) -> Result<(), NotDurable> {
        unimplemented!()
    }
}
