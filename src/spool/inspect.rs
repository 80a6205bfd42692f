//! `afflux spool ls|cat|verify`: reading spool directories from outside, also of a dead machine, also while they are
//! written (contract V16).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::control;
use super::listing;
use super::reader::{Item, Reader};
use super::spools::{self, Known};

/// Why a directory could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum NotInspected {
    #[error("{}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> NotInspected {
    |error| NotInspected::Unreadable { path: path.to_owned(), error }
}

/// The spools of a directory. One that is not there has none: nothing was started yet.
fn list(directory: &Path) -> Result<Vec<Known>, NotInspected> {
    match spools::list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(unreadable(directory)),
    }
}

/// Whether it is known to hold no spool: it has none, is none, or is not there.
pub fn is_empty(directory: &Path) -> bool {
    match spools::spool_directories(directory) {
        Ok(found) => found.is_empty(),
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

/// A line a spool.
pub fn ls(directories: &[PathBuf], out: &mut (impl Write + ?Sized)) -> Result<(), NotInspected> {
    writeln!(
        out,
        "{:<12} {:<16} {:<9} {:>12} {:>12} {:>14}  directory",
        "topic", "spool", "state", "records", "synced", "bytes"
    )?;
    for directory in directories {
        for spool in list(directory)? {
            let listing = listing::list(&spool.directory, spool.id()).map_err(unreadable(&spool.directory))?;
            let bytes: u64 = listing.segments.iter().map(|segment| segment.bytes).sum();
            let position = &spool.position;
            let (topic, id, state) = (position.topic.name(), position.spool.to_string(), state(&spool));
            let directory = spool.directory.display();
            writeln!(
                out,
                "{topic:<12} {id} {state:<9} {:>12} {:>12} {bytes:>14}  {directory}",
                position.written, position.synced
            )?;
        }
    }
    Ok(())
}

/// Prints every event still there; names damage in `complaints`. True when there was none.
pub fn cat(
    directories: &[PathBuf],
    out: &mut (impl Write + ?Sized),
    complaints: &mut impl Write,
) -> Result<bool, NotInspected> {
    let mut whole = true;
    for directory in directories {
        for spool in list(directory)? {
            whole &= walk(&spool, complaints, |payload| {
                out.write_all(payload)?;
                out.write_all(b"\n")
            })?;
        }
    }
    Ok(whole)
}

/// Checks every record and counts.
pub fn verify(
    directories: &[PathBuf],
    out: &mut (impl Write + ?Sized),
    complaints: &mut impl Write,
) -> Result<bool, NotInspected> {
    let mut whole = true;
    for directory in directories {
        for spool in list(directory)? {
            let mut records = 0u64;
            whole &= walk(&spool, complaints, |_| {
                records += 1;
                Ok(())
            })?;
            writeln!(out, "{} {}: {records} records, {}", spool.topic().name(), spool.id(), state(&spool))?;
        }
    }
    Ok(whole)
}

/// A spool as the disk has it, for the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    pub position: control::Position,
    /// The number of the first record that is still there.
    pub first: u64,
    /// How many records it was given, as far as is known.
    pub records: u64,
    pub is_live: bool,
    /// Records that cannot be read.
    pub lost: u64,
}

/// Reads every record of every spool: as fast as the disk.
pub fn survey(directory: &Path) -> Result<Vec<Survey>, NotInspected> {
    let mut surveys = Vec::new();
    for spool in list(directory)? {
        let is_live = control::is_live(&spool.directory);
        let first = open(&spool)?.next_seq();
        let mut read = 0;
        walk(&spool, &mut io::sink(), |_| {
            read += 1;
            Ok(())
        })?;
        // Of a live one more may have been written since it was listed.
        let records = spool.position.sealed.map_or((first + read).max(spool.position.synced), |(records, _)| records);
        let known = spool.position.sealed.map_or(spool.position.synced, |(records, _)| records);
        let lost = known.saturating_sub(first + read);
        surveys.push(Survey { position: spool.position, first, records, is_live, lost });
    }
    Ok(surveys)
}

fn state(spool: &Known) -> &'static str {
    match spool.position.sealed {
        Some(_) => "sealed",
        None if control::is_live(&spool.directory) => "live",
        None => "unsealed",
    }
}

fn open(spool: &Known) -> Result<Reader, NotInspected> {
    Reader::open(&spool.directory, spool.id(), 0).map_err(unreadable(&spool.directory))
}

fn walk(
    spool: &Known,
    complaints: &mut impl Write,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<bool, NotInspected> {
    let position = &spool.position;
    // A dead process' spool that nobody has sealed may hold more than is known to be synced: its tail is silent.
    let (known_end, end) = match position.sealed {
        Some((records, _)) => (records, records),
        // What is committed is whole, on disk already or not: the writer says how far.
        None if control::is_live(&spool.directory) => (position.synced, position.written),
        None => (position.synced, u64::MAX),
    };
    let mut whole = lost_files(spool, complaints)?;
    let mut reader = open(spool)?;
    loop {
        match reader.next(end).map_err(unreadable(&spool.directory))? {
            None => break,
            Some(Item::Record { payload, .. }) => each(payload)?,
            Some(Item::Lost { first, .. }) if first >= known_end => break,
            Some(Item::Lost { first, last, place }) => {
                let last = last.min(known_end - 1);
                writeln!(complaints, "spool {}: records {first} to {last} are lost: {place}", spool.id())?;
                whole = false;
            }
        }
    }
    for scratch in &reader.scratches {
        writeln!(complaints, "spool {}: {scratch}", spool.id())?;
        whole = false;
    }
    Ok(whole)
}

fn lost_files(spool: &Known, complaints: &mut impl Write) -> Result<bool, NotInspected> {
    // While it is written a header may be seen half.
    if spool.position.sealed.is_none() {
        return Ok(true);
    }
    let lost = listing::list(&spool.directory, spool.id()).map_err(unreadable(&spool.directory))?.lost;
    for path in &lost {
        writeln!(complaints, "spool {}: {}: neither header nor first record can be read", spool.id(), path.display())?;
    }
    Ok(lost.is_empty())
}
