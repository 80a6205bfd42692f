//! Reads a spool in the order of its numbers, also while it is written and while old segments are deleted. Uses pread: a
//! bad disk is an error here and not a signal.
//!
//! The chain is followed from segment to segment. Where it breaks, every file that may hold the number that is due is
//! asked, and the nearest record goes on; what is left out is named.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::SpoolId;
use super::control;
use super::format::{self, Found, HEADER_BYTES, RECORD_HEAD_BYTES, Tally};
use super::listing::{self, Listing};
use super::search::{self, read_up_to};

/// Read at once; larger records make it grow.
const BUFFER_BYTES: usize = 256 * 1024;

/// Files that vanish between being listed and opened, one after the other, before that is an error.
const MAX_VANISHED: u32 = 100;

/// What stands at a number.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'r> {
    Record {
        seq: u64,
        payload: &'r [u8],
    },
    /// The disk lost these, both ends included.
    Lost {
        first: u64,
        last: u64,
        place: String,
    },
}

pub struct Reader {
    directory: PathBuf,
    spool: SpoolId,
    listing: Listing,
    /// Records below this number were deleted when they were consumed.
    deleted_below: u64,
    /// Records below this number were on disk once.
    known_end: u64,
    open: Option<Open>,
    /// From this number on the chain has another segment than the open one.
    ends_at: u64,
    /// Bytes of the open file from `buffered_at` on.
    buffer: Vec<u8>,
    buffered_at: u64,
    next_seq: u64,
    /// Files were looked through for records that have no header.
    dug: bool,
    /// Damage that cost no record: bytes that should be zero, a header that is gone.
    pub scratches: Vec<String>,
}

/// The file that is read, and where.
struct Open {
    file: File,
    path: PathBuf,
    /// Number of what stands at `offset`.
    at_seq: u64,
    offset: u64,
    /// Of all its records so far, unless something was passed over.
    tally: Option<Tally>,
}

/// What the next step found, without borrowing the buffer.
enum Step {
    Record { seq: u64, start: usize, length: usize },
    Lost { last: u64, place: String },
}

enum Seen {
    Record { commit_word: u64, bytes: usize, length: usize },
    More,
    Other,
}

