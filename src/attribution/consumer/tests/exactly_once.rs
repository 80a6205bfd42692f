//! Every event takes effect once, whatever is repeated, delayed, lost or restarted.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{ClickSketch, SETTINGS, Spools, T0, World, click};
use crate::attribution::consumer::Consumer;
use crate::spool::{SpoolId, Topic};
use crate::store::{Store, StoreError};
use crate::time::{DAY_MS, HOUR_MS, TimeMs};

/// What stands in the spools of a scenario, by spool.
pub type Script = Vec<(u64, Topic, Value)>;

/// What may not depend on how it came in.
#[derive(Debug, PartialEq)]
pub struct Books {
    pub books: Vec<String>,
    pub decisions: Vec<(String, String, String)>,
    pub clicks: (i64, i64),
    pub waiting: u64,
}

pub fn books(world: &World) -> Books {
    let mut decisions = Vec::new();
    world.look(|view| {
        for row in view.conversions_after(crate::store::RowId(0), 1_000)? {
            let decision = view.latest_decision(row.id)?.unwrap();
            decisions.push((row.report.order_id, row.report.kind, decision.text));
        }
        Ok(())
    });
    decisions.sort();
    let (clicks, waiting) = (world.look(|view| view.click_totals()), world.look(|view| view.refunds_waiting()));
    Books { books: world.books(), decisions, clicks: (clicks.clicks, clicks.rejected), waiting }
}

pub fn feed(world: &mut World, script: &Script) {
    script.iter().for_each(|(spool, topic, event)| world.append(*spool, *topic, event));
}

/// Clicks of three visitors in three spools, orders in two, refunds of some of them and of none.
pub fn scripts() -> impl Strategy<Value = Script> {
    let clicks = prop::collection::vec((0i64..40, 1u8..4, 1u32..5, 12u32..14, 1u64..4, any::<bool>()), 0..25);
    let orders = prop::collection::vec((0i64..60, 1u8..4, 0u8..4, 100u64..102, 1i64..5), 0..10);
    let refunds = prop::collection::vec((0i64..80, 0usize..12, 100u64..102, 1i64..700), 0..8);
    (clicks, orders, refunds).prop_map(|(clicks, orders, refunds)| {
        let world = World::new();
        let mut script = Script::new();
        let mut sketches = Vec::new();
        for (number, (at, visitor, publisher, offer, spool, rejected)) in clicks.into_iter().enumerate() {
            let base = click(T0 + at * HOUR_MS / 4, visitor, publisher);
            let sketch = ClickSketch { offer, random: number as u32, ..base };
            let mut event = world.click(&sketch);
            if rejected && number % 5 == 0 {
                let fields = event.as_object_mut().unwrap();
                fields.remove("click_id");
                fields.insert("reject".into(), json!("offer_paused"));
                fields["billable"] = json!(false);
            } else {
                sketches.push(sketch);
            }
            script.push((spool, Topic::Clicks, event));
        }
        for (number, (at, visitor, kind, spool, status)) in orders.into_iter().enumerate() {
            let at = T0 + at * HOUR_MS / 4;
            let mut with = json!({"visitor_id": world.visitor(visitor).as_str(), "amount": 1_000 + number});
            if kind == 1 {
                let own = sketches.get(number).map(|sketch| world.click_id(sketch).to_string());
                with["click_id"] = json!(own.unwrap_or_else(|| "nonsense".into()));
            }
            if kind == 2 {
                with["received_at_ms"] = json!(at + SETTINGS.max_report_delay_days as i64 * DAY_MS);
            }
            let report = world.report(&format!("A-{number}"), at, with);
            script.push((spool, Topic::Conversions, report.clone()));
            if kind == 3 {
                // The same again with statuses, in both spools.
                for (later, spool) in [(1, 100), (status, 101)] {
                    let mut again = report.clone();
                    again["received_at_ms"] = json!(at + later * HOUR_MS);
                    again["merchant_status"] = json!(["pending", "approved", "rejected"][(later % 3) as usize]);
                    script.push((spool, Topic::Conversions, again));
                }
            }
        }
        for (number, (at, order, spool, amount)) in refunds.into_iter().enumerate() {
            let with = json!({"amount": amount});
            let refund = world.refund(&format!("R-{number}"), &format!("A-{order}"), T0 + at * HOUR_MS / 4, with);
            script.push((spool, Topic::Conversions, refund));
        }
        script
    })
}

