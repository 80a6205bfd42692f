//! What a scenario expects besides right books.

use crate::outcome::Second;
use crate::scenario::{Expect, Stage};
use crate::tally::StageTally;

/// A stage, what was seen of it, and what was answered a second within its time.
pub struct Run<'r> {
    pub stage: &'r Stage,
    pub tally: &'r StageTally,
    pub timeline: &'r [Second],
    pub rate: f64,
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
        let clicks = &run.tally.clicks;
        let planned = clicks.answered + clicks.refused + clicks.failed;
        let failed_percent = clicks.failed as f64 * 100.0 / planned.max(1) as f64;
        if expect.failed_percent.is_some_and(|most| failed_percent > most) {
            missed.push(format!("{name}: {} of {planned} clicks failed", clicks.failed));
        }
        let untold = clicks.failed.saturating_sub(run.tally.unsent + run.tally.cut_off);
        if expect.untold_count.is_some_and(|most| untold > most) {
            missed.push(format!("{name}: {untold} clicks were sent, and neither answered nor refused"));
        }
        let p99_ms = clicks.latency.value_at_quantile(0.99) as f64 / 1_000.0;
        let is_measured = !run.stage.finds_peak && !is_overload;
        if let Some(most) = expect.latency_p99_ms.filter(|most| is_measured && p99_ms > *most) {
            missed.push(format!("{name}: p99 is {p99_ms:.1} ms; {most} ms are allowed"));
        }
    }
    let memory: Vec<u64> = runs.iter().flat_map(|run| run.timeline).map(|second: &Second| second.memory_kib).collect();
    if let Some(most) = expect.memory_growth_mib {
        let (before, after) = memory.split_at(memory.len().div_ceil(2));
        let largest = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
        let growth = largest(after).saturating_sub(largest(before)) / 1024;
        if growth > most {
            missed.push(format!("memory grew by {growth} MiB in the second half of the run; {most} MiB are allowed"));
        }
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn tally(answered: u64, failed: u64, unsent: u64) -> StageTally {
        let mut tally = StageTally { unsent, ..StageTally::default() };
        (tally.clicks.answered, tally.clicks.failed) = (answered, failed);
        tally.clicks.latency.saturating_record_n(1_000, answered);
        tally
    }

    fn seconds(memory_mib: &[u64]) -> Vec<Second> {
        let second = |mib: &u64| Second {
            at: 0,
            answered: 0,
            failed: 0,
            p50_micros: 0,
            p99_micros: 0,
            worst_micros: 0,
            cpu: 0.0,
            memory_kib: mib * 1024,
        };
        memory_mib.iter().map(second).collect()
    }

    #[test]
    fn what_is_not_kept_is_told() {
        let scenario = Scenario::load("overload").unwrap();
        let (peak, twice) = (tally(1_000, 0, 0), tally(800, 13, 10));
        let (before, after) = (seconds(&[10, 10]), seconds(&[10, 100]));
        let [first, second] = [&scenario.stages[0], &scenario.stages[1]];
        let runs = [
            Run { stage: first, tally: &peak, timeline: &before, rate: 100.0 },
            Run { stage: second, tally: &twice, timeline: &after, rate: 80.0 },
        ];
        let told = missed(&scenario.expect, &runs);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].contains("80 answered a second; 90 are 90 %") && told[2].contains("grew by 90 MiB"),
            "{told:?}"
        );
        assert!(told[1].contains("3 clicks were sent, and neither"), "{told:?}");
        let strict = Expect { failed_percent: Some(0.0), latency_p99_ms: Some(0.5), ..Expect::default() };
        assert_eq!(missed(&strict, &runs), [format!("{}: 13 of 813 clicks failed", second.name)]);
        assert_eq!(missed(&Expect::default(), &runs), [""; 0]);
    }
}
