use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::catalog::{MerchantId, OfferId, PublisherId};
use crate::click::VisitorKey;
use crate::dedupe::{Billable, Dedupe};
use crate::event::Click;
use crate::redis::testing::{self, Server, link_to};
use crate::rollup::ClickKey;
use crate::time::TimeMs;

const WINDOW: i64 = 10_000;

/// With a cookie; `address` only matters without.
fn click(number: u32, at: i64, visitor: u64) -> Click<'static> {
    Click {
        of_spool: None,
        of_seq: None,
        click_id: Some(Cow::Owned(format!("click-{number}"))),
        clicked_at_ms: TimeMs(1_795_000_000_000 + at),
        offer_id: OfferId(1),
        publisher_id: Some(PublisherId(2)),
        merchant_id: MerchantId(3),
        link: None,
        visitor_id: None,
        visitor_key: VisitorKey(visitor),
        visitor_new: false,
        url: Some("https://shop.example/".into()),
        source: None,
        sub1: None,
        ip_key: Some("k".into()),
        user_agent: Some("browser".into()),
        flags: Vec::new(),
        billable: true,
        reject: None,
    }
}

fn new_visitor(number: u32, at: i64, visitor: u64, address: u8) -> Click<'static> {
    Click { visitor_new: true, ip_key: Some(address.to_string().into()), ..click(number, at, visitor) }
}

fn dedupe() -> SharedDedupe {
    SharedDedupe::new(link_to(&testing::settings()), WINDOW)
}

fn glances<'c>(clicks: &[Click<'c>]) -> Vec<Glance<'c>> {
    clicks.iter().cloned().map(Glance::from).collect()
}

