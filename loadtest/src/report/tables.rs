//! The same in numbers, and what no picture shows: targets, books, every round.

use super::text::{duration, escape, number, thousands};
use crate::figures::percentile;
use crate::outcome::{Books, Outcome, Round, Subject};
use crate::targets::TARGETS;

/// From here on the generator's figures are not the server's.
const BUSY: f64 = 0.9;

/// What makes the figures doubtful, or the run a failed one.
pub fn alarms(outcome: &Outcome) -> String {
    let mut alarms = Vec::new();
    for subject in &outcome.subjects {
        let of = |round: &Round| format!("{}, {}", subject.name, round.load);
        if subject.lost_after_kill() > 0 {
            alarms.push(format!(
                "{}: {} answered clicks are lost after kill -9",
                subject.name,
                subject.lost_after_kill()
            ));
        }
        for round in &subject.rounds {
            let books = round.books.iter().flat_map(|books| &books.problems);
            alarms.extend(books.map(|problem| format!("{}: {problem}", of(round))));
            if round.failed > 0 {
                alarms.push(format!("{}: {} failed", of(round), thousands(round.failed as i64)));
            }
            // A closed loop is as busy as it can be; an open one must have time to spare.
            if round.planned_rate.is_some() && (round.generator_busy >= BUSY || round.sent_late > 0) {
                let busy = number(round.generator_busy * 100.0);
                let late = thousands(round.sent_late as i64);
                alarms.push(format!("{}: the generator was {busy} % busy, {late} sent late", of(round)));
            }
        }
    }
    alarms.dedup();
    list("alarm", &alarms)
}

fn list(class: &str, lines: &[String]) -> String {
    let items: String = lines.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
    if items.is_empty() { items } else { format!("<ul class=\"{class}\">{items}</ul>\n") }
}

fn table(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let cells = |tag: &str, cells: &[String]| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let body: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))).collect();
    format!(
        "<h3>{}</h3><div class=\"scroll\"><table><thead><tr>{}</tr></thead><tbody>{body}</tbody></table></div>\n",
        escape(title),
        cells("th", &head)
    )
}

pub fn targets(outcome: &Outcome) -> String {
    let row = |target: &crate::targets::Target| {
        let ratio = target.ratio(outcome)?;
        Some(vec![
            format!("{} of {}, {}", target.subject, target.against, target.load),
            format!("at most {}", target.at_most),
            format!("{:.2} .. {:.2}", ratio.lower, ratio.median),
            if target.is_met(ratio) { "met" } else { "missed" }.to_owned(),
        ])
    };
    let rows: Vec<_> = TARGETS.iter().filter_map(row).collect();
    table("Targets: CPU per click, of the same round", &["what", "target", "lower quartile .. median", ""], &rows)
}

pub fn recorded(outcome: &Outcome) -> String {
    let row = |subject: &Subject| {
        let missing = subject.missing_after_kill.map_or_else(String::new, |(missing, of)| {
            format!("{} of {}", thousands(missing as i64), thousands(of as i64))
        });
        (subject.recorded_first.is_some() || !missing.is_empty())
            .then(|| vec![subject.name.clone(), subject.recorded_first.clone().unwrap_or_default(), missing])
    };
    let rows: Vec<_> = outcome.subjects.iter().filter_map(row).collect();
    table(
        "Is a click recorded before its answer?",
        &["server", "recorded before the answer", "answered and missing after kill -9"],
        &rows,
    )
}

pub fn rounds(outcome: &Outcome) -> String {
    let head = [
        "server",
        "load",
        "round",
        "planned/s",
        "seconds",
        "answered",
        "refused",
        "failed",
        "p50",
        "p99",
        "p99.9",
        "worst",
        "CPU, µs",
        "process, µs",
        "MiB",
        "generator busy",
        "sent late",
    ];
    let mut rows = Vec::new();
    for subject in &outcome.subjects {
        for load in outcome.loads() {
            let rounds = subject.rounds_of(load);
            rows.extend(rounds.iter().enumerate().map(|(number, round)| round_row(subject, number + 1, round)));
        }
    }
    table("Every round", &head, &rows)
}

fn round_row(subject: &Subject, count: usize, round: &Round) -> Vec<String> {
    let latency = |share| percentile(&round.latency, share).map_or_else(String::new, |micros| duration(micros as f64));
    let maybe = |value: Option<f64>| value.map_or_else(String::new, number);
    vec![
        subject.name.clone(),
        round.load.clone(),
        count.to_string(),
        maybe(round.planned_rate),
        number(round.seconds),
        thousands(round.answered as i64),
        thousands(round.refused as i64),
        thousands(round.failed as i64),
        latency(0.5),
        latency(0.99),
        latency(0.999),
        latency(1.0),
        maybe(round.cpu_micros_per_click),
        maybe(round.process_cpu_micros_per_click),
        maybe(round.memory_kib.map(|kib| kib as f64 / 1024.0)),
        format!("{:.0} %", round.generator_busy * 100.0),
        thousands(round.sent_late as i64),
    ]
}

pub fn books(outcome: &Outcome) -> String {
    let mut rows = Vec::new();
    for subject in &outcome.subjects {
        let with_books = subject.rounds.iter().filter_map(|round| Some((round, round.books.as_ref()?)));
        rows.extend(with_books.map(|(round, books)| books_row(subject, round, books)));
    }
    table("The books", &["server", "load", "answered", "recorded", "reported", "money", "right?"], &rows)
}

fn books_row(subject: &Subject, round: &Round, books: &Books) -> Vec<String> {
    let money = books.money.iter().map(|money| {
        let (expected, reported) = (thousands(money.expected), thousands(money.reported));
        format!("{} {reported} of {expected}", money.currency)
    });
    vec![
        subject.name.clone(),
        round.load.clone(),
        thousands(books.answered as i64),
        thousands(books.recorded as i64),
        thousands(books.reported as i64),
        money.collect::<Vec<_>>().join(", "),
        if books.problems.is_empty() { "yes" } else { "no" }.to_owned(),
    ]
}
