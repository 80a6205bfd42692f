//! What rounds say together: quartiles, percentiles of latency, and the figures that tables and comparisons know.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::outcome::{Outcome, Round, Second, Subject};

/// Fewer values than this say nothing about their own noise.
pub const FEWEST: usize = 3;

/// The middle half of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub lower: f64,
    pub median: f64,
    pub upper: f64,
}

impl Spread {
    /// None of no values.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Some(Spread { lower: at(0.25)?, median: at(0.5)?, upper: at(0.75)? })
    }
}

/// Between the two nearest values, in proportion.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// The smallest latency that at least this share of all answers kept; microseconds.
pub fn percentile(latency: &[(u64, u64)], share: f64) -> Option<u64> {
    let total: u64 = latency.iter().map(|(_, count)| count).sum();
    let wanted = (share * total as f64).ceil().max(1.0) as u64;
    let mut seen = 0;
    latency.iter().find_map(|(value, count)| {
        seen += count;
        (seen >= wanted).then_some(*value)
    })
}

/// The latencies of several rounds as those of one.
pub fn merged<'a>(rounds: impl IntoIterator<Item = &'a Round>) -> Vec<(u64, u64)> {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for (value, count) in rounds.into_iter().flat_map(|round| &round.latency) {
        *counts.entry(*value).or_default() += count;
    }
    counts.into_iter().collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Better {
    Lower,
    Higher,
}

/// Something that is measured each round and has one direction that is better.
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
    pub of_round: fn(&Round) -> Option<f64>,
    /// The same of one second, where that means the same.
    of_second: fn(&Second) -> Option<f64>,
}

pub const CPU: Figure = Figure {
    name: "CPU per click",
    unit: "µs",
    better: Better::Lower,
    of_round: |round| round.cpu_micros_per_click,
    // A second knows the whole process alone.
    of_second: |_| None,
};

pub const RATE: Figure = Figure {
    name: "answered",
    unit: "/s",
    better: Better::Higher,
    of_round: rate,
    of_second: |second| Some(second.answered as f64),
};

pub const MEMORY: Figure = Figure {
    name: "anonymous memory",
    unit: "MiB",
    better: Better::Lower,
    of_round: |round| round.memory_kib.map(|kib| kib as f64 / 1024.0),
    of_second: |second| (second.memory_kib > 0).then_some(second.memory_kib as f64 / 1024.0),
};

pub const FIGURES: [Figure; 7] = [
    CPU,
    Figure {
        name: "CPU of the whole process per click",
        unit: "µs",
        better: Better::Lower,
        of_round: |round| round.process_cpu_micros_per_click,
        of_second: |second| (second.answered > 0).then(|| second.cpu * 1e6 / second.answered as f64),
    },
    RATE,
    Figure {
        name: "latency p50",
        unit: "µs",
        better: Better::Lower,
        of_round: |round| latency_of(round, 0.5),
        of_second: |second| (second.answered > 0).then_some(second.p50_micros as f64),
    },
    Figure {
        name: "latency p99",
        unit: "µs",
        better: Better::Lower,
        of_round: |round| latency_of(round, 0.99),
        of_second: |second| (second.answered > 0).then_some(second.p99_micros as f64),
    },
    Figure {
        name: "latency p99.9",
        unit: "µs",
        better: Better::Lower,
        of_round: |round| latency_of(round, 0.999),
        of_second: |_| None,
    },
    MEMORY,
];

fn rate(round: &Round) -> Option<f64> {
    (round.seconds > 0.0).then(|| round.answered as f64 / round.seconds)
}

fn latency_of(round: &Round, share: f64) -> Option<f64> {
    percentile(&round.latency, share).map(|micros| micros as f64)
}

impl Figure {
    pub fn of_rounds(&self, rounds: &[&Round]) -> Vec<f64> {
        rounds.iter().filter_map(|round| (self.of_round)(round)).collect()
    }

    /// What its noise is judged by: the rounds, or the seconds where rounds are too few for that.
    pub fn samples(&self, rounds: &[&Round]) -> Vec<f64> {
        let of_rounds = self.of_rounds(rounds);
        if of_rounds.len() >= FEWEST {
            return of_rounds;
        }
        let seconds = rounds.iter().flat_map(|round| round.whole_seconds());
        let of_seconds: Vec<f64> = seconds.filter_map(|second| (self.of_second)(second)).collect();
        if of_seconds.len() >= FEWEST { of_seconds } else { of_rounds }
    }
}

impl Round {
    /// Without a last one that ended early.
    pub fn whole_seconds(&self) -> impl Iterator<Item = &Second> {
        let first = self.timeline.first().map_or(0, |second| second.at);
        // A generator does not stop to the microsecond.
        let end = self.seconds + 0.05;
        self.timeline.iter().filter(move |second| (second.at.saturating_sub(first) + 1) as f64 <= end)
    }
}

impl Subject {
    /// Afflux, in whatever setting; others are peers.
    pub fn is_ours(&self) -> bool {
        self.name.starts_with("Afflux")
    }

    /// Clicks of ours that were answered and are not recorded. A peer may promise less.
    pub fn lost_after_kill(&self) -> u64 {
        self.missing_after_kill.filter(|_| self.is_ours()).map_or(0, |(missing, _)| missing)
    }

    pub fn rounds_of(&self, load: &str) -> Vec<&Round> {
        self.rounds.iter().filter(|round| round.load == load).collect()
    }
}

impl Outcome {
    pub fn read(file: &Path) -> Result<Outcome> {
        let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no outcome", file.display()))
    }

    /// Every load once, in the order in which they first came.
    pub fn loads(&self) -> Vec<&str> {
        let mut loads: Vec<&str> = Vec::new();
        for round in self.subjects.iter().flat_map(|subject| &subject.rounds) {
            if !loads.contains(&round.load.as_str()) {
                loads.push(&round.load);
            }
        }
        loads
    }

    pub fn subject(&self, name: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_stand_between_values_in_proportion() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[7.0]), Some(Spread { lower: 7.0, median: 7.0, upper: 7.0 }));
        let spread = Spread::of(&[9.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { lower: 1.75, median: 2.5, upper: 4.5 });
    }

    #[test]
    fn a_second_that_ended_early_is_none() {
        let mut round = crate::samples::round("keep-alive", 7.0);
        round.timeline = (5..9).map(|at| crate::samples::second(at, 200)).collect();
        let whole = |round: &Round| round.whole_seconds().map(|second| second.at).collect::<Vec<_>>();
        round.seconds = 3.6;
        assert_eq!(whole(&round), [5, 6, 7]);
        round.seconds = 3.99;
        assert_eq!(whole(&round), [5, 6, 7, 8]);
    }

    #[test]
    fn a_percentile_is_a_latency_that_was_seen() {
        let latency = [(10, 98), (20, 1), (500, 1)];
        assert_eq!(percentile(&latency, 0.5), Some(10));
        assert_eq!(percentile(&latency, 0.98), Some(10));
        assert_eq!(percentile(&latency, 0.981), Some(20));
        assert_eq!(percentile(&latency, 1.0), Some(500));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
