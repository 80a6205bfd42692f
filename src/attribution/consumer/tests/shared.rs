//! Decisions that wait for a shared index come out as those of the one consumer that has everything at hand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::exactly_once::{Script, books, feed, scripts};
use super::shared_world::{Backup, GRACE_MS, Held, KEY_WAIT_MS, SharedWorld};
use super::world::{ClickSketch, SETTINGS, T0, World, click};
use crate::attribution::consumer::{Decider, WaitingMetrics};
use crate::click::Keys;
use crate::spool::Topic;
use crate::store::{Stand, Store};
use crate::time::HOUR_MS;

/// What may happen, in any order and any number of times.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// Records of one spool come into its topic: clicks may come long after the orders they brought.
    Produce(u8),
    /// A consumer is started and applies some of what is there.
    Consume(u8),
    Index(u8),
    /// The index stops exactly where decisions wait for.
    IndexToEnds,
    Decide,
    /// The process that decides ends, and another begins.
    Restart,
    Wipe,
    Backup,
    Restore,
    /// A partition of clicks is made anew.
    Anew(u8),
    Down,
    Up,
    Grace,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => any::<u8>().prop_map(Happens::Produce),
        6 => any::<u8>().prop_map(Happens::Consume),
        6 => any::<u8>().prop_map(Happens::Index),
        4 => Just(Happens::IndexToEnds),
        6 => Just(Happens::Decide),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Wipe),
        1 => Just(Happens::Backup),
        1 => Just(Happens::Restore),
        1 => any::<u8>().prop_map(Happens::Anew),
        1 => Just(Happens::Down),
        2 => Just(Happens::Up),
        2 => Just(Happens::Grace),
    ]
}

/// Those of `scripts` in any order, and clicks around the moment up to which an order takes clicks as facts: some of them
/// count only by those behind it.
fn late_scripts() -> impl Strategy<Value = Script> {
    let late = prop::collection::vec((0usize..12, -12i64..10, 1u32..3, 1u64..4, any::<bool>()), 0..24);
    let scripts = (scripts(), late).prop_map(|(mut script, late)| {
        let world = World::new();
        let orders: Vec<serde_json::Value> =
            script.iter().map(|(.., event)| event).filter(|event| event["event"] == "conversion").cloned().collect();
        for (number, (order, seconds, publisher, spool, non_navigation)) in late.into_iter().enumerate() {
            let Some(order) = orders.get(order) else { continue };
            let of = |visitor: &u8| order["visitor_id"] == world.visitor(*visitor).as_str();
            let Some(visitor) = (1..4).find(of) else { continue };
            let at = order["occurred_at_ms"].as_i64().unwrap() + SETTINGS.clock_skew_ms + seconds * 1_000;
            let sketch = ClickSketch { non_navigation, random: 1_000 + number as u32, ..click(at, visitor, publisher) };
            script.push((spool, Topic::Clicks, world.click(&sketch)));
        }
        script
    });
    scripts.prop_flat_map(|script| Just(script).prop_shuffle())
}

/// A crowd of processes over one store, and what is still to come into their topics.
struct Run {
    shared: SharedWorld,
    to_come: BTreeMap<u64, VecDeque<(Topic, serde_json::Value)>>,
    backup: Backup,
}

impl Run {
    fn new(script: &Script) -> Run {
        let mut to_come: BTreeMap<u64, VecDeque<_>> = BTreeMap::new();
        for (spool, topic, event) in script.clone() {
            to_come.entry(spool).or_default().push_back((topic, event));
        }
        Run { shared: SharedWorld::new(), to_come, backup: Backup::default() }
    }

    fn produce(&mut self, seed: u8) {
        let spools: Vec<u64> = self.to_come.keys().copied().collect();
        if !spools.is_empty() {
            self.produce_of(spools[usize::from(seed) % spools.len()], usize::from(seed / 16));
        }
    }

