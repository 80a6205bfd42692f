//! What the spools count.

use super::chain::Chain;
use super::spools::Inner;
use crate::metrics::{Counter, Page};

/// What recovery and the keeper found.
#[derive(Default)]
pub struct Found {
    pub recovered: Counter,
    pub tail: Counter,
    pub unreadable: Counter,
    pub deleted: Counter,
}

pub fn write(inner: &Inner, page: &mut Page) {
    let chains = inner.chains();
    let by_topic = |number: fn(&Chain) -> u64| {
        [super::Topic::Clicks, super::Topic::Conversions].map(|topic| {
            let of_topic = chains.iter().filter(|chain| chain.topic == topic);
            (topic.name(), of_topic.map(|chain| number(chain)).sum::<u64>())
        })
    };
    let mut count = |name: &str, help: &str, values: [(&str, u64); 2]| {
        let labels = values.map(|(topic, value)| ([("topic", topic)], value));
        let samples: Vec<_> = labels.iter().map(|(label, value)| (&label[..], *value)).collect();
        page.counter(name, help, &samples);
    };
    count("afflux_spool_records_total", "Records appended.", by_topic(|chain| chain.numbers.records.value()));
    count(
        "afflux_spool_bytes_total",
        "Bytes appended, with record heads.",
        by_topic(|chain| chain.numbers.bytes.value()),
    );
    count(
        "afflux_spool_sync_errors_total",
        "fdatasyncs that failed.",
        by_topic(|chain| chain.numbers.sync_errors.value()),
    );
    count(
        "afflux_spool_rescued_total",
        "Records written again after a failed fdatasync.",
        by_topic(|chain| chain.numbers.rescued.value()),
    );
    count(
        "afflux_spool_unprepared_total",
        "Times that a segment was needed before one was ready.",
        by_topic(|chain| chain.numbers.unprepared.value()),
    );
    count(
        "afflux_spool_uncopied_total",
        "Records that memory had no room to hold a copy of.",
        by_topic(|chain| chain.numbers.uncopied.value()),
    );
    undurable(
        page,
        [
            ("unspooled", by_topic(|chain| chain.control.unspooled())),
            ("late", by_topic(|chain| chain.control.late())),
            ("lost", by_topic(|chain| chain.numbers.lost.value())),
        ],
    );
    let syncs = chains.iter().map(|chain| &chain.numbers.syncs);
    page.histogram("afflux_spool_sync_seconds", "How long an fdatasync takes.", syncs);
    let unsynced: u64 =
        chains.iter().map(|chain| chain.numbers.bytes.value().saturating_sub(chain.numbers.synced_bytes.value())).sum();
    page.gauge("afflux_spool_unsynced_bytes", "Appended and not known to be on disk.", &[(&[], unsynced)]);
    let found = &inner.found;
    let room = &inner.watch.room;
    let ratio = room.used() as f64 / (room.limit() as f64).max(1.0);
    page.gauge("afflux_spool_used_ratio", "Bytes of all segments by the allowed.", &[(&[], ratio)]);
    page.counter("afflux_spool_recovered_total", "Spools of dead processes sealed.", &[(&[], found.recovered.value())]);
    page.counter(
        "afflux_spool_tail_records_total",
        "Valid records behind a torn one, not used.",
        &[(&[], found.tail.value())],
    );
    page.counter(
        "afflux_spool_unreadable_total",
        "Directories that are no spool of this place or not readable as one.",
        &[(&[], found.unreadable.value())],
    );
    page.counter(
        "afflux_spool_deleted_segments_total",
        "Segments deleted after their time.",
        &[(&[], found.deleted.value())],
    );
}

fn undurable(page: &mut Page, kinds: [(&str, [(&str, u64); 2]); 3]) {
    let labels: Vec<_> = kinds
        .iter()
        .flat_map(|(kind, values)| values.map(|(topic, value)| ([("topic", topic), ("kind", *kind)], value)))
        .collect();
    let samples: Vec<_> = labels.iter().map(|(label, value)| (&label[..], *value)).collect();
    page.counter("afflux_spool_undurable_total", "Answers whose record is not known to be on disk.", &samples);
}
