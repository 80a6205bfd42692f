//! Spools of processes that are gone: brought on disk, scanned, sealed. Nothing is ever appended to them.
//!
//! Behind the first invalid record of what was not known to be synced lies the torn tail: valid records behind it are
//! counted and not used, since nobody can say what stood between. Damage below it is left to readers, who name it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::control::{Control, Position};
use super::listing;
use super::reader::{Item, Reader};

/// What recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub records: u64,
    /// Valid records behind a torn one.
    pub tail: u64,
}

/// Seals the spool of `control`, whose process is gone.
pub fn seal(directory: &Path, control: &Control, position: &Position, now_ms: i64) -> io::Result<Recovered> {
    let listing = listing::list(directory, position.spool)?;
    for segment in &listing.segments {
        File::options().write(true).open(&segment.path)?.sync_data()?;
    }
    for path in &listing.unused {
        // Made ahead, never used.
        let _ = std::fs::remove_file(path);
    }
    let mut reader = Reader::open(directory, position.spool, position.synced)?;
    let mut records = position.synced;
    let mut tail = 0;
    loop {
        match reader.next(u64::MAX)? {
            Some(Item::Record { seq, .. }) if seq == records => records = seq + 1,
            // Nothing more to the end of all numbers: the clean end.
            Some(Item::Lost { last, .. }) if last >= u64::MAX - 1 => break,
            Some(Item::Lost { .. }) => {
                while let Some(Item::Record { .. }) = reader.next(u64::MAX)? {
                    tail += 1;
                }
                break;
            }
            Some(Item::Record { .. }) | None => break,
        }
    }
    control.seal(records, now_ms)?;
    Ok(Recovered { records, tail })
}
