//! One stage as it is seen from outside: each second a line on the terminal and an entry of the timeline.

use std::time::Instant;

use crate::outcome::{Round, Second};
use crate::process::Usage;
use crate::tally::{StageTally, Tally};

/// At this part of its time on a processor the generator may be what is measured.
pub const BUSY: f64 = 0.9;

pub struct Observer {
    name: String,
    seconds: f64,
    planned_rate: Option<f64>,
    pub timeline: Vec<Second>,
    looked: Instant,
    last: (u32, Usage),
    /// Of the server's threads since the begin, over all its lives.
    used: Usage,
}

impl Observer {
    /// `pid` 0 is no process.
    pub fn new(name: &str, seconds: f64, planned_rate: Option<f64>, pid: u32) -> Observer {
        let last = (pid, usage(pid));
        let (name, looked, used) = (name.to_owned(), Instant::now(), Usage::default());
        Observer { name, seconds, planned_rate, timeline: Vec::new(), looked, last, used }
    }

    pub fn second(&mut self, at: u64, tally: &Tally, pid: u32) {
        let (now, elapsed) = (usage(pid), self.looked.elapsed().as_micros().max(1) as f64);
        // A new process has not used anything before.
        let before = if self.last.0 == pid { self.last.1 } else { Usage::default() };
        let process_us = now.process_us.saturating_sub(before.process_us);
        self.used.process_us += process_us;
        self.used.edge_us += now.edge_us.saturating_sub(before.edge_us);
        self.used.memory_kib = self.used.memory_kib.max(now.memory_kib);
        (self.looked, self.last) = (Instant::now(), (pid, now));
        let at_quantile =
            |quantile| if tally.latency.is_empty() { 0 } else { tally.latency.value_at_quantile(quantile) };
        let second = Second {
            at,
            answered: tally.answered,
            failed: tally.failed,
            p50_micros: at_quantile(0.5),
            p99_micros: at_quantile(0.99),
            worst_micros: if tally.latency.is_empty() { 0 } else { tally.latency.max() },
            cpu: process_us as f64 / elapsed,
            memory_kib: now.memory_kib,
        };
        self.show(&second, tally.refused);
        self.timeline.push(second);
    }

    fn show(&self, second: &Second, refused: u64) {
        let told = if refused + second.failed == 0 {
            String::new()
        } else {
            format!("  {refused} told 503  {} failed", second.failed)
        };
        let server = if self.last.0 == 0 {
            String::new()
        } else {
            format!("  server {:.2} cores, {} MiB", second.cpu, second.memory_kib / 1024)
        };
        eprintln!(
            "{} {}/{:.0} s  {}/s{told}  p50 {}  p99 {}  worst {}{server}",
            self.name,
            second.at + 1,
            self.seconds.ceil(),
            second.answered,
            duration(second.p50_micros),
            duration(second.p99_micros),
            duration(second.worst_micros),
        );
    }

    /// Answered a second within the stage's own time.
    pub fn rate(&self) -> f64 {
        let whole = self.seconds.ceil() as u64;
        self.timeline.iter().filter(|second| second.at < whole).map(|second| second.answered).sum::<u64>() as f64
            / self.seconds
    }

    /// `orders` are those of the stage in a round of their own.
    pub fn rounds(&self, tally: &StageTally) -> Vec<Round> {
        let has_server = self.last.0 != 0;
        let per_click = |micros: u64| {
            (has_server && tally.clicks.answered > 0).then(|| micros as f64 / tally.clicks.answered as f64)
        };
        let clicks = Round {
            load: self.name.clone(),
            planned_rate: self.planned_rate,
            seconds: self.seconds,
            cpu_micros_per_click: per_click(self.used.edge_us),
            process_cpu_micros_per_click: per_click(self.used.process_us),
            memory_kib: has_server.then_some(self.used.memory_kib),
            generator_busy: tally.busy,
            sent_late: tally.sent_late,
            timeline: self.timeline.clone(),
            ..round(&tally.clicks)
        };
        let orders =
            Round { load: format!("{}: orders and refunds", self.name), seconds: self.seconds, ..round(&tally.orders) };
        let has_orders = orders.answered + orders.failed + orders.refused > 0;
        std::iter::once(clicks).chain(has_orders.then_some(orders)).collect()
    }
}

fn usage(pid: u32) -> Usage {
    if pid == 0 { Usage::default() } else { Usage::of(pid) }
}

fn round(tally: &Tally) -> Round {
    Round {
        load: String::new(),
        planned_rate: None,
        seconds: 0.0,
        answered: tally.answered,
        refused: tally.refused,
        failed: tally.failed,
        latency: tally
            .latency
            .iter_recorded()
            .map(|value| (value.value_iterated_to(), value.count_at_value()))
            .collect(),
        timeline: Vec::new(),
        cpu_micros_per_click: None,
        process_cpu_micros_per_click: None,
        memory_kib: None,
        generator_busy: 0.0,
        sent_late: 0,
        books: None,
    }
}

/// `350 us`, `2.1 ms`, `1.30 s`.
pub fn duration(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1_000.0),
        _ => format!("{:.2} s", micros as f64 / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_round_is_what_was_seen() {
        let mut tally = Tally { answered: 2, failed: 1, ..Tally::default() };
        for micros in [100, 300] {
            crate::tally::record(&mut tally.latency, Duration::from_micros(micros));
        }
        let mut observer = Observer::new("steady", 2.0, Some(1.0), std::process::id());
        observer.second(0, &tally, std::process::id());
        observer.second(1, &Tally::default(), std::process::id());
        assert_eq!(observer.rate(), 1.0);
        let stage = StageTally { clicks: tally, busy: 0.25, sent_late: 4, ..StageTally::default() };
        let rounds = observer.rounds(&stage);
        assert_eq!(rounds.len(), 1);
        assert_eq!(rounds[0].latency, [(100, 1), (300, 1)]);
        assert_eq!((rounds[0].planned_rate, rounds[0].sent_late, rounds[0].timeline.len()), (Some(1.0), 4, 2));
        assert!(rounds[0].memory_kib > Some(0) && rounds[0].timeline[0].p99_micros == 300);
        assert_eq!(rounds[0].timeline[1].worst_micros, 0);
    }

    #[test]
    fn durations_are_short() {
        assert_eq!([350, 2_100, 1_300_000].map(duration), ["350 us", "2.1 ms", "1.30 s"]);
    }
}
