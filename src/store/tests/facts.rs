//! What is stored reads back, the same from both.

use serde_json::json;

use super::*;
use crate::catalog::MerchantId;
use crate::store::{
    BookLine, Decided, Horizon, OpenUntil, RefundInsert, ShareRow, Stand, Store, StoreError, Waiting, Written, testing,
};

#[test]
fn a_conversion_reads_back_as_it_was_stored() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let (first, clicks) = (report("A/1"), clicks(3));
        let batch = store.begin().unwrap();
        let id = batch.add_conversion(&new(&first, &clicks)).unwrap();
        batch.commit().unwrap();
        let row = store.view().conversion("id-A/1").unwrap().unwrap();
        assert_eq!(format!("{row:?}"), format!("{:?}", new(&first, &clicks).row(id)));

        let earlier = Conversion { occurred_at_ms: TimeMs(60), ..first.clone() };
        let batch = store.begin().unwrap();
        batch.replace_report(id, &earlier, SpoolId(1), 2).unwrap();
        batch.record_clicks(id, &Clicks { touches: Vec::new(), extent: Extent::Cut }).unwrap();
        batch.commit().unwrap();
        let row = store.view().conversion_row(id).unwrap().unwrap();
        assert_eq!((row.report, row.spool, row.seq), (earlier, SpoolId(1), 2));
        assert_eq!((row.clicks.touches.len(), row.clicks.extent), (0, Extent::Cut));

        let other = sell(&mut store, "A/2");
        assert!(other > id);
        let orders = |merchant: Option<u32>| {
            let found = store.view().conversions_of_order("A/2", merchant.map(MerchantId), 9).unwrap();
            found.into_iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!((orders(None), orders(Some(1)), orders(Some(2))), (vec![other], vec![other], vec![]));
        let after = store.view().conversions_after(id, 9).unwrap();
        assert_eq!((after.len(), store.view().conversion_count().unwrap()), (1, 2));
        assert!(store.view().conversion("id-A/3").unwrap().is_none());
    }
}

#[test]
fn an_order_is_there_once_and_the_batch_goes_on_without_the_second() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        sell(&mut store, "A-1");
        let batch = store.begin().unwrap();
        let (again, clicks) = (report("A-1"), clicks(0));
        let twice = batch.attempt(|batch| batch.add_conversion(&new(&again, &clicks)).map(drop));
        let error = twice.unwrap_err();
        assert!(error.is_about_the_record(), "{error}");
        // No row of anybody stands in what is logged.
        assert!(!error.to_string().contains("A-1"), "{error}");
        batch.attempt(|batch| batch.add_conversion(&new(&report("A-2"), &clicks)).map(drop)).unwrap();
        batch.commit().unwrap();
        assert_eq!(store.view().conversion_count().unwrap(), 2);
    }
}

#[test]
fn a_batch_that_is_dropped_leaves_no_trace() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let batch = store.begin().unwrap();
        batch.add_conversion(&new(&report("A-1"), &clicks(1))).unwrap();
        drop(batch);
        assert_eq!(store.view().conversion_count().unwrap(), 0);
        sell(&mut store, "A-1");
    }
}

