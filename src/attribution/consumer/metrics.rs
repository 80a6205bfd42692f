//! What attribution counts.

use crate::attribution::{Outcome, Reason};
use crate::metrics::{Counter, Gauge, Histogram, Page};
use crate::store::{Aged, KINDS};

/// The thread of the consumer writes; what is counted while deciding, the one that decides what waited too.
#[derive(Debug, Default)]
pub struct AttributionMetrics {
    pub lag_ms: Gauge,
    pub clicks: Counter,
    pub conversions: Counter,
    pub refunds: Counter,
    pub unverified_clicks: Counter,
    pub fed_in_vain: Counter,
    pub late_clicks: Counter,
    pub cut_lookups: Counter,
    pub unread_conversions: Counter,
    pub folded_labels: Gauge,
    pub dead_letters: Gauge,
    pub quarantined_records: Counter,
    pub gaps: Gauge,
    pub refunds_waiting: Gauge,
    pub touches: Gauge,
    pub touch_tables: Gauge,
    pub source_errors: Counter,
    pub batch_seconds: Histogram,
    pub batches: Counter,
    pub consuming: Gauge,
    pub imbalance: Gauge,
    pub follows: Gauge,
    pub too_late_clicks: Counter,
    pub recalled_spools: Counter,
    pub prune_errors: Counter,
    pruned: [Counter; PRUNED.len()],
    outcomes: [Counter; OUTCOMES.len()],
    store_errors: [Counter; KINDS.len()],
}

/// Outcome and reason as labels; the place of each is its counter's.
const OUTCOMES: [(Option<Reason>, &str); 12] = [
    (None, ""),
    (Some(Reason::Unverified), "unverified"),
    (Some(Reason::Conflict), "conflict"),
    (Some(Reason::InvalidClickId), "invalid_click_id"),
    (Some(Reason::WrongMerchant), "wrong_merchant"),
    (Some(Reason::PublisherInactive), "publisher_inactive"),
    (Some(Reason::WindowExpired), "window_expired"),
    (Some(Reason::CheckoutRule), "checkout_rule"),
    (Some(Reason::CouponRule), "coupon_rule"),
    (Some(Reason::NoTouch), "no_touch"),
    (Some(Reason::OutOfStock), "out_of_stock"),
    (Some(Reason::ZeroRate), "zero_rate"),
];

/// Tables as labels; the place of each is its counter's.
const PRUNED: [(Aged, &str); 7] = [
    (Aged::Marks, "marks"),
    (Aged::SpoolStates, "spool_states"),
    (Aged::Visitors, "visitors"),
    (Aged::ClickRollups, "click_rollups"),
    (Aged::Reports, "conversions"),
    (Aged::Conflicts, "conflicts"),
    (Aged::DeadLetters, "dead_letters"),
];

impl AttributionMetrics {
    pub fn count_pruned(&self, aged: Aged, rows: u64) {
        if let Some(place) = PRUNED.iter().position(|(known, _)| *known == aged) {
            self.pruned[place].add(rows);
        }
    }

    /// Of one table.
    #[cfg(test)]
    pub fn pruned(&self, aged: Aged) -> u64 {
        PRUNED.iter().zip(&self.pruned).find(|((known, _), _)| *known == aged).map_or(0, |(_, counter)| counter.value())
    }

    /// Counts a conversion that got this outcome, anew or in place of another.
    pub fn count_outcome(&self, outcome: Outcome, reason: Option<Reason>) {
        let reason = if outcome == Outcome::Attributed { None } else { reason };
        if let Some(place) = OUTCOMES.iter().position(|(known, _)| *known == reason) {
            self.outcomes[place].add_shared(1);
        }
    }

    /// Of every kind.
    #[cfg(test)]
    pub fn store_errors(&self) -> u64 {
        self.store_errors.iter().map(Counter::value).sum()
    }

    pub fn count_store_error(&self, kind: &str) {
        let place = KINDS.iter().position(|known| *known == kind);
        // What has no name of its own is the last.
        self.store_errors[place.unwrap_or(KINDS.len() - 1)].add(1);
    }

    pub fn write(&self, page: &mut Page) {
        let seconds = |gauge: &Gauge| gauge.value() as f64 / 1e3;
        page.gauge(
            "afflux_attribution_lag_seconds",
            "Age of the oldest event that is readable and not applied.",
            &[(&[], seconds(&self.lag_ms))],
        );
        self.write_outcomes(page);
        self.write_store_errors(page);
        self.write_pruned(page);
        self.write_counters(page);
        self.write_gauges(page);
        page.histogram(
            "afflux_store_batch_seconds",
            "How long a transaction of the store took, with its commit.",
            std::iter::once(&self.batch_seconds),
        );
    }