    fn produce_of(&mut self, spool: u64, records: usize) {
        for _ in 0..records {
            let Some((topic, event)) = self.to_come.get_mut(&spool).and_then(VecDeque::pop_front) else { return };
            let shown = self.shared.world.source.spools.get(&spool).map_or(0, |spool| spool.until);
            self.shared.append(spool, topic, &event);
            self.shared.world.source.spools.get_mut(&spool).unwrap().until = shown;
        }
    }

    /// Which spools how far is the seed's.
    fn consume(&mut self, seed: u8) {
        for (id, spool) in &mut self.shared.world.source.spools {
            let more =
                (u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ id.wrapping_mul(0xbf58_476d_1ce4_e5b9));
            spool.until = (spool.until + (more >> 32) % 6).min(spool.records.len() as u64);
        }
        self.shared.world.source.repeats = u64::from(seed % 3);
        self.shared.world.round();
    }

    fn step(&mut self, what: Happens) {
        let held = self.shared.held.clone();
        match what {
            Happens::Produce(seed) => self.produce(seed),
            Happens::Consume(seed) => self.consume(seed),
            Happens::Index(seed) => held.index().advance(i32::from(seed % 3) + 1, usize::from(seed / 3 % 8)),
            Happens::IndexToEnds => held.index().advance_to_told_ends(),
            Happens::Anew(seed) => held.index().make_anew(i32::from(seed % 3) + 1),
            Happens::Wipe => held.index().restore(Backup::default()),
            Happens::Backup => self.backup = held.index().backup(),
            Happens::Restore => held.index().restore(self.backup.clone()),
            Happens::Down => held.index().is_down = true,
            Happens::Up => held.index().is_down = false,
            Happens::Grace => self.shared.clock.advance(GRACE_MS),
            Happens::Decide | Happens::Restart => {}
        }
    }

    /// All that was to come has come, everywhere.
    fn finish(&mut self) {
        let spools: Vec<u64> = self.to_come.keys().copied().collect();
        spools.into_iter().for_each(|spool| self.produce_of(spool, usize::MAX));
        self.shared.world.source.spools.values_mut().for_each(|spool| spool.until = spool.records.len() as u64);
        self.shared.world.round();
        self.shared.held.index().is_down = false;
        self.shared.held.index().catch_up();
        self.shared.decide();
    }
}

/// Runs the steps with processes that live on between them.
fn run(run: &mut Run, steps: &[Happens]) {
    let mut steps = steps.iter().copied().peekable();
    while steps.peek().is_some() {
        let (rules, metrics) = (SharedWorld::new().rules, WaitingMetrics::default());
        let rules = crate::attribution::consumer::Rules {
            keys: Arc::clone(&run.shared.world.keys),
            catalog: Arc::clone(&run.shared.world.rules.catalog),
            clock: Arc::clone(&run.shared.clock) as _,
            ..rules
        };
        let attribution = crate::attribution::consumer::AttributionMetrics::default();
        let mut held: Held = run.shared.held.clone();
        let crate::attribution::consumer::shared::Layout::Shared(sharing) = &rules.layout else { unreachable!() };
        let store = Store::open(&run.shared.world.place()).unwrap();
        let mut decider = Decider::new(store, &rules, sharing, &mut held, &attribution, &metrics).unwrap();
        for step in steps.by_ref() {
            match step {
                Happens::Restart => break,
                Happens::Decide => drop(decider.round(&|| false).unwrap()),
                other => run.step(other),
            }
        }
    }
}

/// Entries that sum up to nothing may as well never have been.
fn money(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| !line.contains(" 0 ")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever lags, is lost, goes back or is down in between.
    #[test]
    fn waiting_decisions_end_in_the_same_books(
        script in late_scripts(),
        steps in prop::collection::vec(happens(), 0..90),
    ) {
        let mut alone = World::new();
        feed(&mut alone, &script);
        alone.round();
        let mut crowd = Run::new(&script);
        run(&mut crowd, &steps);
        crowd.finish();
        prop_assert_eq!(crowd.shared.waiting(), []);
        let (alone, together) = (books(&alone), books(&crowd.shared.world));
        prop_assert_eq!(money(&together.books), money(&alone.books));
        prop_assert_eq!(together.decisions, alone.decisions);
        prop_assert_eq!((together.clicks, together.waiting), (alone.clicks, alone.waiting));
    }
}

