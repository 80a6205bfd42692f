//! The spools of Kafka's topics as the consumer's source, one group for both topics.
//!
//! Whatever a partition delivers twice, late or after a gap: the numbers of the spools decide. So positions are a hint: too
//! far back costs time, too far forward is seen as a gap and healed by reading the partition from its beginning.

mod indexer;
mod metrics;
mod outbox;
mod queues;
mod sharing;

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

pub use indexer::{IndexerParts, index};
pub use metrics::{IndexerMetrics, OutboxMetrics, TopicMetrics};
pub use outbox::{Message, OutboxParts, Render, tell};
use queues::{Origin, Queues, Taken};
pub use sharing::RedisAndKafka;
use std::sync::Arc;

use crate::attribution::consumer::{Reach, Records, Source};
use crate::event::{self, Event, SpoolState};
use crate::kafka::Cluster;
use crate::kafka::consumer::{ConsumeError, Consumer, Heard, Partition, Start};
use crate::spool::{SpoolId, Topic};
use crate::store::{Batch, DeadLetter, Mark, StoreError, View};

/// The group of all attribution processes.
const GROUP: &str = "attribution";

/// In the order of `Partition::topic`.
const TOPICS: [Topic; 2] = [Topic::Clicks, Topic::Conversions];

/// Held at once of both topics. At the bound no more is asked for until all of it is applied.
const MAX_RECORDS: usize = 65_536;
const MAX_BYTES: usize = 64 << 20;

/// One look takes in records for at most this long.
const LOOK: Duration = Duration::from_millis(100);

/// A gap is given so long to close by itself; then its partition is read from the beginning, and again after pauses that
/// double up to the longest: what is missing may be sent again.
const FIRST_SEARCH: Duration = Duration::from_secs(10);
const LAST_SEARCH: Duration = Duration::from_secs(3_600);

/// How often offsets are written down when no records are applied, and told to Kafka.
const WRITE_EVERY: Duration = Duration::from_secs(2);

pub struct TopicSource {
    cluster: Cluster,
    metrics: Arc<TopicMetrics>,
    /// None before the store is known, and after a client that broke.
    consumer: Option<Consumer>,
    queues: Queues,
    /// As the store has them.
    stored: BTreeMap<Partition, i64>,
    /// The furthest offset read of each partition, whatever was read again since.
    furthest: BTreeMap<Partition, i64>,
    /// Partitions that have to go on elsewhere first: what comes of them meanwhile is not wanted.
    seeks: BTreeMap<Partition, Start>,
    searches: BTreeMap<Partition, Search>,
    /// Latest heartbeats and seals that are not written down.
    states: BTreeMap<u64, (SpoolState, bool, i32)>,
    unreadable: Vec<DeadLetter>,
    has_changed: bool,
    written: Instant,
}

/// For what is missing in a partition.
struct Search {
    next: Instant,
    pause: Duration,
}

impl TopicSource {
    pub fn new(cluster: Cluster, metrics: Arc<TopicMetrics>) -> TopicSource {
        TopicSource {
            cluster,
            metrics,
            consumer: None,
            queues: Queues::default(),
            stored: BTreeMap::new(),
            furthest: BTreeMap::new(),
            seeks: BTreeMap::new(),
            searches: BTreeMap::new(),
            states: BTreeMap::new(),
            unreadable: Vec::new(),
            has_changed: false,
            written: Instant::now(),
        }
    }

    fn join(&mut self) -> io::Result<()> {
        if self.consumer.is_none() {
            let topics = TOPICS.map(|topic| self.cluster.topic(topic));
            let mut consumer = Consumer::join(&self.cluster, GROUP, &topics).map_err(io::Error::other)?;
            consumer.set_starts(self.stored.clone());
            self.consumer = Some(consumer);
        }
        Ok(())
    }

