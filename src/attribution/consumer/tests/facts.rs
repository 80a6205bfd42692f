//! One fact after the other, in the orders in which they come in.

use serde_json::json;

use super::world::{T0, World, click, snapshot};
use crate::catalog::PublisherId;
use crate::catalog::rulebook::{PublisherRules, PublisherStatus};
use crate::spool::Topic;
use crate::time::{DAY_MS, HOUR_MS};

const CLICKS: u64 = 1;
const ORDERS: u64 = u64::MAX;

#[test]
fn a_click_and_an_order_become_money() {
    let mut world = World::new();
    let sketch = click(T0, 1, 1);
    world.append(CLICKS, Topic::Clicks, &world.click(&sketch));
    let report = world.report("A-1", T0 + HOUR_MS, json!({"click_id": world.click_id(&sketch).to_string()}));
    world.append(ORDERS, Topic::Conversions, &report);
    assert_eq!(world.round(), 2);
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 120)]));
    assert_eq!(world.books(), ["A-1 merchant:1:receivable 120 IRR", "A-1 publisher:1:pending -120 IRR"]);
    let totals = world.look(|view| view.click_totals());
    assert_eq!((totals.clicks, totals.billable, totals.rejected), (1, 1, 0));
    let id = world.conversion_id(1, "A-1", "sale");
    let shares = world.look(|view| view.shares(view.conversion(&id)?.unwrap().id));
    assert_eq!(shares[0].link.as_deref(), Some("phone"));
    assert_eq!((shares[0].sub1.as_deref(), shares[0].amount), (Some("a"), 1000));
    assert_eq!(world.metrics.lag_ms.value(), 0);
}

#[test]
fn m2_a_catalog_loaded_while_spools_are_listed_is_not_older_than_their_clicks() {
    let mut world = World::new();
    let sketch = click(T0, 1, 9);
    let report = world.report("A-1", T0 + HOUR_MS, json!({"click_id": world.click_id(&sketch).to_string()}));
    world.append(CLICKS, Topic::Clicks, &world.click(&sketch));
    world.append(ORDERS, Topic::Conversions, &report);
    // Publisher 9 joins, their first click and order are written, and all of that while the consumer looks.
    let catalog = std::sync::Arc::clone(&world.rules.catalog);
    world.source.meanwhile = Some(Box::new(move || {
        let publisher = PublisherRules { status: PublisherStatus::Approved, contract_signed: true };
        let joined = snapshot(|book| {
            book.publishers.insert(PublisherId(9), publisher);
        });
        catalog.store(std::sync::Arc::new(joined));
    }));
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(9, 120)]));
}

#[test]
fn m1_the_merchant_may_name_the_visitor_alone() {
    let mut world = World::new();
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0, 1, 1)));
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0 + 1, 1, 2)));
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0 + 2, 2, 3)));
    let visitor = json!({"visitor_id": world.visitor(1).as_str()});
    world.append(ORDERS, Topic::Conversions, &world.report("A-1", T0 + HOUR_MS, visitor));
    world.append(ORDERS, Topic::Conversions, &world.report("A-2", T0 + HOUR_MS, json!({})));
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(2, 120)]));
    assert_eq!(world.verdict("A-2"), ("no_touch".into(), vec![]));
}

#[test]
fn m41_a_refund_waits_for_its_order() {
    let mut world = World::new();
    let sketch = click(T0, 1, 1);
    world.append(ORDERS, Topic::Conversions, &world.refund("R-1", "A-1", T0 + 5, json!({"amount": 500})));
    world.round();
    assert_eq!(world.metrics.refunds_waiting.value(), 1);
    world.round();
    assert_eq!(world.look(|view| view.refunds_waiting()), 1);
    let report = world.report("A-1", T0 + HOUR_MS, json!({"click_id": world.click_id(&sketch).to_string()}));
    world.append(ORDERS, Topic::Conversions, &report);
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 60)]));
    assert_eq!((world.metrics.refunds_waiting.value(), world.look(|view| view.refunds_waiting())), (0, 0));
}