#[test]
fn refunds_are_kept_once_and_wait_for_their_order() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let batch = store.begin().unwrap();
        let add = |refund: &Refund| batch.add_refund(refund, true).unwrap();
        assert_eq!(add(&refund("R-1", "A-1", json!({}))), RefundInsert::New);
        assert_eq!(add(&refund("R-1", "A-1", json!({}))), RefundInsert::Exact);
        assert_eq!(
            add(&refund("R-1", "A-1", json!({"reason": "fraud", "content_hash": "00000000000000cc"}))),
            RefundInsert::Conflict
        );
        assert_eq!(add(&refund("R-2", "A-1", json!({}))), RefundInsert::New);
        batch
            .add_refund_conflict(
                SpoolId(1),
                2,
                &refund("R-1", "A-1", json!({"reason": "fraud", "content_hash": "00000000000000cc"})),
            )
            .unwrap();
        batch.add_conversion_conflict(SpoolId(1), 3, &report("A-1")).unwrap();
        batch.commit().unwrap();
        let view = store.view();
        assert_eq!((view.refunds_waiting().unwrap(), view.refunds_forgotten().unwrap().len()), (2, 0));
        assert_eq!(view.refunds("id-A-1", 1).unwrap(), [refund("R-1", "A-1", json!({}))]);
        let counts = |most| view.refund_count("id-A-1", most).unwrap();
        assert_eq!((counts(1), counts(9), view.conflict_count("id-A-1").unwrap()), (1, 2, 2));
        let mut behind = Vec::new();
        view.each_refund("id-A-1", (1, u64::MAX), |refund| behind.push(refund.refund_id)).unwrap();
        assert_eq!(behind, ["R-2"]);
        sell(&mut store, "A-1");
        assert_eq!(store.view().refunds_forgotten().unwrap(), ["R-1", "R-2"]);
        let batch = store.begin().unwrap();
        assert_eq!(batch.end_refunds_waiting("id-A-1").unwrap(), 2);
        batch.commit().unwrap();
        assert!(store.view().refunds_forgotten().unwrap().is_empty());
    }
}

#[test]
fn entries_are_appended_and_never_edited() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        // Names in the order of their bytes, not of somebody's alphabet.
        let ids = ["b", "B", "a-1", "a"].map(|order| (order, sell(&mut store, order)));
        let batch = store.begin().unwrap();
        for (order, id) in ids {
            let (merchant, publisher) =
                (Account::MerchantReceivable(MerchantId(1)), Account::PublisherPending(PublisherId(2)));
            let lines = [entry(order, 0, merchant, 60, 80), entry(order, 1, publisher, -60, 80)];
            batch.add_entries(&[(id, &lines[0]), (id, &lines[1])]).unwrap();
            assert_eq!(batch.view().entries(id).unwrap(), lines);
        }
        let again = batch.attempt(|batch| {
            batch.add_entries(&[(ids[0].1, &entry("b", 0, Account::PublisherPending(PublisherId(2)), -60, 80))])
        });
        assert!(again.unwrap_err().is_about_the_record());
        batch.commit().unwrap();
        let books = |until: i64| {
            let mut lines: Vec<BookLine> = Vec::new();
            store
                .view()
                .books(TimeMs(until), |line| {
                    lines.push(line);
                    Ok::<(), StoreError>(())
                })
                .unwrap();
            lines.into_iter().map(|line| (line.order_id, line.conversion_id, line.amount)).collect::<Vec<_>>()
        };
        let line = |order: &str, amount| (order.to_owned(), format!("id-{order}"), amount);
        let sorted = ["B", "a", "a-1", "b"].map(|order| [line(order, 60), line(order, -60)]).concat();
        assert_eq!((books(80), books(79)), (sorted, vec![]));
        assert!(store.view().imbalance().unwrap().is_empty() && store.view().stray_entries().unwrap().is_empty());
        for edit in ["UPDATE entries SET amount = amount + 1", "DELETE FROM entries"] {
            let edit = store.begin().unwrap().execute(edit, &[]);
            assert!(edit.unwrap_err().to_string().contains("entries are never"));
        }
    }
}

#[test]
fn an_unbalanced_book_and_a_stray_entry_are_found() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let id = sell(&mut store, "A-1");
        let batch = store.begin().unwrap();
        let account = Account::MerchantReceivable(MerchantId(1));
        batch.add_entries(&[(id, &entry("A-1", 0, account, 60, 80))]).unwrap();
        batch.add_entries(&[(RowId(id.0 + 7), &entry("A-7", 0, account, 1, 80))]).unwrap();
        batch.commit().unwrap();
        assert_eq!(store.view().imbalance().unwrap(), [("IRR".to_owned(), 61)]);
        assert_eq!(store.view().stray_entries().unwrap(), ["id-A-7.1.0"]);
    }
}

