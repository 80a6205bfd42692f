//! What a scenario expects besides right books.

use crate::outcome::{Round, Second};
use crate::scenario::{Expect, Stage};

/// A stage with its first round, and what was answered a second within its time.
pub struct Run<'r> {
    pub stage: &'r Stage,
    pub round: &'r Round,
    pub rate: f64,
    /// Of those that failed.
    pub unsent: u64,
}

/// What was not kept, in words.
pub fn missed(expect: &Expect, runs: &[Run<'_>]) -> Vec<String> {
    let peak = runs.iter().rev().find(|run| run.stage.finds_peak).map(|run| run.rate);
    let mut missed = Vec::new();
    for run in runs {
        let name = &run.stage.name;
        let is_overload = run.stage.rate_peak_percent.is_some_and(|percent| percent > 100.0);
        if let (Some(percent), Some(peak), true) = (expect.goodput_peak_percent, peak, is_overload) {
            let least = peak * percent / 100.0;
            if run.rate < least {
                missed
                    .push(format!("{name}: {:.0} answered a second; {least:.0} are {percent} % of the peak", run.rate));
            }
        }
        let (round, sent) = (run.round, run.round.answered + run.round.refused + run.round.failed);
        let failed_percent = round.failed as f64 * 100.0 / sent.max(1) as f64;
        if expect.failed_percent.is_some_and(|most| failed_percent > most) {
            missed.push(format!("{name}: {} of {sent} clicks failed", round.failed));
        }
        let untold = round.failed.saturating_sub(run.unsent);
        if expect.untold_count.is_some_and(|most| untold > most) {
            missed.push(format!("{name}: {untold} clicks were sent, and neither answered nor told 503"));
        }
        let p99_ms = quantile(&round.latency, 0.99) as f64 / 1_000.0;
        let is_measured = !run.stage.finds_peak && !is_overload;
        if let Some(most) = expect.latency_p99_ms.filter(|most| is_measured && p99_ms > *most) {
            missed.push(format!("{name}: p99 is {p99_ms:.1} ms; {most} ms are allowed"));
        }
    }
    let memory: Vec<u64> =
        runs.iter().flat_map(|run| &run.round.timeline).map(|second: &Second| second.memory_kib).collect();
    if let Some(most) = expect.memory_growth_mib {
        let (before, after) = memory.split_at(memory.len().div_ceil(5));
        let largest = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
        let growth = largest(after).saturating_sub(largest(before)) / 1024;
        if growth > most {
            missed
                .push(format!("memory grew by {growth} MiB after the first fifth of the run; {most} MiB are allowed"));
        }
    }
    missed
}

/// Of values with their counts, values rising; 0 of none.
pub fn quantile(latency: &[(u64, u64)], quantile: f64) -> u64 {
    let count: u64 = latency.iter().map(|(_, count)| count).sum();
    let rank = (count as f64 * quantile).ceil().max(1.0) as u64;
    let mut seen = 0;
    let reaches = latency.iter().find(|(_, count)| {
        seen += count;
        seen >= rank
    });
    reaches.map_or(0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn round(answered: u64, failed: u64, memory_mib: &[u64]) -> Round {
        let mut observer = crate::observer::Observer::new("s", 10.0, None, 0);
        memory_mib.iter().for_each(|_| observer.second(0, &Default::default(), 0));
        let mut round = observer.rounds(&Default::default(), None).remove(0);
        round.timeline.iter_mut().zip(memory_mib).for_each(|(second, mib)| second.memory_kib = mib * 1024);
        Round { answered, failed, latency: vec![(1_000, answered)], ..round }
    }

    #[test]
    fn what_is_not_kept_is_told() {
        let scenario = Scenario::load("overload").unwrap();
        let (peak, twice) = (round(1_000, 0, &[10, 10]), round(800, 10, &[10, 10, 100]));
        let [first, second] = [&scenario.stages[0], &scenario.stages[1]];
        let runs = [
            Run { stage: first, round: &peak, rate: 100.0, unsent: 0 },
            Run { stage: second, round: &twice, rate: 80.0, unsent: 10 },
        ];
        let told = missed(&scenario.expect, &runs);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("80 answered a second; 90 are 90 %") && told[1].contains("grew by 90 MiB"),
            "{told:?}"
        );
        let strict = Expect { failed_percent: Some(0.0), latency_p99_ms: Some(0.5), ..Expect::default() };
        assert_eq!(missed(&strict, &runs), [format!("{}: 10 of 810 clicks failed", second.name)]);
        assert_eq!(missed(&Expect::default(), &runs), [""; 0]);
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let latency = [(10, 98), (20, 1), (30, 1)];
        assert_eq!([0.5, 0.99, 1.0].map(|at| quantile(&latency, at)), [10, 20, 30]);
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
