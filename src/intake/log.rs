//! Where accepted events go: one spool for conversions and refunds, and the wait until they are on disk (contract I6).

use std::sync::{Mutex, PoisonError};

use crate::event::SCHEMA;
use crate::spool::{Durable, NotDurable, NotSpooled, Writer};

/// The one writer, shared by all requests.
pub enum Log {
    Spool {
        writer: Mutex<Writer>,
        durable: Durable,
    },
    /// A disk that fails when a test says so.
    #[cfg(test)]
    Memory(std::sync::Arc<super::tests::MemoryDisk>),
}

impl Log {
    pub fn new(writer: Writer) -> Log {
        Log::Spool { durable: writer.durable(), writer: Mutex::new(writer) }
    }

    /// Appends `{"event":…,"schema":…,"spool":…,"seq":…,` and `fields`, the rest of the object. Not on disk yet.
    pub fn append(&self, event: &str, fields: &str) -> Result<u64, NotSpooled> {
        match self {
            Log::Spool { writer, .. } => {
                // A panic while it was held leaves a writer that is whole: a record is committed by its last store.
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                let record = record(event, writer.id().0, writer.next_seq(), fields);
                writer.append(record.as_bytes())
            }
            #[cfg(test)]
            Log::Memory(disk) => disk.append(|seq| record(event, 7, seq, fields)),
        }
    }

    /// Returns when the record is on disk: as long as it takes, unless the disk is known to fail.
    pub async fn on_disk(&self, seq: u64) -> Result<(), NotDurable> {
        match self {
            Log::Spool { durable, .. } => durable.wait(seq, None).await,
            #[cfg(test)]
            Log::Memory(disk) => disk.wait(seq).await,
        }
    }
}

fn record(event: &str, spool: u64, seq: u64, fields: &str) -> String {
    format!("{{\"event\":\"{event}\",\"schema\":{SCHEMA},\"spool\":\"{spool:016x}\",\"seq\":{seq},{fields}")
}
