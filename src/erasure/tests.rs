use serde_json::json;

use super::*;
use crate::attribution::consumer::tests::world::{T0, World, click};
use crate::report::command::Verdict;
use crate::report::ledger;
use crate::spool::Topic;
use crate::store::testing::{self, Home};
use crate::store::{ERASED, Place};
use crate::time::{HOUR_MS, TimeMs};

/// Visitor 1 and visitor 2 each clicked and bought; a report of visitor 1 differs from the first of its order, and a record
/// of theirs could not be applied.
fn sold() -> World {
    let mut world = World::new();
    for (visitor, order) in [(1, "A-1"), (2, "A-2")] {
        let sketch = click(T0, visitor, 1);
        world.append(1, Topic::Clicks, &world.click(&sketch));
        let with = json!({
            "visitor_id": world.visitor(visitor).as_str(), "click_id": world.click_id(&sketch).to_string(),
            "customer_id": format!("customer-{visitor}"), "extra": {"mail": "somebody@mail.example"},
            "source_ip": "192.0.2.7", "new_customer": true,
        });
        world.append(2, Topic::Conversions, &world.report(order, T0 + HOUR_MS, with));
    }
    let visitor = world.visitor(1).as_str().to_owned();
    let other = json!({"visitor_id": visitor, "amount": 7, "content_hash": "00000000000000cc"});
    world.append(2, Topic::Conversions, &world.report("A-1", T0 + HOUR_MS, other));
    // A coupon's buyer, whom the report alone names.
    world.append(2, Topic::Conversions, &world.report("A-3", T0 + HOUR_MS, json!({"visitor_id": visitor})));
    let broken = json!({"event": "click", "visitor_id": visitor, "user_agent": "Mozilla"});
    world.append(1, Topic::Clicks, &broken);
    world.round();
    world
}

fn places() -> [(World, Place, Option<Home>); 2] {
    let (world, copied, home) = (sold(), sold(), testing::database());
    testing::copy(&copied.place(), &home);
    [(copied_place(world, None)), (copied_place(copied, Some(home)))]
}

fn copied_place(world: World, home: Option<Home>) -> (World, Place, Option<Home>) {
    let place = home.as_ref().map_or_else(|| world.place(), |home| home.place.clone());
    (world, place, home)
}

fn books(place: &Place) -> (String, Vec<String>) {
    let mut reader = Reader::open(place).unwrap();
    let (mut cat, mut check) = (Vec::new(), Vec::new());
    ledger::cat(&mut reader, None, &mut cat).unwrap();
    let verdict = ledger::check(&mut reader, &mut check).unwrap();
    assert_eq!(verdict, Verdict::Good, "{}", String::from_utf8_lossy(&check));
    let decisions = reader.view(|view| {
        let rows = view.conversions_after(RowId(0), 99)?;
        let each = |row: &crate::store::ConversionRow| view.latest_decision(row.id);
        let texts = rows.iter().map(each).collect::<Result<Vec<_>, StoreError>>()?;
        Ok::<_, StoreError>(texts.into_iter().flatten().map(|decision| decision.text).collect())
    });
    (String::from_utf8(cat).unwrap(), decisions.unwrap())
}

fn erased(place: &Place, by: &By, keys: &Keys) -> (Found, Erased) {
    let mut reader = Reader::open(place).unwrap();
    let person = person(&mut reader, by, keys).unwrap().unwrap();
    let found = find(&mut reader, &person).unwrap();
    drop(reader);
    let erased = erase(&mut Store::open(place).unwrap(), &found).unwrap();
    (found, erased)
}

fn reports(place: &Place) -> Vec<String> {
    let rows = Reader::open(place).unwrap().view(|view| view.conversions_after(RowId(0), 99)).unwrap();
    rows.iter().map(|row| serde_json::to_string(&row.report).unwrap()).collect()
}

