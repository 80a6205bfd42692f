//! The spools of Kafka's topics as the consumer's source, one group for both topics.
//!
//! Whatever a partition delivers twice, late or after a gap: the numbers of the spools decide. So positions are a hint: too
//! far back costs time, too far forward is seen as a gap and healed by reading the partition again. A topic that was made
//! anew is another one, whatever its offsets: the record before the position is another, and it is read from its beginning.

mod indexer;
mod metrics;
mod outbox;
mod queues;
mod searches;
mod sharing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::{Duration, Instant};

pub use indexer::{IndexerParts, index};
pub use metrics::{IndexerMetrics, OutboxMetrics, TopicMetrics};
pub use outbox::{Message, OutboxParts, Render, tell};
use queues::{Origin, Queues, Resume, Taken};
use searches::Searches;
pub use sharing::RedisAndKafka;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::attribution::consumer::{Reach, Records, Source};
use crate::event::{self, Event, SpoolState};
use crate::kafka::Cluster;
use crate::kafka::consumer::{ConsumeError, Consumer, Heard, Partition, Start};
use crate::spool::{SpoolId, Topic};
use crate::store::{Batch, DeadLetter, Mark, Offset, StoreError, View};

/// The group of all attribution processes.
const GROUP: &str = "attribution";

/// In the order of `Partition::topic`.
const TOPICS: [Topic; 2] = [Topic::Clicks, Topic::Conversions];

/// Held at once of both topics. At the bound no more is asked for until all of it is applied.
const MAX_RECORDS: usize = 65_536;
const MAX_BYTES: usize = 64 << 20;

/// One look takes in records for at most this long.
const LOOK: Duration = Duration::from_millis(100);

/// How often offsets are written down when no records are applied, and told to Kafka.
const WRITE_EVERY: Duration = Duration::from_secs(2);

pub struct TopicSource {
    cluster: Cluster,
    metrics: Arc<TopicMetrics>,
    /// None before the store is known, and after a client that broke.
    consumer: Option<Consumer>,
    queues: Queues,
    /// As the store has them.
    stored: BTreeMap<Partition, Resume>,
    /// Partitions whose record before the stored position was not compared yet: it is read first.
    unproven: BTreeMap<Partition, Resume>,
    /// Behind the record read last.
    heard: BTreeMap<Partition, Resume>,
    /// The furthest read of each partition, whatever was read again since.
    furthest: BTreeMap<Partition, Resume>,
    /// Partitions that have to go on elsewhere first: what comes of them meanwhile is not wanted.
    seeks: BTreeMap<Partition, Start>,
    searches: Searches,
    /// Latest heartbeats and seals that are not written down.
    states: BTreeMap<u64, (SpoolState, bool, i32)>,
    unreadable: Vec<DeadLetter>,
    has_changed: bool,
    written: Instant,
}

impl TopicSource {
    pub fn new(cluster: Cluster, metrics: Arc<TopicMetrics>) -> TopicSource {
        TopicSource {
            cluster,
            metrics,
            consumer: None,
            queues: Queues::default(),
            stored: BTreeMap::new(),
            unproven: BTreeMap::new(),
            heard: BTreeMap::new(),
            furthest: BTreeMap::new(),
            seeks: BTreeMap::new(),
            searches: Searches::default(),
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
            consumer.set_starts(self.starts());
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
            Heard::Reset { partition, to } => {
                let due = self.unproven.remove(&partition).map(|at| at.next);
                self.furthest.remove(&partition);
                self.heard.remove(&partition);
                // What is gone for its age was applied.
                if due != Some(to) {
                    self.metrics.resets.add(1);
                    let Partition { topic, number } = partition;
                    let topic = TOPICS[topic].name();
                    tracing::error!(
                        topic,
                        number,
                        to,
                        "records that were due are not there; going on at the oldest that is"
                    );
                }
            }
        }
    }

    fn record_of(&mut self, partition: Partition, offset: i64, record: &[u8]) {
        self.metrics.records.add(1);
        let here = Resume { next: offset + 1, last: fingerprint(record) };
        if !self.is_proven(partition, here) {
            return;
        }
        let heard = self.heard.insert(partition, here);
        let before = heard.filter(|heard| heard.next == offset).map_or(0, |heard| heard.last);
        let furthest = self.furthest.entry(partition).or_insert(here);
        if furthest.next < here.next {
            *furthest = here;
        }
        let from = Origin { topic: TOPICS[partition.topic], partition, offset, before };
        let Some(address) = event::address(record) else {
            return self.cannot_read(from, record);
        };
        let spool = SpoolId(address.spool);
        match (address.event, address.seq) {
            ("heartbeat" | "seal", _) => match Event::parse(record) {
                Ok(Event::Heartbeat(state)) => self.state(*state, false, from),
                Ok(Event::Seal(state)) => self.state(*state, true, from),
                _ => self.cannot_read(from, record),
            },
            (_, Some(seq)) => match self.queues.take(spool, seq, from, record) {
                Taken::Held => {}
                Taken::Known => self.metrics.repeated.add(1),
                Taken::Beyond => self.metrics.beyond_gaps.add(1),
            },
            (_, None) => self.cannot_read(from, record),
        }
    }