#[test]
fn m41_a_report_tried_in_vain_does_not_change_how_many_refunds_wait() {
    let mut world = World::new();
    world.append(ORDERS, Topic::Conversions, &world.report("A-1", T0, json!({})));
    // Another ID for the same order: it cannot be stored, though a refund waits for it.
    let with = json!({"conversion_id": "another"});
    world.append(ORDERS, Topic::Conversions, &world.refund("R-1", "A-1", T0, with));
    let mut twin = world.report("A-1", T0, json!({}));
    twin["conversion_id"] = json!("another");
    world.append(ORDERS, Topic::Conversions, &twin);
    world.round();
    assert_eq!(world.metrics.dead_letters.value(), 1);
    assert_eq!((world.metrics.refunds_waiting.value(), world.look(|view| view.refunds_waiting())), (1, 1));
}

#[test]
fn m38_a_refund_after_the_order_posts_the_difference() {
    let mut world = World::new();
    let sketch = click(T0, 1, 1);
    let report = world.report("A-1", T0 + HOUR_MS, json!({"click_id": world.click_id(&sketch).to_string()}));
    world.append(ORDERS, Topic::Conversions, &report);
    world.round();
    world.append(ORDERS, Topic::Conversions, &world.refund("R-1", "A-1", T0 + 2 * HOUR_MS, json!({"amount": 333})));
    world.append(ORDERS, Topic::Conversions, &world.refund("R-1", "A-1", T0 + 3 * HOUR_MS, json!({"amount": 333})));
    let other = json!({"amount": 1, "content_hash": "00000000000000cc"});
    world.append(ORDERS, Topic::Conversions, &world.refund("R-1", "A-1", T0 + 3 * HOUR_MS, other));
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 80)]));
    let id = world.conversion_id(1, "A-1", "sale");
    let entries = world.look(|view| view.entries(view.conversion(&id)?.unwrap().id));
    let amounts: Vec<(u32, i64)> = entries.iter().map(|entry| (entry.revision, entry.amount)).collect();
    assert_eq!(amounts, [(1, 120), (1, -120), (2, -40), (2, 40)]);
    assert_eq!(world.look(|view| view.conflict_count(&id)), 1);
    // As of the time before the refund was received.
    let mut lines = 0;
    world.look(|view| {
        view.books(crate::time::TimeMs(T0 + HOUR_MS), |line| {
            lines += 1;
            assert_eq!(line.amount.abs(), 120);
            Ok::<(), crate::store::StoreError>(())
        })
    });
    assert_eq!(lines, 2);
}

#[test]
fn m48_the_first_committed_report_wins() {
    let mut world = World::new();
    let (a, b) = (click(T0, 1, 1), click(T0 + 1, 1, 2));
    let report = |sketch, more: serde_json::Value| {
        let mut with = json!({"click_id": world.click_id(sketch).to_string()});
        more.as_object().unwrap().iter().for_each(|(name, value)| with[name] = value.clone());
        world.report("A-1", T0 + HOUR_MS, with)
    };
    let first = report(&a, json!({}));
    let again = report(&a, json!({"received_at_ms": T0 + 2 * HOUR_MS}));
    let other = report(&b, json!({"amount": 9, "content_hash": "00000000000000cc", "merchant_status": "rejected"}));
    for event in [&first, &again, &other, &first] {
        world.append(ORDERS, Topic::Conversions, event);
    }
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 120)]));
    assert_eq!(world.decision("A-1")["state"], "pending");
    let id = world.conversion_id(1, "A-1", "sale");
    assert_eq!(world.look(|view| view.conflict_count(&id)), 1);
    assert_eq!(world.look(|view| view.conversion_count()), 1);
    assert_eq!(world.look(|view| Ok(view.conversion(&id)?.unwrap().seq)), 0);
}