/// Everything produced so far is applied.
const CONSUMED: [Happens; 4] = [Happens::Consume(1), Happens::Consume(2), Happens::Consume(3), Happens::Consume(4)];

/// Runs these steps, then all there is; in the end the one consumer agrees.
fn agree(script: &Script, steps: &[&[Happens]]) {
    let mut alone = World::new();
    feed(&mut alone, script);
    alone.round();
    let mut crowd = Run::new(script);
    run(&mut crowd, &steps.concat());
    crowd.finish();
    assert_eq!(books(&crowd.shared.world).decisions, books(&alone).decisions);
}

fn order_of(world: &World, at: i64) -> serde_json::Value {
    world.report("A-1", at, json!({"visitor_id": world.visitor(1).as_str()}))
}

#[test]
fn a_late_click_that_makes_another_one_count_is_not_left_out() {
    let world = World::new();
    let occurred = T0 + HOUR_MS;
    let until = occurred + SETTINGS.clock_skew_ms;
    let hidden = ClickSketch { non_navigation: true, ..click(until - 1_000, 1, 1) };
    // Behind all that the order takes by itself, but of one touch with the hidden one, which it makes a real one.
    let real = click(until + 4_000, 1, 1);
    let script: Script = vec![
        (1, Topic::Clicks, world.click(&hidden)),
        (100, Topic::Conversions, order_of(&world, occurred)),
        (2, Topic::Clicks, world.click(&real)),
    ];
    let last = [Happens::IndexToEnds, Happens::Decide];
    let (begin, more) = ([Happens::Produce(2)], [Happens::Decide, Happens::Produce(1)]);
    agree(&script, &[&begin, &CONSUMED, &more, &CONSUMED, &last]);
    // The same, decided by what is known in between.
    let provisional = [Happens::Grace, Happens::Decide, Happens::Produce(1)];
    agree(&script, &[&begin, &CONSUMED, &provisional, &CONSUMED, &last]);
}

#[test]
fn an_index_of_a_topic_before_covers_nothing_of_the_one_made_anew() {
    let world = World::new();
    let mut script: Script = Vec::new();
    for at in [1, 2, 3] {
        script.push((1, Topic::Clicks, world.click(&click(T0 + at * 60_000, 2, 1))));
    }
    script.push((1, Topic::Clicks, world.click(&click(T0 + HOUR_MS / 2, 1, 1))));
    script.push((100, Topic::Conversions, order_of(&world, T0 + HOUR_MS)));
    let before = [Happens::Produce(3), Happens::Index(3 * 7), Happens::Anew(0), Happens::Produce(1)];
    agree(&script, &[&before, &CONSUMED, &[Happens::Produce(1)], &CONSUMED, &[Happens::Decide]]);
}

/// A click of partition 1, and an order of its visitor without a click ID in spool 100.
fn sale(shared: &mut SharedWorld) {
    let first = click(T0, 1, 1);
    let event = shared.world.click(&first);
    shared.append(1, Topic::Clicks, &event);
    let visitor = shared.world.visitor(1).as_str().to_owned();
    let report = shared.world.report("A-1", T0 + HOUR_MS, json!({"visitor_id": visitor}));
    shared.append(100, Topic::Conversions, &report);
}

fn stands(shared: &SharedWorld) -> Vec<Stand> {
    shared.waiting().iter().map(|one| one.stand).collect()
}

