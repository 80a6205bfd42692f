//! What intake counts. All of it is shared by the API's threads.

use std::time::Duration;

use axum::http::StatusCode;

use super::OrderIndex;
use super::accept::Verdict;
use crate::metrics::{Counter, Histogram, Page};

#[derive(Clone, Copy)]
pub enum Route {
    Conversions,
    Refunds,
    Postback,
}

#[derive(Clone, Copy)]
pub enum Kind {
    Conversion,
    Refund,
}

const ROUTES: [&str; 3] = ["conversions", "refunds", "postback"];
const KINDS: [&str; 2] = ["conversion", "refund"];
const RESULTS: [&str; 4] = ["accepted", "replayed", "conflict", "invalid"];

/// Every status that intake answers with; anything else would be counted as the last.
const STATUSES: [&str; 14] =
    ["200", "202", "400", "401", "403", "405", "408", "409", "413", "415", "422", "429", "503", "other"];

#[derive(Default)]
pub struct Metrics {
    requests: [[Counter; STATUSES.len()]; ROUTES.len()],
    reports: [[Counter; RESULTS.len()]; KINDS.len()],
    seconds: Histogram,
}

impl Metrics {
    pub fn answered(&self, route: Route, status: StatusCode, took: Duration) {
        let at = STATUSES.iter().position(|known| *known == status.as_str()).unwrap_or(STATUSES.len() - 1);
        self.requests[route as usize][at].add_shared(1);
        self.seconds.record_shared(took);
    }

    /// One conversion or refund; `None`: it was not valid.
    pub fn judged(&self, kind: Kind, verdict: Option<&Verdict>) {
        let at = match verdict {
            Some(Verdict::Accepted) => 0,
            Some(Verdict::Replayed) => 1,
            Some(Verdict::Conflict { .. }) => 2,
            Some(Verdict::TooLarge) | None => 3,
        };
        self.reports[kind as usize][at].add_shared(1);
    }

    /// With what the order index counts itself.
    pub fn write(&self, index: &OrderIndex, page: &mut Page) {
        let requests = samples(&self.requests, "route", &ROUTES, "status", &STATUSES);
        let requests: Vec<_> = requests.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        page.counter("afflux_intake_requests_total", "Answers to merchants, by route and status.", &requests);
        let reports = samples(&self.reports, "kind", &KINDS, "result", &RESULTS);
        let reports: Vec<_> = reports.iter().map(|(labels, value)| (&labels[..], *value)).collect();
        page.counter("afflux_intake_reports_total", "Conversions and refunds judged, batches by item.", &reports);
        page.histogram(
            "afflux_intake_request_seconds",
            "From the request's head to its answer, the body's way and the disk included.",
            [&self.seconds].into_iter(),
        );
        page.counter(
            "afflux_intake_order_index_unavailable_total",
            "Questions to the order index that it did not answer; reports were accepted without it.",
            &[(&[], index.unavailable.value())],
        );
        page.counter(
            "afflux_intake_claims_outwaited_total",
            "Claims of other edges that took too long to wait for.",
            &[(&[], index.outwaited.value())],
        );
    }
}

type Labels<'a> = [(&'a str, &'a str); 2];

/// One sample per cell that was counted.
fn samples<'a, const ROWS: usize, const COLUMNS: usize>(
    cells: &[[Counter; COLUMNS]; ROWS],
    row_label: &'a str,
    rows: &[&'a str; ROWS],
    column_label: &'a str,
    columns: &[&'a str; COLUMNS],
) -> Vec<(Labels<'a>, u64)> {
    let mut samples = Vec::new();
    for (row, counters) in rows.iter().zip(cells) {
        for (column, counter) in columns.iter().zip(counters).filter(|(_, counter)| counter.value() > 0) {
            samples.push(([(row_label, *row), (column_label, *column)], counter.value()));
        }
    }
    samples
}