impl Reader {
    /// Begins at number `from`; below the first one that is kept it begins there.
    pub fn open(directory: &Path, spool: SpoolId, from: u64) -> io::Result<Reader> {
        let mut reader = Reader {
            directory: directory.to_owned(),
            spool,
            listing: Listing::default(),
            deleted_below: 0,
            known_end: u64::MAX,
            open: None,
            ends_at: u64::MAX,
            buffer: Vec::new(),
            buffered_at: 0,
            next_seq: from,
            dug: false,
            scratches: Vec::new(),
        };
        reader.list()?;
        Ok(reader)
    }

    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The next record or loss below `until`; `None` when there is none. Of a live spool `until` is its synced position,
    /// or at most its written one.
    pub fn next(&mut self, until: u64) -> io::Result<Option<Item<'_>>> {
        let step = self.step(until)?;
        let first = self.next_seq;
        Ok(match step {
            None => None,
            Some(Step::Record { seq, start, length }) => {
                self.next_seq = seq + 1;
                Some(Item::Record { seq, payload: &self.buffer[start..start + length] })
            }
            Some(Step::Lost { last, place }) => {
                self.next_seq = last + 1;
                Some(Item::Lost { first, last, place })
            }
        })
    }

    fn step(&mut self, until: u64) -> io::Result<Option<Step>> {
        while self.next_seq < until {
            if self.open.is_none() && !self.open_segment()? {
                let step = self.beyond_damage(until)?;
                if step.is_some() {
                    return Ok(step);
                }
                continue;
            }
            if self.is_at_end() {
                self.finish_segment();
                continue;
            }
            let Seen::Record { commit_word, bytes, length } = self.look()? else {
                let step = self.beyond_damage(until)?;
                if step.is_some() {
                    return Ok(step);
                }
                continue;
            };
            let step = self.take(commit_word, bytes, length);
            if step.is_some() {
                return Ok(step);
            }
        }
        Ok(None)
    }

    /// The record that was seen; `None` below the number that is due.
    fn take(&mut self, commit_word: u64, bytes: usize, length: usize) -> Option<Step> {
        let open = self.open.as_mut()?;
        let start = (open.offset - self.buffered_at) as usize + RECORD_HEAD_BYTES;
        let padding = self.buffer.get(start + length..start + bytes - RECORD_HEAD_BYTES).unwrap_or_default();
        if padding.iter().any(|byte| *byte != 0) {
            let place = open.place();
            self.scratches.push(format!("{place}: bytes between two records are damaged"));
        }
        if let Some(tally) = &mut open.tally {
            tally.add(commit_word);
        }
        let seq = open.at_seq;
        open.offset += bytes as u64;
        open.at_seq += 1;
        (seq >= self.next_seq).then_some(Step::Record { seq, start, length })
    }

    /// Something else than the record that is due. The chain may have gone on since it was listed; else it is damage, and
    /// whoever has the nearest record goes on.
    fn beyond_damage(&mut self, until: u64) -> io::Result<Option<Step>> {
        self.list_again()?;
        if self.is_at_end() {
            self.finish_segment();
            return Ok(None);
        }
        let place = self.open.as_ref().map(Open::place);
        let place = place.unwrap_or_else(|| format!("{}: no segment", self.directory.display()));
        // Where the chain goes on for sure, as far as its headers tell.
        let due = self.open.as_ref().map_or(self.next_seq, |open| open.at_seq);
        let bound = self.next_header(due).min(until);
        let mut nearest = self.nearest(due, bound)?;
        let may_dig = due < self.known_end && !self.dug;
        if nearest.as_ref().is_none_or(|open| open.at_seq > due) && may_dig {
            self.dug = true;
            if self.listing.dig(self.spool)? {
                nearest = self.nearest(due, bound)?;
            }
        }
        let next = nearest.as_ref().map_or(bound, |open| open.at_seq);
        self.go_on(nearest);
        // Damage among numbers that nobody asked for is passed.
        Ok((next > self.next_seq).then(|| Step::Lost { last: next - 1, place }))
    }

    /// The file, set to it, that holds the nearest record from `due` on and below `bound`.
    fn nearest(&self, due: u64, bound: u64) -> io::Result<Option<Open>> {
        let mut nearest = match &self.open {
            Some(open) => self.search(&open.path, open.offset + 8, due, bound)?,
            None => None,
        };
        let of_chain = self.index_of(due).map(|index| &self.listing.segments[index].path);
        for path in of_chain.into_iter().chain(self.listing.strays.iter().map(|stray| &stray.path)) {
            if self.open.as_ref().is_some_and(|open| open.path == *path) {
                continue;
            }
            let below = nearest.as_ref().map_or(bound, |open| open.at_seq);
            if let Some(nearer) = self.search(path, HEADER_BYTES as u64, due, below)? {
                nearest = Some(nearer);
            }
        }
        Ok(nearest)
    }

    /// The first record of a file, at or behind `offset`, with a number from `due` on and below `bound`.
    fn search(&self, path: &Path, offset: u64, due: u64, bound: u64) -> io::Result<Option<Open>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let found = search::next_record(&file, self.spool, offset, due..bound)?;
        Ok(found.map(|(offset, at_seq)| Open { file, path: path.to_owned(), at_seq, offset, tally: None }))
    }

    fn go_on(&mut self, open: Option<Open>) {
        if let Some(open) = &open {
            let in_chain = self.listing.segments.iter().any(|segment| segment.path == open.path);
            let known = self.open.as_ref().is_some_and(|before| before.path == open.path);
            if !in_chain && !known {
                self.scratches.push(format!("{}: the header is damaged", open.path.display()));
            }
            self.buffer.clear();
            self.buffered_at = open.offset;
        }
        self.open = open;
        self.find_end();
    }

    /// Opens the segment of the chain in which `next_seq` stands; false where none can be, or it was read in vain.
    fn open_segment(&mut self) -> io::Result<bool> {
        for _ in 0..MAX_VANISHED {
            if self.index_of(self.next_seq).is_none_or(|index| index + 1 == self.listing.segments.len()) {
                self.list()?;
            }
            let Some(index) = self.index_of(self.next_seq) else { return Ok(false) };
            let segment = &self.listing.segments[index];
            let file = match File::open(&segment.path) {
                // Deleted since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.list()?;
                    continue;
                }
                file => file?,
            };
            if segment.scratched {
                self.scratches.push(format!("{}: the header is damaged", segment.path.display()));
            }
            let (path, at_seq, offset) = (segment.path.clone(), segment.first_seq, HEADER_BYTES as u64);
            self.buffer.clear();
            self.buffered_at = offset;
            self.open = Some(Open { file, path, at_seq, offset, tally: Some(Tally::default()) });
            self.find_end();
            return Ok(true);
        }
        Err(io::Error::other(format!("{}: its segments vanish", self.directory.display())))
    }

    fn index_of(&self, seq: u64) -> Option<usize> {
        self.listing.segments.partition_point(|segment| segment.first_seq <= seq).checked_sub(1)
    }

    /// The first number behind `seq` with which a segment of the chain begins.
    fn next_header(&self, seq: u64) -> u64 {
        let index = self.listing.segments.partition_point(|segment| segment.first_seq <= seq);
        self.listing.segments.get(index).map_or(u64::MAX, |segment| segment.first_seq)
    }

    /// The number that is due in the open file stands in a segment of the chain behind it.
    fn is_at_end(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.at_seq >= self.ends_at)
    }

    fn find_end(&mut self) {
        let Some(open) = &self.open else { return };
        let segments = &self.listing.segments;
        let from = segments.partition_point(|segment| segment.first_seq < open.at_seq);
        let next = segments[from..].iter().find(|segment| segment.path != open.path);
        self.ends_at = next.map_or(u64::MAX, |segment| segment.first_seq);
    }

    /// Closes the open file, whose records are what the next segment's header says.
    fn finish_segment(&mut self) {
        let Some(open) = self.open.take() else { return };
        let segments = &self.listing.segments;
        let next = segments.iter().position(|segment| segment.first_seq == open.at_seq);
        let successor =
            next.filter(|next| *next > 0 && segments[next - 1].path == open.path).map(|next| &segments[next]);
        if let (Some(next), Some(tally)) = (successor, open.tally)
            && next.former.records == tally.records
            && next.former.sum != tally.sum
        {
            self.scratches.push(format!("{}: its records are not those it was sealed with", open.path.display()));
        }
    }

    fn look(&mut self) -> io::Result<Seen> {
        let Some(open) = &self.open else { return Ok(Seen::Other) };
        let (spool, offset, due) = (self.spool, open.offset, open.at_seq);
        let at = (offset - self.buffered_at) as usize;
        if let Some(record @ Seen::Record { .. }) = self.buffer.get(at..).map(|bytes| seen(spool, due, bytes)) {
            return Ok(record);
        }
        // What was read ahead may have been written since: look again, with all of it at hand.
        let mut wanted = BUFFER_BYTES;
        loop {
            self.buffer.resize(wanted, 0);
            let read = read_up_to(&open.file, &mut self.buffer, offset)?;
            self.buffer.truncate(read);
            self.buffered_at = offset;
            match seen(spool, due, &self.buffer) {
                Seen::More if read == wanted => wanted *= 4,
                seen => return Ok(seen),
            }
        }
    }

    /// Lists, and learns what was deleted meanwhile.
    fn list(&mut self) -> io::Result<()> {
        let before = std::mem::replace(&mut self.listing, listing::list(&self.directory, self.spool)?);
        self.listing.remember(before.strays);
        // Read behind the listing: a segment is disowned before it is deleted. A damaged control file disowns nothing; of
        // one that cannot be read now that is not known.
        match control::read(&self.directory) {
            Ok(position) if position.spool == self.spool => {
                self.deleted_below = position.deleted_below;
                self.known_end = position.sealed.map_or(position.synced, |(records, _)| records);
            }
            Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => {
                return Err(error);
            }
            Ok(_) | Err(_) => {}
        }
        self.next_seq = self.next_seq.max(self.deleted_below);
        Ok(())
    }

    /// Lists again and stays where it is, if that still counts.
    fn list_again(&mut self) -> io::Result<()> {
        self.list()?;
        let listing = &self.listing;
        let counts = |open: &Open| {
            let in_chain = listing.segments.iter().any(|segment| segment.path == open.path);
            in_chain || listing.strays.iter().any(|stray| stray.path == open.path)
        };
        self.open = self.open.take().filter(counts);
        self.find_end();
        Ok(())
    }
}

fn seen(spool: SpoolId, due: u64, bytes: &[u8]) -> Seen {
    match format::read(spool, due, bytes) {
        Found::Record { seq, payload, bytes: all } if seq == due => {
            let commit_word = u64::from_le_bytes(*bytes.first_chunk::<8>().unwrap_or(&[0; 8]));
            Seen::Record { commit_word, bytes: all, length: payload.len() }
        }
        Found::More => Seen::More,
        _ => Seen::Other,
    }
}

impl Open {
    fn place(&self) -> String {
        format!("{}: byte {}, record {}", self.path.display(), self.offset, self.at_seq)
    }
}
