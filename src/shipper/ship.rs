//! One spool on its way to Kafka: what was read, handed over, delivered and saved.
//!
//! `acked <= sent <= read`: below `acked` all is delivered, below `sent` all was handed to the client, below `read` all
//! was taken from disk. After a failure both go back to `acked`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Instant;

use super::cursor::{self, Cursor, Found};
use super::homes::{Place, Witness};
use super::parked;
use super::settle::{Batch, Ready};
use crate::spool::{Item, Known, Reader, SpoolId, Topic};
use crate::time::TimeMs;

/// A record that was handed over.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub at: Option<TimeMs>,
    pub bytes: usize,
}

/// What became of the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    Open,
    Sent,
    Delivered,
}

/// How far back is resent when Kafka lost something.
pub const BACK_MS: i64 = 600_000;
/// Between entries of what is remembered for that.
const REMEMBER_EVERY_MS: i64 = 60_000;

pub struct Ship {
    pub known: Known,
    /// `None`: it has no home yet, nothing was sent.
    pub cursor: Option<Cursor>,
    reader: Option<Reader>,
    /// Numbers that the disk lost, to be told one by one.
    lost: Option<Lost>,
    /// Taken from disk and not handed over.
    pub ready: VecDeque<Ready>,
    pub pending: VecDeque<Pending>,
    pub read: u64,
    pub sent: u64,
    pub acked: u64,
    /// Of the last delivered record.
    pub offset: Option<i64>,
    pub seal: Seal,
    /// Refused, with why: a `parked` event stands in for it, also when the spool is sent again.
    pub parked: BTreeMap<u64, &'static str>,
    pub heartbeat_at: Option<Instant>,
    /// One waits in the client: no other is put behind it, or they would fill it while Kafka is away.
    pub heartbeat_waits: bool,
    /// What the client knows it by.
    pub slot: Option<u16>,
    /// Its partition is not there.
    pub homeless: bool,
    /// After it could not be read: when it may be tried again.
    pub retry_at: Option<Instant>,
    /// In a row.
    pub read_failures: u32,
    /// Since when something has moved that is not on disk, and when that may be tried.
    pub moved_at: Option<Instant>,
    pub saved_at: Option<Instant>,
    /// Positions by time, oldest first.
    history: VecDeque<(TimeMs, u64)>,
    /// The time of the record at a number, as it was looked up.
    peeked: Option<(u64, Option<TimeMs>)>,
}

struct Lost {
    next: u64,
    last: u64,
    /// Where, until it is told.
    place: Option<String>,
}

/// What a look at the disk gave.
pub enum Taken {
    Batch(Batch),
    /// Numbers that the disk lost from here on; where is told the first time.
    Lost {
        first: u64,
        count: u64,
        place: Option<String>,
    },
    Nothing,
}

impl Ship {
    /// True with it: its cursor is damaged, all that is kept is sent again.
    pub fn open(known: Known) -> io::Result<(Ship, bool)> {
        let found = cursor::read(&known.directory, known.id())?;
        let cursor = match found {
            Found::Cursor(cursor) => Some(cursor),
            Found::None | Found::Damaged => None,
        };
        // By now it is only known that it was refused.
        let parked = parked::numbers(&known.directory, known.id())?.into_iter().map(|seq| (seq, "refused")).collect();
        let start = cursor.map_or(0, |cursor| cursor.next).max(known.position.deleted_below);
        let seal = if cursor.is_some_and(|cursor| cursor.sealed) { Seal::Delivered } else { Seal::Open };
        let ship = Ship {
            known,
            cursor,
            reader: None,
            lost: None,
            ready: VecDeque::new(),
            pending: VecDeque::new(),
            read: start,
            sent: start,
            acked: start,
            offset: cursor.and_then(|cursor| cursor.offset),
            seal,
            parked,
            heartbeat_at: None,
            heartbeat_waits: false,
            slot: None,
            homeless: false,
            retry_at: None,
            read_failures: 0,
            moved_at: None,
            saved_at: None,
            history: cursor.iter().map(|cursor| (cursor.saved_at, cursor.next)).collect(),
            peeked: None,
        };
        Ok((ship, found == Found::Damaged))
    }

    pub fn id(&self) -> SpoolId {
        self.known.id()
    }

    pub fn topic(&self) -> Topic {
        self.known.topic()
    }

    /// Records below this number are on disk.
    pub fn until(&self) -> u64 {
        self.known.position.sealed.map_or(self.known.position.synced, |(records, _)| records)
    }

    pub fn lag(&self) -> u64 {
        self.until().saturating_sub(self.acked)
    }