/// Shows a little more of some spools before each step.
fn reveal(source: &mut Spools, step: u64) {
    for (id, spool) in &mut source.spools {
        let more = (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ id.wrapping_mul(0xbf58_476d_1ce4_e5b9)) >> 32;
        spool.until = (spool.until + more % 4).min(spool.records.len() as u64);
    }
}

fn hide_all(world: &mut World) {
    world.source.spools.values_mut().for_each(|spool| spool.until = 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Restarts between any two steps, with every record delivered again and again, in any order of the spools.
    #[test]
    fn the_books_do_not_depend_on_restarts_repeats_or_order(script in scripts(), seed in any::<u32>(), repeats in 0u64..5) {
        let mut straight = World::new();
        feed(&mut straight, &script);
        straight.round();
        let mut crooked = World::new();
        feed(&mut crooked, &script);
        hide_all(&mut crooked);
        crooked.source.repeats = repeats;
        for step in 0..40 {
            reveal(&mut crooked.source, u64::from(seed) + step);
            crooked.round();
        }
        crooked.source.spools.values_mut().for_each(|spool| spool.until = spool.records.len() as u64);
        crooked.round();
        prop_assert_eq!(books(&crooked), books(&straight));
        prop_assert_eq!(crooked.round(), 0);
    }

    /// Without a restart the count of billable clicks is the same too, for clicks that are not later than is remembered.
    #[test]
    fn billable_clicks_do_not_depend_on_the_rounds(
        clicks in prop::collection::vec((0i64..60, 1u8..4, 1u32..3, 1u64..4), 0..40),
        seed in any::<u32>(),
    ) {
        let feed = |world: &mut World| {
            for (number, (at, visitor, publisher, spool)) in clicks.iter().enumerate() {
                let sketch =
                    ClickSketch { random: number as u32, ..click(T0 + at * 100, *visitor, *publisher) };
                world.append(*spool, Topic::Clicks, &world.click(&sketch));
            }
        };
        let (mut straight, mut slow) = (World::new(), World::new());
        feed(&mut straight);
        feed(&mut slow);
        straight.round();
        hide_all(&mut slow);
        let store = Store::open(&slow.place()).unwrap();
        let mut consumer = Consumer::new(&mut slow.source, store, &slow.rules, &slow.metrics).unwrap();
        for step in 0..40 {
            consumer.source_mut(|source| match step {
                39 => source.spools.values_mut().for_each(|spool| spool.until = spool.records.len() as u64),
                _ => reveal(source, u64::from(seed) + step),
            });
            consumer.round(&|| false).unwrap();
        }
        drop(consumer);
        let totals = |world: &World| world.look(|view| view.click_totals());
        prop_assert_eq!(totals(&slow), totals(&straight));
    }
}

fn sale(world: &mut World, order: &str) {
    let sketch = click(T0, 1, 1);
    let id = world.click_id(&sketch).to_string();
    world.append(1, Topic::Clicks, &world.click(&sketch));
    let report = world.report(order, T0 + HOUR_MS, json!({"click_id": id}));
    world.append(100, Topic::Conversions, &report);
}

#[test]
fn a_second_consumer_finds_its_memory_stale_and_applies_nothing_twice() {
    let mut world = World::new();
    sale(&mut world, "A-1");
    let place = world.place();
    let mut other_source = World::copy_of(&world.source);
    let mut stale =
        Consumer::new(&mut other_source, Store::open(&place).unwrap(), &world.rules, &world.metrics).unwrap();
    let mut quick =
        Consumer::new(&mut world.source, Store::open(&place).unwrap(), &world.rules, &world.metrics).unwrap();
    assert_eq!(quick.round(&|| false).unwrap(), 2);
    let error = stale.round(&|| false).unwrap_err();
    assert!(!error.is_about_the_record(), "{error}");
    drop((stale, quick));
    assert_eq!(world.round(), 0);
    assert_eq!(world.books().len(), 2);
    assert_eq!(world.look(|view| view.click_totals()).clicks, 1);
}

#[test]
fn a_full_disk_costs_nothing_but_time() {
    let mut world = World::new();
    for number in 0..200 {
        sale(&mut world, &format!("A-{number}"));
    }
    let store = Store::open(&world.place()).unwrap();
    store.limit_pages(60);
    let full = Consumer::new(&mut world.source, store, &world.rules, &world.metrics).unwrap().round(&|| false);
    assert!(matches!(full, Err(StoreError::Sqlite(_))), "{full:?}");
    assert!(!full.unwrap_err().is_about_the_record());
    world.round();
    assert_eq!(world.look(|view| view.click_totals()).clicks, 200);
    assert_eq!(world.look(|view| view.conversion_count()), 200);
    assert_eq!(world.books().len(), 400);
}

#[test]
fn a_gap_stops_its_spool_alone_until_it_is_healed() {
    let mut world = World::new();
    for at in 0..4 {
        world.append(1, Topic::Clicks, &world.click(&click(T0 + at, 1, 1)));
        world.append(2, Topic::Clicks, &world.click(&click(T0 + at, 2, 1)));
    }
    world.source.spools.get_mut(&1).unwrap().missing = vec![1];
    assert_eq!(world.round(), 5);
    let mark =
        |world: &World| world.look(|view| view.marks()).into_iter().find(|mark| mark.spool == SpoolId(1)).unwrap();
    assert_eq!((mark(&world).next, mark(&world).gap), (1, Some(2)));
    assert_eq!(world.metrics.gaps.value(), 1);
    assert!(world.metrics.lag_ms.value() > 0);
    assert_eq!(world.round(), 0);
    world.source.spools.get_mut(&1).unwrap().missing.clear();
    assert_eq!(world.round(), 3);
    assert_eq!((mark(&world).next, mark(&world).gap), (4, None));
    assert_eq!((world.metrics.gaps.value(), world.metrics.lag_ms.value()), (0, 0));
}

/// By command, beside the consumer that runs: it goes on by itself, and drops what turns up later.
#[test]
fn a_gap_that_is_passed_stops_its_spool_no_longer() {
    let mut world = World::new();
    for at in 0..4 {
        world.append(1, Topic::Clicks, &world.click(&click(T0 + at, 1, 1)));
    }
    world.source.spools.get_mut(&1).unwrap().missing = vec![1];
    let (store, place) = (Store::open(&world.place()).unwrap(), world.place());
    let mut consumer = Consumer::new(&mut world.source, store, &world.rules, &world.metrics).unwrap();
    assert_eq!((consumer.round(&|| false).unwrap(), consumer.round(&|| false).unwrap()), (1, 0));
    let mut other = Store::open(&place).unwrap();
    let gap = other.view().marks().unwrap()[0];
    let batch = other.begin().unwrap();
    batch.pass(&gap, 1, "nobody has it", TimeMs(T0)).unwrap();
    batch.commit().unwrap();
    let begun = std::time::Instant::now();
    let mut applied = 0;
    while applied < 2 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60));
        applied += consumer.round(&|| false).unwrap();
    }
    consumer.source_mut(|source| source.spools.get_mut(&1).unwrap().missing.clear());
    assert_eq!(consumer.round(&|| false).unwrap(), 0);
    assert_eq!((other.view().marks().unwrap()[0].next, other.view().click_totals().unwrap().clicks), (4, 3));
}

