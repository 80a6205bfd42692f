//! What one of several processes does about what it cannot decide, about others' spools and catalogs, and about its turn.

use std::time::Duration;

use serde_json::json;

use super::shared_world::{GRACE_MS, SharedWorld};
use super::world::{T0, World, click};
use crate::attribution::consumer::lanes::Lanes;
use crate::attribution::consumer::shared::{Layout, Sharing};
use crate::attribution::consumer::{Consumer, Source};
use crate::catalog::MerchantId;
use crate::spool::{SpoolId, Topic};
use crate::store::testing::run_in_file;
use crate::store::{Mark, Stand, Store};
use crate::time::HOUR_MS;

/// Clicks of two publishers in partition 1, and orders of their visitor, read and waiting for the index.
fn sales(shared: &mut SharedWorld, orders: usize) {
    for publisher in [1, 2] {
        let event = shared.world.click(&click(T0 + i64::from(publisher), 1, publisher));
        shared.append(1, Topic::Clicks, &event);
    }
    let visitor = shared.world.visitor(1).as_str().to_owned();
    for order in 0..orders {
        let report = shared.world.report(&format!("A-{order}"), T0 + HOUR_MS, json!({"visitor_id": visitor}));
        shared.append(100, Topic::Conversions, &report);
    }
    shared.world.round();
}

fn stands(shared: &SharedWorld) -> Vec<Stand> {
    shared.waiting().iter().map(|one| one.stand).collect()
}

#[test]
fn a_row_that_does_not_read_back_holds_up_nobody() {
    let mut shared = SharedWorld::new();
    sales(&mut shared, 2);
    shared.held.index().catch_up();
    run_in_file(&shared.world.place(), "UPDATE conversions SET own_click = 'nonsense' WHERE order_id = 'A-0'");
    let SharedWorld { world, held, rules, metrics, .. } = &mut shared;
    let mut decider = SharedWorld::decider(rules, world, held, metrics);
    assert_eq!(decider.round(&|| false).unwrap(), 1);
    // It is left alone for a while, and not told each time.
    assert_eq!((decider.round(&|| false).unwrap(), metrics.undecidable.value()), (0, 1));
    drop(decider);
    assert_eq!(stands(&shared), [Stand::New]);
    run_in_file(&shared.world.place(), "UPDATE conversions SET own_click = '\"none\"' WHERE order_id = 'A-0'");
    assert_eq!((shared.decide(), stands(&shared)), (1, vec![]));
    assert_eq!(shared.world.verdict("A-0"), ("attributed".into(), vec![(2, 120)]));
}

#[test]
fn a_provisional_decision_does_not_become_final_by_an_error() {
    let mut shared = SharedWorld::new();
    sales(&mut shared, 1);
    shared.clock.advance(GRACE_MS);
    assert_eq!((shared.decide(), stands(&shared)), (1, vec![Stand::Provisional]));
    assert_eq!(shared.world.verdict("A-0").0, "no_touch");
    let place = shared.world.place();
    run_in_file(&place, "CREATE TABLE kept AS SELECT * FROM decisions; UPDATE decisions SET facts = 'nonsense'");
    shared.held.index().catch_up();
    shared.decide();
    assert_eq!((stands(&shared), shared.metrics.undecidable.value()), (vec![Stand::Provisional], 1));
    assert_eq!(shared.world.look(|view| view.dead_letter_count()), 0);
    run_in_file(&place, "UPDATE decisions SET facts = (SELECT facts FROM kept WHERE kept.id = decisions.id)");
    shared.decide();
    assert_eq!((shared.world.verdict("A-0"), stands(&shared)), (("attributed".into(), vec![(2, 120)]), vec![]));
}

#[test]
fn a_round_ends_when_it_is_told_to_wherever_it_began() {
    let mut shared = SharedWorld::new();
    sales(&mut shared, 150);
    shared.held.index().catch_up();
    let SharedWorld { world, held, rules, metrics, .. } = &mut shared;
    let mut decider = SharedWorld::decider(rules, world, held, metrics).beginning_at(1);
    assert_eq!(decider.round(&|| true).unwrap(), 64);
    let left: Vec<i64> = world.look(|view| view.waiting(1_000)).iter().map(|one| one.id.0).collect();
    assert_eq!((left.len(), left[0], left[64]), (86, 1, 129));
    assert_eq!(decider.round(&|| false).unwrap(), 86);
}

#[test]
fn only_labels_of_those_who_earn_are_asked_for() {
    let mut shared = SharedWorld::new();
    sales(&mut shared, 3);
    shared.held.index().catch_up();
    assert_eq!((shared.decide(), shared.held.index().labels_asked), (3, 3));
}

