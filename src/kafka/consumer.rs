//! The one module that consumes. Positions are the caller's: Kafka's group only says who reads which partition.
//!
//! Everything happens within `poll`, on the thread that calls it: what the group gives and takes is told before the next
//! record, so no record of a partition comes before its `Assigned` or after its `Revoked`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
pub use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::Cluster;

/// How long a question to a broker may take.
const ASK: Duration = Duration::from_secs(5);

/// How long a seek may take, while nothing else is read.
const SEEK: Duration = Duration::from_secs(2);

/// The pause after a partition that has stopped did not go on.
const REVIVE_EVERY: Duration = Duration::from_millis(500);

/// One of the partitions that a consumer reads: its topic's place among the topics, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    pub topic: usize,
    pub number: i32,
}

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is there.
    Beginning,
    At(i64),
}

#[derive(Debug)]
pub enum Heard<'m> {
    Record {
        partition: Partition,
        offset: i64,
        /// Absent for a record without a value.
        value: Option<&'m [u8]>,
    },
    /// These are read from now on, from their starts.
    Assigned(Vec<Partition>),
    /// Somebody else reads these from now on.
    Revoked(Vec<Partition>),
    /// What was due is not there: records were deleted, or the topic was made anew. It goes on at the oldest there is.
    Reset { partition: Partition, to: i64 },
}

#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// It goes on by itself when Kafka does.
    #[error("kafka: {0}")]
    Trouble(KafkaError),
    /// This client is of no more use.
    #[error("kafka: {0}; a new client is made")]
    Broken(KafkaError),
}

pub struct Consumer {
    client: BaseConsumer<Told>,
    topics: Vec<String>,
    /// The offset of the record that comes next, of each partition that is assigned.
    positions: BTreeMap<Partition, Start>,
    /// Changes told by the client and not by us yet.
    changes: VecDeque<Change>,
    /// Partitions that may have stopped, as an offset was not there: the client says so once, and not of which.
    stopped: VecDeque<Partition>,
    revive_from: Instant,
}

enum Change {
    Assigned(BTreeMap<Partition, Start>),
    Revoked(Vec<Partition>),
    Reset { partition: Partition, to: i64 },
}

/// What the client tells while it is polled.
struct Told {
    topics: Vec<String>,
    /// Asked for each partition that the group gives.
    starts: Mutex<BTreeMap<Partition, i64>>,
    changes: Mutex<VecDeque<Change>>,
}

