//! Which pictures an outcome gives.

use super::bars::{self, Bar};
use super::lines::{Chart, Line};
use super::text::{duration, number};
use crate::figures::{CPU, FIGURES, Figure, MEMORY, RATE, Spread, merged};
use crate::outcome::{Outcome, Round, Second, Subject};

pub fn is_ours(subject: &Subject) -> bool {
    subject.name.starts_with("Afflux")
}

/// CPU, rate and latency for each load; memory once, the largest of all.
pub fn beside_each_other(outcome: &Outcome) -> String {
    let mut html = String::new();
    for load in outcome.loads() {
        for figure in FIGURES.iter().filter(|figure| [CPU.name, RATE.name].contains(&figure.name)) {
            html.push_str(&bars_of(outcome, load, figure));
        }
        html.push_str(&by_percentile(outcome, load));
    }
    html.push_str(&memory(outcome));
    html
}

fn bars_of(outcome: &Outcome, load: &str, figure: &Figure) -> String {
    let bar = |subject: &Subject| {
        let spread = Spread::of(&figure.of_rounds(&subject.rounds_of(load)))?;
        Some(Bar { name: subject.name.clone(), ours: is_ours(subject), spread })
    };
    let bars: Vec<Bar> = outcome.subjects.iter().filter_map(bar).collect();
    bars::draw(&format!("{}, {load} ({})", figure.name, figure.unit), figure.unit, &bars)
}

fn memory(outcome: &Outcome) -> String {
    let bar = |subject: &Subject| {
        let rounds: Vec<&Round> = subject.rounds.iter().collect();
        let spread = Spread::of(&MEMORY.of_rounds(&rounds))?;
        Some(Bar { name: subject.name.clone(), ours: is_ours(subject), spread })
    };
    let bars: Vec<Bar> = outcome.subjects.iter().filter_map(bar).collect();
    bars::draw("Anonymous memory of the whole server (MiB)", MEMORY.unit, &bars)
}

/// The axis grows by one with each nine.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn by_percentile(outcome: &Outcome, load: &str) -> String {
    let mut lines: Vec<Line> = outcome.subjects.iter().filter_map(|subject| percentile_line(subject, load)).collect();
    // The first colours are ours, in every picture.
    lines.sort_by_key(|line| !line.ours);
    let mut rounds = outcome.subjects.iter().flat_map(|subject| subject.rounds_of(load));
    // The generator waits for answers then: this is how long 64 at once wait, not how long one visitor does.
    let closed = rounds.all(|round| round.planned_rate.is_none());
    let title = if closed {
        format!("Latency by percentile, {load} (closed loop, at its peak)")
    } else {
        format!("Latency by percentile, {load}")
    };
    let furthest = lines.iter().filter_map(|line| line.points.last()).map(|(x, _)| *x).fold(1.0, f64::max);
    let shares = [("0", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];
    let ticks = shares.into_iter().map(|(words, share)| (nines(share), words.to_owned()));
    Chart {
        title: &title,
        lines,
        ticks: ticks.filter(|(place, _)| *place <= furthest + 0.05).collect(),
        marks: Vec::new(),
        logarithmic: true,
        show: duration,
    }
    .draw()
}

fn percentile_line(subject: &Subject, load: &str) -> Option<Line> {
    let latency = merged(subject.rounds_of(load));
    let total: u64 = latency.iter().map(|(_, count)| count).sum();
    let mut below = 0;
    let points = latency.iter().map(|(value, count)| {
        // So many answers were faster than this value: the worst of all stands one before the end, which is nowhere.
        let share = below as f64 / total as f64;
        below += count;
        (nines(share), *value as f64)
    });
    let points: Vec<(f64, f64)> = points.collect();
    (!points.is_empty()).then(|| Line { name: subject.name.clone(), ours: is_ours(subject), points })
}

/// How each server's rounds went on, one after the other; empty without seconds.
pub fn over_time(subject: &Subject) -> String {
    let course = Course::of(subject);
    if course.seconds.is_empty() {
        return String::new();
    }
    let latency: [Way; 3] = [
        ("p50", |second| second.p50_micros as f64),
        ("p99", |second| second.p99_micros as f64),
        ("worst", |second| second.worst_micros as f64),
    ];
    [
        course.draw("Latency over time", &latency, true, duration),
        course.draw(
            "Clicks a second",
            &[("answered", |second| second.answered as f64), ("failed", |second| second.failed as f64)],
            false,
            number,
        ),
        course.draw("Cores in use by the server", &[("cores", |second| second.cpu)], false, number),
        course.draw("Anonymous memory (MiB)", &[("memory", |second| second.memory_kib as f64 / 1024.0)], false, number),
    ]
    .concat()
}

/// What a line is called, and what of a second it shows.
type Way = (&'static str, fn(&Second) -> f64);

/// The seconds of all rounds behind each other, and where each load begins.
struct Course<'a> {
    seconds: Vec<(f64, &'a Second)>,
    marks: Vec<(f64, String)>,
    end: f64,
}

impl Course<'_> {
    fn of(subject: &Subject) -> Course<'_> {
        let mut course = Course { seconds: Vec::new(), marks: Vec::new(), end: 0.0 };
        let mut load = "";
        for round in subject.rounds.iter().filter(|round| !round.timeline.is_empty()) {
            if round.load != load {
                load = &round.load;
                course.marks.push((course.end, round.load.clone()));
            }
            let first = round.timeline[0].at;
            let place = |second: &Second| course.end + second.at.saturating_sub(first) as f64;
            let placed: Vec<_> = round.timeline.iter().map(|second| (place(second), second)).collect();
            course.end = placed.last().map_or(course.end, |(at, _)| at + 1.0).max(course.end + round.seconds);
            course.seconds.extend(placed);
        }
        course
    }

    fn draw(&self, title: &str, ways: &[Way], logarithmic: bool, show: fn(f64) -> String) -> String {
        let line = |(name, of): &Way| Line {
            name: (*name).to_owned(),
            ours: false,
            points: self.seconds.iter().map(|(at, second)| (*at, of(second))).collect(),
        };
        let ticks = super::scale::Scale::exact(0.0, self.end, 0.0, 1.0).ticks();
        Chart {
            title,
            lines: ways.iter().map(line).collect(),
            ticks: ticks.into_iter().map(|at| (at, format!("{} s", number(at)))).collect(),
            marks: self.marks.clone(),
            logarithmic,
            show,
        }
        .draw()
    }
}
