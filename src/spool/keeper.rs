//! The keeper's thread: deletes what is consumed and old, and keeps within the bound and the room of the disk.
//!
//! Deleted is only what is consumed, oldest first by the newest record in it. Before a segment goes the control file says
//! that it was deleted, so that nobody takes it for lost.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::control::{self, Control};
use super::faults::Place;
use super::listing::{self, ASIDE, Listing, Rest};
use super::shelf::Known;
use super::spools::Inner;
use super::{LEAST_SEGMENTS, PARKED_FILE, SpoolId, search};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const CLEAN_EVERY: Duration = Duration::from_secs(5);
/// Where nothing could be deleted the last time and nothing was made since.
const CLEAN_AGAIN: Duration = Duration::from_secs(1);

/// How long the files of a sealed spool are believed to be those that were listed.
const LIST_EVERY: Duration = Duration::from_secs(60);

const LEAST_BYTES: u64 = 1 << 30;

#[derive(Default)]
pub struct Keeper {
    /// Files of sealed spools.
    listings: HashMap<SpoolId, (Instant, Arc<Listing>)>,
}

/// When segments were last looked for that may go, and what was left then.
struct Cleaned {
    at: Instant,
    used: u64,
}

pub fn run(inner: &Inner) {
    let mut keeper = Keeper::default();
    let mut cleaned: Option<Cleaned> = None;
    while !inner.stopping.load(Relaxed) {
        if cleaned.as_ref().is_none_or(|cleaned| cleaned.is_due(inner)) {
            keeper.clean_or_warn(inner);
            cleaned = Some(Cleaned { at: Instant::now(), used: inner.watch.room.used() });
        }
        inner.watch.keeper.wait(LOOK_EVERY);
    }
}

#[cfg(test)]
pub fn run_once(spools: &super::Spools) {
    Keeper::default().clean(spools.inner()).unwrap();
}

impl Cleaned {
    fn is_due(&self, inner: &Inner) -> bool {
        let room = &inner.watch.room;
        let wanted = inner.watch.wanted.load(Relaxed) > 0;
        let in_trouble = inner.chains().iter().any(|chain| chain.trouble().is_some());
        let pressed = !room.has(inner.options.segment_bytes);
        wanted
            || in_trouble && self.at.elapsed() >= LOOK_EVERY
            || pressed && (room.used() > self.used || self.at.elapsed() >= CLEAN_AGAIN)
            || self.at.elapsed() >= CLEAN_EVERY
    }
}

/// A segment that may go.
struct Old {
    spool: usize,
    path: PathBuf,
    bytes: u64,
    /// Records below this number go with it.
    end: u64,
    /// None of its records is newer, nor is any before it.
    newest_ms: i64,
}

impl Keeper {
    /// Counts what lies there and deletes what may go.
    pub fn clean_or_warn(&mut self, inner: &Inner) {
        if let Err(error) = self.clean(inner) {
            tracing::warn!(%error, "old segments cannot be looked for");
        }
    }

    pub fn clean(&mut self, inner: &Inner) -> io::Result<()> {
        let room = &inner.watch.room;
        let wanted = inner.watch.wanted.swap(0, Relaxed);
        let made = room.made();
        let known = inner.all()?;
        let (mut used, mut old) = (0, Vec::new());
        for (index, spool) in known.iter().enumerate() {
            // One bad spool must not keep the others from being cleaned.
            match self.look(inner, index, spool, &mut old) {
                Ok(bytes) => used += bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => inner.census.tell(inner, &spool.directory, &error.to_string()),
            }
        }
        room.count(used, made);
        room.set_limit(limit(inner)?);
        old.sort_by_key(|segment| segment.newest_ms);
        self.delete(inner, &known, &doomed(inner, old, wanted));
        self.remove_spools(inner, &known);
        self.listings.retain(|spool, _| known.iter().any(|known| known.id() == *spool));
        Ok(())
    }

    /// Adds up a spool's files and lists the segments that are consumed to their end.
    fn look(&mut self, inner: &Inner, index: usize, spool: &Known, old: &mut Vec<Old>) -> io::Result<u64> {
        let listing = self.listing(inner, spool)?;
        let position = &spool.position;
        let consumed = inner.consumed_of(spool.id()).max(position.deleted_below);
        let mut newest = i64::MIN;
        // What holds no record at all need not be kept.
        let sealed = position.sealed.map(|(records, newest)| (records, if records == 0 { i64::MIN } else { newest }));
        for (place, segment) in listing.segments.iter().enumerate() {
            let next = listing.segments.get(place + 1);
            let end = next.map(|next| next.first_seq).or(sealed.map(|(records, _)| records));
            let newest_ms = next.map(|next| next.former_newest_ms).or(sealed.map(|(_, newest)| newest));
            let (Some(end), Some(newest_ms)) = (end, newest_ms) else { break };
            if end > consumed {
                break;
            }
            newest = newest.max(newest_ms);
            let (path, bytes) = (segment.path.clone(), segment.bytes);
            old.push(Old { spool: index, path, bytes, end, newest_ms: newest });
        }
        Ok(listing.bytes())
    }

