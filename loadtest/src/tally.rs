//! Counts and latencies of one stage, of a lane or of all.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Microseconds, to three digits, up to a minute.
pub fn latencies() -> Histogram<u64> {
    // Bounds that the library documents as valid: it cannot refuse them.
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap_or_else(|_| unreachable!("1 to 60,000,000 with 3 digits"))
}

pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record((latency.as_micros() as u64).max(1));
}

#[derive(Clone)]
pub struct Tally {
    pub answered: u64,
    pub refused: u64,
    /// Those without an answer, with another one, and `unsent`.
    pub failed: u64,
    pub latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { answered: 0, refused: 0, failed: 0, latency: latencies() }
    }
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
    }
}

/// A stage of one lane, or of all of them.
#[derive(Clone, Default)]
pub struct StageTally {
    pub clicks: Tally,
    /// From when a merchant wanted to report to the 202.
    pub orders: Tally,
    pub unsent: u64,
    /// Of those that failed: their connection was refused, or reset.
    pub cut_off: u64,
    pub sent_late: u64,
    /// Of the busiest lane, 0 to 1.
    pub busy: f64,
}

impl StageTally {
    pub fn add(&mut self, other: &StageTally) {
        self.clicks.add(&other.clicks);
        self.orders.add(&other.orders);
        self.unsent += other.unsent;
        self.cut_off += other.cut_off;
        self.sent_late += other.sent_late;
        self.busy = self.busy.max(other.busy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut one = StageTally { busy: 0.2, ..StageTally::default() };
        record(&mut one.clicks.latency, Duration::from_micros(10));
        let mut other = StageTally { busy: 0.7, sent_late: 3, ..StageTally::default() };
        other.clicks.answered = 5;
        record(&mut other.clicks.latency, Duration::from_secs(3_600));
        one.add(&other);
        assert_eq!((one.clicks.answered, one.sent_late, one.busy, one.clicks.latency.len()), (5, 3, 0.7, 2));
        assert!(one.clicks.latency.max() >= 60_000_000);
    }
}
