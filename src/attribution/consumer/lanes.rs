//! Spools side by side: reads them in bounded pieces, holds each to its chain of numbers, and merges them by the times
//! of their events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use super::source::{Item, Records, Source, SpoolReach};
use crate::event::Event;
use crate::spool::SpoolId;
use crate::store::Mark;
use crate::time::TimeMs;

/// Records held at once, over all spools; of one at most a quarter, and at least one in so many.
pub const MAX_HELD: usize = 32_768;
const LARGEST_PART: usize = 4;
const SMALLEST_PART: usize = 512;

/// Beyond them no number of milliseconds is a time of ours: a click ID holds 48 bits of them.
const LATEST: TimeMs = TimeMs(1 << 48);
const EARLIEST: TimeMs = TimeMs(-(1 << 48));

pub struct Lanes {
    lanes: Vec<Lane>,
    held: usize,
}

pub struct Lane {
    reach: SpoolReach,
    mark: Mark,
    records: Records,
    /// The first of `records` that is not applied.
    start: usize,
    /// Nothing more in this round: a gap, or it could not be read.
    stuck: bool,
}

/// The next thing to apply, in order of time.
#[derive(Debug)]
pub struct Step<'r> {
    pub lane: usize,
    pub spool: SpoolId,
    pub seq: u64,
    /// The mark after it.
    next: u64,
    item: usize,
    /// Where it stands among the steps: the latest time of its spool so far, from its first record on.
    pub at: TimeMs,
    pub time: Option<TimeMs>,
    pub record: &'r [u8],
    pub what: What<'r>,
}

#[derive(Debug)]
pub enum What<'r> {
    Event(Event<'r>),
    Poison { why: String },
    Lost { first: u64, last: u64 },
}

/// Marks to write, each with where the stored one must be.
pub struct Moves {
    moves: Vec<(usize, Mark, usize)>,
}

impl Lanes {
    /// Holds about `held` records at once: as each transaction looks at all of them, no many times what fits into one.
    pub fn new(reaches: &[SpoolReach], held: usize, mark_of: impl Fn(SpoolId) -> Mark) -> Lanes {
        let lane = |reach: &SpoolReach| {
            let mark = mark_of(reach.spool);
            Lane { reach: *reach, mark, records: Records::default(), start: 0, stuck: false }
        };
        let unread = |lane: &Lane| lane.mark.next < lane.reach.until;
        Lanes { lanes: reaches.iter().map(lane).filter(unread).collect(), held }
    }

    /// Reads on where everything read is applied. Returns the spools that could not be read, and why.
    pub fn fill(&mut self, source: &mut impl Source) -> Vec<(SpoolId, io::Error)> {
        self.lanes.iter_mut().for_each(Lane::drop_known);
        let most = self.part();
        let mut failed = Vec::new();
        for lane in &mut self.lanes {
            if lane.is_held() || lane.is_done() {
                continue;
            }
            lane.records.clear();
            lane.start = 0;
            let (spool, from) = (lane.reach.spool, lane.mark.next);
            let read = source.read(spool, from, lane.reach.until, most, &mut lane.records);
            lane.drop_known();
            lane.stuck = lane.start == lane.records.len();
            if let Err(error) = read {
                lane.stuck = true;
                failed.push((spool, error));
            }
        }
        failed
    }

    /// How many records are read of each lane that is read on. Half of the room is left to the one that is through first:
    /// of many spools that lie one behind the other in time, only the oldest goes on, and it should not in small steps.
    fn part(&self) -> usize {
        let (least, largest) = ((self.held / SMALLEST_PART).max(1), (self.held / LARGEST_PART).max(1));
        let held: usize = self.lanes.iter().map(|lane| lane.records.len() - lane.start).sum();
        let read_on = self.lanes.iter().filter(|lane| !lane.is_held() && !lane.is_done()).count();
        (self.held.saturating_sub(held) / (2 * read_on.max(1))).clamp(least, largest)
    }

    /// What can be applied now, merged by time, at most `most`. Nothing that stands behind a record not read yet. Looks at
    /// one record of each spool more than it returns, however much is held: who is far behind has many spools to read, and
    /// of most of them nothing is due for long.
    pub fn steps(&self, most: usize) -> Vec<Step<'_>> {
        let mut walks: Vec<Walk<'_>> = self.lanes.iter().enumerate().map(Walk::new).collect();
        let mut heads: Vec<Option<Step<'_>>> = walks.iter_mut().map(Walk::step).collect();
        // Of one time those of the first spool come first; within a spool `at` never goes back.
        let mut due: BinaryHeap<Reverse<(TimeMs, usize)>> =
            heads.iter().flatten().map(|step| Reverse((step.at, step.lane))).collect();
        let (mut steps, mut known_until) = (Vec::new(), TimeMs(i64::MAX));
        while let Some(Reverse((at, lane))) = due.pop() {
            if at > known_until || steps.len() >= most {
                break;
            }
            let next = walks[lane].step();
            match &next {
                Some(step) => due.push(Reverse((step.at, lane))),
                None if walks[lane].has_ended() => {}
                None => known_until = at,
            }
            steps.extend(std::mem::replace(&mut heads[lane], next));
        }
        steps
    }

    /// The marks after the first `count` of `steps`.
    pub fn moves(&self, steps: &[Step<'_>]) -> Moves {
        let mut moves: Vec<(usize, Mark, usize)> = Vec::new();
        let mut place = vec![None; self.lanes.len()];
        for step in steps {
            let at = *place[step.lane].get_or_insert_with(|| {
                moves.push((step.lane, self.lanes[step.lane].mark, 0));
                moves.len() - 1
            });
            let (_, mark, start) = &mut moves[at];
            mark.next = step.next;
            mark.gap = None;
            step.time.into_iter().for_each(|time| mark.saw(time));
            *start = step.item + 1;
        }
        Moves { moves }
    }

    /// The transaction is on disk.
    pub fn applied(&mut self, moves: &Moves) {
        for (lane, mark, start) in &moves.moves {
            self.lanes[*lane].mark = *mark;
            self.lanes[*lane].start = *start;
        }
    }

    /// Each spool's mark as it is now, with a gap where the chain is broken.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.lanes.iter().map(|lane| Mark { gap: lane.gap(), ..lane.mark })
    }
}

