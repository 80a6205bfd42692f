//! What the consumer reads: records of spools by number, wherever they come from.

use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::spool::SpoolId;
use crate::store::{Batch, Mark, StoreError, View};

/// The spools of one directory, those of Kafka's topics, or (in tests) lists in memory.
pub trait Source {
    /// A consumer begins with this store: whatever was handed out before and is not in it is handed out again.
    fn begin(&mut self, _view: View<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// True when somebody else may have applied records of what is read from now on: marks are loaded and it is begun anew.
    fn has_changed(&self) -> bool {
        false
    }

    /// Which spools there are, and how far each may be read now. The conversions' ends are captured first, then what is
    /// written of clicks, and that is waited for until it is on disk: so a conversion that may be read never is ahead of
    /// a click that was answered before it (contract M50).
    fn reach(&mut self) -> io::Result<Reach>;

    /// Adds the records of `spool` from number `from` on and below `until`, at most `most`, in order of their numbers; fewer
    /// where they are large.
    /// What is not there any more is left out: the consumer sees the gap.
    fn read(&mut self, spool: SpoolId, from: u64, until: u64, most: usize, into: &mut Records) -> io::Result<()>;

    /// All records of `spool` below `next` are applied for good.
    fn applied(&mut self, spool: SpoolId, next: u64);

    /// The mark of a spool that was not among those it began with: what is below it is applied, as ever.
    fn recall(&mut self, mark: &Mark) {
        self.applied(mark.spool, mark.next);
    }

    /// Whether there is something to write down that belongs to no record.
    fn has_news(&self) -> bool {
        false
    }

    /// Writes down how far the source is itself, in the transaction that moves these marks.
    fn record(&mut self, _batch: &Batch<'_>, _moved: &[Mark]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Which rows of the rollups this consumer writes: of two that write at once each has its own.
    fn lane(&self) -> i32 {
        0
    }

    /// Returns when there may be something new, or after `at_most`.
    fn wait(&mut self, at_most: Duration);
}

#[derive(Clone, Debug, Default)]
pub struct Reach {
    pub conversions: Vec<SpoolReach>,
    pub clicks: Vec<SpoolReach>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolReach {
    pub spool: SpoolId,
    /// Records below this number may be read.
    pub until: u64,
    /// How many records it has, once it gets no more.
    pub sealed: Option<u64>,
}

/// Records in order of their numbers, their bytes in one buffer.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    list: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Record { seq: u64, at: Range<usize> },
    Lost { first: u64, last: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'r> {
    Record {
        seq: u64,
        bytes: &'r [u8],
    },
    /// The disk lost these; both ends included.
    Lost {
        first: u64,
        last: u64,
    },
}

impl Records {
    pub fn push(&mut self, seq: u64, record: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.list.push(Piece::Record { seq, at: start..self.bytes.len() });
    }

    pub fn push_lost(&mut self, first: u64, last: u64) {
        self.list.push(Piece::Lost { first, last });
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Of all records together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// From the item at `start` on.
    pub fn items(&self, start: usize) -> impl Iterator<Item = Item<'_>> {
        self.list.iter().skip(start).map(|piece| self.item(piece))
    }

    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        self.list.get(index).map(|piece| self.item(piece))
    }

    fn item(&self, piece: &Piece) -> Item<'_> {
        match piece {
            Piece::Record { seq, at } => Item::Record { seq: *seq, bytes: &self.bytes[at.clone()] },
            Piece::Lost { first, last } => Item::Lost { first: *first, last: *last },
        }
    }
}

impl<'r> Item<'r> {
    /// Empty where it is lost.
    pub fn bytes(&self) -> &'r [u8] {
        match self {
            Item::Record { bytes, .. } => bytes,
            Item::Lost { .. } => &[],
        }
    }

    pub fn first(&self) -> u64 {
        match self {
            Item::Record { seq, .. } => *seq,
            Item::Lost { first, .. } => *first,
        }
    }

    pub fn last(&self) -> u64 {
        match self {
            Item::Record { seq, .. } => *seq,
            Item::Lost { last, .. } => *last,
        }
    }
}