#[test]
fn old_files_do_not_bring_back_an_old_catalog() {
    let mut shared = SharedWorld::new();
    let active = |shared: &SharedWorld| shared.world.look(|view| view.active_catalog()).unwrap();
    let follows = |shared: &SharedWorld| shared.world.metrics.follows.value();
    shared.world.round();
    let old = active(&shared);
    shared.world.load(|book| book.merchants.retain(|id, _| *id != MerchantId(2)));
    shared.world.round();
    let new = active(&shared);
    assert_ne!(new, old);

    // Another process, with the files of before.
    shared.world.rules.layout = Layout::Shared(std::sync::Arc::new(Sharing::new(0, 0)));
    shared.world.load(|_| {});
    shared.world.round();
    assert_eq!((active(&shared), follows(&shared)), (new.clone(), 1));
    shared.world.load(|book| book.publishers.clear());
    shared.world.round();
    assert_eq!((active(&shared) != new, follows(&shared)), (true, 0));
    // Its files are changed while it runs: that is meant.
    shared.world.load(|_| {});
    shared.world.round();
    assert_eq!((active(&shared), follows(&shared)), (old, 0));
}

#[test]
fn the_lag_is_known_until_nothing_more_comes() {
    let mut shared = SharedWorld::new();
    let event = shared.world.click(&click(T0, 1, 1));
    shared.append(1, Topic::Clicks, &event);
    let store = Store::open(&shared.world.place()).unwrap();
    let World { source, rules, metrics, .. } = &mut shared.world;
    let mut consumer = Consumer::new(source, store, rules, metrics).unwrap();
    let mut lag = || {
        consumer.round(&|| false).unwrap();
        metrics.lag_ms.value()
    };
    assert_eq!([lag(), lag(), lag()], [HOUR_MS, HOUR_MS, 0]);
}

#[test]
fn the_gap_of_another_process_is_neither_shown_nor_forgotten() {
    let mut shared = SharedWorld::new();
    shared.world.append(9, Topic::Clicks, &json!({"event": "other"}));
    let spool = shared.world.source.spools.get_mut(&9).unwrap();
    (spool.until, spool.sealed) = (0, true);
    let mut store = Store::open(&shared.world.place()).unwrap();
    let batch = store.begin().unwrap();
    for spool in [9, 10] {
        batch.move_mark(&Mark { gap: Some(5), ..Mark::new(SpoolId(spool), Topic::Clicks) }, 0).unwrap();
    }
    batch.commit().unwrap();
    drop(store);
    shared.world.round();
    let marks = shared.world.look(|view| view.marks());
    let of = |id| marks.iter().find(|mark| mark.spool == SpoolId(id)).unwrap();
    assert_eq!((of(9).gap, of(9).sealed, of(10).gap), (Some(5), Some(1), Some(5)));
    assert_eq!(shared.world.metrics.gaps.value(), 1);
}

#[test]
fn events_of_no_time_are_dead_letters() {
    for mut world in [World::new(), SharedWorld::new().world] {
        for at in [i64::MAX, i64::MIN] {
            let mut event = world.click(&click(T0, 1, 1));
            event["clicked_at_ms"] = json!(at);
            world.append(1, Topic::Clicks, &event);
            let mut report = world.report("A-1", T0, json!({}));
            report["occurred_at_ms"] = json!(at);
            world.append(100, Topic::Conversions, &report);
        }
        let good = world.click(&click(T0, 1, 1));
        world.append(1, Topic::Clicks, &good);
        assert_eq!(world.round(), 5);
        assert_eq!(world.look(|view| view.dead_letter_count()), 4);
        assert_eq!(world.look(|view| view.click_totals()).clicks, 1);
    }
}

#[test]
fn as_much_is_held_as_some_transactions_take() {
    let mut world = World::new();
    (0..600).for_each(|_| world.append(1, Topic::Clicks, &json!({"event": "other"})));
    let reach = world.source.reach().unwrap().clicks;
    for (held, steps) in [(1_024, 256), (32_768, 600)] {
        let mut lanes = Lanes::new(&reach, held, |spool| Mark::new(spool, Topic::Clicks));
        assert!(lanes.fill(&mut world.source).is_empty());
        assert_eq!(lanes.steps(usize::MAX).len(), steps);
    }
}

/// A process that was taken over from again and again leaves spools that lie one behind the other in time.
#[test]
fn m7_many_spools_one_behind_the_other_cost_no_more_than_one() {
    let cost = |spools: u64, each: u64| {
        let mut world = World::new();
        let start = T0 - (spools * each) as i64;
        for n in 0..spools * each {
            let sketch = click(start + n as i64, 1, 1);
            world.append(1 + n / each, Topic::Clicks, &world.click(&sketch));
        }
        let reach = world.source.reach().unwrap().clicks;
        let mut lanes = Lanes::new(&reach, 4_096, |spool| Mark::new(spool, Topic::Clicks));
        let (mut last, mut applied, began) = (start - 1, 0, processor_time());
        loop {
            assert!(lanes.fill(&mut world.source).is_empty());
            let steps = lanes.steps(usize::MAX);
            if steps.is_empty() {
                break;
            }
            for step in &steps {
                assert_eq!(step.at.0, last + 1);
                last = step.at.0;
            }
            applied += steps.len() as u64;
            let moves = lanes.moves(&steps);
            lanes.applied(&moves);
        }
        assert_eq!(applied, spools * each);
        processor_time() - began
    };
    let (one, many) = (cost(1, 12_000), cost(60, 200));
    assert!(many < 4 * one, "one spool: {one:?}, sixty: {many:?}");
}

/// Of this thread: what else runs on the machine does not count.
fn processor_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}