impl Moves {
    /// Each mark, and where the stored one must be for it.
    pub fn marks<'m>(&'m self, lanes: &'m Lanes) -> impl Iterator<Item = (&'m Mark, u64)> {
        self.moves.iter().map(|(lane, mark, _)| (mark, lanes.lanes[*lane].mark.next))
    }
}

impl Lane {
    fn is_done(&self) -> bool {
        self.stuck || self.mark.next >= self.reach.until
    }

    /// Something that is read is not applied.
    fn is_held(&self) -> bool {
        self.start < self.records.len()
    }

    /// Skips what was delivered before.
    fn drop_known(&mut self) {
        let known = |item: &Item<'_>| item.last() < self.mark.next;
        self.start += self.records.items(self.start).take_while(known).count();
    }

    /// The number that stands where the mark's is due.
    fn gap(&self) -> Option<u64> {
        let first = self.records.items(self.start).next()?.first();
        (first > self.mark.next).then_some(first)
    }
}

/// The way through what is read of one spool, as long as its chain of numbers is unbroken.
struct Walk<'r> {
    index: usize,
    lane: &'r Lane,
    item: usize,
    due: u64,
    at: TimeMs,
}

impl<'r> Walk<'r> {
    fn new((index, lane): (usize, &'r Lane)) -> Walk<'r> {
        Walk { index, lane, item: lane.start, due: lane.mark.next, at: lane.mark.last.unwrap_or(TimeMs(i64::MIN)) }
    }

    fn step(&mut self) -> Option<Step<'r>> {
        let mut record = self.lane.records.get(self.item)?;
        while record.last() < self.due {
            self.item += 1;
            record = self.lane.records.get(self.item)?;
        }
        if record.first() > self.due {
            return None;
        }
        let (seq, next, item) = (self.due, record.last() + 1, self.item);
        let what = What::of(record, seq);
        let time = what.time();
        self.at = self.at.max(time.unwrap_or(self.at));
        self.due = next;
        self.item += 1;
        let (lane, spool, at, record) = (self.index, self.lane.reach.spool, self.at, record.bytes());
        Some(Step { lane, spool, seq, next, item, at, time, record, what })
    }

    /// When there is no next step: nothing of this spool comes after the last one in this round.
    fn has_ended(&self) -> bool {
        let is_broken = self.lane.records.get(self.item).is_some_and(|record| record.first() > self.due);
        is_broken || self.due >= self.lane.reach.until
    }
}

impl Step<'_> {
    /// The order that it speaks of.
    pub fn conversion_id(&self) -> Option<&str> {
        match &self.what {
            What::Event(Event::Conversion(report)) => Some(&report.conversion_id),
            What::Event(Event::Refund(refund)) => Some(&refund.conversion_id),
            _ => None,
        }
    }
}

impl<'r> What<'r> {
    fn of(item: Item<'r>, due: u64) -> What<'r> {
        match item {
            Item::Lost { last, .. } => What::Lost { first: due, last },
            Item::Record { bytes, .. } => match Event::parse(bytes) {
                Ok(event) if !is_of_our_time(&event) => What::Poison { why: "its time is out of range".into() },
                Ok(event) => What::Event(event),
                Err(error) => What::Poison { why: error.to_string() },
            },
        }
    }

    fn time(&self) -> Option<TimeMs> {
        match self {
            What::Event(event) => time(event),
            What::Poison { .. } | What::Lost { .. } => None,
        }
    }
}

fn time(event: &Event<'_>) -> Option<TimeMs> {
    match event {
        Event::Click(click) => Some(click.clicked_at_ms),
        Event::Conversion(report) => Some(report.received_at_ms),
        Event::Refund(refund) => Some(refund.received_at_ms),
        Event::Parked(parked) => Some(parked.parked_at_ms),
        // That of the record before it is the time of this spool.
        Event::Other(_) | Event::Heartbeat(_) | Event::Seal(_) | Event::Unparked(_) => None,
    }
}

/// Others are no events of an edge: sums with them would overflow, here and in the store.
fn is_of_our_time(event: &Event<'_>) -> bool {
    let occurred = match event {
        Event::Conversion(report) => Some(report.occurred_at_ms),
        Event::Refund(refund) => Some(refund.occurred_at_ms),
        _ => None,
    };
    time(event).into_iter().chain(occurred).all(|at| (EARLIEST..LATEST).contains(&at))
}