#[test]
fn shares_take_the_place_of_those_before() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let share = |conversion, occurred, publisher: Option<u32>| ShareRow {
            conversion: RowId(conversion),
            occurred: TimeMs(occurred),
            merchant_id: MerchantId(u32::MAX),
            offer_id: publisher.map(OfferId),
            publisher_id: publisher.map(PublisherId),
            link: publisher.map(|_| "phone".into()),
            source: None,
            sub1: Some("س".into()),
            kind: "sale".into(),
            coupon_code: None,
            currency: Currency::parse("IRR").unwrap(),
            amount: i64::MAX,
            commission: -3,
            reversed: 0,
        };
        let batch = store.begin().unwrap();
        batch.add_shares(&[share(1, 50, Some(9)), share(1, 50, Some(2)), share(2, 40, None)]).unwrap();
        batch.commit().unwrap();
        assert_eq!(store.view().shares(RowId(1)).unwrap(), [share(1, 50, Some(2)), share(1, 50, Some(9))]);
        let between = |from, to| {
            let mut rows = Vec::new();
            let show = |row: ShareRow| {
                rows.push(row.conversion.0);
                Ok::<(), StoreError>(())
            };
            store.view().shares_between(TimeMs(from), TimeMs(to), show).unwrap();
            rows
        };
        assert_eq!((between(40, 51), between(41, 50)), (vec![2, 1, 1], vec![]));
        let batch = store.begin().unwrap();
        batch.remove_shares(&[RowId(1)]).unwrap();
        batch.commit().unwrap();
        assert!(store.view().shares(RowId(1)).unwrap().is_empty());
    }
}

#[test]
fn late_clicks_find_the_conversions_that_watch_their_visitor() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let (far, near) = (VisitorKey(u64::MAX), VisitorKey(1));
        let batch = store.begin().unwrap();
        batch.watch_visitors(&[watched(far, 10, 50, 1)]).unwrap();
        batch.watch_visitors(&[watched(far, 5, 50, 1)]).unwrap();
        batch.watch_visitors(&[watched(far, 30, 40, 2)]).unwrap();
        batch.watch_visitors(&[watched(near, 30, 60, 3)]).unwrap();
        batch.commit().unwrap();
        let open = |until, id| OpenUntil { until: TimeMs(until), id: RowId(id) };
        let found = |first, last, after| {
            store.view().conversions_open_to(far, (TimeMs(first), TimeMs(last)), after, 9).unwrap()
        };
        assert_eq!(found(5, 5, None), [open(50, 1)]);
        assert_eq!(found(4, 35, None), [open(40, 2), open(50, 1)]);
        assert_eq!(found(4, 35, Some(open(40, 2))), [open(50, 1)]);
        assert_eq!(found(51, 60, None), []);
        let batch = store.begin().unwrap();
        let many = |visitors: &[(VisitorKey, TimeMs, TimeMs)], limit| {
            let mut found = batch.conversions_open_to_many(visitors, limit).unwrap();
            found.sort_by_key(|(visitor, open)| (*visitor, open.until, open.id));
            found
        };
        let all = [(near, open(60, 3)), (far, open(40, 2)), (far, open(50, 1))];
        let asked =
            [(far, TimeMs(4), TimeMs(35)), (near, TimeMs(30), TimeMs(30)), (VisitorKey(7), TimeMs(0), TimeMs(9))];
        assert_eq!(many(&asked, 9), all);
        assert_eq!((many(&asked, 2).len(), many(&[], 9).len()), (2, 0));
        assert_eq!(many(&[(near, TimeMs(0), TimeMs(29)), (far, TimeMs(41), TimeMs(41))], 9), [(far, open(50, 1))]);
    }
}

#[test]
fn the_horizon_is_never_told_too_near() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let mut latest = Horizon { click: TimeMs(0), until: TimeMs(0) };
        for step in [1, 59_000, 2_000, 61_000, 5] {
            latest = Horizon { click: TimeMs(latest.click.0 + step), until: TimeMs(latest.until.0 + 2 * step) };
            let batch = store.begin().unwrap();
            batch.record_horizon(latest).unwrap();
            batch.commit().unwrap();
            let read = store.view().horizon().unwrap();
            assert!(read.until >= latest.until && read.until.0 <= latest.until.0 + 60_000, "{read:?} {latest:?}");
            assert!(read.click <= latest.click && read.click.0 >= latest.click.0 - 60_000, "{read:?} {latest:?}");
        }
    }
}

