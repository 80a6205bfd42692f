//! What reading the topics counts.

use crate::metrics::{Counter, Gauge, Page};

/// One writer: the thread of the consumer.
#[derive(Debug, Default)]
pub struct TopicMetrics {
    pub records: Counter,
    pub repeated: Counter,
    pub beyond_gaps: Counter,
    pub unreadable: Counter,
    pub resets: Counter,
    pub searches: Counter,
    pub errors: Counter,
    pub partitions: Gauge,
}

impl TopicMetrics {
    pub fn write(&self, page: &mut Page) {
        for (name, help, counter) in [
            ("afflux_topics_records_total", "Records read from clicks and conversions.", &self.records),
            ("afflux_topics_repeated_total", "Records of these that were applied before.", &self.repeated),
            (
                "afflux_topics_beyond_gaps_total",
                "Records of these behind a missing one: read again when it is there.",
                &self.beyond_gaps,
            ),
            ("afflux_topics_unreadable_total", "Records of no spool, kept as dead letters.", &self.unreadable),
            ("afflux_topics_resets_total", "Positions that were not there any more.", &self.resets),
            ("afflux_topics_searches_total", "Partitions read again for a missing record.", &self.searches),
            ("afflux_topics_errors_total", "Errors of Kafka while reading.", &self.errors),
        ] {
            page.counter(name, help, &[(&[], counter.value())]);
        }
        page.gauge("afflux_topics_partitions", "Partitions this process reads.", &[(&[], self.partitions.value())]);
    }
}

/// Of keeping the touch index up. One writer: its thread.
#[derive(Debug, Default)]
pub struct IndexerMetrics {
    pub touches: Counter,
    pub unverified: Counter,
    pub key_waits: Counter,
    pub passed_over: Counter,
    pub rebuilds: Counter,
    pub errors: Counter,
    pub lag: Gauge,
    pub unplaced: Gauge,
}

impl IndexerMetrics {
    pub fn write(&self, page: &mut Page) {
        for (name, help, counter) in [
            ("afflux_touch_index_touches_total", "Touches put into the shared index.", &self.touches),
            ("afflux_touch_index_unverified_total", "Clicks left out as they do not verify.", &self.unverified),
            (
                "afflux_touch_index_key_waits_total",
                "Waits for a key that is not listed. Alarm on any.",
                &self.key_waits,
            ),
            ("afflux_touch_index_rebuilds_total", "Partitions indexed anew from the topic.", &self.rebuilds),
            (
                "afflux_touch_index_passed_over_total",
                "Records that did not follow the one before and were sought again.",
                &self.passed_over,
            ),
            ("afflux_touch_index_errors_total", "Times that Kafka or Redis did not answer.", &self.errors),
        ] {
            page.counter(name, help, &[(&[], counter.value())]);
        }
        let help = "Records of the partitions this process indexes that are not in the index.";
        page.gauge("afflux_touch_index_lag_records", help, &[(&[], self.lag.value())]);
        let help = "Partitions of which it is not known where to go on.";
        page.gauge("afflux_touch_index_unplaced", help, &[(&[], self.unplaced.value())]);
    }
}

/// Of telling decisions to others. One writer: its thread.
#[derive(Debug, Default)]
pub struct OutboxMetrics {
    pub told: Counter,
    pub dead_letters: Counter,
    pub left_out: Counter,
    pub errors: Counter,
}

impl OutboxMetrics {
    pub fn write(&self, page: &mut Page) {
        for (name, help, counter) in [
            ("afflux_outbox_told_total", "Revisions of decisions told to Kafka.", &self.told),
            ("afflux_outbox_dead_letters_total", "Dead letters told to Kafka.", &self.dead_letters),
            (
                "afflux_outbox_left_out_total",
                "Revisions that cannot be read, and what Kafka will never take.",
                &self.left_out,
            ),
            ("afflux_outbox_errors_total", "Times that they could not be told; they are kept.", &self.errors),
        ] {
            page.counter(name, help, &[(&[], counter.value())]);
        }
    }
}
