//! The spool: the log on the disk of the machine that answered. One writer, one chain of records.
//!
//! - **A spool is written by one lifetime of a process.** Every start makes new spools (random 64-bit ID, numbers from 0);
//!   those found on disk are synced, scanned and sealed, never appended to. So a number never comes to mean two records.
//! - **Appending is a copy, a checksum and one release store** into a mapped segment made ahead of need.
//! - **Readers never read beyond the synced position.**
//! - **Unconsumed segments are never deleted.** At the bound clicks are refused room and counted, orders are refused.
//!   A spool whose full segments are all consumed always gets its next one: what is consumed never fills a spool for good.
//! - **A writer never waits for a disk.** Where no segment was made ahead its record is refused and counted. What it cannot
//!   escape is the kernel: a file system that is frozen (fsfreeze) stops it at the first store into a clean page.
//!
//! The format is in `docs/formats.md`. All `unsafe` of the program is in `map`.

mod backoff;
mod census;
mod chain;
mod control;
mod faults;
mod format;
pub mod inspect;
mod keeper;
mod listing;
mod maker;
mod map;
mod metrics;
mod network;
mod page;
#[cfg(any(test, fuzzing))]
pub mod probes;
mod reader;
mod recovery;
mod rescue;
mod ring;
mod room;
mod sealed;
mod search;
mod segment;
mod shelf;
mod shortage;
mod spools;
mod stock;
mod sync;
#[cfg(test)]
mod tests;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use chain::Chain;
pub use page::Position;
pub use reader::{Item, Reader};
pub use sealed::write_sealed;
pub use shelf::{Known, Stranger, find};
pub use shortage::is_shortage;
pub use spools::{Spools, Unsealed};

/// What a spool carries; each kind feeds one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    Clicks,
    /// Refunds too.
    Conversions,
}

impl Topic {
    pub fn name(self) -> &'static str {
        match self {
            Topic::Clicks => "clicks",
            Topic::Conversions => "conversions",
        }
    }

    pub fn named(name: &str) -> Option<Topic> {
        [Topic::Clicks, Topic::Conversions].into_iter().find(|topic| topic.name() == name)
    }

    fn from_number(number: u64) -> Option<Topic> {
        [Topic::Clicks, Topic::Conversions].into_iter().find(|topic| *topic as u64 == number)
    }
}

/// Random 64-bit name of one writer's lifetime; 16 lower-case hex digits in events and paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolId(pub u64);

impl SpoolId {
    /// Of a spool that is made now.
    pub fn random() -> std::io::Result<SpoolId> {
        let mut bytes = [0; 8];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no randomness from the system"))?;
        Ok(SpoolId(u64::from_le_bytes(bytes)))
    }
}

impl std::fmt::Display for SpoolId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In the page cache of the kernel when answered: survives kill -9. fdatasync in the background.
    Process,
    /// On disk when answered: survives a power cut.
    Disk,
}

/// What could not be passed on lies in a spool's directory under this name. While it does the directory is not removed.
pub const PARKED_FILE: &str = "parked";

/// Segments for which each spool needs room: the one that is written, the one made ahead, and one that waits to be
/// consumed.
pub const LEAST_SEGMENTS: u64 = 3;

#[derive(Clone, Debug)]
pub struct Options {
    pub directory: PathBuf,
    pub segment_bytes: u64,
    pub durability: Durability,
    pub sync_interval: Duration,
    /// `None`: 10 % of the file system, at least 1 GiB and `LEAST_SEGMENTS` for each spool.
    pub max_bytes: Option<u64>,
    pub keep: Duration,
}

/// The one writer of one spool. Not shared: a worker owns its own. When it is dropped the spool is synced and sealed.
pub struct Writer {
    chain: Arc<Chain>,
}

/// Waits until a record is on disk. Cheap to clone, usable from any thread or task.
#[derive(Clone)]
pub struct Durable {
    chain: Arc<Chain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSpooled {
    #[error("the spool is full")]
    Full,
    #[error("the disk under the spool fails")]
    Failing,
    #[error("a record of {0} bytes does not fit into a segment")]
    TooLarge(usize),
}

/// The record is spooled, but its fdatasync did not return in time or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not known to be on disk")]
pub struct NotDurable;

impl Writer {
    pub fn id(&self) -> SpoolId {
        self.chain.id
    }

    /// The number that the next record will have: events carry it inside.
    pub fn next_seq(&self) -> u64 {
        self.chain.next_seq()
    }

    /// Appends without a system call. An error takes no number.
    pub fn append(&mut self, record: &[u8]) -> Result<u64, NotSpooled> {
        self.chain.append(record)
    }

    pub fn durable(&self) -> Durable {
        Durable { chain: self.chain.clone() }
    }

    /// Counts an answer without a record.
    pub fn count_unspooled(&self) {
        self.chain.control.add_unspooled();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.chain.closing.store(true, std::sync::atomic::Ordering::Relaxed);
        self.chain.wake_syncer();
    }
}

impl Durable {
    /// Returns when `seq` is on disk. `max_wait` of `None` waits without limit, unless the disk is known to fail.
    pub async fn wait(&self, seq: u64, max_wait: Option<Duration>) -> Result<(), NotDurable> {
        self.chain.wait(seq, max_wait).await
    }

    /// The same for a moment: true when `seq` is on disk now.
    pub fn is_durable(&self, seq: u64) -> bool {
        self.chain.control.synced() > seq && self.chain.unless_lost(seq).is_ok()
    }

    /// Counts an answer whose record was not known to be on disk in time.
    pub fn count_undurable(&self) {
        self.chain.control.add_late();
    }
}
