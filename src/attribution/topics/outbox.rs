//! Tells every revision of every decision to Kafka, at least once: what is delivered leaves the outbox, all else is sent
//! again. Readers take the highest revision (contract V9).

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::OutboxMetrics;
use crate::event::SCHEMA;
use crate::kafka::Cluster;
use crate::kafka::producer::{Fault, NotSent, Pace, Producer, ProducerMetrics, Report};
use crate::store::{Batch, Place, Store, StoreError, Told, View};

/// Of one transaction.
const MOST: usize = 500;

/// The pause when there is nothing to tell, and after a failure.
const IDLE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_secs(1);

/// How long the delivery of one transaction's revisions is waited for.
const DELIVERY: Duration = Duration::from_secs(20);

/// How long a question to the cluster may take.
const ASK: Duration = Duration::from_secs(5);

/// What others are told of a conversion.
pub struct Message {
    /// MERCHANT/ORDER.
    pub key: String,
    pub revision: u32,
    /// As its merchant reads it (contract I39).
    pub facts: serde_json::Value,
}

pub type Render = Box<dyn Fn(View<'_>, &Told) -> Result<Option<Message>, StoreError> + Send>;

pub struct OutboxParts {
    pub cluster: Cluster,
    pub place: Place,
    pub render: Render,
    pub producer_metrics: Arc<ProducerMetrics>,
    pub metrics: Arc<OutboxMetrics>,
}

/// Until `stop` says so. Waits for Kafka and the store however long they are away.
pub fn tell(parts: &OutboxParts, stop: impl Fn() -> bool) {
    let mut said = None;
    while !stop() {
        if let Err(why) = tell_until_it_fails(parts, &stop) {
            parts.metrics.errors.add(1);
            if said.replace(why.clone()) != Some(why.clone()) {
                tracing::warn!(why, "decisions are not told to Kafka; they are kept and told later");
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn tell_until_it_fails(parts: &OutboxParts, stop: &dyn Fn() -> bool) -> Result<(), String> {
    let mut store = Store::open(&parts.place).map_err(said)?;
    let store_id = store.view().store_id().map_err(said)?;
    let producer =
        Producer::new(&parts.cluster, Pace { linger_ms: 50 }, parts.producer_metrics.clone()).map_err(said)?;
    let topic = parts.cluster.attributions();
    while !stop() {
        let batch = store.begin().map_err(said)?;
        let waiting = batch.take_outbox(MOST).map_err(said)?;
        if waiting.is_empty() {
            drop(batch);
            std::thread::sleep(IDLE);
            continue;
        }
        let partitions = producer.partitions(&topic, ASK).map_err(|fault| format!("{topic}: {fault:?}"))?;
        let told = deliver(parts, &producer, &batch, (&topic, partitions, store_id), &waiting)?;
        batch.told(&told).map_err(said)?;
        batch.commit().map_err(said)?;
        if told.len() < waiting.len() {
            return Err(format!("{} revisions were not delivered", waiting.len() - told.len()));
        }
    }
    Ok(())
}

/// Returns the numbers of those that need not be told again.
fn deliver(
    parts: &OutboxParts,
    producer: &Producer,
    batch: &Batch<'_>,
    (topic, partitions, store_id): (&str, u32, u64),
    waiting: &[Told],
) -> Result<Vec<i64>, String> {
    let (mut told, mut reports) = (Vec::new(), Vec::new());
    for (ticket, one) in waiting.iter().enumerate() {
        let Some(message) = (parts.render)(batch.view(), one).map_err(said)? else {
            told.push(one.number);
            continue;
        };
        let value = written(store_id, one.number, &message);
        // All revisions of an order in one partition.
        let partition = (xxh3_64(message.key.as_bytes()) % u64::from(partitions)) as i32;
        match producer.send(topic, partition, message.key.as_bytes(), value.as_bytes(), ticket) {
            Ok(()) => {}
            Err(NotSent::Full) => break,
            Err(NotSent::Fault(fault)) => return Err(format!("{topic}: {fault:?}")),
        }
    }
    let until = Instant::now() + DELIVERY;
    while producer.waiting() > 0 && Instant::now() < until {
        producer.flush(Duration::from_millis(200), &mut reports);
    }
    producer.purge(Duration::from_secs(1), &mut reports);
    for Report { ticket, result } in reports {
        match result {
            Ok(_) => {
                parts.metrics.told.add(1);
                told.push(waiting[ticket].number);
            }
            Err(Fault::Record(why)) => {
                parts.metrics.left_out.add(1);
                tracing::error!(conversion = waiting[ticket].id.0, why, "Kafka will never take this revision");
                told.push(waiting[ticket].number);
            }
            Err(_) => {}
        }
    }
    Ok(told)
}

fn written(store_id: u64, number: i64, message: &Message) -> String {
    #[derive(Serialize)]
    struct Event<'m> {
        event: &'static str,
        schema: u32,
        spool: String,
        seq: i64,
        revision: u32,
        #[serde(flatten)]
        facts: &'m serde_json::Value,
    }
    let Message { revision, facts, .. } = message;
    let spool = format!("{store_id:016x}");
    let event = Event { event: "attribution", schema: SCHEMA, spool, seq: number, revision: *revision, facts };
    // Strings and numbers alone: it cannot fail.
    serde_json::to_string(&event).unwrap_or_default()
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