#[test]
fn an_order_waits_until_the_index_has_its_clicks() {
    let mut shared = SharedWorld::new();
    sale(&mut shared);
    assert_eq!(shared.world.round(), 2);
    assert_eq!((shared.decide(), stands(&shared)), (0, vec![Stand::New]));
    assert!(shared.world.books().is_empty());
    // A refund meanwhile is a fact, no decision.
    let refund = shared.world.refund("R-1", "A-1", T0 + 2 * HOUR_MS, json!({"amount": 500}));
    shared.append(101, Topic::Conversions, &refund);
    shared.world.round();
    shared.held.index().catch_up();
    assert_eq!((shared.decide(), stands(&shared)), (1, vec![]));
    assert_eq!(shared.world.verdict("A-1"), ("attributed".into(), vec![(1, 60)]));
    assert_eq!(shared.decide(), 0);
}

#[test]
fn after_the_grace_it_is_decided_by_what_is_known_and_again_by_all() {
    let mut shared = SharedWorld::new();
    sale(&mut shared);
    shared.world.round();
    shared.held.index().is_down = true;
    shared.clock.advance(GRACE_MS - 1);
    assert_eq!(shared.decide(), 0);
    shared.clock.advance(1);
    assert_eq!((shared.decide(), stands(&shared)), (1, vec![Stand::Provisional]));
    assert_eq!(shared.world.verdict("A-1").0, "no_touch");
    assert_eq!(shared.decide(), 0);
    shared.held.index().is_down = false;
    shared.held.index().catch_up();
    assert_eq!((shared.decide(), stands(&shared)), (1, vec![]));
    assert_eq!(shared.world.verdict("A-1"), ("attributed".into(), vec![(1, 120)]));
}

#[test]
fn m50_a_late_click_has_a_decided_order_looked_at_again() {
    let mut shared = SharedWorld::new();
    sale(&mut shared);
    shared.world.round();
    shared.held.index().catch_up();
    shared.decide();
    let later = shared.world.click(&click(T0 + HOUR_MS / 2, 1, 2));
    shared.append(2, Topic::Clicks, &later);
    shared.world.round();
    // The index does not have it, so the decision stands as it is.
    assert_eq!((shared.decide(), stands(&shared)), (0, vec![Stand::New]));
    assert_eq!(shared.world.verdict("A-1"), ("attributed".into(), vec![(1, 120)]));
    shared.held.index().catch_up();
    shared.decide();
    assert_eq!((shared.world.verdict("A-1"), stands(&shared)), (("attributed".into(), vec![(2, 120)]), vec![]));
}

#[test]
fn e46_an_order_waits_for_the_key_of_its_click() {
    // Other processes sign with key 1 already; ours lists only key 0.
    let listed = Arc::new(Keys::parse(&Keys::file_text(&[9; 64])).unwrap());
    let mut shared = SharedWorld::knowing(Arc::clone(&listed));
    let text = Keys::file_text(&[7; 64]).replace("0:", "1:");
    shared.world.keys = Arc::new(Keys::parse(&text).unwrap());
    let sketch = click(T0, 1, 1);
    let event = shared.world.click(&sketch);
    shared.append(1, Topic::Clicks, &event);
    for (order, at) in [("A-1", 1), ("A-2", 2)] {
        let id = shared.world.click_id(&sketch).to_string();
        let report = shared.world.report(order, T0 + at * HOUR_MS, json!({"click_id": id}));
        shared.append(100, Topic::Conversions, &report);
    }
    shared.world.round();
    shared.held.index().catch_up();
    shared.clock.advance(KEY_WAIT_MS - 1);
    assert_eq!((shared.decide(), stands(&shared)), (0, vec![Stand::ForKey; 2]));
    shared.clock.advance(1);
    // Waited for no longer: told to wait as all others, then decided.
    assert_eq!((shared.decide(), stands(&shared)), (2, vec![Stand::New; 2]));
    assert_eq!(shared.decide(), 2);
    assert_eq!(shared.world.verdict("A-1").0, "invalid_click_id");
}
