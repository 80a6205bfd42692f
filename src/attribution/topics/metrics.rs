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
            (
                "afflux_topics_searches_total",
                "Partitions read from the beginning for a missing record.",
                &self.searches,
            ),
            ("afflux_topics_errors_total", "Errors of Kafka while reading.", &self.errors),
        ] {
            page.counter(name, help, &[(&[], counter.value())]);
        }
        page.gauge("afflux_topics_partitions", "Partitions this process reads.", &[(&[], self.partitions.value())]);
    }
}
