//! Spools of processes that are gone: brought on disk, scanned, sealed. Nothing is ever appended to them.
//!
//! Behind the first invalid record of what was not known to be synced lies the torn tail: valid records behind it are
//! counted and not used, since nobody can say what stood between. Damage below it is left to readers, who name it. Where
//! the control file is damaged nobody knows how far it was synced: all records up to the last valid one count, and what is
//! missing among them is named.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::control::{self, Control, Lock};
use super::listing::{self, Listing};
use super::page::{Birth, Position};
use super::reader::{Item, Reader};
use super::shelf::{self, Entry, Known};
use super::{SpoolId, Topic};

/// What recovery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub spool: SpoolId,
    pub records: u64,
    /// Valid records behind a torn one.
    pub tail: u64,
    /// Why its control file was made anew.
    pub rebuilt: Option<String>,
}

/// Seals the spool in `directory` if its process is gone; `None` when there is nothing to do.
pub fn recover(directory: &Path) -> io::Result<Option<Recovered>> {
    let Some(lock) = Lock::take(directory)? else { return Ok(None) };
    // Looked at under the lock: nobody else recovers it now.
    let recovered = match shelf::examine(directory) {
        Some(Entry::Spool(known)) if known.position.sealed.is_none() => {
            let control = Control::open(directory)?;
            let synced = known.position.synced;
            Some(seal(&known, &control, Some(synced))?)
        }
        Some(Entry::Broken { topic, spool, .. }) if was_never_used(directory, spool)? => {
            std::fs::remove_dir_all(directory)?;
            tracing::info!(spool = %spool, topic = topic.name(), "removed a spool of a start that ended early");
            None
        }
        Some(Entry::Broken { topic, spool, why, .. }) => {
            let (control, position) = rebuild(directory, topic, spool)?;
            let recovered = seal(&Known { directory: directory.to_owned(), position }, &control, None)?;
            Some(Recovered { rebuilt: Some(why), ..recovered })
        }
        // Made anew in its place, a control file would forget what it counted.
        Some(Entry::Unread { error, .. }) => return Err(error),
        _ => None,
    };
    drop(lock);
    Ok(recovered)
}

/// No control file, or an empty one, and not one record.
fn was_never_used(directory: &Path, spool: SpoolId) -> io::Result<bool> {
    let is_empty = match std::fs::read(directory.join(control::FILE_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        control => control?.iter().all(|byte| *byte == 0),
    };
    if !is_empty {
        return Ok(false);
    }
    let mut listing = listing::list(directory, spool)?;
    Ok(listing.is_empty() && listing.aside.is_empty() && !listing.dig(spool)?)
}

/// A new control file in place of a damaged one. What it counted is gone.
fn rebuild(directory: &Path, topic: Topic, spool: SpoolId) -> io::Result<(Control, Position)> {
    let unknown = Birth { spool, topic, worker: 0, started_ms: 0, boot: 0 };
    let birth = control::read_birth(directory).unwrap_or(unknown);
    let listing = listing::list(directory, spool)?;
    let control = Control::create(directory, &birth)?;
    // Whether what is missing at the start was deleted or lost nobody knows any more; lost is named, if a later header
    // shows it.
    if let Some(first) = first_kept(&listing) {
        control.set_deleted_below(first)?;
    }
    let position = control.position()?;
    Ok((control, position))
}

fn first_kept(listing: &Listing) -> Option<u64> {
    let first = listing.segments.first().filter(|first| first.index > 0)?;
    let stray = listing.strays.first().map_or(u64::MAX, |stray| stray.first_seq);
    Some(first.first_seq.min(stray))
}

/// `synced`: how far it is known to have been on disk.
fn seal(spool: &Known, control: &Control, synced: Option<u64>) -> io::Result<Recovered> {
    let (id, directory) = (spool.id(), &spool.directory);
    let listing = listing::list(directory, id)?;
    let used = listing.segments.iter().map(|segment| &segment.path);
    for path in used.chain(listing.strays.iter().map(|stray| &stray.path)) {
        File::options().write(true).open(path)?.sync_data()?;
    }
    let mut reader = Reader::open(directory, id, synced.unwrap_or(0))?;
    let last_header = listing.segments.last().map_or(0, |segment| segment.former_newest_ms);
    let mut scan = Scan {
        records: synced.unwrap_or(0),
        tail: 0,
        newest_ms: spool.position.newest_ms.max(last_header),
        torn: false,
    };
    while let Some(item) = reader.next(u64::MAX)? {
        match item {
            Item::Record { seq, payload } => scan.take(seq, payload),
            // Nothing more to the end of all numbers: the clean end.
            Item::Lost { last, .. } if last >= u64::MAX - 1 => break,
            Item::Lost { .. } => scan.torn |= synced.is_some(),
        }
    }
    control.seal(scan.records, scan.newest_ms, scan.tail)?;
    if synced.is_some() && !scan.torn && reader.scratches.is_empty() {
        remove_copies(&listing, synced.unwrap_or(0));
    }
    Ok(Recovered { spool: id, records: scan.records, tail: scan.tail, rebuilt: None })
}

/// What a scan has seen.
struct Scan {
    records: u64,
    tail: u64,
    newest_ms: i64,
    /// A record is missing where it was not known to be synced.
    torn: bool,
}

impl Scan {
    fn take(&mut self, seq: u64, payload: &[u8]) {
        if self.torn {
            self.tail += 1;
            return;
        }
        self.records = seq + 1;
        self.newest_ms = self.newest_ms.max(time(payload).unwrap_or(i64::MIN));
    }
}

/// The chain is whole: segments whose place others took, and those of a rescue that was killed, hold nothing else.
fn remove_copies(listing: &Listing, synced: u64) {
    let unfinished = listing.strays.iter().filter(|stray| stray.first_seq >= synced).map(|stray| &stray.path);
    let copies: Vec<&PathBuf> = listing.replaced.iter().map(|segment| &segment.path).chain(unfinished).collect();
    for path in copies {
        // What cannot be removed is counted, and goes with its spool.
        let _ = std::fs::remove_file(path);
    }
}

/// When the click was made or the report received.
fn time(payload: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Times {
        clicked_at_ms: Option<i64>,
        received_at_ms: Option<i64>,
    }
    let times: Times = serde_json::from_slice(payload).ok()?;
    times.clicked_at_ms.or(times.received_at_ms)
}