    pub fn has_unsent(&self) -> bool {
        self.sent < self.until()
    }

    /// Nothing is left to be sent of it, for good. Of a spool without records nobody heard unless it has a home.
    pub fn is_done(&self) -> bool {
        let Some((records, _)) = self.known.position.sealed else { return false };
        self.acked >= records && (self.seal == Seal::Delivered || self.cursor.is_none() && records == 0)
    }

    /// Takes the next records from disk, at most so many.
    pub fn take(&mut self, most_records: usize, most_bytes: usize) -> io::Result<Taken> {
        if let Some(lost) = self.take_lost(most_records) {
            return Ok(lost);
        }
        let until = self.until();
        if self.read >= until || !self.open_reader()? {
            return Ok(Taken::Nothing);
        }
        let due = usize::try_from(until - self.read).unwrap_or(usize::MAX);
        let (mut batch, mut is_broken) = (Batch::of(most_records.min(due)), false);
        let Some(reader) = &mut self.reader else { return Ok(Taken::Nothing) };
        while batch.records.len() < most_records && batch.bytes.len() < most_bytes {
            match reader.next(until) {
                Ok(None) => break,
                // Somebody has to stand in for it: what follows comes next time.
                Ok(Some(Item::Lost { first, last, place })) => {
                    self.lost = Some(Lost { next: first, last, place: Some(place) });
                    break;
                }
                Ok(Some(Item::Record { seq, payload })) => {
                    batch.push(seq, payload);
                    self.read = seq + 1;
                }
                Err(error) if batch.records.is_empty() => return Err(error),
                // What was read stands: left out it would be a hole for ever. Whoever reads on meets the error again.
                Err(_) => {
                    is_broken = true;
                    break;
                }
            }
        }
        if is_broken {
            self.reader = None;
        }
        if !batch.records.is_empty() {
            return Ok(Taken::Batch(batch));
        }
        Ok(self.take_lost(most_records).unwrap_or(Taken::Nothing))
    }

    fn take_lost(&mut self, most: usize) -> Option<Taken> {
        let lost = self.lost.as_mut()?;
        let (first, place) = (lost.next, lost.place.take());
        let count = (lost.last + 1 - first).min(most as u64);
        lost.next += count;
        self.read = lost.next;
        if lost.next > lost.last {
            self.lost = None;
        }
        Some(Taken::Lost { first, count, place })
    }

    /// False when what is due is not there, and cannot be told yet.
    fn open_reader(&mut self) -> io::Result<bool> {
        if self.reader.as_ref().is_some_and(|reader| reader.next_seq() == self.read) {
            return Ok(true);
        }
        let reader = self.known.read_from(self.read)?;
        if reader.next_seq() > self.read {
            if self.sent > self.acked || !self.ready.is_empty() {
                return Ok(false);
            }
            // What is not kept any more cannot be sent.
            self.jump(reader.next_seq());
        }
        self.reader = Some(reader);
        Ok(true)
    }

    /// The record at a number, as it stands on disk.
    pub fn record_at(&self, seq: u64) -> io::Result<Option<Box<[u8]>>> {
        let mut reader = self.known.read_from(seq)?;
        Ok(match reader.next(seq + 1)? {
            Some(Item::Record { seq: found, payload }) if found == seq => Some(payload.into()),
            _ => None,
        })
    }

    #[cfg(test)]
    pub fn is_reading(&self) -> bool {
        self.reader.is_some()
    }

    pub fn close_reader(&mut self) {
        self.reader = None;
    }

    /// What was taken from disk and not handed over is taken again.
    pub fn read_again(&mut self) {
        self.ready.clear();
        self.lost = None;
        self.read = self.sent;
        self.reader = None;
    }

    /// Records, heartbeats and seals of it that wait in the client, and their bytes.
    pub fn waiting(&self) -> (usize, usize) {
        let told = usize::from(self.heartbeat_waits) + usize::from(self.seal == Seal::Sent);
        (self.pending.len() + told, self.pending.iter().map(|pending| pending.bytes).sum())
    }

    /// After a failure: what is not delivered is taken from disk again. Returns how many that were handed over.
    pub fn rewind(&mut self) -> u64 {
        let handed = self.sent - self.acked;
        (self.read, self.sent) = (self.acked, self.acked);
        self.ready.clear();
        self.pending.clear();
        self.lost = None;
        self.slot = None;
        self.heartbeat_waits = false;
        if self.reader.as_ref().is_some_and(|reader| reader.next_seq() != self.read) {
            self.reader = None;
        }
        if self.seal == Seal::Sent {
            self.seal = Seal::Open;
        }
        handed
    }

