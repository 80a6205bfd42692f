//! After a failed fdatasync: what is not on disk is written again to new segments.
//!
//! The same pages are never synced again: Linux has marked them clean. The new segments are made and filled without
//! holding up the writer; under its lock only what it appended meanwhile follows. A new segment counts by its header, so
//! headers are written when all records are in place, the first segment's last: a kill at any instant leaves either the
//! old segments or the new ones, and both are whole. Then the old ones go.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::chain::{Active, Chain, Open};
use super::faults::Place;
use super::format::{SegmentHeader, Tally, record_bytes};
use super::reader::{Item, Reader};
use super::ring::{self, Chunk};
use super::shortage::is_shortage;

/// Copies of what is appended during a rescue.
const MEANWHILE_BYTES: usize = 8 << 20;

/// Rounds of copying what was appended meanwhile, before it is left to the next try.
const MAX_ROUNDS: u32 = 64;

/// Moves the chain to new segments that hold everything from the synced position on.
pub fn rescue(chain: &Chain, synced: Tally) -> io::Result<()> {
    let from = chain.control.synced();
    // Where copies had reached their bound, what is appended from now on is copied all the same.
    chain.active().ring.set_max(chain.faults.most_copies(ring::MAX_BYTES) + MEANWHILE_BYTES);
    let mut copying = Copying { chain, from, next: from, made: Vec::new(), lost: Vec::new() };
    for _ in 0..MAX_ROUNDS {
        let (chunks, until) = {
            let mut active = chain.active();
            (active.ring.from(copying.next), active.next_seq)
        };
        copying.copy(&chunks, until)?;
        chain.faults.at(Place::Copied);
        let Some(replaced) = copying.switch(synced) else { continue };
        copying.tell();
        replaced.iter().for_each(|open| chain.discard(&open.segment));
        return Ok(());
    }
    Err(io::Error::other("the writer is faster than the rescue"))
}

/// New segments, until they take over.
struct Copying<'c> {
    chain: &'c Chain,
    from: u64,
    /// Number of the next record to copy.
    next: u64,
    made: Vec<Open>,
    lost: Vec<Range<u64>>,
}

