//! `afflux reship`: records that are kept are sent again from a number on. Where a shipper runs it finds a file with the
//! request beside the spools; where none does the cursor itself is set back, and the next one sends.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::run::lock_path;
use super::ship::Ship;
use crate::lock::Lock;
use crate::spool::{self, SpoolId};
use crate::time::TimeMs;

/// Before the spool's ID, in the name of a request.
const PREFIX: &str = "reship-";

/// How long a shipper that runs may take to see a request.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reshipped {
    /// The cursor was set back to this number; whoever ships next sends from there.
    Set(u64),
    /// The shipper that runs has taken it.
    Taken,
    /// A shipper runs and has not taken it yet; it will.
    Asked,
}

#[derive(Debug, thiserror::Error)]
pub enum NotReshipped {
    #[error("{0}: no such spool in this directory")]
    Unknown(SpoolId),
    #[error("{0}: nothing of it was shipped yet")]
    NeverShipped(SpoolId),
    #[error("shipped are the records below {next}: nothing from {from} on can be sent again")]
    NotYet { from: u64, next: u64 },
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Has the records of a spool sent again from `from` on, or from the first that is kept.
pub fn reship(directory: &Path, spool: SpoolId, from: u64, now: TimeMs) -> Result<Reshipped, NotReshipped> {
    let known = spool::find(directory, spool)?.ok_or(NotReshipped::Unknown(spool))?;
    match Lock::take(&lock_path(directory)) {
        Ok(_lock) => {
            let (mut ship, _) = Ship::open(known)?;
            let Some(cursor) = ship.cursor else { return Err(NotReshipped::NeverShipped(spool)) };
            // Behind all records of a spool that is sealed stands its seal: that is sent again.
            let is_seal = from == cursor.next && ship.known.position.sealed.is_some();
            if from >= cursor.next && !is_seal {
                return Err(NotReshipped::NotYet { from, next: cursor.next });
            }
            Ok(Reshipped::Set(ship.set_back(from, now)?))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(ask(directory, spool, from)?),
        Err(error) => Err(error.into()),
    }
}

fn ask(directory: &Path, spool: SpoolId, from: u64) -> io::Result<Reshipped> {
    let path = path(directory, spool);
    let unfinished = directory.join(format!(".{PREFIX}{spool}.{}", std::process::id()));
    fs::write(&unfinished, from.to_string())?;
    fs::File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, &path)?;
    fs::File::open(directory)?.sync_all()?;
    let until = Instant::now() + TAKEN_WITHIN;
    while path.exists() {
        if Instant::now() >= until {
            return Ok(Reshipped::Asked);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(Reshipped::Taken)
}

fn path(directory: &Path, spool: SpoolId) -> PathBuf {
    directory.join(format!("{PREFIX}{spool}"))
}

/// A spool that somebody wants to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub spool: SpoolId,
    pub from: u64,
}

/// All requests that wait. What is none is removed with a word in the log; of what cannot be read now `complain` is told,
/// and it waits: the others do not wait for it.
pub fn requests(directory: &Path, mut complain: impl FnMut(io::Error)) -> Vec<Request> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            complain(error);
            return found;
        }
    };
    for entry in entries {
        match entry.and_then(|entry| request(&entry.path())) {
            Ok(request) => found.extend(request),
            // Withdrawn, or taken.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => complain(error),
        }
    }
    found
}

/// `None` for a file that is no request.
fn request(path: &Path) -> io::Result<Option<Request>> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(id) = name.and_then(|name| name.strip_prefix(PREFIX)) else { return Ok(None) };
    let from = match fs::read_to_string(path) {
        Err(error) if error.kind() != ErrorKind::InvalidData => return Err(error),
        text => text.ok().and_then(|text| text.trim().parse().ok()),
    };
    if let (Ok(id), Some(from)) = (u64::from_str_radix(id, 16), from) {
        return Ok(Some(Request { spool: SpoolId(id), from }));
    }
    tracing::error!(file = %path.display(), "not a request to ship again: removed");
    fs::remove_file(path)?;
    Ok(None)
}

impl Request {
    pub fn done(&self, directory: &Path) -> io::Result<()> {
        fs::remove_file(path(directory, self.spool))
    }
}
