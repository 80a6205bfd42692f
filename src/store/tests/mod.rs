mod database;
mod facts;
mod pruning;
mod rollups;
mod several;

use serde_json::{Value, json};

use super::{NewConversion, RowId, StatusFact, Store, WatchedVisitor};
use crate::attribution::{Clicks, Extent, OwnClick, Settings, Touch};
use crate::catalog::{OfferId, PublisherId};
use crate::click::{ClickId, Keys, VisitorKey};
use crate::event::{Conversion, MerchantStatus, Refund};
use crate::ledger::{Account, Entry};
use crate::money::Currency;
use crate::spool::SpoolId;
use crate::time::TimeMs;

fn report(order: &str) -> Conversion {
    let report = json!({
        "conversion_id": format!("id-{order}"), "merchant_id": 1, "order_id": order, "type": "sale", "amount": 1000,
        "currency": "IRR", "occurred_at_ms": 70, "received_at_ms": 80, "content_hash": "00000000000000aa",
        "coupon_code": "یلدا\u{0}", "extra": {"note": "\u{0}'\"\\"},
    });
    serde_json::from_value(report).unwrap()
}

fn refund(number: &str, order: &str, with: Value) -> Refund {
    let mut refund = json!({
        "refund_id": number, "conversion_id": format!("id-{order}"), "merchant_id": 1, "order_id": order,
        "type": "sale", "reason": "return", "occurred_at_ms": 75, "received_at_ms": 85,
        "content_hash": "00000000000000bb",
    });
    with.as_object().unwrap().iter().for_each(|(name, value)| refund[name] = value.clone());
    serde_json::from_value(refund).unwrap()
}

fn clicks(count: u32) -> Clicks {
    let keys = Keys::parse(&Keys::file_text(&[1; 64])).unwrap();
    let click = |n: u32| ClickId::sign(&keys, TimeMs(5), OfferId(1), PublisherId(2), VisitorKey(u64::MAX - 3), 0, n);
    Clicks { touches: (0..count).map(|n| Touch(click(n))).collect(), extent: Extent::Reduced }
}

const SETTINGS: Settings = Settings { dedupe_window_ms: 10, clock_skew_ms: 20, max_report_delay_days: 14 };

fn new<'a>(report: &'a Conversion, clicks: &'a Clicks) -> NewConversion<'a> {
    let status = StatusFact { status: MerchantStatus::Approved, at: TimeMs(80), spool: SpoolId(u64::MAX - 9), seq: 4 };
    NewConversion {
        report,
        spool: SpoolId(u64::MAX - 9),
        seq: 4,
        own_click: OwnClick::Invalid,
        clicks,
        status: Some(status),
        catalog: "hash",
        settings: SETTINGS,
    }
}

/// Stores a conversion of this order alone.
fn sell(store: &mut Store, order: &str) -> RowId {
    let batch = store.begin().unwrap();
    let id = batch.add_conversion(&new(&report(order), &clicks(2))).unwrap();
    batch.commit().unwrap();
    id
}

fn entry(order: &str, line: u32, account: Account, amount: i64, at: i64) -> Entry {
    Entry {
        conversion_id: format!("id-{order}"),
        revision: 1,
        line,
        account,
        amount,
        currency: Currency::parse("IRR").unwrap(),
        at_ms: TimeMs(at),
    }
}

fn watched(visitor: VisitorKey, since: i64, until: i64, id: i64) -> WatchedVisitor {
    WatchedVisitor { visitor, since: TimeMs(since), until: TimeMs(until), id: RowId(id) }
}
