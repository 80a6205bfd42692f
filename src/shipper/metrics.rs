//! What the shipper counts.

use std::sync::{Arc, Mutex, PoisonError};

use crate::kafka::producer::ProducerMetrics;
use crate::metrics::{Counter, Gauge, Page};
use crate::spool::Topic;

/// What went wrong, as labels; the place of each is its counter's.
pub const KINDS: [&str; 16] = [
    "too_large",
    "refused",
    "unknown_topic",
    "invalid_topic",
    "authorization",
    "authentication",
    "unsupported",
    "unreachable",
    "invalid_timestamp",
    "policy",
    "no_partition",
    "panic",
    "shortage",
    "client",
    "overtook",
    "disk",
];

const TOPICS: [Topic; 2] = [Topic::Clicks, Topic::Conversions];
const WHY: [&str; 3] = ["too_large", "refused", "lost"];

/// One writer: the shipper's thread.
#[derive(Debug, Default)]
pub struct ShipperMetrics {
    pub producer: Arc<ProducerMetrics>,
    pub shipping: Gauge,
    pub lag_records: Gauge,
    pub lag_ms: Gauge,
    pub cursor_age_ms: Gauge,
    pub spools: Gauge,
    pub homeless: Gauge,
    pub delivered: [Counter; 2],
    pub outage: [Gauge; 2],
    pub dedupe_unavailable: Counter,
    pub duplicates: Counter,
    pub unread: Counter,
    pub resent: Counter,
    pub lost_acks: Counter,
    pub heartbeats: Counter,
    pub seals: Counter,
    errors: [Counter; KINDS.len()],
    parked: [Counter; WHY.len()],
    left: Mutex<Option<Left>>,
}

/// What is not shipped and sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub spools: u64,
    pub records: u64,
}

impl ShipperMetrics {
    pub fn count_error(&self, kind: &str) {
        let place_of = |kind: &str| KINDS.iter().position(|known| *known == kind);
        // What has no name of its own is the client's.
        if let Some(place) = place_of(kind).or_else(|| place_of("client")) {
            self.errors[place].add(1);
        }
    }

    pub fn count_parked(&self, why: &str) {
        if let Some(place) = WHY.iter().position(|known| *known == why) {
            self.parked[place].add(1);
        }
    }

    pub fn parked(&self) -> u64 {
        self.parked.iter().map(Counter::value).sum()
    }

    pub fn set_left(&self, left: Left) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
    }

    /// `None` until everything was looked at once.
    pub fn left(&self) -> Option<Left> {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self, page: &mut Page) {
        self.write_gauges(page);
        self.write_by_topic(page);
        let samples = |labels: &'static [&'static str], name: &'static str, counters: &[Counter]| {
            labels.iter().zip(counters).map(|(label, counter)| ([(name, *label)], counter.value())).collect::<Vec<_>>()
        };
        let errors = samples(&KINDS, "kind", &self.errors);
        let errors: Vec<_> = errors.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        page.counter("afflux_shipper_errors_total", "What Kafka, its client or the disk refused, and panics.", &errors);
        let parked = samples(&WHY, "why", &self.parked);
        let parked: Vec<_> = parked.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        page.counter("afflux_shipper_parked_total", "Records in whose place a `parked` event was sent.", &parked);
        for (name, help, counter) in [
            (
                "afflux_dedupe_unavailable_total",
                "Clicks shipped without being asked for duplicates.",
                &self.dedupe_unavailable,
            ),
            ("afflux_shipper_duplicates_total", "Clicks shipped as duplicates.", &self.duplicates),
            ("afflux_shipper_unread_total", "Records that are no event, shipped as they are.", &self.unread),
            ("afflux_shipper_resent_total", "Records handed to Kafka's client once more.", &self.resent),
            (
                "afflux_shipper_lost_acks_total",
                "Signs that Kafka lost what it had acknowledged; what was sent is sent again.",
                &self.lost_acks,
            ),
            ("afflux_shipper_heartbeats_total", "Heartbeats sent.", &self.heartbeats),
            ("afflux_shipper_seals_total", "Seals delivered: spools shipped for good.", &self.seals),
        ] {
            page.counter(name, help, &[(&[], counter.value())]);
        }
        self.producer.write(page);
    }

    fn write_gauges(&self, page: &mut Page) {
        for (name, help, gauge) in [
            ("afflux_shipper_shipping", "1 in the process that ships, 0 in one that waits.", &self.shipping),
            ("afflux_shipper_lag_records", "Records on disk that Kafka has not acknowledged.", &self.lag_records),
            ("afflux_shipper_spools", "Spools that are not shipped for good.", &self.spools),
            ("afflux_shipper_homeless_spools", "Spools whose partition is not there.", &self.homeless),
        ] {
            page.gauge(name, help, &[(&[], gauge.value())]);
        }
        for (name, help, gauge) in [
            ("afflux_shipper_lag_seconds", "Age of the oldest record that is not acknowledged.", &self.lag_ms),
            (
                "afflux_shipper_cursor_age_seconds",
                "How long the oldest cursor that has moved is not on disk.",
                &self.cursor_age_ms,
            ),
        ] {
            page.gauge(name, help, &[(&[], gauge.value() as f64 / 1e3)]);
        }
    }

    fn write_by_topic(&self, page: &mut Page) {
        let labels = TOPICS.map(|topic| [("topic", topic.name())]);
        let delivered: Vec<_> =
            labels.iter().zip(&self.delivered).map(|(label, counter)| (&label[..], counter.value())).collect();
        page.counter("afflux_shipper_delivered_total", "Records that Kafka has acknowledged, in order.", &delivered);
        let outage: Vec<_> =
            labels.iter().zip(&self.outage).map(|(label, gauge)| (&label[..], gauge.value())).collect();
        let help = "1 while Kafka takes nothing of the topic, or cannot be reached.";
        page.gauge("afflux_shipper_outage", help, &outage);
    }
}
