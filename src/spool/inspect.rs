//! `afflux spool ls|cat|verify`: reading spool directories from outside, also of a dead machine, also while they are
//! written (contract V16).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::page::Position;
use super::reader::{Item, Reader};
use super::shelf::{self, Entry, Known};
use super::{SpoolId, Topic, control, listing};

/// A directory to look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Somebody asked for it: it may be a spool itself, under any name.
    Named(PathBuf),
    /// The directory of all spools.
    Configured(PathBuf),
}

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

impl Place {
    pub fn directory(&self) -> &Path {
        match self {
            Place::Named(directory) | Place::Configured(directory) => directory,
        }
    }

    /// Whether it is known to hold no spool: it has none, is none, or is not there.
    pub fn is_empty(&self) -> bool {
        match self.entries() {
            Ok(found) => found.is_empty(),
            Err(NotInspected::Unreadable { error, .. }) => error.kind() == io::ErrorKind::NotADirectory,
            Err(NotInspected::Write(_)) => false,
        }
    }

    /// A directory that is not there has none: nothing was started yet.
    fn entries(&self) -> Result<Vec<Entry>, NotInspected> {
        let entries = match self {
            Place::Named(directory) => shelf::named(directory),
            Place::Configured(directory) => shelf::configured(directory),
        };
        match entries {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries.map_err(unreadable(self.directory())),
        }
    }
}

/// A line a spool.
pub fn ls(places: &[Place], out: &mut (impl Write + ?Sized)) -> Result<(), NotInspected> {
    writeln!(
        out,
        "{:<12} {:<16} {:<9} {:>12} {:>12} {:>14}  directory",
        "topic", "spool", "state", "records", "synced", "bytes"
    )?;
    for place in places {
        for entry in place.entries()? {
            let Some(view) = View::of(entry, &mut io::sink())? else { continue };
            let listing = listing::list(&view.spool.directory, view.spool.id());
            let bytes = listing.map_err(unreadable(&view.spool.directory))?.bytes();
            let position = &view.spool.position;
            let (topic, id, state) = (position.topic.name(), position.spool.to_string(), view.state());
            let (records, synced) = (position.written, position.synced);
            let directory = view.spool.directory.display();
            writeln!(out, "{topic:<12} {id} {state:<9} {records:>12} {synced:>12} {bytes:>14}  {directory}")?;
        }
    }
    Ok(())
}

/// Prints every event still there; names damage in `complaints`. True when there was none.
pub fn cat(
    places: &[Place],
    out: &mut (impl Write + ?Sized),
    complaints: &mut impl Write,
) -> Result<bool, NotInspected> {
    let mut whole = true;
    for place in places {
        for entry in place.entries()? {
            let Some(view) = View::of(entry, complaints)? else {
                whole = false;
                continue;
            };
            let mut unwritten = None;
            let print = |payload: &[u8]| {
                let written = out.write_all(payload).and_then(|()| out.write_all(b"\n"));
                written.map_err(|error| {
                    let kind = error.kind();
                    unwritten = Some(error);
                    kind.into()
                })
            };
            let walked = view.walk(complaints, print);
            whole &= match unwritten {
                Some(error) => return Err(NotInspected::Write(error)),
                None => walked.map_err(unreadable(&view.spool.directory))?.whole,
            };
        }
    }
    Ok(whole)
}

/// Checks every record and counts.
pub fn verify(
    places: &[Place],
    out: &mut (impl Write + ?Sized),
    complaints: &mut impl Write,
) -> Result<bool, NotInspected> {
    let mut whole = true;
    for place in places {
        for entry in place.entries()? {
            let Some(view) = View::of(entry, complaints)? else {
                whole = false;
                continue;
            };
            let walked = view.walk(complaints, |_| Ok(())).map_err(unreadable(&view.spool.directory))?;
            whole &= walked.whole;
            let (topic, id, state) = (view.spool.topic().name(), view.spool.id(), view.state());
            writeln!(out, "{topic} {id}: {} records, {state}", walked.read)?;
        }
    }
    Ok(whole)
}

/// A spool as the disk has it, for the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    pub directory: PathBuf,
    pub position: Position,
    /// The number of the first record that is still there.
    pub first: u64,
    /// How many records it was given, as far as is known.
    pub records: u64,
    pub is_live: bool,
    /// Records that cannot be read.
    pub lost: u64,
}

/// All spools of a directory, and what is wrong with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surveyed {
    pub spools: Vec<Survey>,
    /// Directories that are no spool of this place, and spools whose control file is damaged.
    pub faults: Vec<String>,
}

/// Reads every record of every spool: as fast as the disk.
pub fn survey(directory: &Path) -> Result<Surveyed, NotInspected> {
    let mut surveyed = Surveyed::default();
    for entry in Place::Configured(directory.to_owned()).entries()? {
        let mut faults = Vec::new();
        let view = View::of(entry, &mut faults)?;
        let faults = String::from_utf8_lossy(&faults).lines().map(str::to_owned).collect::<Vec<_>>();
        surveyed.faults.extend(faults);
        if let Some(view) = view {
            surveyed.spools.push(view.survey().map_err(unreadable(&view.spool.directory))?);
        }
    }
    Ok(surveyed)
}