#[test]
fn conversions_wait_the_oldest_first() {
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let waiting = |id, since, stand| Waiting { id: RowId(id), since: TimeMs(since), stand };
        let batch = store.begin().unwrap();
        for row in [waiting(1, 30, Stand::New), waiting(2, 10, Stand::ForKey), waiting(3, 10, Stand::New)] {
            batch.put_waiting(&[row]).unwrap();
        }
        batch.put_waiting(&[waiting(1, 20, Stand::Provisional)]).unwrap();
        batch.commit().unwrap();
        let [first, second, third] =
            [waiting(2, 10, Stand::ForKey), waiting(3, 10, Stand::New), waiting(1, 20, Stand::Provisional)];
        assert_eq!(store.view().waiting(9).unwrap(), [first, second, third]);
        assert_eq!((store.view().waiting(1).unwrap(), store.view().waiting_count().unwrap()), (vec![first], 3));
        assert_eq!(store.view().waiting_at(Stand::New, 9).unwrap(), [second]);
        assert_eq!(store.view().waiting_at(Stand::Provisional, 9).unwrap(), [third]);
        assert!(store.view().waiting_at(Stand::ForKey, 0).unwrap().is_empty());
        let batch = store.begin().unwrap();
        batch.end_waiting(&[RowId(2)]).unwrap();
        assert_eq!(batch.lock_waiting(&[RowId(3), RowId(2), RowId(1), RowId(3)]).unwrap(), [third, second]);
        batch.commit().unwrap();
        assert_eq!(store.view().waiting_count().unwrap(), 2);
    }
}

#[test]
fn decisions_read_back_byte_for_byte() {
    use crate::attribution::consumer::tests::world::{T0, World, click};
    use crate::time::HOUR_MS;

    let mut world = World::new();
    world.append(1, crate::spool::Topic::Clicks, &world.click(&click(T0, 1, 2)));
    let visitor = json!({"visitor_id": world.visitor(1).as_str()});
    world.append(2, crate::spool::Topic::Conversions, &world.report("A-1", T0 + HOUR_MS, visitor));
    world.append(2, crate::spool::Topic::Conversions, &world.refund("R-1", "A-1", T0, json!({"amount": 9})));
    world.round();
    let id = world.conversion_id(1, "A-1", "sale");
    let made = world.look(|view| view.decisions(view.conversion(&id)?.unwrap().id));
    assert_eq!(made.len(), 2);
    for home in testing::homes() {
        let mut store = Store::open(&home.place).unwrap();
        let id = sell(&mut store, "A-1");
        assert!(store.view().latest_decision(id).unwrap().is_none());
        let batch = store.begin().unwrap();
        for row in &made {
            let (facts, decision) = (&row.facts, &row.decision);
            batch.add_decisions(&[Written { id, revision: row.revision, facts, decision }]).unwrap();
            let clicks = &Clicks { touches: facts.touches.clone(), extent: Extent::Reduced };
            batch.record_decided(&[Decided { id, clicks, revision: row.revision, booked: TimeMs(90) }]).unwrap();
        }
        batch.commit().unwrap();
        assert_eq!(store.view().decisions(id).unwrap(), made);
        assert_eq!(store.view().latest_decision(id).unwrap().as_ref(), made.last());
        let row = store.view().conversion_row(id).unwrap().unwrap();
        assert_eq!((row.revision, row.booked), (2, TimeMs(90)));
        assert_eq!((row.clicks.touches, row.clicks.extent), (made[1].facts.touches.clone(), Extent::Reduced));
        let latest = store.view().latest_decisions(&[RowId(id.0 + 9), id]).unwrap();
        assert_eq!(latest, [(id, made[1].clone())]);
        let batch = store.begin().unwrap();
        let (facts, decision) = (&made[0].facts, &made[0].decision);
        batch.reword_decisions(&[Written { id, revision: 2, facts, decision }]).unwrap();
        batch.commit().unwrap();
        assert_eq!(store.view().latest_decision(id).unwrap().unwrap().text, made[0].text);
    }
}
