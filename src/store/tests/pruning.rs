//! What leaves the store for its age, and what never does.

use super::*;
use crate::catalog::MerchantId;
use crate::event::SpoolState;
use crate::rollup::{ClickKey, Counts};
use crate::spool::Topic;
use crate::store::{Aged, Mark, OpenUntil, Retired, StoreError, testing};

fn finished(spool: u64, last: i64) -> Mark {
    Mark { next: 5, sealed: Some(5), last: Some(TimeMs(last)), ..Mark::new(SpoolId(spool), Topic::Clicks) }
}

fn state(spool: u64, at: i64) -> SpoolState {
    SpoolState {
        spool,
        seq: Some(4),
        topic: "clicks".into(),
        edge: "edge-1".into(),
        at_ms: TimeMs(at),
        shipped: 5,
        oldest_unshipped_ms: None,
        unspooled: 0,
        late: 0,
    }
}

#[test]
fn a_retired_mark_fences_as_before_and_is_found_by_its_spool() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let unfinished = Mark { sealed: None, ..finished(2, 10) };
        let waits = Mark { gap: Some(9), ..finished(3, 10) };
        let empty = Mark { next: 0, sealed: Some(0), last: None, ..finished(6, 0) };
        let batch = store.begin().unwrap();
        for mark in [finished(1, 10), unfinished, waits, finished(4, 90), finished(5, 10), empty] {
            batch.move_mark(&mark, 0).unwrap();
        }
        // Of the fifth was heard lately.
        for (spool, at) in [(1, 10), (5, 90)] {
            batch.record_state(&state(spool, at), true, 0).unwrap();
        }
        assert_eq!(batch.prune(Aged::SpoolStates, TimeMs(50), 9).unwrap(), 0);
        assert_eq!(batch.prune(Aged::Marks, TimeMs(50), 1).unwrap(), 1);
        assert_eq!(batch.prune(Aged::Marks, TimeMs(50), 9).unwrap(), 1);
        assert_eq!(batch.prune(Aged::Marks, TimeMs(50), 9).unwrap(), 0);
        assert_eq!(batch.prune(Aged::SpoolStates, TimeMs(50), 9).unwrap(), 1);
        batch.commit().unwrap();
        let mut at_work: Vec<u64> = store.view().marks().unwrap().iter().map(|mark| mark.spool.0).collect();
        at_work.sort_unstable();
        assert_eq!(at_work, [2, 3, 4, 5]);
        let told: Vec<u64> = store.view().spool_states().unwrap().iter().map(|known| known.state.spool).collect();
        assert_eq!(told, [5]);
        assert_eq!(store.view().retired_of(&[SpoolId(9), SpoolId(1)]).unwrap(), [finished(1, 10)]);
        assert_eq!(store.view().retired().unwrap(), [Retired { topic: Topic::Clicks, spools: 2, records: 5 }]);

        // Who takes it for a new spool gets nowhere.
        let batch = store.begin().unwrap();
        let again = batch.move_mark(&Mark { next: 3, ..Mark::new(SpoolId(1), Topic::Clicks) }, 0);
        assert!(matches!(again, Err(StoreError::MarkMoved { expected: 0, .. })), "{again:?}");
        drop(batch);
        // One that gets more after all is at work again.
        let more = Mark { next: 6, ..finished(1, 10) };
        let batch = store.begin().unwrap();
        batch.move_mark(&more, 5).unwrap();
        batch.commit().unwrap();
        assert!(store.view().marks().unwrap().contains(&more));
    }
}

