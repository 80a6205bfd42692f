//! Clicks are counted once, on however many lanes and with whatever labels.

use super::*;
use crate::catalog::MerchantId;
use crate::event::SpoolState;
use crate::rollup::{ClickKey, Counts, Scope, SourceAndSub};
use crate::spool::Topic;
use crate::store::{KnownSpool, Offset, StoreError, testing};

fn key(quarter: i64, publisher: u32, sub1: &str) -> ClickKey {
    ClickKey {
        quarter: TimeMs(quarter),
        publisher_id: PublisherId(publisher),
        merchant_id: MerchantId(1),
        offer_id: OfferId(12),
        link: "phone".into(),
        source: "".into(),
        sub1: sub1.into(),
    }
}

fn add(store: &mut Store, lane: i32, rows: &[(ClickKey, Counts)]) {
    let batch = store.begin().unwrap();
    batch.add_clicks(rows.iter().map(|(key, counts)| (key, *counts)), lane).unwrap();
    batch.commit().unwrap();
}

const ONE: Counts = Counts { clicks: 1, billable: 1, rejected: 0 };

#[test]
fn rows_add_up_within_a_lane_and_over_lanes() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let minus = Counts { clicks: 0, billable: -1, rejected: 2 };
        add(&mut store, 0, &[(key(0, 1, "a"), ONE), (key(900_000, 1, "b"), ONE)]);
        add(&mut store, 0, &[(key(0, 1, "a"), minus)]);
        add(&mut store, 7, &[(key(0, 1, "a"), ONE)]);
        let mut rows = Vec::new();
        store
            .view()
            .click_rollups(TimeMs(1), TimeMs(900_000), |row| {
                rows.push((row.publisher_id.0, row.link.to_owned(), row.sub1.to_owned(), row.counts));
                Ok::<(), StoreError>(())
            })
            .unwrap();
        rows.sort_by_key(|row| row.3.rejected);
        let row = |counts| (1, "phone".to_owned(), "a".to_owned(), counts);
        assert_eq!(rows, [row(ONE), row(Counts { clicks: 1, billable: 0, rejected: 2 })]);
        assert_eq!(store.view().click_totals().unwrap(), Counts { clicks: 3, billable: 2, rejected: 2 });
        assert_eq!(store.view().impossible_rollups().unwrap(), 0);
        // A lane alone may have less than none.
        add(&mut store, 7, &[(key(900_000, 1, "b"), Counts { clicks: 0, billable: -1, rejected: 0 })]);
        assert_eq!(store.view().impossible_rollups().unwrap(), 0);
        add(&mut store, 8, &[(key(900_000, 1, "b"), Counts { clicks: 0, billable: -1, rejected: 0 })]);
        assert_eq!(store.view().impossible_rollups().unwrap(), 1);
        let mut labels = store.view().labels(Scope { hour: TimeMs(0), publisher_id: PublisherId(1) }).unwrap();
        labels.sort();
        let label = |sub1: &str| -> SourceAndSub { ("".into(), sub1.into()) };
        assert_eq!(labels, [label("a"), label("b")]);
    }
}

#[test]
fn a_flood_of_rows_with_labels_that_somebody_made_up_is_counted() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        // NUL cannot stand in PostgreSQL's text: it becomes the sign that another click has really sent.
        let mut rows: Vec<_> = (0..2_500).map(|n| (key(0, n, "'; DROP TABLE marks; --"), ONE)).collect();
        for sub1 in ["a\0", "a\u{fffd}", "یلدا", ""] {
            rows.push((key(0, 1, sub1), ONE));
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        add(&mut store, 1, &rows);
        add(&mut store, 1, &rows);
        assert_eq!(store.view().click_totals().unwrap().clicks, 2 * rows.len() as i64);
    }
}

#[test]
fn offsets_are_those_of_their_topic() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let batch = store.begin().unwrap();
        for (topic, partition, next) in
            [(Topic::Clicks, 3, 9), (Topic::Conversions, 1, 2), (Topic::Clicks, 0, i64::MAX), (Topic::Clicks, 3, 10)]
        {
            batch.record_offset(topic, Offset { partition, next, last: u64::MAX - next as u64 }).unwrap();
        }
        batch.commit().unwrap();
        let offsets = |topic| -> Vec<(i32, i64)> {
            let offsets = store.view().offsets(topic).unwrap();
            assert!(offsets.iter().all(|offset| offset.last == u64::MAX - offset.next as u64));
            offsets.iter().map(|offset| (offset.partition, offset.next)).collect()
        };
        assert_eq!(offsets(Topic::Clicks), [(0, i64::MAX), (3, 10)]);
        assert_eq!(offsets(Topic::Conversions), [(1, 2)]);
    }
}

#[test]
fn states_of_spools_never_go_back() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let state = |spool, at, shipped| SpoolState {
            spool,
            seq: (shipped > 0).then_some(shipped),
            topic: "clicks".into(),
            edge: "edge-1".into(),
            at_ms: TimeMs(at),
            shipped,
            oldest_unshipped_ms: None,
            unspooled: 1,
            late: 2,
        };
        let mut record = |state: &SpoolState, sealed, partition| {
            let batch = store.begin().unwrap();
            batch.record_state(state, sealed, partition).unwrap();
            batch.commit().unwrap();
            store.view().spool_states().unwrap()
        };
        let known = |state, sealed, partition| KnownSpool { state, sealed, partition };
        assert_eq!(record(&state(u64::MAX, 10, 5), false, 3), [known(state(u64::MAX, 10, 5), false, 3)]);
        assert_eq!(record(&state(u64::MAX, 9, 4), false, 3), [known(state(u64::MAX, 10, 5), false, 3)]);
        assert_eq!(record(&state(u64::MAX, 11, 6), false, 3), [known(state(u64::MAX, 11, 6), false, 3)]);
        // The clock went back before the seal, whose numbers count all the same: what was told from the future is over.
        assert_eq!(record(&state(u64::MAX, 8, 7), true, 3), [known(state(u64::MAX, 8, 7), true, 3)]);
        assert_eq!(record(&state(u64::MAX, 12, 6), false, 3), [known(state(u64::MAX, 8, 7), true, 3)]);
        assert_eq!(record(&state(u64::MAX, 7, 7), true, 3), [known(state(u64::MAX, 7, 7), true, 3)]);
        assert_eq!(record(&state(5, 1, 0), true, 0).len(), 2);

        let batch = store.begin().unwrap();
        let error = batch.record_state(&SpoolState { late: 1 << 63, ..state(6, 1, 0) }, false, 0).unwrap_err();
        assert!(error.is_about_the_record(), "{error}");
    }
}

#[test]
fn a_store_has_a_name_of_its_own() {
    let ids: Vec<u64> = (0..2)
        .flat_map(|_| testing::homes())
        .map(|home| {
            let id = Store::open(&home.place).unwrap().view().store_id().unwrap();
            assert_eq!(Store::open(&home.place).unwrap().view().store_id().unwrap(), id);
            id
        })
        .collect();
    for (number, id) in ids.iter().enumerate() {
        assert!(*id != 0 && !ids[..number].contains(id), "{ids:?}");
    }
}
