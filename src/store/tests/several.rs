//! Several who write one database: nobody misses what another has found out, and nothing is applied twice.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::rollup::{ClickKey, Counts};
use crate::spool::Topic;
use crate::store::{Mark, Place, Reader, Stand, StoreError, Told, Waiting, testing};

/// Whether `work`, done by another one, waits until `first` ends.
fn waits(place: &Place, first: impl FnOnce(), work: impl FnOnce(&mut Store) + Send) -> bool {
    let (done, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            work(&mut Store::open(place).unwrap());
            done.send(()).unwrap();
        });
        let waited = told.recv_timeout(Duration::from_millis(300)).is_err();
        first();
        if waited {
            told.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        waited
    })
}

#[test]
fn a_report_and_its_refund_see_each_other() {
    let home = testing::database();
    let mut store = Store::open(&home.place).unwrap();
    let batch = store.begin().unwrap();
    batch.lock_conversions(&["id-B", "id-A", "id-B"]).unwrap();
    assert!(batch.view().refunds("id-A", 9).unwrap().is_empty());
    batch.add_conversion(&new(&report("A"), &clicks(0))).unwrap();
    let other = |store: &mut Store| {
        let batch = store.begin().unwrap();
        batch.lock_conversions(&["id-A"]).unwrap();
        // The lock came first, so this sees the order.
        assert!(batch.view().conversion("id-A").unwrap().is_some());
        batch.commit().unwrap();
    };
    assert!(waits(&home.place, || batch.commit().unwrap(), other));
    let batch = store.begin().unwrap();
    batch.lock_conversions(&["id-A"]).unwrap();
    // Its row is locked with it, and no text makes the question fail.
    let mut third = Store::open(&home.place).unwrap();
    let begun = third.begin().unwrap();
    let id = begun.view().conversion("id-A").unwrap().unwrap().id;
    assert!(begun.lock_free_conversions(&[id]).unwrap().is_empty());
    begun.lock_conversions(&["id-\0"]).unwrap();
    drop(begun);
    let stranger = |store: &mut Store| store.begin().unwrap().lock_conversions(&["id-C"]).unwrap();
    assert!(!waits(&home.place, || drop(batch), stranger));
}

#[test]
fn rows_are_locked_and_those_that_wait_are_taken_by_one() {
    let home = testing::database();
    let mut store = Store::open(&home.place).unwrap();
    let ids = ["A", "B", "C"].map(|order| sell(&mut store, order));
    let batch = store.begin().unwrap();
    let waiting = |id| Waiting { id, since: TimeMs(1), stand: Stand::New };
    ids.iter().for_each(|id| batch.put_waiting(&[waiting(*id)]).unwrap());
    batch.commit().unwrap();

    let batch = store.begin().unwrap();
    batch.lock_rows(&[ids[1], ids[0]]).unwrap();
    assert_eq!(batch.lock_waiting(&[ids[1], ids[0]]).unwrap(), [waiting(ids[0]), waiting(ids[1])]);
    let mut other = Store::open(&home.place).unwrap();
    let second = other.begin().unwrap();
    assert_eq!(second.lock_waiting(&ids).unwrap(), [waiting(ids[2])]);
    second.lock_rows(&[ids[2]]).unwrap();
    // Who can do something else does not wait for the others.
    let free = second.lock_free_conversions(&[ids[2], ids[0], ids[1]]).unwrap();
    assert_eq!(free.iter().map(|(id, row)| (*id, row.is_ok())).collect::<Vec<_>>(), [(ids[2], true)]);
    drop(second);
    let other = |store: &mut Store| {
        let batch = store.begin().unwrap();
        batch.lock_rows(&ids).unwrap();
        assert_eq!(batch.view().conversion_row(ids[0]).unwrap().unwrap().seq, 77);
    };
    batch.replace_report(ids[0], &report("A"), SpoolId(1), 77).unwrap();
    assert!(waits(&home.place, || batch.commit().unwrap(), other));
}