#[test]
fn a_visitor_is_forgotten_and_money_and_reasons_are_as_before() {
    for (world, place, _home) in places() {
        let before = books(&place);
        let by = By::Cookie(world.visitor(1));
        let in_file = matches!(place, Place::Sqlite(_));
        let (found, gone) = erased(&place, &by, &world.keys);
        assert_eq!((found.touches, found.telling, found.waiting), (u64::from(in_file), 2, 0));
        let expected = Erased { touches: u64::from(in_file), orders: 2, differing: 1, dead_letters: 1 };
        assert_eq!(gone, expected);
        assert_eq!(books(&place), before);
        let [first, second, third] = <[String; 3]>::try_from(reports(&place)).unwrap();
        for told in ["visitor_id", "customer_id", "mail", "192.0.2.7"] {
            assert!(!first.contains(told) && !third.contains(told), "{told}: {first} {third}");
            assert!(second.contains(told), "the other visitor's stays: {second}");
        }
        // By what a decision is explained: the click ID, the order, whether the customer was new.
        assert!(first.contains("\"click_id\"") && first.contains("A-1") && first.contains("new_customer"), "{first}");
        let mut reader = Reader::open(&place).unwrap();
        let (letter, differing) = reader
            .view(|view| {
                let letter = view.dead_letter(SpoolId(1), 2)?.unwrap();
                Ok::<_, StoreError>((letter, view.conflict_count(&world.conversion_id(1, "A-1", "sale"))?))
            })
            .unwrap();
        assert_eq!((&letter.record[..], differing), (ERASED.as_bytes(), 1), "that they were is still known");
        assert!(!letter.why.is_empty());
        // Once more: nothing is left.
        drop(reader);
        assert_eq!(erased(&place, &by, &world.keys).1, Erased::default());
        assert_eq!(books(&place), before);
    }
}

#[test]
fn one_click_or_one_order_is_enough_to_find_the_visitor() {
    for by in ["click", "order", "conversion"] {
        for (world, place, _home) in places() {
            let by = match by {
                "click" => By::Click(world.click_id(&click(T0, 1, 1))),
                "order" => By::Order(Which::order("1/A-3").unwrap()),
                _ => By::Order(Which::Id(world.conversion_id(1, "A-1", "sale"))),
            };
            let (_, gone) = erased(&place, &by, &world.keys);
            assert_eq!((gone.orders, gone.differing, gone.dead_letters), (2, 1, 1), "{by:?}");
        }
    }
}

#[test]
fn somebody_elses_cookie_in_a_report_proves_nothing() {
    let mut world = World::new();
    let sketch = click(T0, 1, 1);
    world.append(1, Topic::Clicks, &world.click(&sketch));
    let with = json!({"click_id": world.click_id(&sketch).to_string(), "visitor_id": world.visitor(2).as_str()});
    world.append(2, Topic::Conversions, &world.report("A-1", T0 + HOUR_MS, with));
    let other = json!({"visitor_id": world.visitor(2).as_str()});
    world.append(2, Topic::Conversions, &world.report("A-2", T0 + HOUR_MS, other));
    world.round();
    // A link of visitor 1: the order with their click is theirs, the other one of visitor 2 is not.
    let (found, _) = erased(&world.place(), &By::Click(world.click_id(&sketch)), &world.keys);
    assert_eq!(found.orders.len(), 1);
    assert!(reports(&world.place())[1].contains("visitor_id"));
}

#[test]
fn an_unknown_order_is_said_and_an_unknown_visitor_is_nothing() {
    let world = sold();
    let mut reader = Reader::open(&world.place()).unwrap();
    let nobody = By::Order(Which::order("1/B-1").unwrap());
    assert!(person(&mut reader, &nobody, &world.keys).unwrap().is_none());
    let stranger = person(&mut reader, &By::Cookie(world.visitor(9)), &world.keys).unwrap().unwrap();
    let found = find(&mut reader, &stranger).unwrap();
    assert_eq!((found.touches, found.orders.len(), found.dead_letters.len()), (0, 0, 0));
}

#[test]
fn an_order_that_waits_for_its_decision_is_told() {
    use crate::store::{Stand, Waiting};
    for (world, place, _home) in places() {
        let mut store = Store::open(&place).unwrap();
        let batch = store.begin().unwrap();
        let waiting = Waiting { id: RowId(1), since: TimeMs(1), stand: Stand::Provisional };
        batch.put_waiting(&[waiting]).unwrap();
        batch.commit().unwrap();
        let mut reader = Reader::open(&place).unwrap();
        let person = person(&mut reader, &By::Cookie(world.visitor(1)), &world.keys).unwrap().unwrap();
        assert_eq!(find(&mut reader, &person).unwrap().waiting, 1);
    }
}