#[test]
fn m44_a_status_without_a_time_counts_for_a_report_with_one() {
    for old in [false, true] {
        let mut world = World::new();
        let id = world.click_id(&click(T0, 1, 1)).to_string();
        let report = |occurred: i64, received: i64, filled_in: bool, hash: &str, status: Option<&str>| {
            let with = json!({"click_id": id, "received_at_ms": received, "content_hash": hash,
                "merchant_status": status, "occurred_at_filled_in": (!old).then_some(filled_in)});
            world.report("A-1", occurred, with)
        };
        // Older versions hashed the time too.
        let hashes = if old { ["00000000000000aa", "00000000000000bb"] } else { ["00000000000000aa"; 2] };
        let told = report(T0, T0 + 5, false, hashes[0], None);
        let rejected = report(T0 + 9, T0 + 9, true, hashes[1], Some("rejected"));
        let other_time = report(T0 + 1, T0 + 12, false, "00000000000000aa", Some("approved"));
        for event in [&told, &rejected, &other_time] {
            world.append(ORDERS, Topic::Conversions, event);
        }
        world.round();
        assert_eq!(world.decision("A-1")["state"], "rejected");
        let conversion_id = world.conversion_id(1, "A-1", "sale");
        // The one that says another time differs, the one that says none does not.
        assert_eq!(world.look(|view| view.conflict_count(&conversion_id)), 1);
    }
}

#[test]
fn m44_the_latest_received_status_counts() {
    let mut world = World::new();
    let id = world.click_id(&click(T0, 1, 1)).to_string();
    let status = |at: i64, status: &str| {
        world.report("A-1", T0 + HOUR_MS, json!({"click_id": id, "received_at_ms": T0 + at, "merchant_status": status}))
    };
    let (rejected, approved, early) =
        (status(2 * HOUR_MS, "rejected"), status(3 * HOUR_MS, "approved"), status(HOUR_MS, "rejected"));
    world.append(ORDERS, Topic::Conversions, &rejected);
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 0)]));
    assert_eq!(world.decision("A-1")["state"], "rejected");
    assert!(world.books().is_empty());
    world.append(ORDERS, Topic::Conversions, &approved);
    world.round();
    // Received earlier than what is known, by another process: it changes nothing.
    world.append(ORDERS - 1, Topic::Conversions, &early);
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 120)]));
    assert_eq!(world.decision("A-1")["state"], "pending");
}

/// Within a spool the order of writing counts, across spools the time; however they are read.
#[test]
fn m44_a_status_written_later_counts_though_it_was_received_a_little_earlier() {
    let read = |rounds: &[&[u64]]| {
        let mut world = World::new();
        let id = world.click_id(&click(T0, 1, 1)).to_string();
        let status = |at: i64, status: &str| {
            let received = T0 + HOUR_MS + at;
            world.report("A-1", T0, json!({"click_id": id, "received_at_ms": received, "merchant_status": status}))
        };
        let events = [(7, status(0, "pending")), (7, status(100, "approved")), (7, status(90, "rejected"))];
        let other = [(8, status(95, "approved"))];
        for (spool, event) in events.iter().chain(&other) {
            world.append(*spool, Topic::Conversions, event);
        }
        world.source.spools.values_mut().for_each(|spool| spool.until = 0);
        for round in rounds {
            for spool in *round {
                world.source.spools.get_mut(spool).unwrap().until += 1;
            }
            world.round();
        }
        world.decision("A-1")["state"].clone()
    };
    for rounds in
        [&[&[7, 8][..], &[7], &[7]][..], &[&[8], &[7], &[7], &[7]], &[&[7], &[7], &[7], &[8]], &[&[7, 7, 7, 8]]]
    {
        assert_eq!(read(rounds), "rejected", "{rounds:?}");
    }
}