    fn write_outcomes(&self, page: &mut Page) {
        let labels = OUTCOMES.map(|(reason, name)| {
            let outcome = if reason.is_none() { "attributed" } else { "unattributed" };
            [("outcome", outcome), ("reason", name)]
        });
        let samples: Vec<_> = labels.iter().zip(&self.outcomes).map(|(l, counter)| (&l[..], counter.value())).collect();
        let help = "Conversions that got this outcome, at first or in place of another.";
        page.counter("afflux_conversion_outcomes_total", help, &samples);
    }

    fn write_store_errors(&self, page: &mut Page) {
        let labels = KINDS.map(|kind| [("kind", kind)]);
        let samples: Vec<_> =
            labels.iter().zip(&self.store_errors).map(|(l, counter)| (&l[..], counter.value())).collect();
        page.counter("afflux_store_errors_total", "Transactions that failed; all is read again.", &samples);
    }

    fn write_pruned(&self, page: &mut Page) {
        let labels = PRUNED.map(|(_, table)| [("table", table)]);
        let samples: Vec<_> = labels.iter().zip(&self.pruned).map(|(l, counter)| (&l[..], counter.value())).collect();
        page.counter("afflux_store_pruned_rows_total", "Rows that left the store for their age.", &samples);
    }

    fn write_counters(&self, page: &mut Page) {
        for (name, help, counter) in [
            ("afflux_attribution_clicks_total", "Click events applied.", &self.clicks),
            ("afflux_attribution_conversions_total", "Conversion events applied.", &self.conversions),
            ("afflux_attribution_refunds_total", "Refund events applied.", &self.refunds),
            ("afflux_store_batches_total", "Transactions of the store committed.", &self.batches),
            (
                "afflux_attribution_unverified_clicks_total",
                "Click events whose click ID does not verify: counted, but no touches.",
                &self.unverified_clicks,
            ),
            (
                "afflux_attribution_fed_in_vain_total",
                "Clicks fed again that had taken effect before they were parked: not counted again.",
                &self.fed_in_vain,
            ),
            (
                "afflux_attribution_late_clicks_total",
                "Clicks that came after a decision and had it made again.",
                &self.late_clicks,
            ),
            (
                "afflux_touch_cut_lookups_total",
                "Look-ups of visitors with more clicks than one reads.",
                &self.cut_lookups,
            ),
            (
                "afflux_attribution_unread_conversions_total",
                "Conversions that a late click or many refunds did not change, as they could not be decided again.",
                &self.unread_conversions,
            ),
            (
                "afflux_attribution_quarantined_records_total",
                "Records lost by a disk and passed.",
                &self.quarantined_records,
            ),
            (
                "afflux_attribution_too_late_clicks_total",
                "Clicks so old that they change no conversion any more.",
                &self.too_late_clicks,
            ),
            (
                "afflux_attribution_recalled_spools_total",
                "Spools that were done with and are read again; nothing of them is applied twice.",
                &self.recalled_spools,
            ),
            ("afflux_store_prune_errors_total", "Times that old rows could not be pruned.", &self.prune_errors),
            ("afflux_attribution_source_errors_total", "Spools that could not be read.", &self.source_errors),
        ] {
            page.counter(name, help, &[(&[], counter.value())]);
        }
    }

    fn write_gauges(&self, page: &mut Page) {
        for (name, help, gauge) in [
            ("afflux_attribution_consuming", "1 in the process that consumes, 0 in one that waits.", &self.consuming),
            ("afflux_attribution_gaps", "Spools that wait because a number is missing.", &self.gaps),
            ("afflux_attribution_dead_letters", "Records that could not be applied and are kept.", &self.dead_letters),
            ("afflux_attribution_refunds_waiting", "Refunds whose order is not known.", &self.refunds_waiting),
            ("afflux_rollup_folded_labels", "Labels counted as `other` since the start.", &self.folded_labels),
            ("afflux_touch_touches", "Touches in the index.", &self.touches),
            ("afflux_touch_tables", "Tables of the touch index.", &self.touch_tables),
            ("afflux_attribution_follows", "1 while another catalog than that of the files decides.", &self.follows),
            ("afflux_ledger_imbalance", "Sum of all entries, all currencies: always 0.", &self.imbalance),
        ] {
            page.gauge(name, help, &[(&[], gauge.value())]);
        }
    }
}
