use crate::outcome::{Books, Money, Outcome};
use crate::report::page;
use crate::samples;

fn outcome() -> Outcome {
    let mut bare = samples::subject(crate::targets::BARE, "keep-alive", &[7.0, 7.5, 8.0]);
    bare.recorded_first = Some("nothing is recorded".into());
    let mut ours = samples::subject("Afflux, process", "keep-alive", &[6.0, 6.5, 7.0]);
    ours.missing_after_kill = Some((0, 20_000));
    ours.rounds.push(samples::round("new connection", 20.0));
    for round in &mut ours.rounds {
        round.timeline = (10..14).map(|at| samples::second(at, 2_000)).collect();
        let money = vec![Money { currency: "IRR".into(), expected: 1_000, reported: 1_000 }];
        round.books = Some(Books { answered: 3_000, recorded: 3_000, reported: 3_000, money, problems: Vec::new() });
    }
    samples::outcome(vec![bare, ours])
}

/// Names of elements as they open and close; panics where they do not nest.
fn assert_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = html.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    for piece in body.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap_or_else(|| panic!("no end: {piece}"));
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes: {tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{piece}");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn an_outcome_becomes_one_well_formed_page_with_pictures() {
    let html = page(&[outcome(), outcome()]);
    assert_well_formed(&html);
    for said in [
        "CPU per click, keep-alive (µs)",
        "answered, new connection (/s)",
        "Latency by percentile, keep-alive",
        "Latency over time",
        "Cores in use by the server",
        "Anonymous memory of the whole server (MiB)",
        "0.86 .. 0.87",
        "0 of 20,000",
        "IRR 1,000 of 1,000",
        "a processor with 2 cores, 8,192 MiB of memory",
        "commit 0123456",
        "<code>afflux-loadtest bench</code>",
    ] {
        assert!(html.contains(said), "{said} is missing");
    }
    // Of each outcome: CPU, rate and latency of two loads, memory; four of the time.
    assert_eq!(html.matches("<figure>").count(), 2 * (3 * 2 + 1 + 4));
    assert!(!html.contains("NaN") && !html.contains("inf"), "a place that is nowhere");
}

#[test]
fn of_one_server_the_loads_stand_beside_each_other() {
    let mut outcome = outcome();
    outcome.subjects.remove(0);
    let html = page(&[outcome]);
    assert_well_formed(&html);
    assert!(html.contains("CPU per click, Afflux, process (µs)"));
    assert!(html.contains("<title>new connection: 20 µs"));
    assert_eq!(html.matches("<figure>").count(), 3 + 1 + 4);
}

#[test]
fn the_page_loads_nothing() {
    let html = page(&[outcome()]);
    for word in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn what_an_outcome_says_is_no_markup() {
    let mut outcome = outcome();
    let evil = "<script>alert(\"1\")</script>&'";
    outcome.title = evil.into();
    outcome.command = evil.into();
    outcome.machine.processor = evil.into();
    outcome.subjects[0].name = evil.into();
    outcome.subjects[1].recorded_first = Some(evil.into());
    outcome.subjects[1].rounds.iter_mut().for_each(|round| round.load = evil.into());
    let html = page(&[outcome]);
    assert_well_formed(&html);
    assert!(!html.contains("<script"));
    assert!(html.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"));
}

#[test]
fn what_makes_figures_doubtful_stands_before_them() {
    let mut outcome = outcome();
    let round = &mut outcome.subjects[1].rounds[0];
    (round.planned_rate, round.generator_busy, round.sent_late, round.failed) = (Some(1_000.0), 0.95, 7, 2);
    round.books.as_mut().unwrap().problems.push("3 answered clicks are not recorded".into());
    outcome.subjects[1].missing_after_kill = Some((2, 20_000));
    let html = page(&[outcome]);
    let first_picture = html.find("<figure>").unwrap();
    for said in
        ["3 answered clicks are not recorded", "2 failed", "95 % busy, 7 sent late", "2 answered clicks are lost"]
    {
        assert!(html.find(said).is_some_and(|place| place < first_picture), "{said}");
    }
}

#[test]
fn a_run_of_nothing_is_a_page_too() {
    assert_well_formed(&page(&[samples::outcome(Vec::new())]));
    assert_well_formed(&page(&[samples::outcome(vec![samples::subject("Afflux, disk", "keep-alive", &[])])]));
}