impl Consumer {
    /// Joins `group` for `topics`. Nothing is asked of a broker before the first `poll`.
    pub fn join(cluster: &Cluster, group: &str, topics: &[String]) -> Result<Consumer, KafkaError> {
        let told = Told { topics: topics.to_vec(), starts: Mutex::default(), changes: Mutex::default() };
        let client: BaseConsumer<Told> = settings(cluster)
            .set("group.id", cluster.group(group))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .create_with_context(told)?;
        client.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Consumer {
            client,
            topics: topics.to_vec(),
            positions: BTreeMap::new(),
            changes: VecDeque::new(),
            stopped: VecDeque::new(),
            revive_from: Instant::now(),
        })
    }

    /// Where partitions begin that are assigned from now on; all others at their beginning.
    pub fn set_starts(&mut self, starts: BTreeMap<Partition, i64>) {
        *lock(&self.client.context().starts) = starts;
    }

    /// Waits at most `timeout` for the next thing. `None`: nothing came.
    pub fn poll<T>(&mut self, timeout: Duration, hear: impl FnOnce(Heard<'_>) -> T) -> Result<Option<T>, ConsumeError> {
        if self.changes.is_empty() {
            self.revive()?;
        }
        if let Some(change) = self.changes.pop_front() {
            return Ok(Some(hear(self.told(change))));
        }
        let polled = self.client.poll(timeout);
        let told = std::mem::take(&mut *lock(&self.client.context().changes));
        if !told.is_empty() {
            // The client returns from a poll in which it told something without a record.
            drop(polled);
            self.changes.extend(told);
            return self.poll(Duration::ZERO, hear);
        }
        match polled {
            None => Ok(None),
            Some(Ok(message)) => {
                let Some(partition) = place(&self.topics, message.topic(), message.partition()) else {
                    return Ok(None);
                };
                // Of a partition that was taken away meanwhile.
                let Some(position) = self.positions.get_mut(&partition) else { return Ok(None) };
                *position = Start::At(message.offset() + 1);
                Ok(Some(hear(Heard::Record { partition, offset: message.offset(), value: message.payload() })))
            }
            Some(Err(error)) => self.failed(error).map(|()| None),
        }
    }

    /// The partitions that are read, each with where it goes on.
    pub fn positions(&self) -> &BTreeMap<Partition, Start> {
        &self.positions
    }

    /// Goes on elsewhere. False: not now, try again later; until then records may come that are not wanted.
    pub fn seek(&mut self, partition: Partition, to: Start) -> bool {
        let mut list = TopicPartitionList::new();
        let listed = list.add_partition_offset(&self.topics[partition.topic], partition.number, offset(to));
        let sought = listed.and_then(|()| self.client.seek_partitions(list.clone(), SEEK));
        let sought = sought.and_then(|list| list.elements().iter().try_for_each(|element| element.error()));
        // A partition whose reading has ended, after an offset that was not there, takes no seek: it is begun anew.
        let moved = sought.is_ok() || self.begin_anew(&list).is_ok();
        if moved {
            self.positions.insert(partition, to);
        }
        moved
    }

    /// The offset that the next record of a partition will get.
    pub fn end(&self, partition: Partition) -> Result<i64, KafkaError> {
        let topic = &self.topics[partition.topic];
        self.client.fetch_watermarks(topic, partition.number, ASK).map(|(_, high)| high)
    }

    /// Of a partition the first record that was written at `ms` or later, if there is one.
    pub fn since(&self, partition: Partition, ms: i64) -> Result<Option<i64>, KafkaError> {
        since(&self.client, &self.topics[partition.topic], partition.number, ms)
    }

    /// Tells Kafka's own tools how far we are. No promise rests on it.
    pub fn commit(&self, offsets: impl Iterator<Item = (Partition, i64)>) {
        let mut list = TopicPartitionList::new();
        for (partition, next) in offsets.filter(|(partition, _)| self.positions.contains_key(partition)) {
            // Offsets of records are not negative.
            let _ = list.add_partition_offset(&self.topics[partition.topic], partition.number, Offset::Offset(next));
        }
        if list.count() > 0
            && let Err(error) = self.client.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "offsets were not committed to the group");
        }
    }

    fn told<'m>(&mut self, change: Change) -> Heard<'m> {
        match change {
            Change::Assigned(starts) => {
                let partitions = starts.keys().copied().collect();
                self.positions.extend(starts);
                Heard::Assigned(partitions)
            }
            Change::Revoked(partitions) => {
                self.positions.retain(|partition, _| !partitions.contains(partition));
                Heard::Revoked(partitions)
            }
            Change::Reset { partition, to } => Heard::Reset { partition, to },
        }
    }

    fn begin_anew(&self, list: &TopicPartitionList) -> Result<(), KafkaError> {
        self.client.incremental_unassign(list)?;
        self.client.incremental_assign(list)
    }

    fn failed(&mut self, error: KafkaError) -> Result<(), ConsumeError> {
        match error {
            KafkaError::MessageConsumptionFatal(_) => Err(ConsumeError::Broken(error)),
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let known = std::mem::take(&mut self.stopped);
                let others = self.positions.keys().filter(|partition| !known.contains(partition));
                self.stopped = known.iter().chain(others).copied().collect();
                Ok(())
            }
            error => Err(ConsumeError::Trouble(error)),
        }
    }

    /// Goes on in every partition that may have stopped: where it was, or else in what is there. Until each has gone on
    /// they stay in the list; one that does not get there does not hold up the others.
    fn revive(&mut self) -> Result<(), ConsumeError> {
        let began = Instant::now();
        if self.stopped.is_empty() || began < self.revive_from {
            return Ok(());
        }
        let mut result = Ok(());
        for _ in 0..self.stopped.len() {
            let Some(partition) = self.stopped.pop_front() else { break };
            match self.revive_one(partition) {
                Ok(true) => {}
                Ok(false) => self.stopped.push_back(partition),
                Err(error) => {
                    self.stopped.push_back(partition);
                    result = Err(ConsumeError::Trouble(error));
                }
            }
            if began.elapsed() >= ASK {
                break;
            }
        }
        self.revive_from = Instant::now() + REVIVE_EVERY;
        result
    }

    fn revive_one(&mut self, partition: Partition) -> Result<bool, KafkaError> {
        let Some(position) = self.positions.get(&partition).copied() else { return Ok(true) };
        let (low, high) = self.client.fetch_watermarks(&self.topics[partition.topic], partition.number, ASK)?;
        let to = match position {
            Start::At(next) if (low..=high).contains(&next) => next,
            _ => low,
        };
        if !self.seek(partition, Start::At(to)) {
            return Ok(false);
        }
        // Where nothing was due nothing is missing.
        if matches!(position, Start::At(next) if next != to) {
            self.changes.push_back(Change::Reset { partition, to });
        }
        Ok(true)
    }
}

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Told {
    /// Offsets are put into what the group gives before it is taken, so that nothing is read from anywhere else.
    fn rebalance(&self, client: &BaseConsumer<Told>, told: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = if told == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let starts = self.put_starts(list);
            lock(&self.changes).push_back(Change::Assigned(starts));
            client.incremental_assign(list)
        } else {
            lock(&self.changes).push_back(Change::Revoked(self.partitions(list)));
            client.incremental_unassign(list)
        };
        if let Err(error) = done {
            tracing::error!(%error, "the partitions of the group could not be taken");
        }
    }
}

