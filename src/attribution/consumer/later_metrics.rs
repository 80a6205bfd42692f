//! What waiting for touches counts.

use crate::metrics::{Counter, Gauge, Page};

/// One writer: the thread that decides.
#[derive(Debug, Default)]
pub struct WaitingMetrics {
    pub new: Gauge,
    pub provisional: Gauge,
    pub for_key: Gauge,
    pub oldest_ms: Gauge,
    pub decided: Counter,
    pub decided_provisionally: Counter,
    pub undecidable: Counter,
    pub unavailable: Counter,
    pub store_errors: Counter,
}

impl WaitingMetrics {
    pub fn write(&self, page: &mut Page) {
        let stands = [
            (&[("stand", "new")][..], self.new.value()),
            (&[("stand", "provisional")], self.provisional.value()),
            (&[("stand", "for_key")], self.for_key.value()),
        ];
        page.gauge("afflux_waiting_conversions", "Conversions that wait for a decision.", &stands);
        let help = "How long the oldest of them has waited.";
        page.gauge("afflux_waiting_oldest_seconds", help, &[(&[], self.oldest_ms.value() as f64 / 1e3)]);
        let decided = [
            (&[("by", "whole_index")][..], self.decided.value()),
            (&[("by", "known")], self.decided_provisionally.value()),
        ];
        page.counter("afflux_waiting_decided_total", "Decisions of conversions that waited.", &decided);
        for (name, help, counter) in [
            ("afflux_waiting_undecidable_total", "Conversions kept as dead letters instead.", &self.undecidable),
            (
                "afflux_waiting_unavailable_total",
                "Times that the touch index or the end of the clicks could not be asked.",
                &self.unavailable,
            ),
            ("afflux_waiting_store_errors_total", "Transactions of decisions that failed.", &self.store_errors),
        ] {
            page.counter(name, help, &[(&[], counter.value())]);
        }
    }
}