    /// A record was handed over.
    pub fn hand(&mut self, pending: Pending) {
        self.sent += 1;
        self.pending.push_back(pending);
    }

    /// A record was delivered. Bytes that wait no more; `None`: one before it was not, so it counts for nothing.
    pub fn deliver(&mut self, seq: u64, offset: Option<i64>) -> Option<usize> {
        if seq != self.acked {
            return None;
        }
        let pending = self.pending.pop_front()?;
        self.acked += 1;
        self.offset = offset.or(self.offset);
        self.moved_at.get_or_insert_with(Instant::now);
        Some(pending.bytes)
    }

    /// When the oldest record that is not delivered was written, as far as it tells. Without a look at the disk it may be
    /// no more than when its spool was made.
    pub fn oldest(&mut self, may_look: bool) -> Option<TimeMs> {
        if self.lag() == 0 {
            return None;
        }
        let known = match (self.pending.front(), self.ready.front(), self.peeked) {
            (Some(pending), ..) => pending.at,
            (None, Some(ready), _) => ready.at,
            (None, None, Some((seq, at))) if seq == self.acked => at,
            _ if !may_look => None,
            _ => {
                let at = self.peek();
                self.peeked = Some((self.acked, at));
                at
            }
        };
        Some(known.unwrap_or(TimeMs(self.known.position.started_ms)))
    }

    /// Whether `oldest` would have to look at the disk.
    pub fn must_look(&self) -> bool {
        let is_peeked = self.peeked.is_some_and(|(seq, _)| seq == self.acked);
        self.lag() > 0 && self.pending.is_empty() && self.ready.is_empty() && !is_peeked
    }

    fn peek(&self) -> Option<TimeMs> {
        #[derive(serde::Deserialize)]
        struct Times {
            clicked_at_ms: Option<TimeMs>,
            received_at_ms: Option<TimeMs>,
        }
        let record = self.record_at(self.acked).ok()??;
        let times: Times = serde_json::from_slice(&record).ok()?;
        times.clicked_at_ms.or(times.received_at_ms)
    }

    /// Goes to a number in either direction; nothing is on its way.
    fn jump(&mut self, seq: u64) {
        self.acked = seq;
        self.rewind();
        self.moved_at.get_or_insert_with(Instant::now);
    }

    /// Back to a number, or as far as records are kept, without anything of what was known of Kafka. On disk when it
    /// returns.
    pub fn set_back(&mut self, seq: u64, now: TimeMs) -> io::Result<u64> {
        let seq = seq.max(self.known.position.deleted_below).min(self.acked);
        self.jump(seq);
        self.reader = None;
        self.offset = None;
        // The seal stood behind all of them, and may be what was lost.
        self.seal = Seal::Open;
        self.history = VecDeque::from([(now, seq)]);
        if let Some(cursor) = &mut self.cursor {
            cursor.earlier = cursor.earlier.min(seq);
        }
        self.save(now)?;
        Ok(seq)
    }

    /// Its partition, and what was delivered there last.
    pub fn witness(&self) -> Option<(Place, Witness)> {
        let (cursor, offset, seq) = (self.cursor?, self.offset?, self.acked.checked_sub(1)?);
        Some(((self.topic(), cursor.partition), Witness { offset, spool: self.id(), seq }))
    }

    /// Where it was ten minutes before, at most.
    pub fn back(&self, now: TimeMs) -> u64 {
        let old = self.history.iter().rev().find(|(at, _)| now.0 - at.0 >= BACK_MS);
        let earlier = self.cursor.map_or(0, |cursor| cursor.earlier);
        old.map_or(earlier, |(_, seq)| *seq).min(self.acked)
    }

    /// Makes what is delivered known to the next lifetime; on disk when it returns. Without a home there is nothing.
    pub fn save(&mut self, now: TimeMs) -> io::Result<()> {
        let earlier = self.back(now);
        let Some(cursor) = &mut self.cursor else {
            self.moved_at = None;
            return Ok(());
        };
        let mut saved = Cursor {
            next: self.acked,
            earlier,
            offset: self.offset,
            saved_at: now,
            sealed: self.seal == Seal::Delivered,
            ..*cursor
        };
        saved.save(&self.known.directory)?;
        *cursor = saved;
        self.moved_at = None;
        self.remember(now);
        Ok(())
    }

    fn remember(&mut self, now: TimeMs) {
        if self.history.back().is_none_or(|(at, _)| now.0 - at.0 >= REMEMBER_EVERY_MS) {
            self.history.push_back((now, self.acked));
        }
        while self.history.get(1).is_some_and(|(at, _)| now.0 - at.0 >= BACK_MS) {
            self.history.pop_front();
        }
    }
}