    fn listing(&mut self, inner: &Inner, spool: &Known) -> io::Result<Arc<Listing>> {
        if spool.position.sealed.is_none() {
            return listing::list(&spool.directory, spool.id()).map(Arc::new);
        }
        if let Some((at, listing)) = self.listings.get(&spool.id())
            && at.elapsed() < LIST_EVERY
        {
            return Ok(listing.clone());
        }
        let mut listing = listing::list(&spool.directory, spool.id())?;
        for rest in std::mem::take(&mut listing.unused) {
            if !self.remove_unused(inner, spool, &listing, &rest)? {
                listing.unused.push(rest);
            }
        }
        let listing = Arc::new(listing);
        self.listings.insert(spool.id(), (Instant::now(), listing.clone()));
        Ok(listing)
    }

    /// A segment that was made ahead goes once its spool is sealed. One that only looks like it is put aside, unless
    /// records can be read from it. True when it is gone.
    fn remove_unused(&self, inner: &Inner, spool: &Known, listing: &Listing, rest: &Rest) -> io::Result<bool> {
        let file = match File::open(&rest.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            file => file?,
        };
        if search::is_blank(&file)? && !listing.has_hole(spool.id(), spool.position.deleted_below)? {
            gone_already(fs::remove_file(&rest.path))?;
            return Ok(true);
        }
        if search::next_record(&file, spool.id(), 0, 0..u64::MAX)?.is_none() {
            gone_already(fs::rename(&rest.path, rest.path.with_extension(ASIDE)))?;
            inner.census.tell(inner, &spool.directory, &format!("{}: put aside as damaged", rest.path.display()));
            return Ok(true);
        }
        Ok(false)
    }

    /// Each spool's control file first, then its segments.
    fn delete(&mut self, inner: &Inner, known: &[Known], doomed: &[Old]) {
        let mut by_spool: BTreeMap<usize, Vec<&Old>> = BTreeMap::new();
        doomed.iter().for_each(|segment| by_spool.entry(segment.spool).or_default().push(segment));
        for (spool, segments) in by_spool {
            let spool = &known[spool];
            self.listings.remove(&spool.id());
            if let Err(error) = delete_of(inner, spool, &segments) {
                inner.census.tell(inner, &spool.directory, &format!("old segments cannot be deleted: {error}"));
            }
        }
    }

    /// Spools of which nothing is needed any more. Their marks in the store stay: an older copy restored here is
    /// recognised.
    fn remove_spools(&self, inner: &Inner, known: &[Known]) {
        let now_ms = inner.clock.now().0;
        for spool in known {
            let Some((records, newest_ms)) = spool.position.sealed else { continue };
            let consumed = inner.consumed_of(spool.id()).max(spool.position.deleted_below) >= records;
            let expired = now_ms.saturating_sub(newest_ms) > keep_ms(inner);
            let is_kept = || has_parked(spool) || control::is_live(&spool.directory);
            if consumed && expired && !is_kept() {
                // A part that cannot be removed is met again.
                if let Err(error) = gone_already(fs::remove_dir_all(&spool.directory)) {
                    inner.census.tell(inner, &spool.directory, &format!("it cannot be removed: {error}"));
                }
            }
        }
    }
}

/// Of what may go, oldest first: what is expired, and as much of the rest as the limit and the disk ask for. Room for the
/// next segment is made before it is needed.
fn doomed(inner: &Inner, old: Vec<Old>, wanted: u64) -> Vec<Old> {
    let room = &inner.watch.room;
    let now_ms = inner.clock.now().0;
    let mut freed = 0;
    let mut goes = |segment: &Old| {
        let expired = now_ms.saturating_sub(segment.newest_ms) > keep_ms(inner);
        let pressed = room.used().saturating_sub(freed) + inner.options.segment_bytes > room.limit();
        let goes = expired || pressed || freed < wanted;
        freed += if goes { segment.bytes } else { 0 };
        goes
    };
    old.into_iter().filter(|segment| goes(segment)).collect()
}

fn delete_of(inner: &Inner, spool: &Known, segments: &[&Old]) -> io::Result<()> {
    let end = segments.iter().map(|segment| segment.end).max().unwrap_or(0);
    match inner.chains().iter().find(|chain| chain.id == spool.id()) {
        Some(chain) => chain.control.set_deleted_below(end)?,
        None => Control::open(&spool.directory)?.set_deleted_below(end)?,
    }
    inner.faults.at(Place::Disowned);
    for segment in segments {
        gone_already(fs::remove_file(&segment.path))?;
        inner.found.deleted.add_shared(1);
        inner.watch.room.delete(segment.bytes);
    }
    inner.watch.maker.ring();
    Ok(())
}

/// Where that is not known they may be there.
fn has_parked(spool: &Known) -> bool {
    spool.directory.join(PARKED_FILE).try_exists().unwrap_or(true)
}

/// Another process on the same directory may have been quicker.
fn gone_already(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn keep_ms(inner: &Inner) -> i64 {
    inner.options.keep.as_millis() as i64
}

fn limit(inner: &Inner) -> io::Result<u64> {
    if let Some(bytes) = inner.options.max_bytes {
        return Ok(bytes);
    }
    let file_system = rustix::fs::statvfs(&inner.options.directory)?;
    let of_spools = LEAST_SEGMENTS * inner.chains().len() as u64 * inner.options.segment_bytes;
    Ok((file_system.f_blocks * file_system.f_frsize / 10).max(LEAST_BYTES).max(of_spools))
}
