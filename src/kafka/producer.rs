//! The one place that produces. Records go to the partition that they are given for, one request in flight, and every one
//! is answered by a report: delivered with its offset, or why not.
//!
//! Exactness rests on the numbers of the spools, not on the producer's: idempotence is off (with it librdkafka burns a core
//! whenever acks are slower than its linger). Nothing times out here: a record waits until a broker takes it, refuses it,
//! or it is purged. What waits is bounded, and at the bound `send` says `Full`.

mod context;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use super::{Cluster, LARGEST_RECORD_BYTES};
use context::Context;
pub use context::ProducerMetrics;

/// Records and bytes that wait in memory; past either `send` says `Full`.
pub const MAX_WAITING_RECORDS: usize = 200_000;
pub const MAX_WAITING_BYTES: usize = 128 << 20;

/// Between statistics of the client.
const STATISTICS_EVERY_MS: &str = "5000";

/// Comes back with the report of a record.
pub type Ticket = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub ticket: Ticket,
    pub result: Result<Delivered, Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub partition: i32,
    /// `None` where the broker did not tell.
    pub offset: Option<i64>,
}

/// Why a record was not delivered, by what is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It, or one that went with it, will never be taken.
    Record(&'static str),
    /// Nothing of its topic is taken until somebody mends something: wait and alarm.
    Outage(&'static str),
    /// There is no such partition, now.
    NoPartition,
    /// It was purged, or came back with another one that was refused: it has to be sent again.
    Purged,
    /// Anything else: the client is not to be trusted any more.
    Client,
}

/// Why a record was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// Too much waits: poll.
    Full,
    Fault(Fault),
}

/// How the client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long it waits for more records before it sends a batch.
    pub linger_ms: u64,
}

pub struct Producer {
    client: BaseProducer<Context>,
}

/// The client could not be made: wrong settings, or no resources.
#[derive(Debug, thiserror::Error)]
#[error("Kafka's client cannot be made: {0}")]
pub struct NoProducer(#[from] KafkaError);

/// A question to the brokers that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Kafka did not answer: {0}")]
pub struct Unanswered(pub &'static str);

impl Producer {
    pub fn new(cluster: &Cluster, pace: Pace, metrics: Arc<ProducerMetrics>) -> Result<Producer, NoProducer> {
        let mut config = cluster.client();
        config
            .set("enable.idempotence", "false")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "1")
            .set("message.timeout.ms", "0")
            .set("linger.ms", pace.linger_ms.to_string())
            .set("compression.type", "lz4")
            .set("message.max.bytes", LARGEST_RECORD_BYTES.to_string())
            .set("queue.buffering.max.messages", MAX_WAITING_RECORDS.to_string())
            .set("queue.buffering.max.kbytes", (MAX_WAITING_BYTES / 1_024).to_string())
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "500")
            .set("statistics.interval.ms", STATISTICS_EVERY_MS);
        metrics.made.add_shared(1);
        Ok(Producer { client: config.create_with_context(Context::new(metrics))? })
    }

    /// Takes a copy of a record. Never waits.
    pub fn send(&self, topic: &str, partition: i32, key: &[u8], value: &[u8], ticket: Ticket) -> Result<(), NotSent> {
        let record = BaseRecord::with_opaque_to(topic, ticket).partition(partition).key(key).payload(value);
        self.client.send(record).map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(Code::QueueFull) => NotSent::Full,
            code => NotSent::Fault(fault(code)),
        })
    }

    /// Moves the reports that there are after `at_most` into `reports`, in the order of each partition.
    ///
    /// It sleeps and then asks: the client's own `poll` with a time to wait never returns before it is over, and spends
    /// what is left of its last millisecond computing, which is all of it where that is one.
    pub fn poll(&self, at_most: Duration, reports: &mut Vec<Report>) {
        if !at_most.is_zero() {
            std::thread::sleep(at_most);
        }
        let context = self.client.context();
        loop {
            let before = reports.len();
            // One of the client's events, with any number of reports in it.
            self.client.poll(Duration::ZERO);
            context.take(reports);
            if reports.len() == before {
                return;
            }
        }
    }

    /// Records without a report.
    pub fn waiting(&self) -> usize {
        usize::try_from(self.client.in_flight_count()).unwrap_or(0)
    }

    /// Sends what waits without lingering, for at most `at_most`. True when every record has its report.
    pub fn flush(&self, at_most: Duration, reports: &mut Vec<Report>) -> bool {
        let flushed = self.client.flush(at_most).is_ok();
        self.client.context().take(reports);
        flushed
    }

    /// Gives up all that waits and takes the reports of it, for at most `at_most`. True when there are no others.
    pub fn purge(&self, at_most: Duration, reports: &mut Vec<Report>) -> bool {
        self.client.purge(PurgeConfig::default().queue().inflight());
        self.flush(at_most, reports)
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str, at_most: Duration) -> Result<u32, Fault> {
        let metadata = self.client.client().fetch_metadata(Some(topic), at_most);
        let metadata = metadata.map_err(|error| fault(error.rdkafka_error_code()))?;
        let topic = metadata.topics().iter().find(|found| found.name() == topic);
        let topic = topic.ok_or(Fault::Outage(UNKNOWN_TOPIC))?;
        match topic.error() {
            Some(error) => Err(fault(Some(error.into()))),
            None if topic.partitions().is_empty() => Err(Fault::Outage(UNKNOWN_TOPIC)),
            None => Ok(topic.partitions().len() as u32),
        }
    }

    /// The offset that the next record of a partition will have.
    pub fn end_offset(&self, topic: &str, partition: i32, at_most: Duration) -> Result<i64, Unanswered> {
        let watermarks = self.client.client().fetch_watermarks(topic, partition, at_most);
        watermarks.map(|(_, end)| end).map_err(|error| Unanswered(word(error.rdkafka_error_code())))
    }

    /// What is wrong with the whole cluster since something was delivered last, as the client told it.
    pub fn trouble(&self) -> Option<&'static str> {
        self.client.context().trouble().map(|code| word(Some(code)))
    }
}

pub const UNKNOWN_TOPIC: &str = "unknown_topic";
/// No broker, or none in time.
pub const UNREACHABLE: &str = "unreachable";

fn fault(code: Option<Code>) -> Fault {
    match code {
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
            Fault::Record("too_large")
        }
        Some(Code::InvalidRecord) => Fault::Record("refused"),
        Some(Code::UnknownPartition) => Fault::NoPartition,
        // The last one: a record that went with it was refused, and has a report of its own.
        Some(Code::PurgeQueue | Code::PurgeInflight | Code::InvalidDifferentRecord) => Fault::Purged,
        code if is_outage(code) => Fault::Outage(word(code)),
        _ => Fault::Client,
    }
}

fn is_outage(code: Option<Code>) -> bool {
    word(code) != OTHER
}

const OTHER: &str = "other";

/// What is wrong, in a word for a label.
fn word(code: Option<Code>) -> &'static str {
    match code {
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownTopicId) => UNKNOWN_TOPIC,
        // A wrong clock, here or there, and rules of the cluster's owner: no fault of the records.
        Some(Code::InvalidTimestamp) => "invalid_timestamp",
        Some(Code::PolicyViolation) => "policy",
        Some(Code::InvalidTopic) => "invalid_topic",
        Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => "authorization",
        Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::SSL) => {
            "authentication"
        }
        Some(Code::InvalidRequiredAcks | Code::UnsupportedForMessageFormat | Code::UnsupportedVersion) => "unsupported",
        Some(
            Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::Resolve
            | Code::LeaderNotAvailable,
        ) => UNREACHABLE,
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests;