/// A spool as it is looked at from outside.
struct View {
    spool: Known,
    is_live: bool,
    /// Its control file can be used.
    is_known: bool,
}

/// What a walk through a spool found.
struct Walked {
    whole: bool,
    first: u64,
    read: u64,
    /// Records below this number that are not there.
    lost: u64,
}

impl View {
    /// `None` for what is no spool; that, and a damaged control file, is complained of.
    fn of(entry: Entry, complaints: &mut impl Write) -> Result<Option<View>, NotInspected> {
        match entry {
            Entry::Spool(spool) => {
                let is_live = control::is_live(&spool.directory);
                Ok(Some(View { spool, is_live, is_known: true }))
            }
            Entry::Broken { directory, topic, spool, why } => {
                writeln!(complaints, "spool {spool}: {}: {why}", directory.display())?;
                let position = unknown(topic, spool);
                Ok(Some(View { spool: Known { directory, position }, is_live: false, is_known: false }))
            }
            Entry::Stranger(stranger) => {
                writeln!(complaints, "{stranger}")?;
                Ok(None)
            }
            Entry::Unread { directory, error } => Err(unreadable(&directory)(error)),
        }
    }

    fn state(&self) -> &'static str {
        match self.spool.position.sealed {
            Some(_) => "sealed",
            None if !self.is_known => "unknown",
            None if self.is_live => "live",
            None => "unsealed",
        }
    }

    fn survey(&self) -> io::Result<Survey> {
        let walked = self.walk(&mut io::sink(), |_| Ok(()))?;
        let position = self.spool.position;
        // Of a live one more may have been written since it was listed.
        let seen = (walked.first + walked.read).max(position.synced);
        let records = position.sealed.map_or(seen, |(records, _)| records);
        let directory = self.spool.directory.clone();
        Ok(Survey { directory, position, first: walked.first, records, is_live: self.is_live, lost: walked.lost })
    }

    fn walk(&self, complaints: &mut impl Write, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Walked> {
        match self.try_walk(complaints, &mut each) {
            // Removed with all its records while it was read: all of them were consumed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.spool.directory.exists() => {
                Ok(Walked { whole: true, first: 0, read: 0, lost: 0 })
            }
            walked => walked,
        }
    }

    fn try_walk(
        &self,
        complaints: &mut impl Write,
        each: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Walked> {
        let (known_end, end) = self.ends();
        let id = self.spool.id();
        let mut reader = Reader::open(&self.spool.directory, id, 0)?;
        let mut walked = Walked { whole: self.is_known, first: reader.next_seq(), read: 0, lost: 0 };
        walked.whole &= self.complain_of_files(complaints)?;
        while let Some(item) = reader.next(end)? {
            match item {
                Item::Record { payload, .. } => {
                    each(payload)?;
                    walked.read += 1;
                }
                Item::Lost { first, .. } if first >= known_end => break,
                // Nothing behind it: where it is not known how many there were, that is the end.
                Item::Lost { last, .. } if last >= u64::MAX - 1 && !self.is_known => break,
                Item::Lost { first, last, place } => {
                    let last = last.min(known_end - 1);
                    writeln!(complaints, "spool {id}: records {first} to {last} are lost: {place}")?;
                    walked.lost += last - first + 1;
                    walked.whole = false;
                }
            }
        }
        for scratch in &reader.scratches {
            writeln!(complaints, "spool {id}: {scratch}")?;
            walked.whole = false;
        }
        Ok(walked)
    }

    /// Up to where a missing record is damage, and up to where is read.
    fn ends(&self) -> (u64, u64) {
        let position = &self.spool.position;
        match position.sealed {
            Some((records, _)) => (records, records),
            None if !self.is_known => (u64::MAX, u64::MAX),
            // What is committed is whole, on disk already or not: the writer says how far.
            None if self.is_live => (position.synced, position.written),
            // A dead process' spool that nobody has sealed may hold more than is known to be synced: its tail is silent.
            None => (position.synced, u64::MAX),
        }
    }

    fn complain_of_files(&self, complaints: &mut impl Write) -> io::Result<bool> {
        let (id, listing) = (self.spool.id(), listing::list(&self.spool.directory, self.spool.id())?);
        let mut whole = listing.unreadable.is_empty() && listing.aside.is_empty();
        for (path, why) in &listing.unreadable {
            writeln!(complaints, "spool {id}: {}: {why}", path.display())?;
        }
        for path in &listing.aside {
            writeln!(complaints, "spool {id}: {}: put aside as damaged", path.display())?;
        }
        // While it is written a header may be seen half.
        if self.spool.position.sealed.is_some() {
            whole &= listing.unplaced.is_empty();
            for rest in &listing.unplaced {
                let path = rest.path.display();
                writeln!(complaints, "spool {id}: {path}: neither header nor first record can be read")?;
            }
        }
        Ok(whole)
    }
}

/// Of a spool nothing but its name is known.
fn unknown(topic: Topic, spool: SpoolId) -> Position {
    Position {
        spool,
        topic,
        worker: 0,
        started_ms: 0,
        written: 0,
        synced: 0,
        newest_ms: 0,
        sealed: None,
        tail: 0,
        deleted_below: 0,
        unspooled: 0,
        undurable: 0,
    }
}