    /// Whether a partition still is of the topic that its stored position is of. The first record read tells.
    fn is_proven(&mut self, partition: Partition, here: Resume) -> bool {
        // One further on was fetched before a seek, or the record before is gone for its age, and nothing is missing.
        let Some(stored) = self.unproven.get(&partition).filter(|stored| stored.next == here.next) else { return true };
        let is_same = stored.last == here.last;
        self.unproven.remove(&partition);
        if is_same {
            return true;
        }
        self.metrics.resets.add(1);
        let Partition { topic, number } = partition;
        tracing::error!(topic = TOPICS[topic].name(), number, "the topic was made anew; reading it from its beginning");
        self.stored.remove(&partition);
        self.seeks.insert(partition, Start::Beginning);
        false
    }

    fn state(&mut self, state: SpoolState, is_seal: bool, from: Origin) {
        if is_seal {
            self.queues.seal(SpoolId(state.spool), count(&state), from);
        } else {
            self.queues.shipped(SpoolId(state.spool), state.shipped, from);
        }
        // As the store does: a seal stands, whatever the edge's clock did before it.
        let is_news = |(known, is_sealed, _): &(SpoolState, bool, i32)| !is_sealed && known.at_ms <= state.at_ms;
        if is_seal || self.states.get(&state.spool).is_none_or(is_news) {
            self.states.insert(state.spool, (state, is_seal, from.partition.number));
        }
    }

    /// Of no spool that we know of: kept under its place and what it is, as a topic made anew has another record there.
    fn cannot_read(&mut self, from: Origin, record: &[u8]) {
        self.metrics.unreadable.add(1);
        let Origin { partition, offset, .. } = from;
        let topic = self.cluster.topic(TOPICS[partition.topic]);
        let place = format!("{topic}/{}", partition.number);
        let why = format!("not a record of a spool: {place}, offset {offset}");
        tracing::error!(topic, partition = partition.number, offset, "a record of no spool is kept as a dead letter");
        let spool = SpoolId(xxh3_64_with_seed(record, xxh3_64(place.as_bytes())));
        let seq = offset.unsigned_abs();
        self.unreadable.push(DeadLetter { spool, seq, why, record: record.to_vec() });
    }

    fn leave(&mut self, partition: Partition) {
        self.queues.leave(partition);
        self.furthest.remove(&partition);
        self.heard.remove(&partition);
        self.stored.remove(&partition);
        self.unproven.remove(&partition);
        self.seeks.remove(&partition);
        self.searches.leave(partition);
        // Who has it now reads them: no offset went beyond what is not written down.
        let topic = TOPICS[partition.topic].name();
        self.states.retain(|_, (state, _, number)| (&*state.topic, *number) != (topic, partition.number));
    }

    /// Heartbeats and seals that may be written down when these marks are. Not a seal while records before it are only held:
    /// with the seal in the store and the mark below it they would seem to be missing. They hold up the offset, so it is
    /// read again where they are.
    fn ripe(&self, moved: &[Mark]) -> Vec<u64> {
        let next = |spool| moved.iter().find(|mark| mark.spool == spool).map(|mark| mark.next);
        let is_ripe = |spool: SpoolId, is_seal: bool| !(is_seal && self.queues.holds(spool, next(spool)));
        let states = self.states.iter();
        states.filter(|(spool, state)| is_ripe(SpoolId(**spool), state.1)).map(|(spool, _)| *spool).collect()
    }

    /// Goes where a partition has to go on; what does not succeed now is tried again at the next look.
    fn seek(&mut self, consumer: &mut Consumer) {
        self.seeks
            .retain(|partition, to| consumer.positions().contains_key(partition) && !consumer.seek(*partition, *to));
        let gaps: Vec<_> = self.queues.gaps().filter(|gap| !self.seeks.contains_key(&gap.partition)).collect();
        for partition in self.searches.look(&gaps, consumer) {
            self.heard.remove(&partition);
            self.metrics.searches.add(1);
        }
    }

    /// What was written down of spools that may not know of it: seals, and that there are more records than are applied.
    /// Those of others are theirs to tell of.
    fn begin_states(&mut self, view: View<'_>) -> Result<(), StoreError> {
        let Some(consumer) = &self.consumer else { return Ok(()) };
        let gaps: HashMap<SpoolId, u64> =
            view.marks()?.iter().filter_map(|mark| Some((mark.spool, mark.gap?))).collect();
        let witnessed: HashMap<SpoolId, u64> = view.witnessed()?.into_iter().collect();
        for known in view.spool_states()? {
            let Some(topic) = TOPICS.iter().position(|topic| topic.name() == known.state.topic) else { continue };
            let partition = Partition { topic, number: known.partition };
            if !consumer.positions().contains_key(&partition) {
                continue;
            }
            let spool = SpoolId(known.state.spool);
            if known.sealed {
                self.queues.sealed_before(spool, count(&known.state), TOPICS[topic], partition);
            }
            let witnessed = witnessed.get(&spool).copied().unwrap_or(0);
            let (shipped, gap) = (known.state.shipped.max(witnessed), gaps.get(&spool).copied());
            self.queues.shipped_before(spool, shipped, TOPICS[topic], partition, gap);
            self.queues.witnessed(spool, witnessed);
            self.queues.state(spool, told(&known.state, known.sealed));
        }
        Ok(())
    }

