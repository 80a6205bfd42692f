//! What the client calls back: reports, statistics, troubles, its log.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use serde::Deserialize;

use super::{Delivered, Report, Ticket, fault};
use crate::metrics::{Counter, Gauge, Page};

/// What the client says of itself.
#[derive(Debug, Default)]
pub struct ProducerMetrics {
    pub made: Counter,
    waiting_records: Gauge,
    waiting_bytes: Gauge,
    brokers_up: Gauge,
    round_trip_us: Gauge,
    sent_bytes: Gauge,
}

impl ProducerMetrics {
    pub fn write(&self, page: &mut Page) {
        let help = "Clients made to produce: one at the start, one more after an error that is none of a record.";
        page.counter("afflux_kafka_producers_total", help, &[(&[], self.made.value())]);
        for (name, help, gauge) in [
            ("afflux_kafka_producer_records", "Records that wait in the client.", &self.waiting_records),
            ("afflux_kafka_producer_bytes", "Their bytes.", &self.waiting_bytes),
            ("afflux_kafka_producer_brokers_up", "Brokers that the client is connected to.", &self.brokers_up),
        ] {
            page.gauge(name, help, &[(&[], gauge.value())]);
        }
        let seconds = self.round_trip_us.value() as f64 / 1e6;
        let help = "Round trip to the slowest broker, mean of the last seconds.";
        page.gauge("afflux_kafka_producer_round_trip_seconds", help, &[(&[], seconds)]);
        // A new client begins anew: Prometheus takes it for a restart.
        let help = "Bytes sent by the client, compressed.";
        page.counter("afflux_kafka_producer_sent_bytes_total", help, &[(&[], self.sent_bytes.value())]);
    }

    fn take(&self, statistics: &Statistics) {
        self.waiting_records.set(statistics.msg_cnt);
        self.waiting_bytes.set(statistics.msg_size);
        self.sent_bytes.set(statistics.tx_bytes);
        let brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        let up = brokers.filter(|broker| broker.state == "UP");
        let (count, slowest) = up.fold((0, 0), |(count, slowest), broker| (count + 1, broker.rtt.avg.max(slowest)));
        self.brokers_up.set(count);
        self.round_trip_us.set(slowest);
    }
}

/// The part of librdkafka's statistics that is shown.
#[derive(Deserialize)]
struct Statistics {
    msg_cnt: i64,
    msg_size: i64,
    tx_bytes: i64,
    #[serde(default)]
    brokers: std::collections::HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i32,
    state: String,
    #[serde(default)]
    rtt: RoundTrip,
}

#[derive(Default, Deserialize)]
struct RoundTrip {
    avg: i64,
}

/// Nothing is wrong.
const FINE: i32 = 0;

/// What is wrong with all brokers, not with one among others.
const OF_ALL: [Code; 4] = [Code::AllBrokersDown, Code::Authentication, Code::SSL, Code::SaslAuthenticationFailed];

pub struct Context {
    /// Bounded by what may wait in the client.
    reports: Mutex<Vec<Report>>,
    metrics: Arc<ProducerMetrics>,
    trouble: AtomicI32,
}

impl Context {
    pub fn new(metrics: Arc<ProducerMetrics>) -> Context {
        Context { reports: Mutex::default(), metrics, trouble: AtomicI32::new(FINE) }
    }

    pub fn take(&self, into: &mut Vec<Report>) {
        into.append(&mut self.reports());
    }

    pub fn trouble(&self) -> Option<Code> {
        OF_ALL.into_iter().find(|code| *code as i32 == self.trouble.load(Relaxed))
    }

    fn reports(&self) -> MutexGuard<'_, Vec<Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters of it comes as a report or as trouble, and is told once where it is handled.
        tracing::debug!(facility, message, "librdkafka");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice(statistics) {
            Ok(statistics) => self.metrics.take(&statistics),
            Err(error) => tracing::debug!(%error, "statistics of Kafka's client cannot be read"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka's client");
        if let Some(code) = error.rdkafka_error_code().filter(|code| OF_ALL.contains(code)) {
            // Until something is delivered.
            self.trouble.store(code as i32, Relaxed);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Ticket;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Ticket) {
        let result = match result {
            Ok(message) => {
                self.trouble.store(FINE, Relaxed);
                let offset = Some(message.offset()).filter(|offset| *offset >= 0);
                Ok(Delivered { partition: message.partition(), offset })
            }
            Err((error, _)) => Err(fault(error.rdkafka_error_code())),
        };
        self.reports().push(Report { ticket, result });
    }
}
