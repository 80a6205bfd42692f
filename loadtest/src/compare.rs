//! Two outcomes beside each other: which figure became worse by more than its own noise?
//!
//! Worse means both: the middle halves of the rounds do not overlap, and the medians differ by more than 5 %. One without
//! the other is what two runs of the same program show.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::figures::{Better, FEWEST, FIGURES, Figure, Spread};
use crate::outcome::{Outcome, Round, Subject};

/// Differences up to this share of the median are nobody's business.
const TOLERATED: f64 = 0.05;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What is the measure
    before: PathBuf,
    /// What is measured by it
    after: PathBuf,
}

/// 1 when something is worse.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let comparison = compare(&Outcome::read(&arguments.before)?, &Outcome::read(&arguments.after)?)?;
    print!("{}", comparison.table());
    Ok(if comparison.is_worse() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[derive(Debug, PartialEq)]
pub struct Comparison {
    pub lines: Vec<Line>,
    /// What stands in one of both alone: it is said, and nobody's fault.
    pub unmatched: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub struct Line {
    pub subject: String,
    pub load: String,
    pub figure: String,
    pub before: String,
    pub after: String,
    /// Of the median: 0.1 is 10 % more.
    pub change: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    Worse,
    Better,
    Same,
    /// Too few rounds, and no seconds that stand in for them.
    Unjudged,
}

/// Fails when the two have nothing in common.
pub fn compare(before: &Outcome, after: &Outcome) -> Result<Comparison> {
    let (mut lines, mut unmatched) = (Vec::new(), Vec::new());
    for subject in &before.subjects {
        match after.subject(&subject.name) {
            Some(other) => {
                compare_subjects(subject, other, &before.loads(), &mut lines, &mut unmatched);
                let place = (subject.name.clone(), String::new(), "lost at kill -9".to_owned());
                lines.extend(count_line(place, subject.lost_after_kill(), other.lost_after_kill()));
            }
            None => unmatched.push(format!("{}: only before", subject.name)),
        }
    }
    let new = after.subjects.iter().filter(|subject| before.subject(&subject.name).is_none());
    unmatched.extend(new.map(|subject| format!("{}: only after", subject.name)));
    ensure!(!lines.is_empty(), "no server was under the same load in both: {}", unmatched.join("; "));
    Ok(Comparison { lines, unmatched })
}

fn compare_subjects(
    before: &Subject,
    after: &Subject,
    loads: &[&str],
    lines: &mut Vec<Line>,
    unmatched: &mut Vec<String>,
) {
    for load in loads {
        let (old, new) = (before.rounds_of(load), after.rounds_of(load));
        if old.is_empty() || new.is_empty() {
            if old.len() != new.len() {
                unmatched.push(format!(
                    "{}, {load}: only {}",
                    before.name,
                    if new.is_empty() { "before" } else { "after" }
                ));
            }
            continue;
        }
        let place = |figure: &str| (before.name.clone(), (*load).to_owned(), figure.to_owned());
        lines.extend(FIGURES.iter().filter_map(|figure| figure_line(place(figure.name), figure, &old, &new)));
        let total = |rounds: &[&Round], of: fn(&Round) -> u64| rounds.iter().map(|round| of(round)).sum::<u64>();
        let count = |of| (total(&old, of), total(&new, of));
        let (failed_before, failed) = count(|round| round.failed);
        lines.extend(count_line(place("failed"), failed_before, failed));
        let (wrong_before, wrong) = count(|round| round.books.as_ref().map_or(0, |books| books.problems.len() as u64));
        lines.extend(count_line(place("problems in the books"), wrong_before, wrong));
    }
}

type Place = (String, String, String);

fn figure_line((subject, load, name): Place, figure: &Figure, old: &[&Round], new: &[&Round]) -> Option<Line> {
    let (old, new) = (figure.samples(old), figure.samples(new));
    let (before, after) = (Spread::of(&old)?, Spread::of(&new)?);
    let few = old.len().min(new.len()) < FEWEST;
    let verdict = if few { Verdict::Unjudged } else { judge(figure.better, before, after) };
    let show = |spread: Spread, count| {
        format!("{:.2} {} ({:.2} .. {:.2} of {count})", spread.median, figure.unit, spread.lower, spread.upper)
    };
    Some(Line {
        subject,
        load,
        figure: name,
        before: show(before, old.len()),
        after: show(after, new.len()),
        change: (before.median != 0.0).then(|| after.median / before.median - 1.0),
        verdict,
    })
}

fn judge(better: Better, before: Spread, after: Spread) -> Verdict {
    let difference = (after.median - before.median).abs() / before.median.abs().max(f64::MIN_POSITIVE);
    let (rose, fell) = (after.lower > before.upper, after.upper < before.lower);
    match better {
        _ if difference <= TOLERATED || !(rose || fell) => Verdict::Same,
        Better::Lower if rose => Verdict::Worse,
        Better::Higher if fell => Verdict::Worse,
        _ => Verdict::Better,
    }
}

/// Of what should not happen at all: none before and some after is worse, however often it was tried.
fn count_line((subject, load, figure): Place, before: u64, after: u64) -> Option<Line> {
    let verdict = match (before, after) {
        (0, 0) => return None,
        (0, _) => Verdict::Worse,
        (_, 0) => Verdict::Better,
        _ => Verdict::Same,
    };
    let (before, after) = (before.to_string(), after.to_string());
    Some(Line { subject, load, figure, before, after, change: None, verdict })
}

impl Comparison {
    pub fn is_worse(&self) -> bool {
        self.lines.iter().any(|line| line.verdict == Verdict::Worse)
    }

    /// A table in Markdown, which a terminal can show too.
    pub fn table(&self) -> String {
        let mut text =
            String::from("| server | load | figure | before | after | change | |\n|---|---|---|---|---|---|---|\n");
        for line in &self.lines {
            let change = line.change.map_or_else(String::new, |change| format!("{:+.1} %", change * 100.0));
            let verdict = match line.verdict {
                Verdict::Worse => "**worse**",
                Verdict::Better => "better",
                Verdict::Same => "",
                Verdict::Unjudged => "too few rounds",
            };
            let Line { subject, load, figure, before, after, .. } = line;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {subject} | {load} | {figure} | {before} | {after} | {change} | {verdict} |");
        }
        for name in &self.unmatched {
            let _ = writeln!(text, "not compared: {name}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Books;
    use crate::samples;

    const QUIET: [f64; 5] = [10.0, 10.1, 10.2, 9.9, 10.0];

    fn of(cpu: &[f64]) -> Outcome {
        samples::outcome(vec![samples::subject("Afflux, process", "keep-alive", cpu)])
    }

    fn verdict(before: &Outcome, after: &Outcome, figure: &str) -> Verdict {
        let comparison = compare(before, after).unwrap();
        comparison.lines.iter().find(|line| line.figure == figure).unwrap().verdict
    }

    #[test]
    fn a_regression_is_found() {
        let worse = of(&[11.0, 11.1, 10.9, 11.2, 11.0]);
        assert_eq!(verdict(&of(&QUIET), &worse, "CPU per click"), Verdict::Worse);
        assert!(compare(&of(&QUIET), &worse).unwrap().is_worse());
        assert_eq!(verdict(&worse, &of(&QUIET), "CPU per click"), Verdict::Better);
        assert!(compare(&of(&QUIET), &worse).unwrap().table().contains("+10.0 % | **worse**"));
    }

    #[test]
    fn noise_is_no_regression() {
        // Far apart in the middle, but the halves overlap.
        let wide = of(&[9.5, 13.0, 11.5, 10.1, 12.0]);
        assert_eq!(verdict(&of(&QUIET), &wide, "CPU per click"), Verdict::Same);
        // Apart, but by 4 %.
        let near = of(&[10.4, 10.5, 10.4, 10.4, 10.5]);
        assert_eq!(verdict(&of(&QUIET), &near, "CPU per click"), Verdict::Same);
        assert!(!compare(&of(&QUIET), &near).unwrap().is_worse());
    }

    #[test]
    fn more_answers_are_better_and_fewer_worse() {
        let mut slower = of(&QUIET);
        slower.subjects[0].rounds.iter_mut().for_each(|round| round.answered = 2_000);
        assert_eq!(verdict(&of(&QUIET), &slower, "answered"), Verdict::Worse);
        assert_eq!(verdict(&slower, &of(&QUIET), "answered"), Verdict::Better);
    }

    #[test]
    fn one_round_is_judged_by_its_seconds_or_not_at_all() {
        let (mut before, mut after) = (of(&[10.0]), of(&[20.0]));
        assert_eq!(verdict(&before, &after, "CPU per click"), Verdict::Unjudged);
        assert!(!compare(&before, &after).unwrap().is_worse());
        before.subjects[0].rounds[0].timeline = (0..9).map(|at| samples::second(at, 1_000 + at)).collect();
        after.subjects[0].rounds[0].timeline = (0..9).map(|at| samples::second(at, 1_200 + at)).collect();
        assert_eq!(verdict(&before, &after, "latency p99"), Verdict::Worse);
        assert_eq!(verdict(&before, &after, "latency p50"), Verdict::Same);
    }

    #[test]
    fn failures_and_wrong_books_that_are_new_are_worse() {
        let mut after = of(&QUIET);
        after.subjects[0].rounds[3].failed = 1;
        assert_eq!(verdict(&of(&QUIET), &after, "failed"), Verdict::Worse);
        let problems = vec!["3 answered clicks are not recorded".to_owned()];
        let books = Books { answered: 3, recorded: 0, reported: 0, money: Vec::new(), problems };
        after.subjects[0].rounds[3] =
            crate::outcome::Round { books: Some(books), ..samples::round("keep-alive", 10.0) };
        assert_eq!(verdict(&of(&QUIET), &after, "problems in the books"), Verdict::Worse);
        after.subjects[0].missing_after_kill = Some((2, 20_000));
        assert_eq!(verdict(&of(&QUIET), &after, "lost at kill -9"), Verdict::Worse);
    }

    #[test]
    fn what_stands_in_one_alone_is_named() {
        let mut after = of(&QUIET);
        after.subjects.push(samples::subject("Node http", "keep-alive", &QUIET));
        assert_eq!(compare(&of(&QUIET), &after).unwrap().unmatched, ["Node http: only after"]);
        after.subjects.remove(0);
        assert!(compare(&of(&QUIET), &after).is_err(), "nothing was compared");
    }
}