    /// One record before where each goes on, to see whether it still is the same.
    fn starts(&self) -> BTreeMap<Partition, i64> {
        self.stored.iter().map(|(partition, at)| (*partition, at.first_read())).collect()
    }

    /// Where each partition goes on after a crash: behind what is applied, never behind what is not. While one is read
    /// again nothing new is known of it: of what was behind a gap not all is held.
    fn offsets(&self, moved: &[Mark]) -> BTreeMap<Partition, Resume> {
        let moved: HashMap<SpoolId, u64> = moved.iter().map(|mark| (mark.spool, mark.next)).collect();
        let unapplied = self.queues.unapplied(Instant::now(), |spool| moved.get(&spool).copied());
        let at_head = self
            .furthest
            .iter()
            .filter(|(partition, furthest)| self.heard.get(partition).is_some_and(|heard| heard.next >= furthest.next));
        let offset = |(partition, furthest): (&Partition, &Resume)| {
            let first = unapplied.get(partition).filter(|first| first.next < furthest.next);
            (*partition, *first.unwrap_or(furthest))
        };
        let is_news =
            |(partition, at): &(Partition, Resume)| self.stored.get(partition).is_none_or(|one| one.next != at.next);
        at_head.map(offset).filter(is_news).collect()
    }
}

impl Resume {
    fn first_read(self) -> i64 {
        if self.last == 0 { self.next } else { (self.next - 1).max(0) }
    }
}

/// How many records a sealed spool has.
fn count(state: &SpoolState) -> u64 {
    state.seq.map_or(0, |last| last.saturating_add(1))
}

/// How many records are looked for when this is all that is known.
fn told(state: &SpoolState, sealed: bool) -> u64 {
    if sealed { state.shipped.max(count(state)) } else { state.shipped }
}

/// Tells a record from the one that stands at its offset in another topic; never 0.
fn fingerprint(record: &[u8]) -> u64 {
    xxh3_64(record).max(1)
}

impl Source for TopicSource {
    fn begin(&mut self, view: View<'_>) -> Result<(), StoreError> {
        self.queues.begin(&view.marks()?);
        self.begin_states(view)?;
        self.stored.clear();
        for (topic, name) in TOPICS.iter().enumerate() {
            for Offset { partition: number, next, last } in view.offsets(*name)? {
                self.stored.insert(Partition { topic, number }, Resume { next, last });
            }
        }
        self.furthest.clear();
        self.heard.clear();
        self.states.clear();
        self.unreadable.clear();
        self.searches.begin();
        self.has_changed = false;
        self.unproven = self.stored.iter().filter(|(_, at)| at.last != 0).map(|(one, at)| (*one, *at)).collect();
        let starts = self.starts();
        if let Some(consumer) = &mut self.consumer {
            self.seeks.clear();
            for (partition, position) in consumer.positions() {
                let wanted = starts.get(partition).map_or(Start::Beginning, |next| Start::At(*next));
                if self.stored.get(partition).is_some_and(|at| *position == Start::At(at.next)) {
                    // Read up to here by this very client.
                    self.unproven.remove(partition);
                } else if *position != wanted {
                    self.seeks.insert(*partition, wanted);
                }
            }
            consumer.set_starts(starts);
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

    fn recall(&mut self, mark: &Mark) {
        self.queues.recall(mark);
    }

    fn has_news(&self) -> bool {
        let is_due = self.written.elapsed() >= WRITE_EVERY;
        is_due && (!self.ripe(&[]).is_empty() || !self.unreadable.is_empty() || !self.offsets(&[]).is_empty())
    }

    fn record(&mut self, batch: &Batch<'_>, moved: &[Mark]) -> Result<(), StoreError> {
        for spool in self.ripe(moved) {
            let Some((state, sealed, partition)) = self.states.remove(&spool) else { continue };
            if batch.record_state(&state, sealed, partition)? {
                self.queues.state(SpoolId(state.spool), told(&state, sealed));
            }
        }
        std::mem::take(&mut self.unreadable).iter().try_for_each(|letter| batch.bury(letter))?;
        moved.iter().for_each(|mark| self.queues.saw(mark));
        let offsets = self.offsets(moved);
        for (Partition { topic, number }, Resume { next, last }) in &offsets {
            batch.record_offset(TOPICS[*topic], Offset { partition: *number, next: *next, last: *last })?;
        }
        // Should the transaction fail, all is begun anew with what the store has.
        self.stored.extend(offsets);
        if self.written.elapsed() >= WRITE_EVERY {
            self.written = Instant::now();
            let stored = self.stored.iter().map(|(partition, at)| (*partition, at.next));
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