#[test]
fn what_the_disk_lost_is_named_and_passed() {
    let mut world = World::new();
    for at in 0..4 {
        world.append(1, Topic::Clicks, &world.click(&click(T0 + at, 1, 1)));
    }
    world.source.spools.get_mut(&1).unwrap().records[1] = None;
    world.source.spools.get_mut(&1).unwrap().records[2] = None;
    world.source.spools.get_mut(&1).unwrap().sealed = true;
    assert_eq!(world.round(), 4);
    let lost: u64 = world.look(|view| view.quarantined()).iter().map(|range| range.last - range.first + 1).sum();
    assert_eq!(lost, 2);
    assert_eq!(world.look(|view| view.click_totals()).clicks, 2);
    assert_eq!(world.look(|view| view.marks())[0].sealed, Some(4));
    assert_eq!(world.source.applied[&1], 4);
}

#[test]
fn poison_goes_to_the_dead_letters_and_stops_nobody() {
    let mut world = World::new();
    sale(&mut world, "A-1");
    let spool = world.source.spools.get_mut(&100).unwrap();
    spool.records.insert(0, Some(b"no JSON".to_vec()));
    spool.until += 1;
    // A click where conversions are, an event from the future, and an order under another ID than its own.
    world.append(100, Topic::Conversions, &world.click(&click(T0, 1, 1)));
    world.append(100, Topic::Conversions, &json!({"event": "novelty", "schema": 1}));
    let mut twin = world.report("A-1", T0, json!({}));
    twin["conversion_id"] = json!("another");
    world.append(100, Topic::Conversions, &twin);
    sale(&mut world, "A-2");
    assert_eq!(world.round(), 8);
    let letter = |seq| world.look(|view| view.dead_letter(SpoolId(100), seq));
    assert_eq!(letter(0).unwrap().record, b"no JSON");
    assert_eq!(letter(2).unwrap().why, "an event of another topic");
    assert_eq!(letter(3), None);
    assert!(letter(4).unwrap().why.contains("UNIQUE"));
    assert_eq!((world.metrics.dead_letters.value(), world.books().len()), (3, 4));
    assert_eq!(world.look(|view| view.conversion_count()), 2);
}

