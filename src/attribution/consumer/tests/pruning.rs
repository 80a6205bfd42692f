//! Years later: what is pruned, and that nothing which is read again is applied again.

use std::sync::Arc;

use serde_json::json;

use super::world::{T0, World, click};
use crate::attribution::consumer::{AttributionMetrics, Consumer};
use crate::clock::ManualClock;
use crate::spool::Topic;
use crate::store::{Aged, Place, Reader, Store, StoreError, View, testing};
use crate::time::{DAY_MS, HOUR_MS, TimeMs};

/// A process is started and runs so many rounds.
fn rounds(world: &mut World, place: &Place, count: usize) -> usize {
    let store = Store::open(place).unwrap();
    let mut consumer = Consumer::new(&mut world.source, store, &world.rules, &world.metrics).unwrap();
    (0..count).map(|_| consumer.round(&|| false).unwrap()).sum()
}

fn look<T>(place: &Place, look: impl FnOnce(View<'_>) -> Result<T, StoreError>) -> T {
    Reader::open(place).unwrap().view(look).unwrap()
}

fn books(place: &Place) -> Vec<String> {
    let mut lines = Vec::new();
    look(place, |view| {
        view.books(TimeMs(i64::MAX), |line| {
            lines.push(format!("{line:?}"));
            Ok::<(), StoreError>(())
        })
    });
    lines
}

/// Sales of two clicks each, and a refund, in spools that get no more. In a file: touches are there too.
fn sold() -> (World, testing::Home) {
    let (mut world, home) = (World::new(), testing::file());
    for order in 0..5 {
        for publisher in [1, 2] {
            let event = world.click(&click(T0 + i64::from(order * 10 + publisher), 1, publisher));
            world.append(1, Topic::Clicks, &event);
        }
        let visitor = world.visitor(1).as_str().to_owned();
        let report = world.report(&format!("A-{order}"), T0 + HOUR_MS, json!({"visitor_id": visitor}));
        world.append(100, Topic::Conversions, &report);
    }
    let refund = world.refund("R-1", "A-1", T0 + HOUR_MS, json!({"amount": 500}));
    world.append(100, Topic::Conversions, &refund);
    world.source.spools.values_mut().for_each(|spool| spool.sealed = true);
    (world, home)
}

fn later(world: &mut World, days: i64) {
    world.rules.clock = Arc::new(ManualClock::at(TimeMs(T0 + days * DAY_MS)));
    world.metrics = AttributionMetrics::default();
}

#[test]
fn spools_that_were_pruned_are_read_again_from_their_beginning_and_applied_no_more() {
    let (mut world, home) = sold();
    let place = &home.place;
    assert_eq!(rounds(&mut world, place, 2), 16);
    let (books_then, totals) = (books(place), look(place, |view| view.click_totals()));
    assert_eq!(look(place, |view| view.marks()).len(), 2);
    later(&mut world, 20);
    rounds(&mut world, place, 1);
    assert_eq!((look(place, |view| view.marks()).len(), world.metrics.pruned(Aged::Marks)), (2, 0));
    later(&mut world, 40);
    rounds(&mut world, place, 1);
    assert_eq!((look(place, |view| view.marks()).len(), world.metrics.pruned(Aged::Marks)), (0, 2));

    // A topic that is read from its start, by a process that knows of none of it; and a backup of an edge, cut short.
    later(&mut world, 400);
    world.source.applied.clear();
    assert_eq!(rounds(&mut world, place, 3), 0);
    assert_eq!(world.metrics.recalled_spools.value(), 2);
    assert_eq!(world.source.applied, [(1, 10), (100, 6)].into());
    for spool in world.source.spools.values_mut() {
        (spool.until, spool.sealed) = (3, false);
    }
    assert_eq!(rounds(&mut world, place, 3), 0);
    assert_eq!((books(place), look(place, |view| view.click_totals())), (books_then, totals));
    // Where its seal was not met again it is as done with as before.
    assert!(look(place, |view| view.marks()).is_empty());
    assert_eq!(world.metrics.store_errors(), 0);

    // What is new is applied as ever, in a spool of its own or at the end of the old one.
    let event = world.click(&click(T0 + 400 * DAY_MS, 2, 1));
    world.append(2, Topic::Clicks, &event);
    world.append(1, Topic::Clicks, &event);
    assert_eq!(rounds(&mut world, place, 2), 2);
    assert_eq!(look(place, |view| view.click_totals()).clicks, totals.clicks + 2);
}

#[test]
fn a_late_click_changes_a_conversion_for_more_than_a_year_and_then_is_counted() {
    for (days, late, too_late) in [(399, 1, 0), (401, 0, 1)] {
        let (mut world, home) = sold();
        assert_eq!(rounds(&mut world, &home.place, 1), 16);
        later(&mut world, days);
        rounds(&mut world, &home.place, 1);
        // Of another spool: an edge that was away all the time.
        let event = world.click(&click(T0 + 60_000, 1, 3));
        world.append(3, Topic::Clicks, &event);
        later(&mut world, days);
        assert_eq!(rounds(&mut world, &home.place, 1), 1);
        assert_eq!((world.metrics.late_clicks.value() > 0) as u64, late, "{days}");
        assert_eq!(world.metrics.too_late_clicks.value(), too_late, "{days}");
    }
}

#[test]
fn counts_of_clicks_are_kept_for_ever_or_as_long_as_is_said() {
    for (keep, left) in [(0, 10), (31, 10), (29, 0)] {
        let (mut world, home) = sold();
        rounds(&mut world, &home.place, 1);
        world.rules.keep_click_counts_days = keep;
        later(&mut world, 30);
        rounds(&mut world, &home.place, 1);
        assert_eq!(look(&home.place, |view| view.click_totals()).clicks, left, "{keep}");
    }
}

#[test]
fn who_bought_is_kept_as_long_as_is_said_and_the_books_for_ever() {
    for (keep, days, left) in [(0, 4_000, true), (400, 399, true), (400, 401, false)] {
        let (mut world, home) = sold();
        let other = json!({"visitor_id": "aaaaaaaaaaaaaaaaaaaaaa", "amount": 7, "content_hash": "00000000000000cc"});
        world.append(200, Topic::Conversions, &world.report("A-1", T0 + HOUR_MS, other));
        world.append(200, Topic::Conversions, &json!({"event": "conversion", "customer_id": "somebody"}));
        rounds(&mut world, &home.place, 1);
        let before = books(&home.place);
        world.rules.keep_personal_days = keep;
        // A dead letter's time begins when it is seen.
        later(&mut world, 0);
        rounds(&mut world, &home.place, 1);
        later(&mut world, days);
        rounds(&mut world, &home.place, 1);
        let (buyers, letter, differing) = look(&home.place, |view| {
            let rows = view.conversions_after(crate::store::RowId(0), 99)?;
            let buyers = rows.iter().filter(|row| row.report.visitor_id.is_some()).count();
            let differing = view.differing_count(&world.conversion_id(1, "A-1", "sale"))?;
            Ok((buyers, view.dead_letter(crate::spool::SpoolId(200), 1)?.unwrap().record, differing))
        });
        let erased = letter == crate::store::ERASED.as_bytes();
        assert_eq!((buyers, erased, differing), if left { (5, false, 1) } else { (0, true, 0) }, "{keep} {days}");
        assert_eq!(books(&home.place), before);
        // They are not looked at again.
        let pruned = world.metrics.pruned(Aged::Reports);
        assert_eq!(pruned, if left { 0 } else { 5 });
        later(&mut world, days + 1);
        rounds(&mut world, &home.place, 1);
        assert_eq!(world.metrics.pruned(Aged::Reports), 0);
    }
}