impl Copying<'_> {
    /// Everything up to `until`: from the copies, and where there is none from the files, as far as they can be read.
    fn copy(&mut self, chunks: &[Arc<Chunk>], until: u64) -> io::Result<()> {
        for chunk in chunks {
            self.read_back(chunk.first_seq)?;
            for (seq, payload) in chunk.records() {
                if seq >= self.next {
                    self.add(seq, payload)?;
                }
            }
        }
        self.read_back(until)?;
        if self.made.last().is_none_or(|open| open.next_seq() != self.next) {
            self.open_segment(self.next)?;
        }
        Ok(())
    }

    fn read_back(&mut self, until: u64) -> io::Result<()> {
        if self.next >= until {
            return Ok(());
        }
        let (directory, id) = (self.chain.directory.clone(), self.chain.id);
        let mut reader = match Reader::open(&directory, id, self.next) {
            Ok(reader) => reader,
            Err(error) => return self.cannot_read_back(error, until),
        };
        while self.next < until {
            match reader.next(until) {
                Ok(Some(Item::Record { seq, payload })) => self.add(seq, payload)?,
                Ok(Some(Item::Lost { last, .. })) => self.lose(last + 1),
                Ok(None) => self.lose(until),
                Err(error) => self.cannot_read_back(error, until)?,
            }
        }
        Ok(())
    }

    /// A shortage says nothing of the disk: the rescue is tried again.
    fn cannot_read_back(&mut self, error: io::Error, until: u64) -> io::Result<()> {
        if is_shortage(&error) {
            return Err(error);
        }
        tracing::error!(spool = %self.chain.id, %error, "what was not synced cannot be read back");
        self.lose(until);
        Ok(())
    }

    /// No record up to `until`: the next one begins a segment, so that the hole shows in the headers.
    fn lose(&mut self, until: u64) {
        self.end_segment();
        self.lost.push(self.next..until);
        self.next = until;
    }

    fn add(&mut self, seq: u64, payload: &[u8]) -> io::Result<()> {
        let fits = |open: &Open| open.segment.has_room(open.offset, payload.len());
        let follows = |open: &Open| open.next_seq() == seq;
        if !self.made.last().is_some_and(|open| fits(open) && follows(open)) {
            self.end_segment();
            self.open_segment(seq)?;
        }
        if let Some(open) = self.made.last_mut() {
            open.write(self.chain.id, seq, payload);
        }
        self.next = seq + 1;
        Ok(())
    }

    fn end_segment(&self) {
        if let Some(open) = self.made.last() {
            open.segment.end(open.offset, self.chain.id, open.next_seq());
        }
    }

    /// One that was made ahead where no other can be made: on the way to a bound or a full disk it is all there is.
    fn open_segment(&mut self, first_seq: u64) -> io::Result<()> {
        let chain = self.chain;
        let segment = chain.make_segment(false, false).or_else(|error| chain.stock.take().ok_or(error));
        // What is rescued replaces as much: the bound is passed for a moment only.
        let segment = segment.or_else(|_| chain.make_segment(false, true))?;
        let former_newest_ms = chain.clock.now().0;
        // Its place in the chain is known when it takes over.
        let header = SegmentHeader { spool: chain.id, index: 0, first_seq, former: Tally::default(), former_newest_ms };
        self.made.push(Open::new(segment, header));
        Ok(())
    }

    /// Takes over, if what was appended meanwhile can be copied without making anything. Returns what was replaced.
    fn switch(&mut self, synced: Tally) -> Option<Vec<Open>> {
        let mut active = self.chain.active();
        let tail = active.ring.from(self.next);
        let open = self.made.last_mut()?;
        let mut end = (open.offset, self.next);
        let records = || tail.iter().flat_map(|chunk| chunk.records()).filter(|(seq, _)| *seq >= self.next);
        for (seq, payload) in records() {
            if seq != end.1 || !open.segment.has_room(end.0, payload.len()) {
                return None;
            }
            end = (end.0 + record_bytes(payload.len()), seq + 1);
        }
        if end.1 != active.next_seq || open.next_seq() != self.next {
            return None;
        }
        records().for_each(|(seq, payload)| open.write(self.chain.id, seq, payload));
        self.next = active.next_seq;
        self.place(&active, synced);
        for open in self.made.iter().rev() {
            open.segment.write_header(&open.header);
            self.chain.faults.at(Place::Headed);
        }
        Some(self.take_over(&mut active))
    }

    /// Gives each new segment its place behind what stays, and the seal of the one before it.
    fn place(&mut self, active: &Active, synced: Tally) {
        // Replaced from its start on, a segment hands on what it says of the one before it.
        let mut all = active.older.iter().chain([&active.open]);
        let replaced = all.find(|open| open.header.first_seq == self.from);
        let mut former = replaced.map_or(synced, |open| open.header.former);
        for (index, open) in (active.open.header.index + 1..).zip(&mut self.made) {
            open.header.index = index;
            open.header.former = former;
            former = open.tally;
        }
    }

    fn take_over(&mut self, active: &mut Active) -> Vec<Open> {
        let first_seq = self.made.first().map_or(self.next, |open| open.header.first_seq);
        let mut made = std::mem::take(&mut self.made);
        let Some(open) = made.pop() else { return Vec::new() };
        let last = std::mem::replace(&mut active.open, open);
        let mut before = std::mem::replace(&mut active.older, made);
        before.push(last);
        // What begins earlier holds records that are on disk.
        before.retain(|open| open.header.first_seq >= first_seq);
        before
    }

    fn tell(&mut self) {
        let lost: u64 = self.lost.iter().map(|numbers| numbers.end - numbers.start).sum();
        self.chain.numbers.rescued.add(self.next - self.from - lost);
        self.lost.drain(..).for_each(|numbers| self.chain.lose(numbers));
    }
}

impl Drop for Copying<'_> {
    /// What did not take over is of no use.
    fn drop(&mut self) {
        self.chain.active().ring.set_max(self.chain.faults.most_copies(ring::MAX_BYTES));
        for open in &self.made {
            self.chain.discard(&open.segment);
        }
    }
}
