//! What the edge counts: one set for each worker, written by that worker alone.

use std::sync::Arc;

use super::forwarded::{FORWARDED, Forwarded};
use super::labels::{Flags, LABELS};
use crate::metrics::{Counter, Histogram, Page};

/// How a request was answered (contract P28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Redirected,
    Rejected,
    NotFound,
    BadRequest,
    MethodNotAllowed,
    TooLong,
    Overloaded,
    Health,
    /// Sent to the same page over TLS.
    ToHttps,
}

const OUTCOMES: [(Outcome, &str); 9] = [
    (Outcome::Redirected, "redirected"),
    (Outcome::Rejected, "rejected"),
    (Outcome::NotFound, "not_found"),
    (Outcome::BadRequest, "bad_request"),
    (Outcome::MethodNotAllowed, "method_not_allowed"),
    (Outcome::TooLong, "too_long"),
    (Outcome::Overloaded, "overloaded"),
    (Outcome::Health, "health"),
    (Outcome::ToHttps, "to_https"),
];

#[derive(Default)]
pub struct Metrics {
    outcomes: [Counter; OUTCOMES.len()],
    pub seconds: Histogram,
    flags: [Counter; LABELS],
    forwarded: [Counter; FORWARDED.len()],
}

impl Metrics {
    pub fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].add(1);
    }

    pub fn count_forwarded(&self, found: Forwarded) {
        self.forwarded[found as usize].add(1);
    }

    pub fn count_flags(&self, flags: Flags) {
        for ((set, _), counter) in flags.labels().into_iter().zip(&self.flags) {
            counter.add(set.into());
        }
    }
}

/// What their door answered before a worker could.
pub struct Unheard {
    /// 503.
    pub turned_away: u64,
    /// 431 in HTTP/2.
    pub too_large: u64,
}

/// Sums the workers.
pub fn write(workers: &[Arc<Metrics>], unheard: &Unheard, page: &mut Page) {
    let sum = |counter: &dyn Fn(&Metrics) -> u64| workers.iter().map(|worker| counter(worker)).sum::<u64>();
    let counted = OUTCOMES.map(|(outcome, name)| {
        let unheard = match outcome {
            Outcome::Overloaded => unheard.turned_away,
            Outcome::BadRequest => unheard.too_large,
            _ => 0,
        };
        ([("outcome", name)], unheard + sum(&|m| m.outcomes[outcome as usize].value()))
    });
    let samples: Vec<_> = counted.iter().map(|(label, value)| (&label[..], *value)).collect();
    page.counter("afflux_edge_requests_total", "Requests by how they were answered.", &samples);
    page.histogram(
        "afflux_edge_request_seconds",
        "From the parsed request to its answer, the wait for the disk included.",
        workers.iter().map(|worker| &worker.seconds),
    );
    let flagged: [_; LABELS] = std::array::from_fn(|at| {
        let (_, name) = Flags::default().labels()[at];
        ([("flag", name)], sum(&|m| m.flags[at].value()))
    });
    let samples: Vec<_> = flagged.iter().map(|(label, value)| (&label[..], *value)).collect();
    page.counter("afflux_edge_flagged_total", "Clicks by label.", &samples);
    let forwarded = FORWARDED.map(|(found, name)| ([("address", name)], sum(&|m| m.forwarded[found as usize].value())));
    let samples: Vec<_> = forwarded.iter().map(|(label, value)| (&label[..], *value)).collect();
    let help = "Requests of proxies, by what X-Forwarded-For said of the visitor's address and who said it.";
    page.counter("afflux_edge_forwarded_total", help, &samples);
}
