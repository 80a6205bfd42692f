//! Metrics without shared cache lines: each worker owns plain atomics that only it writes; they are summed when
//! scraped. Text format 0.0.4 of Prometheus.
//!
//! Names are `afflux_<stage>_<what>`; every name is documented in `docs/metrics.md` (held by `tests/it/tidy.rs`).

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Counts up. `add` is a plain load and store: one writer. Use `add_shared` where several threads count.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// For the one thread that owns this counter: no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub const fn new(value: i64) -> Gauge {
        Gauge(AtomicI64::new(value))
    }

    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Relaxed);
    }

    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds in seconds: from the microseconds of a redirect to the seconds of a stall.
pub const SECONDS: [f64; 16] = [
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0,
    5.0, 30.0,
];

/// Durations in fixed buckets (`SECONDS`). `record` is for one writer, `record_shared` for several.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; SECONDS.len() + 1],
    nanoseconds: Counter,
}

impl Histogram {
    pub fn record(&self, duration: std::time::Duration) {
        let (bucket, nanoseconds) = bucket(duration);
        self.buckets[bucket].add(1);
        self.nanoseconds.add(nanoseconds);
    }

    pub fn record_shared(&self, duration: std::time::Duration) {
        let (bucket, nanoseconds) = bucket(duration);
        self.buckets[bucket].add_shared(1);
        self.nanoseconds.add_shared(nanoseconds);
    }
}

/// `SECONDS` in nanoseconds.
const NANOSECONDS: [u64; SECONDS.len()] = {
    let (mut nanoseconds, mut at) = ([0; SECONDS.len()], 0);
    while at < SECONDS.len() {
        nanoseconds[at] = (SECONDS[at] * 1e9).round() as u64;
        at += 1;
    }
    nanoseconds
};

fn bucket(duration: std::time::Duration) -> (usize, u64) {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    (NANOSECONDS.iter().take_while(|bound| nanoseconds > **bound).count(), nanoseconds)
}

/// A page of metrics being written.
#[derive(Default)]
pub struct Page {
    text: String,
}

/// One sample's labels and value.
pub type Sample<'a, V> = (&'a [(&'a str, &'a str)], V);

impl Page {
    pub fn counter<V: Display>(&mut self, name: &str, help: &str, samples: &[Sample<'_, V>]) {
        self.family(name, help, "counter", samples);
    }

    pub fn gauge<V: Display>(&mut self, name: &str, help: &str, samples: &[Sample<'_, V>]) {
        self.family(name, help, "gauge", samples);
    }

    /// Sums the histograms of all workers into one.
    pub fn histogram<'a>(&mut self, name: &str, help: &str, workers: impl Iterator<Item = &'a Histogram> + Clone) {
        self.head(name, help, "histogram");
        let mut count = 0;
        for (bucket, bound) in SECONDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]).enumerate() {
            count += workers.clone().map(|worker| worker.buckets[bucket].value()).sum::<u64>();
            // Writing into a String does not fail.
            let _ = writeln!(self.text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = workers.map(|worker| worker.nanoseconds.value()).sum::<u64>() as f64 / 1e9;
        let _ = writeln!(self.text, "{name}_sum {sum}\n{name}_count {count}");
    }

    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn family<V: Display>(&mut self, name: &str, help: &str, kind: &str, samples: &[Sample<'_, V>]) {
        self.head(name, help, kind);
        for (labels, value) in samples {
            self.text.push_str(name);
            for (index, (label, word)) in labels.iter().enumerate() {
                let open = if index == 0 { '{' } else { ',' };
                let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(self.text, "{open}{label}=\"{word}\"");
            }
            let close = if labels.is_empty() { "" } else { "}" };
            let _ = writeln!(self.text, "{close} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_prometheus_text() {
        let mut page = Page::default();
        page.counter("afflux_x_total", "What x does.", &[(&[("outcome", "a\"b")], 3u64)]);
        let histogram = Histogram::default();
        histogram.record(std::time::Duration::from_micros(7));
        page.histogram("afflux_y_seconds", "How long y takes.", [&histogram].into_iter());
        let text = page.finish();
        assert!(text.contains("# TYPE afflux_x_total counter\nafflux_x_total{outcome=\"a\\\"b\"} 3\n"));
        assert!(text.contains("afflux_y_seconds_bucket{le=\"0.00001\"} 1\n"));
        assert!(text.contains("afflux_y_seconds_bucket{le=\"+Inf\"} 1\n"));
        assert!(text.contains("afflux_y_seconds_count 1\n"));
    }
}
