//! Which pictures an outcome gives.

use super::bars::{self, Bar};
use super::lines::{Chart, Line};
use super::text::{duration, number};
use crate::figures::{CPU, Figure, MEMORY, RATE, Spread, merged};
use crate::outcome::{Outcome, Round, Second, Subject};

/// What stands in one picture: the servers under one load, or the loads of the only server.
struct Group<'a> {
    title: &'a str,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    name: &'a str,
    ours: bool,
    rounds: Vec<&'a Round>,
}

fn groups(outcome: &Outcome) -> Vec<Group<'_>> {
    fn row<'a>(subject: &'a Subject, load: &str, name: &'a str) -> Row<'a> {
        Row { name, ours: subject.is_ours(), rounds: subject.rounds_of(load) }
    }
    let loads = outcome.loads();
    if let [only] = outcome.subjects.as_slice() {
        let rows = loads.into_iter().map(|load| row(only, load, load)).collect();
        return vec![Group { title: &only.name, rows }];
    }
    let of_load = |load| {
        let rows = outcome.subjects.iter().map(|subject| row(subject, load, &subject.name));
        Group { title: load, rows: rows.filter(|row| !row.rounds.is_empty()).collect() }
    };
    loads.into_iter().map(of_load).collect()
}

/// CPU, rate and latency; memory once, the largest of all.
pub fn beside_each_other(outcome: &Outcome) -> String {
    let mut html = String::new();
    for group in groups(outcome) {
        for figure in [CPU, RATE] {
            let title = format!("{}, {} ({})", figure.name, group.title, figure.unit);
            html.push_str(&bars_of(&title, &figure, &group.rows));
        }
        html.push_str(&by_percentile(&group));
    }
    let whole = outcome.subjects.iter().map(|subject| {
        let rounds = subject.rounds.iter().collect();
        Row { name: &subject.name, ours: subject.is_ours(), rounds }
    });
    let rows: Vec<Row> = whole.collect();
    html.push_str(&bars_of("Anonymous memory of the whole server (MiB)", &MEMORY, &rows));
    html
}

fn bars_of(title: &str, figure: &Figure, rows: &[Row]) -> String {
    let bar = |row: &Row| {
        let spread = Spread::of(&figure.of_rounds(&row.rounds))?;
        Some(Bar { name: row.name.to_owned(), ours: row.ours, spread })
    };
    let bars: Vec<Bar> = rows.iter().filter_map(bar).collect();
    bars::draw(title, figure.unit, &bars)
}

/// The axis grows by one with each nine.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn by_percentile(group: &Group) -> String {
    let mut lines: Vec<Line> = group.rows.iter().filter_map(percentile_line).collect();
    // The first colours are ours, in every picture.
    lines.sort_by_key(|line| !line.ours);
    let mut rounds = group.rows.iter().flat_map(|row| &row.rounds);
    // The generator waits for answers then: this is how long all of its connections wait, not how long one visitor does.
    let closed = if rounds.all(|round| round.planned_rate.is_none()) { " (closed loop, at its peak)" } else { "" };
    let furthest = lines.iter().filter_map(|line| line.points.last()).map(|(x, _)| *x).fold(1.0, f64::max);
    let shares = [("0", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];
    let ticks = shares.into_iter().map(|(words, share)| (nines(share), words.to_owned()));
    Chart {
        title: &format!("Latency by percentile, {}{closed}", group.title),
        lines,
        ticks: ticks.filter(|(place, _)| *place <= furthest + 0.05).collect(),
        marks: Vec::new(),
        logarithmic: true,
        show: duration,
    }
    .draw()
}

fn percentile_line(row: &Row) -> Option<Line> {
    let latency = merged(row.rounds.iter().copied());
    let total: u64 = latency.iter().map(|(_, count)| count).sum();
    let mut below = 0;
    let points = latency.iter().map(|(value, count)| {
        // So many answers were faster than this value: the worst of all stands one before the end, which is nowhere.
        let share = below as f64 / total as f64;
        below += count;
        (nines(share), *value as f64)
    });
    let points: Vec<(f64, f64)> = points.collect();
    (!points.is_empty()).then(|| Line { name: row.name.to_owned(), ours: row.ours, points })
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
    let clicks: [Way; 2] = [("answered", |second| second.answered as f64), ("failed", |second| second.failed as f64)];
    let memory: [Way; 1] = [("memory", |second| second.memory_kib as f64 / 1024.0)];
    // A last second that ended early has fewer clicks than it looks like.
    [
        course.draw("Latency over time", &course.seconds, &latency, true, duration),
        course.draw("Clicks a second", &course.whole, &clicks, false, number),
        course.draw("Cores in use by the server", &course.whole, &[("cores", |second| second.cpu)], false, number),
        course.draw("Anonymous memory (MiB)", &course.whole, &memory, false, number),
    ]
    .concat()
}

/// What a line is called, and what of a second it shows.
type Way = (&'static str, fn(&Second) -> f64);

/// The seconds of all rounds behind each other, and where each load begins.
struct Course<'a> {
    seconds: Vec<(f64, &'a Second)>,
    whole: Vec<(f64, &'a Second)>,
    marks: Vec<(f64, String)>,
    end: f64,
}

impl Course<'_> {
    fn of(subject: &Subject) -> Course<'_> {
        let mut course = Course { seconds: Vec::new(), whole: Vec::new(), marks: Vec::new(), end: 0.0 };
        let mut load = "";
        for round in subject.rounds.iter().filter(|round| !round.timeline.is_empty()) {
            if round.load != load {
                load = &round.load;
                course.marks.push((course.end, round.load.clone()));
            }
            let first = round.timeline[0].at;
            let begin = course.end;
            let place = |second: &Second| begin + second.at.saturating_sub(first) as f64;
            let placed: Vec<_> = round.timeline.iter().map(|second| (place(second), second)).collect();
            course.whole.extend(round.whole_seconds().map(|second| (place(second), second)));
            course.end = placed.last().map_or(course.end, |(at, _)| at + 1.0).max(course.end + round.seconds);
            course.seconds.extend(placed);
        }
        course
    }

    fn draw(
        &self,
        title: &str,
        seconds: &[(f64, &Second)],
        ways: &[Way],
        logarithmic: bool,
        show: fn(f64) -> String,
    ) -> String {
        let line = |(name, of): &Way| Line {
            name: (*name).to_owned(),
            ours: false,
            points: seconds.iter().map(|(at, second)| (*at, of(second))).collect(),
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