#[test]
fn a_backlog_is_merged_by_time_over_many_transactions() {
    let mut world = World::new();
    // Far more than is held at once, so the merge has to go on from where it was; one spool begins late.
    for at in 0..20_000i64 {
        let spool = if at < 15_000 { 1 + at as u64 % 2 } else { 3 };
        world.append(spool, Topic::Clicks, &world.click(&click(T0 + at * 3_000, 1, 1)));
    }
    assert_eq!(world.round(), 20_000);
    let totals = world.look(|view| view.click_totals());
    // One visitor and page, a click each 3 s, a window of 10 s: every fourth is billable.
    assert_eq!((totals.clicks, totals.billable), (20_000, 5_000));
    assert_eq!(world.look(|view| view.horizon()).click, TimeMs(T0 + 19_999 * 3_000));
}

/// A click that was applied, sent again and only then refused stands in the file of parked records like others.
#[test]
fn v10_a_fed_click_counts_unless_it_had_taken_effect_before_it_was_parked() {
    let mut world = World::new();
    let clicks: Vec<Value> = (0..3).map(|number| world.click(&click(T0 + number * HOUR_MS, 1, 1))).collect();
    let parked = |seq: u64| {
        json!({"event": "parked", "schema": 1, "spool": "0000000000000001", "seq": seq, "why": "refused", "bytes": 9,
               "parked_at_ms": T0})
    };
    let fed = |seq: usize| {
        let mut event = clicks[seq].clone();
        event["of_spool"] = json!("0000000000000001");
        event["of_seq"] = json!(seq);
        event
    };
    let unparked = |seq: u64, of_seq: u64| {
        json!({"event": "unparked", "schema": 1, "spool": "0000000000000002", "seq": seq,
               "of_spool": "0000000000000001", "of_seq": of_seq, "unparked_at_ms": T0})
    };
    // The first took effect; the stand-in of the second did, and the third's comes after it was fed.
    world.append(1, Topic::Clicks, &clicks[0]);
    world.append(1, Topic::Clicks, &parked(1));
    world.round();
    assert_eq!(books(&world).clicks, (1, 0));
    for (number, seq) in (0..3u64).zip((0..).step_by(2)) {
        world.append(2, Topic::Clicks, &fed(number as usize));
        world.append(2, Topic::Clicks, &unparked(seq + 1, number));
    }
    while world.round() > 0 {}
    assert_eq!(books(&world).clicks, (3, 0));
    world.append(1, Topic::Clicks, &parked(2));
    // And from an older copy of the disk, in another spool.
    for number in 0..3 {
        world.append(3, Topic::Clicks, &fed(number));
    }
    while world.round() > 0 {}
    assert_eq!(books(&world).clicks, (3, 0));
}