impl Told {
    fn put_starts(&self, list: &mut TopicPartitionList) -> BTreeMap<Partition, Start> {
        let starts = lock(&self.starts);
        let mut put = BTreeMap::new();
        for mut element in list.elements() {
            let Some(partition) = place(&self.topics, element.topic(), element.partition()) else { continue };
            let start = starts.get(&partition).map_or(Start::Beginning, |next| Start::At(*next));
            if let Err(error) = element.set_offset(offset(start)) {
                tracing::error!(%error, ?partition, "a start was not taken");
            }
            put.insert(partition, start);
        }
        put
    }

    fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        list.elements().iter().filter_map(|element| place(&self.topics, element.topic(), element.partition())).collect()
    }
}

/// Asks where the partitions of a topic end, and where records of a time begin. Reads no record.
pub struct Ends {
    client: BaseConsumer<Quiet>,
    topic: String,
}

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Quiet {}

impl Ends {
    pub fn of(cluster: &Cluster, topic: String) -> Result<Ends, KafkaError> {
        // Group assignment needs a group's name; this one is never joined.
        let client = settings(cluster).set("group.id", cluster.group("ends")).create_with_context(Quiet)?;
        Ok(Ends { client, topic })
    }

    /// Of every partition the offset that the next record will get: all that can be read by anybody now is below. One
    /// request to each broker, however many partitions there are.
    pub fn ends(&self) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for number in self.partitions()? {
            list.add_partition_offset(&self.topic, number, Offset::End)?;
        }
        let mut ends = BTreeMap::new();
        for element in self.client.offsets_for_times(list, ASK)?.elements() {
            element.error()?;
            let Offset::Offset(end) = element.offset() else {
                return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition));
            };
            ends.insert(element.partition(), end);
        }
        Ok(ends)
    }

    /// The oldest offset that is there, and the end.
    pub fn bounds(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.client.fetch_watermarks(&self.topic, partition, ASK)
    }

    /// Of a partition the first record that was written at `ms` or later; the end when there is none.
    pub fn since(&self, partition: i32, ms: i64) -> Result<i64, KafkaError> {
        // Before the other question: what is written meanwhile must not be passed over.
        let (_, end) = self.bounds(partition)?;
        Ok(since(&self.client, &self.topic, partition, ms)?.unwrap_or(end))
    }

    /// The record at an offset, if it is still there.
    pub fn record(&self, partition: i32, offset: i64) -> Result<Option<Vec<u8>>, KafkaError> {
        let (low, high) = self.bounds(partition)?;
        if !(low..high).contains(&offset) {
            return Ok(None);
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        self.client.assign(&list)?;
        let read = self.client.poll(ASK);
        let record = match read {
            None => Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
            Some(Err(error)) => Err(error),
            Some(Ok(message)) if message.offset() == offset => Ok(message.payload().map(<[u8]>::to_vec)),
            Some(Ok(_)) => Ok(None),
        };
        self.client.unassign()?;
        record
    }

    fn partitions(&self) -> Result<Vec<i32>, KafkaError> {
        let metadata = self.client.fetch_metadata(Some(&self.topic), ASK)?;
        let topic = metadata.topics().first();
        let partitions: Vec<i32> = topic.iter().flat_map(|topic| topic.partitions()).map(|one| one.id()).collect();
        if partitions.is_empty() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
        }
        Ok(partitions)
    }
}

/// Measured: with the default back-off a full local queue pauses fetching for a second.
fn settings(cluster: &Cluster) -> ClientConfig {
    let mut config = cluster.client();
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "50")
        // Prefetched and not polled: what bounds the memory of a reader that is held up.
        .set("queued.max.messages.kbytes", "32768")
        // New partitions are seen by then.
        .set("topic.metadata.refresh.interval.ms", "5000")
        .set("session.timeout.ms", "15000")
        .set("max.poll.interval.ms", "300000");
    config
}

fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(facility, message, "kafka");
        }
        _ => tracing::debug!(facility, message, "kafka"),
    }
}

/// The first record of a partition that was written at `ms` or later, if there is one.
fn since<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    ms: i64,
) -> Result<Option<i64>, KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(ms.max(0)))?;
    let found = client.offsets_for_times(list, ASK)?;
    match found.elements().first().map(|element| element.offset()) {
        Some(Offset::Offset(next)) => Ok(Some(next)),
        _ => Ok(None),
    }
}

fn place(topics: &[String], topic: &str, number: i32) -> Option<Partition> {
    let topic = topics.iter().position(|known| known == topic)?;
    Some(Partition { topic, number })
}

fn offset(start: Start) -> Offset {
    match start {
        Start::Beginning => Offset::Beginning,
        Start::At(next) => Offset::Offset(next),
    }
}

/// A panic while one is held leaves a whole map or list.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
