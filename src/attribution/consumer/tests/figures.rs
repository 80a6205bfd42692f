//! What an order costs at PostgreSQL. `AFFLUX_FIGURES=1 cargo test --lib -- --nocapture what_an_order_costs` prints it.

use serde_json::json;

use super::shared_world::{GRACE_MS, SharedWorld};
use super::world::{T0, click};
use crate::attribution::consumer::shared::Layout;
use crate::attribution::consumer::{Consumer, Decider};
use crate::spool::Topic;
use crate::store::{Reader, RowId, Store, StoreError, testing};
use crate::time::{DAY_MS, HOUR_MS, TimeMs};

const ORDERS: u32 = 200;

/// Round trips and microseconds of this thread's processor for each order, warmed up.
struct Cost {
    statements: f64,
    cpu_us: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:.2} round trips, {:.0} µs", self.statements, self.cpu_us)
    }
}

fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn cost(work: impl FnOnce()) -> Cost {
    let (statements, cpu) = (testing::statements(), cpu_ns());
    work();
    let each = |before: u64, after: u64| (after - before) as f64 / f64::from(ORDERS);
    Cost { statements: each(statements, testing::statements()), cpu_us: each(cpu, cpu_ns()) / 1e3 }
}

/// Orders of one visitor each, with two clicks, into the topics. Each turn is so much later that no click of it concerns
/// orders before.
fn sell(shared: &mut SharedWorld, turn: u32) {
    let day = T0 + i64::from(turn) * 30 * DAY_MS;
    for order in 0..ORDERS {
        let visitor = (order % 250) as u8;
        for publisher in [1, 2] {
            let at = day + i64::from(order) * 100 + i64::from(publisher);
            let event = shared.world.click(&click(at, visitor, publisher));
            shared.append(1, Topic::Clicks, &event);
        }
        let visitor = shared.world.visitor(visitor).as_str().to_owned();
        let name = format!("A-{turn}-{order}");
        let report = shared.world.report(&name, day + HOUR_MS, json!({"visitor_id": visitor}));
        shared.append(100, Topic::Conversions, &report);
    }
}

/// A round ends after a second.
fn decide_all(decider: &mut Decider<'_>) {
    let mut decided = 0;
    while decided < ORDERS as usize {
        decided += decider.round(&|| false).unwrap();
    }
}

#[test]
fn what_an_order_costs_at_postgresql() {
    let home = testing::database();
    let mut shared = SharedWorld::new();
    let Layout::Shared(sharing) = &shared.rules.layout else { panic!("a shared world") };
    let sharing = std::sync::Arc::clone(sharing);
    let mut costs = Vec::new();
    for turn in 0..3 {
        sell(&mut shared, turn);
        let stored = {
            let store = Store::open(&home.place).unwrap();
            let world = &mut shared.world;
            let mut consumer = Consumer::new(&mut world.source, store, &world.rules, &world.metrics).unwrap();
            cost(|| assert_eq!(consumer.round(&|| false).unwrap(), 3 * ORDERS as usize))
        };
        let store = Store::open(&home.place).unwrap();
        let metrics = &shared.metrics;
        let mut held = shared.held.clone();
        let mut decider =
            Decider::new(store, &shared.rules, &sharing, &mut held, &shared.world.metrics, metrics).unwrap();
        // Every other turn they are decided by what is known first, and then again.
        let provisional = (turn == 1).then(|| {
            decider.round(&|| false).unwrap();
            shared.clock.advance(GRACE_MS);
            cost(|| decide_all(&mut decider))
        });
        shared.held.index().catch_up();
        let whole = cost(|| decide_all(&mut decider));
        costs.push((stored, provisional, whole));
    }
    // All of them are decided, those of the second turn twice, and nothing stands where another should.
    let (mut amounts, mut shares) = (Vec::new(), Vec::new());
    let mut reader = Reader::open(&home.place).unwrap();
    reader
        .view(|view| {
            view.books(TimeMs(i64::MAX), |line| {
                amounts.push(line.amount);
                Ok::<(), StoreError>(())
            })?;
            view.shares_between(TimeMs(0), TimeMs(i64::MAX), |share| {
                shares.push((share.publisher_id.map(|id| id.0), share.commission, share.link));
                Ok::<(), StoreError>(())
            })?;
            assert!(view.stray_entries()?.is_empty() && view.imbalance()?.is_empty());
            for row in view.conversions_after(RowId(0), 3 * ORDERS as usize)? {
                let revisions: Vec<u32> = view.decisions(row.id)?.iter().map(|decision| decision.revision).collect();
                assert_eq!((revisions.last(), row.clicks.touches.len()), (Some(&row.revision), 2));
            }
            Ok::<(), StoreError>(())
        })
        .unwrap();
    let orders = 3 * ORDERS as usize;
    assert_eq!((amounts.len(), shares.len()), (2 * orders, orders));
    assert!(amounts.iter().all(|amount| amount.abs() == 120));
    assert!(shares.iter().all(|share| *share == (Some(2), 120, Some("phone".to_owned()))));
    // With the statements that are prepared.
    let [_, (stored, provisional, whole), _] = &costs[..] else { panic!("three turns") };
    for cost in [stored, whole].into_iter().chain(provisional) {
        assert!(cost.statements < 2.0, "{cost}");
    }
    if std::env::var_os("AFFLUX_FIGURES").is_some() {
        for (stored, provisional, whole) in &costs {
            println!("stored: {stored}; decided by the whole index: {whole}");
            provisional.iter().for_each(|cost| println!("decided by what is known: {cost}"));
        }
    }
}