#[test]
fn visitors_and_counts_leave_the_oldest_at_most_so_many_at_once() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let key = |quarter: i64| ClickKey {
            quarter: TimeMs(quarter * 900_000),
            publisher_id: PublisherId(1),
            merchant_id: MerchantId(1),
            offer_id: OfferId(1),
            link: "l".into(),
            source: "".into(),
            sub1: "".into(),
        };
        let keys = [0, 1, 2, 3].map(key);
        let batch = store.begin().unwrap();
        let one = Counts { clicks: 1, ..Counts::default() };
        (0..2).for_each(|lane| batch.add_clicks(keys.iter().map(|key| (key, one)), lane).unwrap());
        for until in [10, 20, 30] {
            batch.watch_visitors(&[watched(VisitorKey(u64::MAX), 0, until, until)]).unwrap();
        }
        batch.commit().unwrap();
        let batch = store.begin().unwrap();
        assert!(batch.begin_pruning().unwrap());
        assert_eq!(batch.prune(Aged::Visitors, TimeMs(30), 1).unwrap(), 1);
        assert_eq!(batch.prune(Aged::Visitors, TimeMs(30), 9).unwrap(), 1);
        assert_eq!(batch.prune(Aged::ClickRollups, TimeMs(1_800_000), 3).unwrap(), 3);
        assert_eq!(batch.prune(Aged::ClickRollups, TimeMs(1_800_000), 3).unwrap(), 1);
        batch.commit().unwrap();
        assert_eq!(store.view().click_totals().unwrap().clicks, 4);
        let all = (TimeMs(0), TimeMs(99));
        let left = store.view().conversions_open_to(VisitorKey(u64::MAX), all, None, 9).unwrap();
        assert_eq!(left, [OpenUntil { until: TimeMs(30), id: RowId(30) }]);
    }
}

#[test]
fn one_of_several_prunes_and_waits_for_nobody() {
    let home = testing::database();
    let [mut first, mut second] = [(), ()].map(|()| Store::open(&home.place).unwrap());
    let batch = first.begin().unwrap();
    for until in [10, 20] {
        batch.watch_visitors(&[watched(VisitorKey(1), 0, until, until)]).unwrap();
    }
    batch.commit().unwrap();
    let held = first.begin().unwrap();
    assert!(held.begin_pruning().unwrap());
    assert_eq!(held.prune(Aged::Visitors, TimeMs(15), 9).unwrap(), 1);
    let other = second.begin().unwrap();
    assert!(!other.begin_pruning().unwrap());
    // A row that the first is at is passed over.
    assert_eq!(other.prune(Aged::Visitors, TimeMs(99), 9).unwrap(), 1);
    drop(other);
    held.commit().unwrap();
    assert!(second.begin().unwrap().begin_pruning().unwrap());
}

#[test]
fn reports_are_stripped_up_to_the_first_young_or_waiting_one_and_a_broken_one_holds_up_nobody() {
    use crate::store::{Stand, Waiting};
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let mut ids = Vec::new();
        for (order, received) in [("A", 10), ("B", 20), ("C", 30), ("D", 90), ("E", 10)] {
            let mut report = report(order);
            (report.received_at_ms, report.customer_id) = (TimeMs(received), Some("somebody".into()));
            let batch = store.begin().unwrap();
            ids.push(batch.add_conversion(&new(&report, &clicks(1))).unwrap());
            batch.commit().unwrap();
        }
        home.run(&format!("UPDATE conversions SET report = 'broken' WHERE id = {}", ids[1].0));
        let tells = |store: &Store, id| store.view().conversion_row(id).unwrap().unwrap().report.customer_id.is_some();
        let batch = store.begin().unwrap();
        let waiting = Waiting { id: ids[2], since: TimeMs(30), stand: Stand::New };
        batch.put_waiting(&[waiting]).unwrap();
        assert_eq!(batch.prune(Aged::Reports, TimeMs(50), 9).unwrap(), 1);
        batch.end_waiting(&[ids[2]]).unwrap();
        assert_eq!(batch.prune(Aged::Reports, TimeMs(50), 9).unwrap(), 1);
        assert_eq!(batch.prune(Aged::Reports, TimeMs(50), 9).unwrap(), 0);
        batch.commit().unwrap();
        assert_eq!([0, 2, 3, 4].map(|at| tells(&store, ids[at])), [false, false, true, true]);
        let batch = store.begin().unwrap();
        assert_eq!(batch.prune(Aged::Reports, TimeMs(99), 9).unwrap(), 2);
        batch.commit().unwrap();
    }
}
