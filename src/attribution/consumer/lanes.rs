//! Spools side by side: reads them in bounded pieces, holds each to its chain of numbers, and merges them by the times
//! of their events.

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
        let (least, largest) = ((self.held / SMALLEST_PART).max(1), (self.held / LARGEST_PART).max(1));
        let most = (self.held / self.lanes.len().max(1)).clamp(least, largest);
        let mut failed = Vec::new();
        for lane in &mut self.lanes {
            lane.drop_known();
            if lane.start < lane.records.len() || lane.is_done() {
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

    /// What can be applied now, merged by time. Nothing that stands behind a record not read yet.
    pub fn steps(&self) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        let mut known_until = TimeMs(i64::MAX);
        for (index, lane) in self.lanes.iter().enumerate() {
            let before = steps.len();
            let ended = lane.steps(index, &mut steps);
            if let (false, Some(last)) = (ended, steps[before..].last()) {
                known_until = known_until.min(last.at);
            }
        }
        steps.retain(|step| step.at <= known_until);
        // Stable: within a spool the order of its numbers stays, as `at` never goes back there.
        steps.sort_by_key(|step| step.at);
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

    /// Adds the unbroken steps of what is read. True: nothing of this spool comes after them in this round.
    fn steps<'r>(&'r self, index: usize, steps: &mut Vec<Step<'r>>) -> bool {
        let mut due = self.mark.next;
        let mut at = self.mark.last.unwrap_or(TimeMs(i64::MIN));
        for (item, record) in (self.start..).zip(self.records.items(self.start)) {
            if record.last() < due {
                continue;
            }
            if record.first() > due {
                return true;
            }
            let next = record.last() + 1;
            let what = What::of(record, due);
            let time = what.time();
            at = at.max(time.unwrap_or(at));
            steps.push(Step {
                lane: index,
                spool: self.reach.spool,
                seq: due,
                next,
                item,
                at,
                time,
                record: record.bytes(),
                what,
            });
            due = next;
        }
        due >= self.reach.until
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
