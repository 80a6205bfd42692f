//! Reads a spool in the order of its numbers, also while it is written. Uses pread: a bad disk is an error here and not a
//! signal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::SpoolId;
use super::format::{self, Found, HEADER_BYTES};
use super::listing::{self, Listed};

/// Read at once; larger records make it grow.
const BUFFER_BYTES: usize = 256 * 1024;

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
    segments: Vec<Listed>,
    /// Index in `segments` and the open file.
    open: Option<(usize, File)>,
    /// Number of what stands at `offset` of the open segment.
    at_seq: u64,
    offset: u64,
    /// Bytes of the open segment from `buffered_at` on.
    buffer: Vec<u8>,
    buffered_at: u64,
    next_seq: u64,
    /// Damage that cost no record: bytes that should be zero, a header that could be found again.
    pub scratches: Vec<String>,
}

/// What the next step found, without borrowing the buffer.
enum Step {
    Record { seq: u64, start: usize, length: usize },
    Lost { last: u64, place: String },
}

impl Reader {
    /// Begins at number `from`; below the first one that is kept it begins there.
    pub fn open(directory: &Path, spool: SpoolId, from: u64) -> io::Result<Reader> {
        let mut reader = Reader {
            directory: directory.to_owned(),
            spool,
            segments: Vec::new(),
            open: None,
            at_seq: 0,
            offset: 0,
            buffer: Vec::new(),
            buffered_at: 0,
            next_seq: from,
            scratches: Vec::new(),
        };
        reader.list()?;
        if let Some(first) = reader.segments.first() {
            reader.next_seq = from.max(first.first_seq);
        }
        Ok(reader)
    }

    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The next record or loss below `until`; `None` when there is none. Of a live spool `until` is its synced position,
    /// or at most its written one.
    pub fn next(&mut self, until: u64) -> io::Result<Option<Item<'_>>> {
        if self.next_seq >= until {
            return Ok(None);
        }
        let step = self.step(until)?;
        let first = self.next_seq;
        Ok(Some(match step {
            Step::Record { seq, start, length } => {
                self.next_seq = seq + 1;
                Item::Record { seq, payload: &self.buffer[start..start + length] }
            }
            Step::Lost { last, place } => {
                self.next_seq = last + 1;
                Item::Lost { first, last, place }
            }
        }))
    }

    fn step(&mut self, until: u64) -> io::Result<Step> {
        loop {
            if self.open.is_none() && !self.open_segment_of(self.next_seq)? {
                return Ok(self.nothing_left(until));
            }
            let end = self.end_of_open();
            if self.at_seq >= end {
                self.open = None;
                continue;
            }
            match self.look()? {
                Seen::Record { seq, bytes, length } if seq == self.at_seq => {
                    let start = (self.offset - self.buffered_at) as usize + format::RECORD_HEAD_BYTES;
                    self.note_padding(start + length, bytes - format::RECORD_HEAD_BYTES - length);
                    self.offset += bytes as u64;
                    self.at_seq = seq + 1;
                    if seq >= self.next_seq {
                        return Ok(Step::Record { seq, start, length });
                    }
                }
                _ => {
                    if let Some(step) = self.beyond_damage(until)? {
                        return Ok(step);
                    }
                }
            }
        }
    }

    /// Something else than the expected record. The next segment may be newer than our list; else it is damage.
    fn beyond_damage(&mut self, until: u64) -> io::Result<Option<Step>> {
        self.list_again()?;
        let end = self.end_of_open();
        if self.at_seq >= end {
            return Ok(None);
        }
        let place = self.place();
        let below = end.min(until);
        let (offset, seq) = self.search(below)?;
        if seq <= self.next_seq {
            // Damage among numbers that nobody asked for.
            (self.offset, self.at_seq) = (offset, seq);
            return Ok(None);
        }
        (self.offset, self.at_seq) = (offset, seq);
        Ok(Some(Step::Lost { last: seq - 1, place }))
    }

    /// The next valid record of the open segment with a number below `below`: its offset and number. Without one the
    /// segment's end.
    fn search(&mut self, below: u64) -> io::Result<(u64, u64)> {
        let Some((index, file)) = &self.open else { return Ok((self.offset, below)) };
        let length = self.segments[*index].bytes.saturating_sub(self.offset);
        let mut bytes = vec![0; length as usize];
        let read = read_up_to(file, &mut bytes, self.offset)?;
        bytes.truncate(read);
        for at in (8..bytes.len()).step_by(8) {
            let Some(seq) = bytes.get(at + 8..at + 16) else { break };
            let seq = u64::from_le_bytes(seq.try_into().unwrap_or_default());
            let plausible = seq > self.at_seq && seq < below;
            if plausible && matches!(format::read(self.spool, seq, &bytes[at..]), Found::Record { .. }) {
                return Ok((self.offset + at as u64, seq));
            }
        }
        Ok((self.offset + length, below))
    }

    fn nothing_left(&mut self, until: u64) -> Step {
        // Segments after a hole in the chain go on; without any the rest is lost.
        let later = self.segments.iter().find(|segment| segment.first_seq > self.next_seq);
        let last = later.map_or(until, |segment| segment.first_seq.min(until)) - 1;
        Step::Lost { last, place: format!("{}: no segment", self.directory.display()) }
    }

    fn open_segment_of(&mut self, seq: u64) -> io::Result<bool> {
        if self.index_of(seq).is_none_or(|index| index + 1 == self.segments.len()) {
            self.list()?;
        }
        let Some(index) = self.index_of(seq) else { return Ok(false) };
        let segment = &self.segments[index];
        if segment.header_damaged {
            self.scratches.push(format!("{}: the header is damaged", segment.path.display()));
        }
        self.at_seq = segment.first_seq;
        self.offset = HEADER_BYTES as u64;
        self.buffer.clear();
        self.buffered_at = self.offset;
        self.open = Some((index, File::open(&segment.path)?));
        Ok(true)
    }

    fn index_of(&self, seq: u64) -> Option<usize> {
        self.segments.partition_point(|segment| segment.first_seq <= seq).checked_sub(1)
    }

    /// Numbers from here on stand in the next segment.
    fn end_of_open(&self) -> u64 {
        let next = self.open.as_ref().and_then(|(index, _)| self.segments.get(index + 1));
        next.map_or(u64::MAX, |segment| segment.first_seq)
    }

    fn look(&mut self) -> io::Result<Seen> {
        let at = (self.offset - self.buffered_at) as usize;
        if let Some(bytes) = self.buffer.get(at..)
            && let Found::Record { seq, payload, bytes } = format::read(self.spool, self.at_seq, bytes)
        {
            return Ok(Seen::Record { seq, bytes, length: payload.len() });
        }
        // What was read ahead may have been written since: look again, with all of it at hand.
        let mut wanted = BUFFER_BYTES;
        loop {
            self.fill(wanted)?;
            return Ok(match format::read(self.spool, self.at_seq, &self.buffer) {
                Found::Record { seq, payload, bytes } => Seen::Record { seq, bytes, length: payload.len() },
                Found::More if self.buffer.len() == wanted => {
                    wanted *= 4;
                    continue;
                }
                _ => Seen::Other,
            });
        }
    }

    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        let Some((_, file)) = &self.open else { return Ok(()) };
        self.buffer.resize(bytes, 0);
        let read = read_up_to(file, &mut self.buffer, self.offset)?;
        self.buffer.truncate(read);
        self.buffered_at = self.offset;
        Ok(())
    }

    fn note_padding(&mut self, start: usize, length: usize) {
        let padding = self.buffer.get(start..start + length).unwrap_or_default();
        if padding.iter().any(|byte| *byte != 0) {
            let place = self.place();
            self.scratches.push(format!("{place}: bytes between two records are damaged"));
        }
    }

    fn place(&self) -> String {
        let path = self.open.as_ref().map_or(&self.directory, |(index, _)| &self.segments[*index].path);
        format!("{}: byte {}, record {}", path.display(), self.offset, self.at_seq)
    }

    fn list(&mut self) -> io::Result<()> {
        self.segments = listing::list(&self.directory, self.spool)?.segments;
        Ok(())
    }

    /// Lists again and stays where it is, if that is still part of the chain.
    fn list_again(&mut self) -> io::Result<()> {
        let path = self.open.as_ref().map(|(index, _)| self.segments[*index].path.clone());
        self.list()?;
        let index = self.segments.iter().position(|segment| Some(&segment.path) == path.as_ref());
        self.open = match (self.open.take(), index) {
            (Some((_, file)), Some(index)) => Some((index, file)),
            // It was written again elsewhere: begin there.
            _ => None,
        };
        Ok(())
    }
}

enum Seen {
    Record { seq: u64, bytes: usize, length: usize },
    Other,
}

fn read_up_to(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