#[test]
fn what_is_told_is_taken_by_one_and_stays_until_it_was_told() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let batch = store.begin().unwrap();
        for revision in 1..=3 {
            batch.tell(&[(RowId(9), revision)]).unwrap();
        }
        batch.commit().unwrap();
        let batch = store.begin().unwrap();
        let taken = batch.take_outbox(2).unwrap();
        if matches!(home.place, Place::Sqlite(_)) {
            assert!(taken.is_empty());
            batch.told(&[1]).unwrap();
            continue;
        }
        assert_eq!(
            taken.iter().map(|told| (told.id, told.revision)).collect::<Vec<_>>(),
            [(RowId(9), 1), (RowId(9), 2)]
        );
        let mut other = Store::open(&home.place).unwrap();
        let rest = |store: &mut Store| -> Vec<Told> { store.begin().unwrap().take_outbox(9).unwrap() };
        assert_eq!(rest(&mut other).iter().map(|told| told.revision).collect::<Vec<_>>(), [3]);
        batch.told(&[taken[1].number]).unwrap();
        batch.commit().unwrap();
        assert_eq!(rest(&mut other).iter().map(|told| told.revision).collect::<Vec<_>>(), [1, 3]);
    }
}

#[test]
fn a_zombie_applies_nothing_and_both_may_begin_a_spool() {
    for home in testing::homes() {
        let mut first = Store::open(&home.place).unwrap();
        let mut zombie = Store::open(&home.place).unwrap();
        let mark = |next| Mark { next, ..Mark::new(SpoolId(3), Topic::Conversions) };
        let batch = first.begin().unwrap();
        batch.move_mark(&mark(5), 0).unwrap();
        batch.commit().unwrap();
        let late = zombie.begin().unwrap();
        late.add_conversion(&new(&report("A"), &clicks(0))).unwrap();
        assert!(matches!(late.move_mark(&mark(3), 0), Err(StoreError::MarkMoved { expected: 0, .. })));
        drop(late);
        assert_eq!(first.view().conversion_count().unwrap(), 0);
        assert_eq!(first.view().marks().unwrap(), [mark(5)]);
    }
    // While the first has not committed yet, the other waits for it and finds the mark moved.
    let home = testing::database();
    let mut store = Store::open(&home.place).unwrap();
    let mark = |next| Mark { next, ..Mark::new(SpoolId(3), Topic::Clicks) };
    let batch = store.begin().unwrap();
    batch.move_mark(&mark(5), 0).unwrap();
    let other = |store: &mut Store| {
        let moved = store.begin().unwrap().move_mark(&mark(4), 0);
        assert!(matches!(moved, Err(StoreError::MarkMoved { .. })), "{moved:?}");
    };
    assert!(waits(&home.place, || batch.commit().unwrap(), other));
}

#[test]
fn those_who_count_on_lanes_of_their_own_never_wait() {
    let home = testing::database();
    Store::open(&home.place).unwrap();
    let rows: Vec<ClickKey> = (0..50)
        .map(|publisher| ClickKey {
            quarter: TimeMs(0),
            publisher_id: PublisherId(publisher),
            merchant_id: crate::catalog::MerchantId(1),
            offer_id: OfferId(1),
            link: "".into(),
            source: "".into(),
            sub1: "".into(),
        })
        .collect();
    let one = Counts { clicks: 1, billable: 1, rejected: 0 };
    let mut store = Store::open(&home.place).unwrap();
    let batch = store.begin().unwrap();
    batch.add_clicks(rows.iter().map(|key| (key, one)), 0).unwrap();
    let other = |store: &mut Store| {
        let batch = store.begin().unwrap();
        batch.add_clicks(rows.iter().map(|key| (key, one)), 1).unwrap();
        batch.record_horizon(crate::store::Horizon { click: TimeMs(59_000), until: TimeMs(59_000) }).unwrap();
        batch.commit().unwrap();
    };
    batch.record_horizon(crate::store::Horizon { click: TimeMs(59_000), until: TimeMs(59_000) }).unwrap();
    assert!(!waits(&home.place, || batch.commit().unwrap(), other));
    assert_eq!(store.view().click_totals().unwrap().clicks, 100);
}

#[test]
fn a_reader_sees_one_moment() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        sell(&mut store, "A");
        let mut reader = Reader::open(&home.place).unwrap();
        let counts = reader.view(|view| {
            let before = view.conversion_count()?;
            sell(&mut store, "B");
            Ok::<_, StoreError>((before, view.conversion_count()?))
        });
        assert_eq!(counts.unwrap(), (1, 1));
        assert_eq!(reader.view(|view| view.conversion_count()).unwrap(), 2);
    }
}
