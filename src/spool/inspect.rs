//! `afflux spool ls|cat|verify`: reading spool directories from outside, also of a dead machine, also while they are
//! written (contract V16).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::control;
use super::listing;
use super::reader::{Item, Reader};
use super::spools::{Known, list};

/// A line a spool.
pub fn ls(directories: &[PathBuf], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<12} {:<16} {:<9} {:>12} {:>12} {:>14}  directory",
        "topic", "spool", "state", "records", "synced", "bytes"
    )?;
    for directory in directories {
        for spool in list(directory)? {
            let segments = listing::list(&spool.directory, spool.id())?.segments;
            let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
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
pub fn cat(directories: &[PathBuf], out: &mut impl Write, complaints: &mut impl Write) -> io::Result<bool> {
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
pub fn verify(directories: &[PathBuf], out: &mut impl Write, complaints: &mut impl Write) -> io::Result<bool> {
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
pub fn survey(directory: &Path) -> io::Result<Vec<Survey>> {
    let mut surveys = Vec::new();
    for spool in list(directory)? {
        let is_live = control::is_live(&spool.directory);
        let first = Reader::open(&spool.directory, spool.id(), 0)?.next_seq();
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

fn walk(spool: &Known, complaints: &mut impl Write, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
    let position = &spool.position;
    // A dead process' spool that nobody has sealed may hold more than is known to be synced: its tail is silent.
    let (known_end, end) = match position.sealed {
        Some((records, _)) => (records, records),
        // What is committed is whole, on disk already or not: the writer says how far.
        None if control::is_live(&spool.directory) => (position.synced, position.written),
        None => (position.synced, u64::MAX),
    };
    let mut whole = lost_files(spool, complaints)?;
    let mut reader = Reader::open(&spool.directory, spool.id(), 0)?;
    loop {
        match reader.next(end)? {
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

fn lost_files(spool: &Known, complaints: &mut impl Write) -> io::Result<bool> {
    // While it is written a header may be seen half.
    if spool.position.sealed.is_none() {
        return Ok(true);
    }
    let lost = listing::list(&spool.directory, spool.id())?.lost;
    for path in &lost {
        writeln!(complaints, "spool {}: {}: neither header nor first record can be read", spool.id(), path.display())?;
    }
    Ok(lost.is_empty())
}

/// The directories of a command: those named, else the configured one.
pub fn directories(named: Vec<PathBuf>, configured: &Path) -> Vec<PathBuf> {
    if named.is_empty() { vec![configured.to_owned()] } else { named }
}