    /// Takes in what comes until `until`, or until nothing does.
    fn poll(&mut self, until: Instant, wait: bool) -> io::Result<()> {
        self.join()?;
        let Some(mut consumer) = self.consumer.take() else { return Ok(()) };
        self.seek(&mut consumer);
        let mut result = Ok(());
        while self.queues.records() < MAX_RECORDS && self.queues.bytes() < MAX_BYTES && !self.has_changed {
            let timeout = if wait { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match consumer.poll(timeout, |heard| self.hear(heard)) {
                Ok(Some(())) if Instant::now() < until && !(wait && self.queues.records() > 0) => {}
                Ok(_) => break,
                Err(error) => {
                    self.metrics.errors.add(1);
                    let is_broken = matches!(error, ConsumeError::Broken(_));
                    result = Err(io::Error::other(error));
                    if is_broken {
                        self.has_changed = true;
                        return result;
                    }
                    break;
                }
            }
        }
        self.consumer = Some(consumer);
        result
    }

    fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Record { partition, offset, value } => {
                if !self.seeks.contains_key(&partition) {
                    self.record_of(partition, offset, value.unwrap_or_default());
                }
            }
            Heard::Assigned(partitions) => {
                tracing::info!(partitions = partitions.len(), "partitions assigned");
                self.has_changed = true;
            }
            Heard::Revoked(partitions) => {
                tracing::info!(partitions = partitions.len(), "partitions taken away");
                partitions.into_iter().for_each(|partition| self.leave(partition));
            }
            Heard::Reset(partition) => {
                self.metrics.resets.add(1);
                self.furthest.remove(&partition);
                let Partition { topic, number } = partition;
                let topic = TOPICS[topic].name();
                tracing::error!(topic, number, "records that were due are not there; going on at the oldest that is");
            }
        }
    }

    fn record_of(&mut self, partition: Partition, offset: i64, record: &[u8]) {
        self.metrics.records.add(1);
        let furthest = self.furthest.entry(partition).or_insert(offset + 1);
        *furthest = (offset + 1).max(*furthest);
        let topic = TOPICS[partition.topic];
        let Some(address) = event::address(record) else {
            return self.cannot_read(partition, offset, record);
        };
        let spool = SpoolId(address.spool);
        match (address.event, address.seq) {
            ("heartbeat" | "seal", _) => match Event::parse(record) {
                Ok(Event::Heartbeat(state)) => self.state(*state, false, partition),
                Ok(Event::Seal(state)) => self.state(*state, true, partition),
                _ => self.cannot_read(partition, offset, record),
            },
            (_, Some(seq)) => match self.queues.take(spool, seq, Origin { topic, partition, offset }, record) {
                Taken::Held => {}
                Taken::Known => self.metrics.repeated.add(1),
                Taken::Beyond => self.metrics.beyond_gaps.add(1),
            },
            (_, None) => self.cannot_read(partition, offset, record),
        }
    }

    fn state(&mut self, state: SpoolState, is_seal: bool, partition: Partition) {
        if is_seal {
            let count = state.seq.map_or(0, |last| last + 1);
            self.queues.seal(SpoolId(state.spool), TOPICS[partition.topic], count);
        }
        // As the store does: a seal stands, whatever the edge's clock did before it.
        let is_news = |(known, is_sealed, _): &(SpoolState, bool, i32)| !is_sealed && known.at_ms <= state.at_ms;
        if is_seal || self.states.get(&state.spool).is_none_or(is_news) {
            self.states.insert(state.spool, (state, is_seal, partition.number));
        }
    }

    /// Of no spool that we know of: kept under its partition and offset.
    fn cannot_read(&mut self, partition: Partition, offset: i64, record: &[u8]) {
        self.metrics.unreadable.add(1);
        let topic = self.cluster.topic(TOPICS[partition.topic]);
        let place = format!("{topic}/{}", partition.number);
        let why = format!("not a record of a spool: {place}, offset {offset}");
        tracing::error!(topic, partition = partition.number, offset, "a record of no spool is kept as a dead letter");
        let spool = SpoolId(xxhash_rust::xxh3::xxh3_64(place.as_bytes()));
        let seq = offset.unsigned_abs();
        self.unreadable.push(DeadLetter { spool, seq, why, record: record.to_vec() });
    }

    fn leave(&mut self, partition: Partition) {
        self.queues.leave(partition);
        self.furthest.remove(&partition);
        self.stored.remove(&partition);
        self.seeks.remove(&partition);
        self.searches.remove(&partition);
    }

    /// Goes where a partition has to go on; what does not succeed now is tried again at the next look.
    fn seek(&mut self, consumer: &mut Consumer) {
        self.seeks
            .retain(|partition, to| consumer.positions().contains_key(partition) && !consumer.seek(*partition, *to));
        let gaps: Vec<Partition> = self.queues.gaps().collect();
        self.searches.retain(|partition, _| gaps.contains(partition));
        let now = Instant::now();
        for partition in gaps {
            let first = || Search { next: now + FIRST_SEARCH, pause: FIRST_SEARCH };
            let search = self.searches.entry(partition).or_insert_with(first);
            if now >= search.next && consumer.seek(partition, Start::Beginning) {
                search.pause = (search.pause * 2).min(LAST_SEARCH);
                search.next = now + search.pause;
                self.metrics.searches.add(1);
                let topic = TOPICS[partition.topic].name();
                tracing::warn!(
                    topic,
                    partition = partition.number,
                    "reading it from the beginning for a missing record"
                );
            }
        }
    }

    /// Where each partition goes on after a crash: behind what is applied, never behind what is not.
    fn offsets(&self, moved: &[Mark]) -> BTreeMap<Partition, i64> {
        let next = |spool| moved.iter().find(|mark| mark.spool == spool).map(|mark| mark.next);
        let unapplied = self.queues.unapplied(next);
        let offset = |(partition, furthest): (&Partition, &i64)| {
            (*partition, unapplied.get(partition).map_or(*furthest, |first| *first.min(furthest)))
        };
        self.furthest.iter().map(offset).filter(|(partition, next)| self.stored.get(partition) != Some(next)).collect()
    }
}