#[test]
fn m50_a_late_click_has_it_decided_again() {
    let mut world = World::new();
    let (early, late) = (click(T0, 1, 1), click(T0 + 1_000_000, 1, 2));
    world.append(CLICKS, Topic::Clicks, &world.click(&early));
    let visitor = json!({"visitor_id": world.visitor(1).as_str()});
    world.append(ORDERS, Topic::Conversions, &world.report("A-1", T0 + HOUR_MS, visitor.clone()));
    world.append(ORDERS, Topic::Conversions, &world.report("A-2", T0 + 20 * DAY_MS, visitor));
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 120)]));
    assert_eq!(world.verdict("A-2").0, "window_expired");
    // From another spool, and of another visitor too.
    world.append(2, Topic::Clicks, &world.click(&late));
    world.append(2, Topic::Clicks, &world.click(&click(T0 + 1_000_001, 2, 3)));
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(2, 120)]));
    assert_eq!(world.metrics.late_clicks.value(), 2);
    assert_eq!(world.books(), ["A-1 merchant:1:receivable 120 IRR", "A-1 publisher:2:pending -120 IRR"]);
    let id = world.conversion_id(1, "A-1", "sale");
    let revisions = world.look(|view| view.decisions(view.conversion(&id)?.unwrap().id));
    assert_eq!(revisions.iter().map(|row| row.revision).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn m50_a_click_after_the_order_does_not_change_it() {
    let mut world = World::new();
    let visitor = json!({"visitor_id": world.visitor(1).as_str()});
    world.append(ORDERS, Topic::Conversions, &world.report("A-1", T0, visitor));
    world.round();
    // Beyond the skew: no fact of the order. Within: M11 takes it.
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0 + 130_000, 1, 1)));
    world.round();
    assert_eq!(world.verdict("A-1"), ("no_touch".into(), vec![]));
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0 + 60_000, 1, 2)));
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(2, 120)]));
}

#[test]
fn m6_a_late_report_has_its_own_click_only() {
    let mut world = World::new();
    world.append(CLICKS, Topic::Clicks, &world.click(&click(T0, 1, 1)));
    let received = T0 + HOUR_MS + 14 * DAY_MS;
    let visitor = |received| json!({"visitor_id": world.visitor(1).as_str(), "received_at_ms": received});
    let (in_time, late) = (
        world.report("A-1", T0 + HOUR_MS, visitor(received)),
        world.report("A-2", T0 + HOUR_MS, visitor(received + 1)),
    );
    world.append(ORDERS, Topic::Conversions, &in_time);
    world.append(ORDERS, Topic::Conversions, &late);
    world.round();
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 120)]));
    assert_eq!(world.verdict("A-2").0, "no_touch");
}

#[test]
fn another_merchants_click_brings_nothing_here() {
    let mut world = World::new();
    let foreign = super::world::ClickSketch { offer: 22, ..click(T0, 1, 1) };
    world.append(CLICKS, Topic::Clicks, &world.click(&foreign));
    let report = world.report("A-1", T0 + HOUR_MS, json!({"click_id": world.click_id(&foreign).to_string()}));
    world.append(ORDERS, Topic::Conversions, &report);
    world.round();
    assert_eq!(world.verdict("A-1"), ("wrong_merchant".into(), vec![]));
    assert!(world.books().is_empty());
}

#[test]
fn e30_of_one_millisecond_the_click_without_a_cookie_comes_first() {
    for randoms in [(1, 2), (2, 1)] {
        let mut world = World::new();
        let sketch = |random| super::world::ClickSketch { random, ..click(T0, 1, 1) };
        let mut without = world.click(&sketch(randoms.0));
        without["visitor_new"] = json!(true);
        without["ip_key"] = json!("00000000000000aa");
        let mut with = world.click(&sketch(randoms.1));
        with["ip_key"] = json!("00000000000000aa");
        world.append(CLICKS, Topic::Clicks, &without);
        world.append(CLICKS, Topic::Clicks, &with);
        world.round();
        let totals = world.look(|view| view.click_totals());
        assert_eq!((totals.clicks, totals.billable), (2, 1), "{randoms:?}");
    }
}

/// Who may write to the clicks' topic may count clicks, and cannot make one that earns: that takes a signing key.
#[test]
fn e45_a_forged_click_in_the_log_is_counted_and_earns_nothing() {
    let mut world = World::new();
    let mut event = world.click(&click(T0, 1, 1));
    let id = event["click_id"].as_str().unwrap().to_owned();
    let last = if id.ends_with('A') { "B" } else { "A" };
    event["click_id"] = json!(format!("{}{last}", &id[..47]));
    world.append(1, Topic::Clicks, &event);
    let visitor = json!({"visitor_id": world.visitor(1).as_str()});
    world.append(2, Topic::Conversions, &world.report("A-1", T0 + HOUR_MS, visitor));
    world.round();
    assert_eq!((world.metrics.clicks.value(), world.metrics.unverified_clicks.value()), (1, 1));
    assert_eq!(world.verdict("A-1"), ("no_touch".to_owned(), Vec::new()));
}
