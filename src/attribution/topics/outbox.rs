//! Tells every revision of every decision to Kafka, at least once: what is delivered leaves the outbox, all else is sent
//! again. Readers take the highest revision (contract V9). Dead letters go their own topic the same way.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::OutboxMetrics;
use crate::event::SCHEMA;
use crate::kafka::Cluster;
use crate::kafka::producer::{Fault, NotSent, Pace, Producer, ProducerMetrics, Report};
use crate::store::{Batch, DeadLetter, Place, Store, StoreError, Told, View};

/// Of one transaction.
const MOST: usize = 500;

/// Dead letters of one transaction: each may be large.
const MOST_DEAD: usize = 32;

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
        // What a panic left half done ends with the transaction: it is told again.
        let told = std::panic::catch_unwind(AssertUnwindSafe(|| tell_until_it_fails(parts, &stop)));
        if let Err(why) = told.unwrap_or_else(|_| Err("a panic, told above".to_owned())) {
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
    while !stop() {
        let told = revisions(parts, &mut store, store_id, &producer, stop)?;
        if told + dead_letters(parts, &mut store, &producer, stop)? == 0 {
            std::thread::sleep(IDLE);
        }
    }
    Ok(())
}

/// Tells the oldest revisions, in one transaction. Returns how many those were.
fn revisions(
    parts: &OutboxParts,
    store: &mut Store,
    store_id: u64,
    producer: &Producer,
    stop: &dyn Fn() -> bool,
) -> Result<usize, String> {
    let batch = store.begin().map_err(said)?;
    let waiting = batch.take_outbox(MOST).map_err(said)?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let (mut done, mut letters, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (place, one) in waiting.iter().enumerate() {
        match rendered(parts, &batch, one)? {
            Some(message) => {
                letters.push(Letter { value: written(store_id, one.number, &message).into(), key: message.key });
                places.push(place);
            }
            None => done.push(one.number),
        }
    }
    let delivered = deliver(producer, &parts.cluster.attributions(), &letters, stop)?;
    for (letter, fate) in delivered {
        let one = waiting[places[letter]];
        match fate {
            Fate::Delivered => parts.metrics.told.add(1),
            Fate::Refused(why) => {
                parts.metrics.left_out.add(1);
                tracing::error!(conversion = one.id.0, why, "Kafka will never take this revision");
            }
        }
        done.push(one.number);
    }
    batch.told(&done).map_err(said)?;
    batch.commit().map_err(said)?;
    all_or_an_error(waiting.len(), done.len(), "revisions", stop)
}

/// The same with records that could not be applied, as they came. They stay in the store.
fn dead_letters(
    parts: &OutboxParts,
    store: &mut Store,
    producer: &Producer,
    stop: &dyn Fn() -> bool,
) -> Result<usize, String> {
    let batch = store.begin().map_err(said)?;
    let waiting = batch.take_dead_letters(MOST_DEAD).map_err(said)?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let letter = |dead: &DeadLetter| Letter { key: format!("{}/{}", dead.spool, dead.seq), value: dead.record.clone() };
    let letters: Vec<Letter> = waiting.iter().map(letter).collect();
    let delivered = deliver(producer, &parts.cluster.dead_letters(), &letters, stop)?;
    for (letter, fate) in &delivered {
        let dead = &waiting[*letter];
        match fate {
            Fate::Delivered => parts.metrics.dead_letters.add(1),
            Fate::Refused(why) => {
                parts.metrics.left_out.add(1);
                tracing::error!(spool = %dead.spool, seq = dead.seq, why, "Kafka will never take this dead letter");
            }
        }
        batch.dead_letter_told(dead).map_err(said)?;
    }
    batch.commit().map_err(said)?;
    all_or_an_error(waiting.len(), delivered.len(), "dead letters", stop)
}

fn all_or_an_error(of: usize, done: usize, what: &str, stop: &dyn Fn() -> bool) -> Result<usize, String> {
    if done < of && !stop() {
        return Err(format!("{} {what} were not delivered", of - done));
    }
    Ok(done)
}

/// What goes to a topic.
struct Letter {
    key: String,
    value: Vec<u8>,
}

enum Fate {
    Delivered,
    /// For good.
    Refused(&'static str),
}

/// Returns which letters need not be sent again, each with what became of it.
fn deliver(
    producer: &Producer,
    topic: &str,
    letters: &[Letter],
    stop: &dyn Fn() -> bool,
) -> Result<Vec<(usize, Fate)>, String> {
    let partitions = producer.partitions(topic, ASK).map_err(|fault| format!("{topic}: {fault:?}"))?;
    let mut reports = Vec::new();
    for (ticket, Letter { key, value }) in letters.iter().enumerate() {
        // All that has one key in one partition.
        let partition = (xxh3_64(key.as_bytes()) % u64::from(partitions)) as i32;
        match producer.send(topic, partition, key.as_bytes(), value, ticket) {
            Ok(()) => {}
            Err(NotSent::Full) => break,
            Err(NotSent::Fault(fault)) => return Err(format!("{topic}: {fault:?}")),
        }
    }
    let until = Instant::now() + DELIVERY;
    while producer.waiting() > 0 && Instant::now() < until && !stop() {
        producer.flush(Duration::from_millis(200), &mut reports);
    }
    producer.purge(Duration::from_secs(1), &mut reports);
    let fate = |Report { ticket, result }| match result {
        Ok(_) => Some((ticket, Fate::Delivered)),
        Err(Fault::Record(why)) => Some((ticket, Fate::Refused(why))),
        Err(_) => None,
    };
    Ok(reports.into_iter().filter_map(fate).collect())
}

/// None where there is nothing to tell. A row that cannot be read is told of by a person: it must not hold up all others.
fn rendered(parts: &OutboxParts, batch: &Batch<'_>, one: &Told) -> Result<Option<Message>, String> {
    let mut message = None;
    let rendered = batch.attempt(|batch| {
        message = (parts.render)(batch.view(), one)?;
        Ok::<(), StoreError>(())
    });
    match rendered {
        Ok(()) => Ok(message),
        Err(error) if error.is_about_the_record() => {
            parts.metrics.left_out.add(1);
            tracing::error!(conversion = one.id.0, %error, "this revision cannot be read and is not told");
            Ok(None)
        }
        Err(error) => Err(said(error)),
    }
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

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::spool::SpoolId;
    use crate::store::{RowId, testing};

    #[test]
    fn a_revision_that_cannot_be_read_does_not_hold_up_the_others() {
        let home = testing::database();
        let mut store = Store::open(&home.place).unwrap();
        let batch = store.begin().unwrap();
        batch.tell(&[1, 2, 3].map(|id| (RowId(id), 1))).unwrap();
        batch.commit().unwrap();
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("t.attributions", 2, 1).unwrap();
        let render = |_: View<'_>, told: &Told| match told.id {
            RowId(1) => Err(StoreError::Unreadable { what: "facts", why: "no JSON".into() }),
            RowId(id) => Ok(Some(Message { key: format!("1/{id}"), revision: 1, facts: serde_json::json!({}) })),
        };
        let parts = OutboxParts {
            cluster: Cluster { bootstrap_servers: mock.bootstrap_servers(), prefix: "t".into() },
            place: home.place.clone(),
            render: Box::new(render),
            producer_metrics: Arc::default(),
            metrics: Arc::default(),
        };
        let began = Instant::now();
        tell(&parts, || parts.metrics.told.value() == 2 || began.elapsed() > Duration::from_secs(30));
        assert_eq!((parts.metrics.told.value(), parts.metrics.left_out.value()), (2, 1));
        let batch = store.begin().unwrap();
        assert_eq!(batch.take_outbox(9).unwrap(), []);
    }

    #[test]
    fn v14_a_dead_letter_is_told_once_and_stays() {
        let home = testing::database();
        let mut store = Store::open(&home.place).unwrap();
        let letter = DeadLetter { spool: SpoolId(7), seq: 3, why: "no JSON".into(), record: b"rubbish".to_vec() };
        let batch = store.begin().unwrap();
        batch.bury(&letter).unwrap();
        batch.commit().unwrap();
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("t.dead-letters", 1, 1).unwrap();
        let parts = OutboxParts {
            cluster: Cluster { bootstrap_servers: mock.bootstrap_servers(), prefix: "t".into() },
            place: home.place.clone(),
            render: Box::new(|_, _| Ok(None)),
            producer_metrics: Arc::default(),
            metrics: Arc::default(),
        };
        let began = Instant::now();
        tell(&parts, || parts.metrics.dead_letters.value() > 0 || began.elapsed() > Duration::from_secs(30));
        assert_eq!((parts.metrics.dead_letters.value(), parts.metrics.errors.value()), (1, 0));
        let batch = store.begin().unwrap();
        assert_eq!(batch.take_dead_letters(9).unwrap(), []);
        assert_eq!(batch.view().dead_letter(SpoolId(7), 3).unwrap(), Some(letter));
    }
}