impl Source for TopicSource {
    fn begin(&mut self, view: View<'_>) -> Result<(), StoreError> {
        self.queues.begin(&view.marks()?);
        for state in view.spool_states()?.iter().filter(|state| state.sealed) {
            let topic = if state.state.topic == Topic::Clicks.name() { Topic::Clicks } else { Topic::Conversions };
            self.queues.seal(SpoolId(state.state.spool), topic, state.state.seq.map_or(0, |last| last + 1));
        }
        self.stored.clear();
        for (topic, name) in TOPICS.iter().enumerate() {
            let offsets = view.offsets(*name)?.into_iter();
            self.stored.extend(offsets.map(|(number, next)| (Partition { topic, number }, next)));
        }
        self.furthest.clear();
        self.states.clear();
        self.unreadable.clear();
        self.searches.clear();
        self.has_changed = false;
        if let Some(consumer) = &mut self.consumer {
            consumer.set_starts(self.stored.clone());
            let wanted = |partition| self.stored.get(partition).map_or(Start::Beginning, |next| Start::At(*next));
            let elsewhere = consumer.positions().iter().filter(|(partition, at)| **at != wanted(partition));
            self.seeks = elsewhere.map(|(partition, _)| (*partition, wanted(partition))).collect();
        }
        Ok(())
    }

    fn has_changed(&self) -> bool {
        self.has_changed
    }

    fn reach(&mut self) -> io::Result<Reach> {
        self.poll(Instant::now() + LOOK, false)?;
        let assigned = self.consumer.as_ref().map_or(0, |consumer| consumer.positions().len());
        self.metrics.partitions.set(assigned as i64);
        Ok(Reach { conversions: self.queues.reach(Topic::Conversions), clicks: self.queues.reach(Topic::Clicks) })
    }

    fn read(&mut self, spool: SpoolId, from: u64, until: u64, most: usize, into: &mut Records) -> io::Result<()> {
        self.queues.read(spool, from, until, most, into);
        Ok(())
    }

    fn applied(&mut self, spool: SpoolId, next: u64) {
        self.queues.applied(spool, next);
    }

    fn has_news(&self) -> bool {
        let is_due = self.written.elapsed() >= WRITE_EVERY;
        is_due && (!self.states.is_empty() || !self.unreadable.is_empty() || !self.offsets(&[]).is_empty())
    }

    fn record(&mut self, batch: &Batch<'_>, moved: &[Mark]) -> Result<(), StoreError> {
        for (state, sealed, partition) in std::mem::take(&mut self.states).into_values() {
            batch.record_state(&state, sealed, partition)?;
        }
        std::mem::take(&mut self.unreadable).iter().try_for_each(|letter| batch.bury(letter))?;
        let offsets = self.offsets(moved);
        for (partition, next) in &offsets {
            batch.record_offset(TOPICS[partition.topic], partition.number, *next)?;
        }
        // Should the transaction fail, all is begun anew with what the store has.
        self.stored.extend(offsets);
        if self.written.elapsed() >= WRITE_EVERY {
            self.written = Instant::now();
            let stored = self.stored.iter().map(|(partition, next)| (*partition, *next));
            self.consumer.iter().for_each(|consumer| consumer.commit(stored.clone()));
        }
        Ok(())
    }

    /// The smallest partition of clicks: no two consumers have it at once, but for a moment while the group changes.
    fn lane(&self) -> i32 {
        let positions = self.consumer.iter().flat_map(|consumer| consumer.positions().keys());
        positions.filter(|partition| TOPICS[partition.topic] == Topic::Clicks).map(|one| one.number).min().unwrap_or(0)
    }

    fn wait(&mut self, at_most: Duration) {
        if let Err(error) = self.poll(Instant::now() + at_most, true) {
            tracing::debug!(%error, "kafka");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: Partition = Partition { topic: 0, number: 3 };

    fn source() -> TopicSource {
        TopicSource::new(Cluster { bootstrap_servers: String::new(), prefix: "afflux".into() }, Arc::default())
    }

    #[test]
    fn a_seal_stands_whatever_the_clock_did_before_it() {
        let mut source = source();
        let state = |at_ms, shipped| {
            let (topic, edge) = ("clicks".to_owned(), "edge-1".to_owned());
            let (seq, at_ms) = (Some(shipped), crate::time::TimeMs(at_ms));
            let oldest_unshipped_ms = None;
            SpoolState { spool: 7, seq, topic, edge, at_ms, shipped, oldest_unshipped_ms, unspooled: 0, late: 0 }
        };
        for (at, shipped, is_seal) in [(90, 1, false), (10, 2, true), (95, 1, false)] {
            source.state(state(at, shipped), is_seal, PARTITION);
        }
        assert_eq!(source.states[&7], (state(10, 2), true, 3));
    }

    #[test]
    fn a_number_that_no_spool_reaches_is_a_dead_letter() {
        let mut source = source();
        for (offset, event, seq) in [(0, "click", 1_u64 << 48), (1, "seal", u64::MAX), (2, "heartbeat", 1 << 63)] {
            let record = format!(
                r#"{{"event":"{event}","schema":1,"spool":"00000000000000ff","seq":{seq},"topic":"clicks","edge":"e","at_ms":1,"shipped":0,"unspooled":0,"late":0}}"#
            );
            source.record_of(PARTITION, offset, record.as_bytes());
        }
        assert_eq!((source.unreadable.len(), source.states.len()), (3, 0));
    }
}
