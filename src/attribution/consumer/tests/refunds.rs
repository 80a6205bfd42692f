//! Any number of refunds of one order.

use serde_json::json;

use super::world::{T0, World, click};
use crate::report::ledger::check;
use crate::spool::Topic;
use crate::store::Reader;
use crate::time::HOUR_MS;

const ORDERS: u64 = u64::MAX;

fn order(world: &mut World, amount: i64) {
    let id = world.click_id(&click(T0, 1, 1)).to_string();
    let report = world.report("A-1", T0, json!({"click_id": id, "amount": amount}));
    world.append(ORDERS, Topic::Conversions, &report);
}

/// Refunds number `from` to below `to`, of 10 each.
fn refunds(world: &mut World, from: i64, to: i64) {
    for number in from..to {
        let refund = world.refund(&format!("R-{number}"), "A-1", T0 + number, json!({"amount": 10}));
        world.append(ORDERS, Topic::Conversions, &refund);
    }
}

fn is_sound(world: &World) {
    let mut out = Vec::new();
    check(&mut Reader::open(&world.place()).unwrap(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("no invariant is broken"), "{text}");
}

#[test]
fn m36_the_refunds_of_an_order_have_no_limit() {
    let mut world = World::new();
    order(&mut world, 100_000);
    refunds(&mut world, 0, 3_000);
    world.round();
    // 12 % of the 70,000 that are left.
    assert_eq!(world.verdict("A-1"), ("attributed".into(), vec![(1, 8_400)]));
    assert_eq!(world.metrics.dead_letters.value(), 0);
    // One by one, again exactly, and with other content.
    for number in 3_000..3_010 {
        refunds(&mut world, number, number + 1);
        world.round();
    }
    refunds(&mut world, 2_990, 3_010);
    let other = json!({"amount": 11, "content_hash": "00000000000000cc"});
    world.append(ORDERS, Topic::Conversions, &world.refund("R-2000", "A-1", T0 + HOUR_MS, other));
    world.round();
    assert_eq!(world.verdict("A-1").1, [(1, 8_388)]);
    let id = world.conversion_id(1, "A-1", "sale");
    assert_eq!(world.look(|view| view.conflict_count(&id)), 1);
    let revisions = world.look(|view| view.decisions(view.conversion(&id)?.unwrap().id));
    // The first hundred each, the rest once a transaction, then one a round.
    assert!((112..200).contains(&revisions.len()), "{}", revisions.len());
    assert!(revisions.iter().all(|revision| serde_json::to_string(&revision.facts).unwrap().len() < 1_000));
    is_sound(&world);
    world.append(ORDERS, Topic::Conversions, &world.refund("all", "A-1", T0 + HOUR_MS, json!({})));
    world.round();
    assert_eq!((world.verdict("A-1").1, world.decision("A-1")["state"].clone()), (vec![(1, 0)], json!("reversed")));
    assert!(world.books().is_empty());
    is_sound(&world);
}

#[test]
fn m41_any_number_of_refunds_waits_for_an_order() {
    let mut world = World::new();
    refunds(&mut world, 0, 1_500);
    world.round();
    assert_eq!(world.metrics.refunds_waiting.value(), 1_500);
    order(&mut world, 100_000);
    world.round();
    assert_eq!((world.verdict("A-1").1, world.metrics.refunds_waiting.value()), (vec![(1, 10_200)], 0));
    is_sound(&world);
}

#[test]
fn m35_pieces_of_many_refunds_are_added_up() {
    let mut world = World::new();
    let id = world.click_id(&click(T0, 1, 1)).to_string();
    let items =
        json!([{"sku": "a", "quantity": 1_000, "unit_amount": 100}, {"sku": "b", "quantity": 1, "unit_amount": 5}]);
    let report = world.report("A-1", T0, json!({"click_id": id, "amount": 100_005, "items": items}));
    world.append(ORDERS, Topic::Conversions, &report);
    for number in 0..400 {
        let pieces = json!({"items": [{"sku": "a", "quantity": 2}, {"sku": format!("z{number}"), "quantity": 9}]});
        world.append(ORDERS, Topic::Conversions, &world.refund(&format!("R-{number}"), "A-1", T0, pieces));
    }
    world.round();
    // 200 pieces of 100 and the other line: 12 % of 20,005.
    assert_eq!(world.verdict("A-1").1, [(1, 2_401)]);
    let explanation = world.decision("A-1")["explanation"].to_string();
    assert!(explanation.contains("300 more refunds count and are not told one by one: 0 by amount, 600 pieces"));
    is_sound(&world);
}

#[test]
fn i38_a_refund_told_again_without_its_time_is_the_same() {
    let mut world = World::new();
    let told = json!({"amount": 10, "occurred_at_filled_in": false, "received_at_ms": T0 + 5});
    let again = json!({"amount": 10, "occurred_at_filled_in": true, "occurred_at_ms": T0 + 9});
    let other = json!({"amount": 10, "occurred_at_filled_in": false, "received_at_ms": T0 + 20});
    for (at, with) in [(T0, told), (T0 + 9, again), (T0 + 1, other)] {
        world.append(ORDERS, Topic::Conversions, &world.refund("R-1", "A-1", at, with));
    }
    world.round();
    let id = world.conversion_id(1, "A-1", "sale");
    assert_eq!((world.look(|view| view.conflict_count(&id)), world.look(|view| view.refunds_waiting())), (1, 1));
}
