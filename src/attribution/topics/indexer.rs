//! Keeps the shared touch index up with the topic of clicks.
//!
//! The index says by itself how far it goes, so nothing is remembered here that counts: whatever was wiped, went back to a
//! snapshot or is written by another process shows in its positions, and reading goes on from there. A topic that was made
//! anew shows by the record before the position being another one.

mod lane;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lane::{KeyWaits, Lane, Owned};

use super::{IndexerMetrics, fingerprint};
use crate::click::Keys;
use crate::clock::Clock;
use crate::kafka::Cluster;
use crate::kafka::consumer::{ConsumeError, Consumer, Ends, Heard, KafkaError, Partition, Start};
use crate::spool::Topic;
use crate::touch::Touched;
use crate::touch::shared::{AddError, Position, SharedTouches, Unavailable};

const GROUP: &str = "touches";

/// Touches that are read and not in the index, of all partitions. At the bound nothing is read until they are.
const MAX_PENDING: usize = 20_000;

/// How long one look takes records in.
const LOOK: Duration = Duration::from_millis(50);

/// How often positions are compared with what this process believes, also when no click comes.
const COMPARE_EVERY: Duration = Duration::from_secs(2);

/// The pause after Redis or Kafka did not answer.
const PAUSE: Duration = Duration::from_millis(500);

pub struct IndexerParts {
    pub cluster: Cluster,
    pub index: SharedTouches,
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    /// For how long a touch may earn something, by the catalog of the moment.
    pub kept_ms: Box<dyn Fn() -> i64 + Send>,
    pub unknown_key_wait: Duration,
    pub metrics: Arc<IndexerMetrics>,
}

