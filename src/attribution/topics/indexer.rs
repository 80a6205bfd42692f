//! Keeps the shared touch index up with the topic of clicks.
//!
//! The index says by itself how far it goes, so nothing is remembered here that counts: whatever was wiped, went back to a
//! snapshot or is written by another process shows in its positions, and reading goes on from there. A topic that was made
//! anew shows by the record before the position being another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::IndexerMetrics;
use crate::click::{ClickId, Keys, Verdict};
use crate::clock::Clock;
use crate::event::{Click, Event};
use crate::kafka::Cluster;
use crate::kafka::consumer::{ConsumeError, Consumer, Ends, Heard, KafkaError, Partition, Start};
use crate::rollup::cut;
use crate::spool::Topic;
use crate::touch::Touched;
use crate::touch::shared::{AddError, Position, SharedTouches};

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
    consumer: Consumer,
    ends: Ends,
    lanes: BTreeMap<i32, Lane>,
    pending: usize,
    compared: Instant,
}

/// One partition.
#[derive(Default)]
struct Lane {
    /// False until it is known where to go on; what is read before that is not wanted.
    is_placed: bool,
    /// As the index has it.
    at: Option<Position>,
    /// After `touches` are in.
    to: Option<Position>,
    touches: Vec<Owned>,
    /// Since when a click is waited for whose key is not listed.
    unlisted_since: Option<Instant>,
    not_before: Option<Instant>,
}

struct Owned {
    click_id: ClickId,
    link: Option<String>,
    source: Option<String>,
    sub1: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    #[error("{0}")]
    Consume(#[from] ConsumeError),
    #[error("{0}")]
    Redis(#[from] crate::redis::Unavailable),
    #[error("{0}")]
    Add(#[from] AddError),
}

/// Indexes until `stop` says so. Waits for Kafka and Redis however long they are away.
pub fn index(mut parts: IndexerParts, stop: impl Fn() -> bool) {
    let mut told = None;
    while !stop() {
        let result = Indexer::begin(&mut parts).and_then(|mut indexer| indexer.run(&stop));
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
    fn begin(parts: &'p mut IndexerParts) -> Result<Indexer<'p>, Failed> {
        let topic = parts.cluster.topic(Topic::Clicks);
        let mut consumer = Consumer::join(&parts.cluster, GROUP, std::slice::from_ref(&topic))?;
        let starts = parts.index.positions()?.into_iter();
        consumer.set_starts(starts.map(|(number, at)| (partition(number), at.next)).collect());
        let ends = Ends::of(&parts.cluster, topic)?;
        Ok(Indexer { parts, consumer, ends, lanes: BTreeMap::new(), pending: 0, compared: Instant::now() })
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
        self.place()?;
        self.write()?;
        self.compare()
    }

    fn read(&mut self) -> Result<(), Failed> {
        let until = Instant::now() + LOOK;
        let (lanes, pending, parts) = (&mut self.lanes, &mut self.pending, &mut *self.parts);
        while *pending < MAX_PENDING {
            let timeout = until.saturating_duration_since(Instant::now());
            let heard = self.consumer.poll(timeout, |heard| match heard {
                Heard::Record { partition, offset, value } => {
                    if let Some(lane) = lanes.get_mut(&partition.number).filter(|lane| lane.is_placed) {
                        let before = lane.touches.len();
                        lane.take(offset, value.unwrap_or_default(), parts);
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
                Heard::Reset(partition) => {
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
        let is_due = |lane: &Lane| !lane.is_placed && lane.not_before.is_none_or(|at| Instant::now() >= at);
        let due: Vec<i32> = self.lanes.iter().filter(|(_, lane)| is_due(lane)).map(|(number, _)| *number).collect();
        if due.is_empty() {
            return Ok(());
        }
        let positions = self.parts.index.positions()?;
        for number in due {
            let at = match positions.get(&number) {
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
                let unlisted_since = lane.unlisted_since;
                *lane = Lane { is_placed: true, at: Some(at), to: Some(at), unlisted_since, ..Lane::default() };
            }
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
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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
        let unplaced = self.lanes.values().filter(|lane| !lane.is_placed).count();
        self.parts.metrics.unplaced.set(unplaced as i64);
        let next = self.lanes.iter().filter_map(|(number, lane)| Some((partition(*number), lane.at?.next)));
        self.consumer.commit(next);
        self.parts.index.check_policy()?;
        Ok(())
    }
}

impl Lane {
    fn take(&mut self, offset: i64, record: &[u8], parts: &IndexerParts) {
        if self.to.is_some_and(|to| offset < to.next) {
            return;
        }
        if self.to.is_some_and(|to| offset > to.next) && !self.touches.is_empty() {
            // Something was passed over: it is looked for from where the index is.
            self.is_placed = false;
            return;
        }
        if let Ok(Event::Click(click)) = Event::parse(record)
            && let Some(text) = click.click_id.as_deref()
        {
            match ClickId::verify(text, &parts.keys) {
                Verdict::Verified(click_id) => {
                    self.touches.push(Owned::of(click_id, &click));
                    self.unlisted_since = None;
                }
                Verdict::UnknownKey if self.waits_for_key(parts) => return,
                _ => parts.metrics.unverified.add(1),
            }
        }
        self.to = Some(Position { next: offset + 1, last: fingerprint(record) });
    }

    /// A click whose key is not listed is waited for: skipped, it would be missing for ever. Not for longer than orders
    /// wait for a key.
    fn waits_for_key(&mut self, parts: &IndexerParts) -> bool {
        let since = *self.unlisted_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= parts.unknown_key_wait {
            return false;
        }
        if since.elapsed() < Duration::from_millis(10) {
            tracing::error!("a click is signed with a key that is not listed; the touch index waits for it");
        }
        parts.metrics.key_waits.add(1);
        // Read again from the index's position, a little later.
        self.is_placed = false;
        self.not_before = Some(Instant::now() + Duration::from_secs(1));
        true
    }
}

impl Owned {
    fn of(click_id: ClickId, click: &Click<'_>) -> Owned {
        let label = |label: &Option<std::borrow::Cow<'_, str>>| {
            label.as_deref().map(cut).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Owned { click_id, link: label(&click.link), source: label(&click.source), sub1: label(&click.sub1) }
    }

    fn touched(&self) -> Touched<'_> {
        let Owned { click_id, link, source, sub1 } = self;
        Touched { click_id: *click_id, link: link.as_deref(), source: source.as_deref(), sub1: sub1.as_deref() }
    }
}

fn partition(number: i32) -> Partition {
    Partition { topic: 0, number }
}

/// Tells a record from the one that stands at its offset in another topic; never 0.
fn fingerprint(record: &[u8]) -> u64 {
    xxh3_64(record).max(1)
}