fn judge(dedupe: &mut SharedDedupe, clicks: &[Click<'_>]) -> Vec<Option<u32>> {
    let number = |id: String| id.strip_prefix("click-").unwrap().parse().unwrap();
    dedupe.judge(&glances(clicks)).unwrap().into_iter().map(|id| id.map(number)).collect()
}

#[test]
fn e28_the_window_is_fixed_from_the_first_within_a_batch_and_across() {
    let clicks = [click(1, 0, 1), click(2, 9_999, 1), click(3, 10_000, 1), click(4, 19_999, 1), click(5, 20_000, 1)];
    let told = [None, Some(1), None, Some(3), None];
    let mut whole = dedupe();
    assert_eq!(judge(&mut whole, &clicks), told);
    // A replay of the last is none; what came before its window is no duplicate of it.
    assert_eq!(judge(&mut whole, &clicks[4..]), [None]);
    let settings = testing::settings();
    let mut edges = [(); 2].map(|()| SharedDedupe::new(link_to(&settings), WINDOW));
    for (number, (click, told)) in clicks.iter().zip(told).enumerate() {
        assert_eq!(judge(&mut edges[number % 2], std::slice::from_ref(click)), [told]);
        assert_eq!(judge(&mut edges[1], std::slice::from_ref(click)), [told], "again");
    }
}

#[test]
fn e28_another_visitor_offer_publisher_or_page_is_no_duplicate() {
    let others = [
        click(1, 0, 1),
        click(2, 0, 2),
        Click { offer_id: OfferId(9), ..click(3, 0, 1) },
        Click { publisher_id: Some(PublisherId(9)), ..click(4, 0, 1) },
        Click { url: Some("https://shop.example/b".into()), ..click(5, 0, 1) },
    ];
    assert_eq!(judge(&mut dedupe(), &others), [None; 5]);
}

#[test]
fn e29_only_billable_clicks_take_part() {
    let bot = |number| Click { billable: false, ..click(number, number.into(), 1) };
    let rejected = Click { click_id: None, billable: false, ..click(3, 3, 1) };
    assert_eq!(
        judge(&mut dedupe(), &[bot(1), click(2, 2, 1), rejected, bot(4), click(5, 5, 1)]),
        [None, None, None, None, Some(2)]
    );
    assert_eq!(judge(&mut dedupe(), &[]), []);
}

#[test]
fn e30_without_a_cookie_address_and_browser_tell() {
    let clicks = [
        new_visitor(1, 0, 1, 1),
        new_visitor(2, 100, 2, 1),
        click(3, 200, 1),
        click(4, 300, 2),
        new_visitor(5, 400, 3, 2),
    ];
    let told = [None, Some(1), Some(1), Some(1), None];
    assert_eq!(judge(&mut dedupe(), &clicks), told);
    let mut one_by_one = dedupe();
    for (click, told) in clicks.iter().zip(told) {
        assert_eq!(judge(&mut one_by_one, std::slice::from_ref(click)), [told]);
    }
}

#[test]
fn a_click_that_comes_late_is_no_duplicate_of_a_later_one() {
    let mut dedupe = dedupe();
    assert_eq!(judge(&mut dedupe, &[click(1, 5_000, 1)]), [None]);
    assert_eq!(judge(&mut dedupe, &[click(2, 0, 1), click(3, 6_000, 1)]), [None, Some(1)]);
}

#[test]
fn a_slow_redis_holds_nobody_for_longer_than_its_time() {
    let server = Server::start(&[]);
    let settings = server.settings(None).with_timeout(Duration::from_millis(20));
    let many: Vec<Click<'_>> = (0..4_096).map(|number| click(number, 1, number.into())).collect();
    let many = glances(&many);
    // A thread that loses its turn is late by no fault of Redis: of several tries one is in time.
    let took = |_| {
        let mut dedupe = SharedDedupe::new(link_to(&settings), WINDOW);
        let begun = Instant::now();
        // The first connection may take longer than 20 ms on a busy machine.
        while dedupe.judge(&glances(&[click(1, 0, 1)])).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
        server.signal(rustix::process::Signal::STOP);
        let begun = Instant::now();
        assert_eq!(dedupe.judge(&many), Err(Unavailable));
        let took = begun.elapsed();
        server.signal(rustix::process::Signal::CONT);
        took
    };
    assert!((0..10).map(took).any(|took| took < Duration::from_millis(500)));
}

#[test]
fn what_is_not_ours_in_redis_is_no_first_click() {
    let mut dedupe = dedupe();
    let others = [click(1, 0, 1), click(2, 0, 2), click(3, 0, 3), click(4, 0, 4)];
    let glances = glances(&others);
    let name = |click| Candidate::of(0, click, &mut Vec::new()).unwrap().lookup;
    let names: Vec<Name> = glances.iter().map(name).collect();
    let set = |name: &Name, value: &[u8]| {
        let mut set = ::redis::cmd("SET");
        set.arg(&name.key()[..]).arg(value);
        set
    };
    let long = [&[0; 8][..], &[b'x'; 300]].concat();
    dedupe.link.ask(&[set(&names[0], b"short"), set(&names[1], &long), set(&names[2], &[255; 20])]).unwrap();
    assert_eq!(judge(&mut dedupe, &others), [None; 4]);
    assert_eq!(judge(&mut dedupe, &[click(5, 1, 4)]), [Some(4)], "behind them");
}

#[test]
fn an_answer_that_was_cut_off_tells_what_is_whole() {
    let whole = [&[0, 3, 0, 2][..], b"ab", &[1, 0, 0, 0]].concat();
    assert_eq!(Stood(&whole).collect::<Vec<_>>(), [(3, &b"ab"[..]), (256, &b""[..])]);
    for cut in 0..whole.len() {
        assert!(Stood(&whole[..cut]).count() <= 1, "{cut}");
    }
}

/// Which clicks the rule of one process counts.
fn counted(clicks: &[Click<'_>]) -> Vec<bool> {
    let mut dedupe = Dedupe::new(WINDOW);
    let mut counts = vec![0; clicks.len()];
    for (number, click) in clicks.iter().enumerate() {
        let row = ClickKey {
            quarter: TimeMs(number as i64),
            publisher_id: PublisherId(1),
            merchant_id: MerchantId(1),
            offer_id: OfferId(1),
            link: "".into(),
            source: "".into(),
            sub1: "".into(),
        };
        let billable = Billable {
            clicked_at: click.clicked_at_ms,
            tie: number as u64,
            visitor: click.visitor_key,
            had_cookie: !click.visitor_new,
            ip_key: click.ip_key.as_deref().unwrap(),
            user_agent: click.user_agent.as_deref().unwrap(),
            offer_id: click.offer_id,
            publisher_id: click.publisher_id.unwrap(),
            page: click.url.as_deref().unwrap(),
        };
        for (row, change) in dedupe.take(&billable, Rc::new(row)) {
            counts[row.quarter.0 as usize] += change;
        }
    }
    counts.into_iter().map(|count| count == 1).collect()
}

#[test]
fn clicks_in_order_are_judged_as_in_one_process() {
    let mut dedupe = dedupe();
    // How long after the last, an address, whose cookie (none: a new visitor), and where batches end.
    let step = (0i64..6_000, 0u8..3, proptest::option::of(0usize..30), any::<bool>());
    let config = ProptestConfig { cases: 100, ..ProptestConfig::default() };
    let mut visitors = 0u64;
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let (dedupe, visitors) = (std::cell::RefCell::new(&mut dedupe), std::cell::RefCell::new(&mut visitors));
    let run = |steps: Vec<(i64, u8, Option<usize>, bool)>| {
        let mut at = 0;
        let mut clicks: Vec<Click<'_>> = Vec::new();
        let mut ends = Vec::new();
        // Nobody here was seen in a case before.
        let first = **visitors.borrow();
        for (after, address, cookie, ends_batch) in steps {
            at += after;
            let number = clicks.len() as u32;
            let known = cookie.and_then(|place| clicks.get(place)).map(|click| click.visitor_key.0);
            let address = format!("{first}/{address}");
            let next = match known {
                Some(visitor) => click(number, at, visitor),
                None => {
                    **visitors.borrow_mut() += 1;
                    new_visitor(number, at, **visitors.borrow(), 0)
                }
            };
            clicks.push(Click { ip_key: Some(address.into()), ..next });
            if ends_batch {
                ends.push(clicks.len());
            }
        }
        ends.push(clicks.len());
        let (mut judged, mut from) = (Vec::new(), 0);
        for end in ends {
            judged.extend(judge(*dedupe.borrow_mut(), &clicks[from..end]));
            from = end;
        }
        let shared: Vec<bool> = judged.iter().map(Option::is_none).collect();
        prop_assert_eq!(shared, counted(&clicks));
        Ok(())
    };
    runner.run(&proptest::collection::vec(step, 1..30), run).unwrap();
}

#[test]
fn what_is_first_is_remembered_for_ten_minutes_at_least() {
    let settings = testing::settings();
    for (window, at_least) in [(10_000, 600_000), (3_600_000, 3_600_000)] {
        let mut dedupe = SharedDedupe::new(link_to(&settings), window);
        let click = click(1, 0, window as u64);
        judge(&mut dedupe, std::slice::from_ref(&click));
        let mut ttl = ::redis::cmd("PTTL");
        ttl.arg(&Candidate::of(0, &Glance::from(click), &mut Vec::new()).unwrap().lookup.key()[..]);
        let answers = dedupe.link.ask(&[ttl]).unwrap();
        let [Value::Int(left)] = answers[..] else { panic!("no PTTL") };
        assert!((at_least - 60_000..=at_least).contains(&left), "{left}");
    }
}

/// `AFFLUX_FIGURES=1 cargo test --lib -- --nocapture what_a_batch_costs` prints it.
#[test]
fn what_a_batch_costs_in_time() {
    let mut dedupe = dedupe();
    let (mut took, mut number) = (Vec::new(), 0);
    for turn in 0..20 {
        let visitor = |n: u32| u64::from(n) + turn * 4_000;
        let clicks: Vec<Click<'_>> = (0..4_096)
            .map(|n| match n % 2 {
                0 => click(number + n, 0, visitor(n)),
                _ => new_visitor(number + n, 0, visitor(n), (n % 250) as u8),
            })
            .collect();
        number += 4_096;
        let clicks = glances(&clicks);
        let begun = Instant::now();
        dedupe.judge(&clicks).unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    if std::env::var_os("AFFLUX_FIGURES").is_some() {
        println!("4,096 clicks: median {:?}, longest {:?}", took[10], took[19]);
    }
    assert!(took[10] < Duration::from_secs(1));
}