struct Indexer<'p> {
    parts: &'p mut IndexerParts,
    waits: &'p mut KeyWaits,
    consumer: Consumer,
    ends: Ends,
    lanes: BTreeMap<i32, Lane>,
    pending: usize,
    compared: Instant,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    #[error("{0}")]
    Consume(#[from] ConsumeError),
    #[error("{0}")]
    Redis(#[from] Unavailable),
    #[error("{0}")]
    Add(#[from] AddError),
    #[error("a panic, told above")]
    Panicked,
}

/// Indexes until `stop` says so. Waits for Kafka and Redis however long they are away.
pub fn index(mut parts: IndexerParts, stop: impl Fn() -> bool) {
    let mut told = None;
    let mut waits = KeyWaits::new(parts.unknown_key_wait);
    while !stop() {
        let run = || Indexer::begin(&mut parts, &mut waits).and_then(|mut indexer| indexer.run(&stop));
        // What a panic left half done was not remembered: the index says where to go on.
        let result = std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(Failed::Panicked));
        if let Err(error) = result {
            parts.metrics.errors.add(1);
            let text = error.to_string();
            if told.replace(text.clone()) != Some(text) {
                tracing::warn!(%error, "touches are not indexed; trying again");
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl<'p> Indexer<'p> {
    /// Who does not get to Redis leaves the partitions to those who do.
    fn begin(parts: &'p mut IndexerParts, waits: &'p mut KeyWaits) -> Result<Indexer<'p>, Failed> {
        let starts = parts.index.positions()?.into_iter();
        let topic = parts.cluster.topic(Topic::Clicks);
        let ends = Ends::of(&parts.cluster, topic.clone())?;
        let mut consumer = Consumer::join(&parts.cluster, GROUP, &[topic])?;
        consumer.set_starts(starts.map(|(number, at)| (partition(number), at.next)).collect());
        Ok(Indexer { parts, waits, consumer, ends, lanes: BTreeMap::new(), pending: 0, compared: Instant::now() })
    }

    fn run(&mut self, stop: &dyn Fn() -> bool) -> Result<(), Failed> {
        while !stop() {
            match self.round() {
                Ok(()) => {}
                // These pass: what is held is held.
                Err(
                    error @ (Failed::Redis(_)
                    | Failed::Add(_)
                    | Failed::Kafka(_)
                    | Failed::Consume(ConsumeError::Trouble(_))),
                ) => {
                    self.parts.metrics.errors.add(1);
                    tracing::debug!(%error, "touches are not indexed at the moment");
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn round(&mut self) -> Result<(), Failed> {
        self.read()?;
        // What fails here keeps nothing of the rest from its turn; the first failure is told. Written is before a lane is
        // placed: what it read goes with that.
        let results = [self.write(), self.place(), self.compare()];
        results.into_iter().collect()
    }

    fn read(&mut self) -> Result<(), Failed> {
        let until = Instant::now() + LOOK;
        let (lanes, pending, parts, waits) = (&mut self.lanes, &mut self.pending, &*self.parts, &mut *self.waits);
        while *pending < MAX_PENDING {
            let timeout = until.saturating_duration_since(Instant::now());
            let heard = self.consumer.poll(timeout, |heard| match heard {
                Heard::Record { partition, offset, value } => {
                    if let Some(lane) = lanes.get_mut(&partition.number).filter(|lane| lane.reads()) {
                        let before = lane.touches.len();
                        lane.take(
                            offset,
                            value.unwrap_or_default(),
                            (&parts.keys, waits, &parts.metrics),
                            Instant::now(),
                        );
                        *pending += lane.touches.len() - before;
                    }
                }
                Heard::Assigned(partitions) => {
                    lanes.extend(partitions.into_iter().map(|one| (one.number, Lane::default())));
                }
                Heard::Revoked(partitions) => {
                    for lane in partitions.iter().filter_map(|one| lanes.remove(&one.number)) {
                        *pending -= lane.touches.len();
                    }
                }
                Heard::Reset { partition, .. } => {
                    tracing::warn!(partition = partition.number, "clicks that were due are not there");
                    if let Some(lane) = lanes.get_mut(&partition.number) {
                        *pending -= lane.touches.len();
                        *lane = Lane::default();
                    }
                }
            })?;
            if heard.is_none() || Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }

    /// Finds out where to go on in the partitions of which that is not known.
    fn place(&mut self) -> Result<(), Failed> {
        let now = Instant::now();
        let is_due = |lane: &Lane| !lane.reads() && lane.not_before.is_none_or(|at| now >= at);
        let due: Vec<i32> = self.lanes.iter().filter(|(_, lane)| is_due(lane)).map(|(number, _)| *number).collect();
        if due.is_empty() {
            return Ok(());
        }
        let positions = self.parts.index.positions()?;
        let results: Vec<_> = due.into_iter().map(|number| self.place_one(number, positions.get(&number))).collect();
        results.into_iter().collect()
    }

    fn place_one(&mut self, number: i32, position: Option<&Position>) -> Result<(), Failed> {
        let at = match position {
            Some(at) if self.is_of_this_topic(number, *at)? => *at,
            Some(_) => {
                tracing::warn!(partition = number, "the topic of clicks was made anew; its index too");
                self.parts.index.forget(number)?;
                self.first_position(number)?
            }
            None => self.first_position(number)?,
        };
        let (low, _) = self.ends.bounds(number)?;
        if let Some(lane) = self.lanes.get_mut(&number)
            && self.consumer.seek(partition(number), Start::At(at.next.max(low)))
        {
            self.pending -= lane.touches.len();
            *lane = Lane { passed_over: lane.passed_over, ..Lane::at(at, low) };
        }
        Ok(())
    }

    fn is_of_this_topic(&self, number: i32, at: Position) -> Result<bool, Failed> {
        let (low, high) = self.ends.bounds(number)?;
        if at.next > high {
            return Ok(false);
        }
        // The record before may be gone for its age: then there is nothing to compare, and nothing missing either.
        if at.last == 0 || at.next <= low {
            return Ok(true);
        }
        Ok(self.ends.record(number, at.next - 1)?.is_none_or(|record| fingerprint(&record) == at.last))
    }

    /// What is older than may earn anything needs no place in the index.
    fn first_position(&mut self, number: i32) -> Result<Position, Failed> {
        let since = self.parts.clock.now().0.saturating_sub((self.parts.kept_ms)());
        let next = self.ends.since(number, since)?;
        let before = if next > 0 { self.ends.record(number, next - 1)? } else { None };
        let first = Position { next, last: before.map_or(0, |record| fingerprint(&record)) };
        self.parts.metrics.rebuilds.add(1);
        tracing::info!(partition = number, from = next, "the touch index is made from the topic");
        self.parts.index.add(number, None, first, &[])?;
        Ok(first)
    }

    fn write(&mut self) -> Result<(), Failed> {
        let kept_ms = (self.parts.kept_ms)();
        self.parts.index.keep(kept_ms);
        let mut result = Ok(());
        for (number, lane) in &mut self.lanes {
            let Some(to) = lane.to.filter(|to| lane.is_placed && Some(*to) != lane.at) else { continue };
            let touches: Vec<Touched<'_>> = lane.touches.iter().map(Owned::touched).collect();
            match self.parts.index.add(*number, lane.at, to, &touches) {
                Ok(()) => {
                    self.parts.metrics.touches.add(touches.len() as u64);
                    lane.at = Some(to);
                    self.pending -= lane.touches.len();
                    lane.touches.clear();
                }
                Err(AddError::Moved) => lane.is_placed = false,
                Err(error) => result = result.and(Err(error.into())),
            }
        }
        result
    }

    /// Looks whether the index still is where it was left, and how far behind it is.
    fn compare(&mut self) -> Result<(), Failed> {
        if self.compared.elapsed() < COMPARE_EVERY {
            return Ok(());
        }
        self.compared = Instant::now();
        let positions = self.parts.index.positions()?;
        let ends = self.ends.ends()?;
        let mut lag = 0;
        for (number, lane) in &mut self.lanes {
            let end = ends.get(number).copied().unwrap_or(0);
            lag += lane.at.map_or(end, |at| (end - at.next).max(0));
            let is_beyond = lane.at.is_some_and(|at| at.next > end);
            if lane.is_placed && (positions.get(number) != lane.at.as_ref() || is_beyond) {
                lane.is_placed = false;
            }
        }
        self.parts.metrics.lag.set(lag);
        let unplaced = self.lanes.values().filter(|lane| !lane.reads()).count();
        self.parts.metrics.unplaced.set(unplaced as i64);
        let next = self.lanes.iter().filter_map(|(number, lane)| Some((partition(*number), lane.at?.next)));
        self.consumer.commit(next);
        self.parts.index.check_policy()?;
        Ok(())
    }
}

fn partition(number: i32) -> Partition {
    Partition { topic: 0, number }
}
