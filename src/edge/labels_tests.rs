//! Each label in all its cases (contract E27).

use std::net::Ipv4Addr;

use http::HeaderMap;
use http::header::USER_AGENT;

use super::super::lists::Places;
use super::super::networks::Networks;
use super::*;
use crate::files::Files;

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const CLOUD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

fn of(headers: &[(&'static str, &str)], address: IpAddr) -> Flags {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let bots = Places::default().bots(&mut Files::default()).unwrap();
    let lists = Lists { bots, datacenters: Networks::parse("192.0.2.0/24").unwrap(), number: 0 };
    Flags::of(&Said::read(&map), address, &lists, &mut Remembered::new(7))
}

fn flags(headers: &[(&'static str, &str)]) -> Vec<&'static str> {
    of(headers, HOME).names().collect()
}

fn with(headers: &[(&'static str, &str)]) -> Vec<&'static str> {
    flags(&[&[("user-agent", FIREFOX)], headers].concat())
}

const NONE: [&str; 0] = [];

#[test]
fn e27_a_bot_is_labelled_and_no_user_agent_is_never_a_bot() {
    assert_eq!(with(&[]), NONE);
    assert_eq!(flags(&[("user-agent", "curl/8.5.0")]), ["bot"]);
    assert_eq!(flags(&[("user-agent", "-")]), ["bot"]);
    // Of two the first, as in the event.
    assert_eq!(flags(&[("user-agent", FIREFOX), ("user-agent", "curl/8")]), NONE);
    assert_eq!(flags(&[("user-agent", ""), ("user-agent", FIREFOX)]), ["no_user_agent"]);
    for empty in [&[][..], &[("user-agent", "")], &[("user-agent", "  ")]] {
        assert_eq!(flags(empty), ["no_user_agent"]);
    }
}

#[test]
fn e27_a_prefetch_is_what_any_of_four_headers_says_without_case() {
    for name in ["sec-purpose", "purpose", "x-purpose", "x-moz"] {
        for value in [
            "prefetch",
            "prerender",
            "preview",
            "PREFETCH",
            "Preview",
            "prefetch;prerender",
            "x;prefetch",
            "\"prefetch\"",
        ] {
            assert_eq!(with(&[(name, value)]), ["prefetch"], "{name}: {value}");
        }
        for value in ["", "navigate", "pre-fetch", "fetch", "pre", "render"] {
            assert_eq!(with(&[(name, value)]), NONE, "{name}: {value}");
        }
        // Any of several lines.
        assert_eq!(with(&[(name, "navigate"), (name, "prefetch")]), ["prefetch"]);
    }
    assert_eq!(with(&[("x-mozilla", "prefetch")]), NONE);
}

#[test]
fn e27_a_navigation_is_a_document_and_navigates_or_does_not_say() {
    let (dest, mode) = ("sec-fetch-dest", "sec-fetch-mode");
    for navigation in [&[][..], &[(dest, "document")], &[(mode, "navigate")], &[(dest, "document"), (mode, "navigate")]]
    {
        assert_eq!(with(navigation), NONE, "{navigation:?}");
    }
    for other in [
        &[(dest, "image")][..],
        &[(dest, "empty")],
        &[(dest, "")],
        &[(dest, "iframe"), (mode, "navigate")],
        &[(dest, "embed"), (mode, "navigate")],
        &[(mode, "cors")],
        &[(mode, "no-cors")],
        &[(mode, "same-origin")],
        &[(mode, "websocket")],
        &[(dest, "document"), (mode, "no-cors")],
        &[(dest, "image"), (mode, "navigate")],
        &[(dest, "document"), (dest, "image")],
        &[(mode, "navigate"), (mode, "cors")],
    ] {
        assert_eq!(with(other), ["non_navigation"], "{other:?}");
    }
}

#[test]
fn e27_datacenter_labels_and_leaves_everything_else_as_it_is() {
    let cloud = of(&[("user-agent", FIREFOX)], CLOUD);
    assert_eq!(cloud.names().collect::<Vec<_>>(), ["datacenter"]);
    let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped());
    assert_eq!(of(&[("user-agent", FIREFOX)], mapped).names().collect::<Vec<_>>(), ["datacenter"]);
    assert!(cloud.billable());
    assert_eq!(cloud.bits(), 0);
}

/// Someone who asks not to be sold is written down as such, and counts like anybody else: what follows from it is for
/// whoever reads the events.
#[test]
fn v11_privacy_signals_are_recorded_and_change_nothing_else() {
    for (name, flag) in [("sec-gpc", "gpc"), ("dnt", "dnt")] {
        assert_eq!(with(&[(name, "1")]), [flag]);
        assert_eq!(with(&[(name, "0"), (name, "1")]), [flag], "one of several lines");
        for other in ["", "0", "true", "11", "?1", "null", "unspecified"] {
            assert_eq!(with(&[(name, other)]), NONE, "{name}: {other:?}");
        }
        assert!(crate::edge::keeps(name.as_bytes()), "the door lets {name} through");
    }
    let both = of(&[("user-agent", FIREFOX), ("dnt", "1"), ("sec-gpc", "1")], HOME);
    assert_eq!(both.names().collect::<Vec<_>>(), ["gpc", "dnt"]);
    assert!(both.billable());
    assert_eq!(both.bits(), 0);
}

#[test]
fn e27_three_labels_are_not_billable_and_stand_in_the_click_id() {
    let all = of(&[("user-agent", "curl/8"), ("purpose", "prefetch"), ("sec-fetch-dest", "image")], CLOUD);
    assert_eq!(all.names().collect::<Vec<_>>(), ["bot", "prefetch", "non_navigation", "datacenter"]);
    assert_eq!(all.bits(), LABEL_BOT | LABEL_PREFETCH | LABEL_NON_NAVIGATION);
    for (flags, billable) in [
        (Flags { bot: true, ..Flags::default() }, false),
        (Flags { prefetch: true, ..Flags::default() }, false),
        (Flags { non_navigation: true, ..Flags::default() }, false),
        (Flags { datacenter: true, ..Flags::default() }, true),
        (Flags { no_user_agent: true, ..Flags::default() }, true),
        (Flags { truncated: true, ..Flags::default() }, true),
        (Flags { deep_link_rejected: true, ..Flags::default() }, true),
        (Flags { gpc: true, ..Flags::default() }, true),
        (Flags { dnt: true, ..Flags::default() }, true),
        (Flags::default(), true),
    ] {
        assert_eq!(flags.billable(), billable, "{flags:?}");
    }
}

/// `AFFLUX_FIGURES=1 cargo test --release --lib edge::labels -- --nocapture`
#[test]
fn figures_of_labelling_one_click() {
    if std::env::var_os("AFFLUX_FIGURES").is_none() {
        return;
    }
    let bots = Places::default().bots(&mut Files::default()).unwrap();
    let text: String = (0..10_000u32).map(|number| format!("{}/25\n", Ipv4Addr::from(number << 9))).collect();
    let lists = Lists { bots, datacenters: Networks::parse(&text).unwrap(), number: 0 };
    let agents: Vec<&str> = include_str!("../../tests/fixtures/agents/browsers.txt").lines().collect();
    let requests: Vec<HeaderMap> = agents
        .iter()
        .map(|agent| {
            let headers = [("host", "go.example"), ("user-agent", agent), ("accept-language", "en"), ("referer", "x")];
            let fetch = [("sec-fetch-dest", "document"), ("sec-fetch-mode", "navigate")];
            headers.iter().chain(&fetch).map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        })
        .collect();
    // CPU time: whatever else the machine does is not in it.
    let cpu_ns = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    };
    let timed = |name: &str, work: &mut dyn FnMut(&HeaderMap) -> bool| {
        let mut rounds: Vec<u64> = (0..101)
            .map(|_| {
                let started = cpu_ns();
                let flagged = requests.iter().filter(|headers| work(std::hint::black_box(headers))).count();
                std::hint::black_box(flagged);
                (cpu_ns() - started) / requests.len() as u64
            })
            .collect();
        rounds.sort_unstable();
        println!("{name}: {} ns a click, of {} browsers", rounds[50], requests.len());
    };
    let mut remembered = Remembered::new(7);
    timed("all labels, agents seen before", &mut |headers| {
        !Flags::of(&Said::read(headers), HOME, &lists, &mut remembered).billable()
    });
    timed("the user agent alone, never seen", &mut |headers| lists.bots.matches(headers[USER_AGENT].as_bytes()));
    println!("{} bytes an agent", agents.iter().map(|agent| agent.len()).sum::<usize>() / agents.len());
}
