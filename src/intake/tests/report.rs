//! One report: its fields, its event, its answer (contract I1-I8).

use serde_json::{Value, json};

use super::shop::{Answer, NOW, Shop, post, sale};
use crate::event::Event;
use crate::spool::NotSpooled;

#[tokio::test]
async fn i1_a_report_becomes_an_event_with_all_its_fields() {
    let shop = Shop::open();
    let report = json!({
        "order_id": "A-1001", "type": "sale", "click_id": "…", "coupon_code": "YALDA", "amount": 1_250_000,
        "currency": "IRR", "occurred_at": "2026-11-22T10:00:00+03:30", "customer_id": "c-9", "new_customer": true,
        "discount": 50_000, "checkout_started_at": "2026-11-22T09:58:00+03:30",
        "items": [{"sku": "p1", "category": "mobile", "quantity": 1, "unit_amount": 1_300_000, "discount": 50_000}],
    });
    let answer = shop.report(&report).await.expect(202);
    let conversion_id = answer.json()["conversion_id"].as_str().unwrap().to_owned();
    assert_eq!(answer.json(), json!({"conversion_id": conversion_id, "status": "accepted"}));
    assert!(!answer.is_replay());
    let mut event = shop.event();
    assert_eq!(event["content_hash"].take().as_str().map(str::len), Some(16));
    assert_eq!(
        event,
        json!({
            "event": "conversion", "schema": 1, "spool": "0000000000000007", "seq": 0,
            "conversion_id": conversion_id, "merchant_id": 1, "order_id": "A-1001", "type": "sale", "click_id": "…",
            "coupon_code": "YALDA", "amount": 1_250_000, "currency": "IRR", "occurred_at_ms": 1_795_329_000_000_i64,
            "occurred_at_whole_seconds": true, "occurred_at_filled_in": false, "received_at_ms": NOW.0, "customer_id": "c-9", "new_customer": true, "discount": 50_000,
            "checkout_started_at_ms": 1_795_328_880_000_i64,
            "items": [{"sku": "p1", "category": "mobile", "quantity": 1, "unit_amount": 1_300_000, "discount": 50_000}],
            "source_ip": "192.0.2.7", "content_hash": null,
        })
    );
    assert!(shop.disk.raw()[0].starts_with(r#"{"event":"conversion","schema":1,"spool":"0000000000000007","seq":0,"#));
}

/// The event of one good report that differs from the usual by `change`.
async fn event_of(token: &str, change: Value) -> Value {
    let shop = Shop::open();
    let mut report = sale("A");
    report.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let request = post("/v1/conversions", token).body(report.to_string().into()).unwrap();
    let answer = shop.ask(request).await;
    assert_eq!(answer.status.as_u16(), 202, "{change}: {}", answer.body);
    let raw = shop.disk.raw();
    assert!(matches!(Event::parse(raw[0].as_bytes()), Ok(Event::Conversion(_))), "{}", raw[0]);
    shop.event()
}

#[tokio::test]
async fn i2_what_is_allowed_at_its_limits() {
    for change in [
        json!({"order_id": "a".repeat(255)}),
        json!({"order_id": "سفارش ۱۲"}),
        json!({"order_id": " A "}),
        json!({"type": "lead"}),
        json!({"type": "signup"}),
        json!({"type": "install"}),
        json!({"type": "first_order"}),
        json!({"click_id": null, "coupon_code": null, "visitor_id": null}),
        json!({"visitor_id": "malformed"}),
        json!({"click_id": "a".repeat(100_000)}),
        json!({"amount": 0}),
        json!({"amount": 9_007_199_254_740_991_i64}),
        json!({"currency": "IRR"}),
        json!({"currency": null}),
        json!({"discount": 9_007_199_254_740_991_i64}),
        json!({"occurred_at": "2000-01-01T00:00:00Z"}),
        json!({"occurred_at": "2026-11-22T06:35:00.000Z"}),
        json!({"occurred_at": "2026-11-22t06:30:00z"}),
        json!({"checkout_started_at": "2026-11-22T06:30:00Z"}),
        json!({"checkout_started_at": "2026-11-22T06:30:00Z", "occurred_at": "2026-11-22T06:30:00Z"}),
        json!({"items": []}),
        json!({"items": null}),
        json!({"items": [{"quantity": 1_000_000, "unit_amount": 1}]}),
        json!({"amount": 1_000, "items": vec![json!({"quantity": 1, "unit_amount": 1}); 1_000]}),
        json!({"items": [{"sku": "a".repeat(255), "category": "ک".repeat(255), "quantity": 1, "unit_amount": 1_000_000}]}),
        json!({"items": [{"sku": null, "category": null, "quantity": 1, "unit_amount": 1_000_000, "discount": null}]}),
        json!({"items": [{"quantity": 2, "unit_amount": 1, "discount": 2}, {"quantity": 1, "unit_amount": 1_000_000}]}),
        json!({"items": [{"quantity": 1, "unit_amount": 1_000_000, "out_of_stock": true, "colour": {"any": "thing"}}]}),
    ] {
        event_of("secret", change).await;
    }
}

#[tokio::test]
async fn i2_times_are_cut_to_milliseconds_and_absent_ones_are_the_time_of_receipt() {
    for (text, ms) in [
        (json!("2026-11-22T10:00:00.0009+03:30"), NOW.0),
        (json!("2016-12-31T23:59:60Z"), 1_483_228_799_999),
        (json!(null), NOW.0),
    ] {
        assert_eq!(event_of("secret", json!({"occurred_at": text})).await["occurred_at_ms"], ms, "{text}");
    }
    for (text, whole) in [("2026-11-22T06:00:00Z", json!(true)), ("2026-11-22T06:00:00.000Z", json!(null))] {
        assert_eq!(
            event_of("secret", json!({"occurred_at": text})).await["occurred_at_whole_seconds"],
            whole,
            "{text}"
        );
    }
}

#[tokio::test]
async fn i2_an_absent_amount_is_the_sum_of_the_items_or_nothing() {
    let items = json!([{"quantity": 2, "unit_amount": 1_000, "discount": 100}, {"quantity": 1, "unit_amount": 500}]);
    assert_eq!(event_of("secret", json!({"amount": null, "items": items})).await["amount"], 2_400);
    assert_eq!(event_of("secret", json!({"amount": null, "type": "lead"})).await["amount"], 0);
}

#[tokio::test]
async fn i2_a_malformed_visitor_is_recorded() {
    assert_eq!(event_of("secret", json!({"visitor_id": "x"})).await["visitor_id"], "x");
}

#[tokio::test]
async fn i4_tomans_become_rials_everywhere_but_in_the_catalog() {
    let change = json!({
        "amount": 105, "discount": 3,
        "items": [{"quantity": 2, "unit_amount": 60, "discount": 15}],
    });
    let event = event_of("toman-secret", change).await;
    assert_eq!((&event["amount"], &event["discount"], &event["currency"]), (&json!(1_050), &json!(30), &json!("IRR")));
    assert_eq!(event["items"], json!([{"quantity": 2, "unit_amount": 600, "discount": 150}]));
    let largest = event_of("toman-secret", json!({"amount": 900_719_925_474_099_i64})).await;
    assert_eq!(largest["amount"], 9_007_199_254_740_990_i64);
}

#[tokio::test]
async fn i5_unknown_fields_and_extra_are_kept_together() {
    let event =
        event_of("secret", json!({"note": "n", "nothing": null, "extra": {"basket": [1, 2.50], "note": "m"}})).await;
    assert_eq!(event["extra"], json!({"note": "n", "basket": [1, 2.5]}));
    let of_bytes = |bytes: usize| "a".repeat(bytes - r#"{"x":""}"#.len());
    assert_eq!(event_of("secret", json!({"x": of_bytes(4_096)})).await["extra"]["x"], of_bytes(4_096));
    assert_eq!(event_of("secret", json!({"extra": {}})).await.get("extra"), None);
    assert_eq!(
        event_of("secret", json!({"items": [{"quantity": 1, "unit_amount": 1_000_000, "x": 1}]})).await.get("extra"),
        None
    );
}

#[tokio::test]
async fn i6_without_the_disk_there_is_no_202() {
    let shop = Shop::open();
    for refusal in [NotSpooled::Full, NotSpooled::Failing] {
        shop.disk.refuse(Some(refusal));
        let answer = shop.report(&sale("A")).await.expect(503);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    shop.disk.refuse(None);
    shop.disk.fail(true);
    shop.report(&sale("A")).await.expect(503);
    shop.disk.fail(false);
    // What was written but not known to be on disk is written again, and is no replay.
    assert!(!shop.report(&sale("A")).await.expect(202).is_replay());
    assert!(shop.report(&sale("A")).await.expect(202).is_replay());
}

#[tokio::test]
async fn i6_the_answer_waits_for_the_disk() {
    let shop = Shop::open();
    shop.disk.hang(true);
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(50), shop.report(&sale("A"))).await;
    assert!(waiting.is_err());
    shop.disk.hang(false);
    // The caller hung up, the work went on: the mark stands.
    assert!(shop.report(&sale("A")).await.expect(202).is_replay());
}

#[tokio::test]
async fn i7_the_conversion_id_is_short_and_depends_on_merchant_order_and_type() {
    let shop = Shop::open();
    let id = |answer: Answer| answer.expect(202).json()["conversion_id"].as_str().unwrap().to_owned();
    let first = id(shop.report(&sale("A")).await);
    let characters = first.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    assert!(characters && (1..=64).contains(&first.len()), "{first}");
    let mut lead = sale("A");
    lead["type"] = "lead".into();
    assert_ne!(first, id(shop.report(&lead).await));
    assert_ne!(first, id(shop.report(&sale("a")).await));
    let other = post("/v1/conversions", "toman-secret").body(sale("A").to_string().into()).unwrap();
    assert_ne!(first, id(shop.ask(other).await));
}

#[tokio::test]
async fn i8_a_conversion_that_no_segment_holds_is_too_large() {
    let shop = Shop::open();
    shop.disk.refuse(Some(NotSpooled::TooLarge(1)));
    shop.report(&sale("A")).await.expect_fault("");
    shop.disk.refuse(None);
    shop.report(&sale("A")).await.expect(202);
}

#[tokio::test]
async fn i5_unknown_numbers_are_kept_exactly_as_sent() {
    let numbers = "[99999999999999999999,1.10,0.1000000000000000055511151231257827,1e400,-0,9007199254740993,1E+2]";
    let shop = Shop::open();
    let report = format!(r#"{{"order_id":"A","type":"lead","n":{numbers},"extra":{{"z":{{"deep":[1.0]}}}}}}"#);
    shop.post("/v1/conversions", report).await.expect(202);
    let record = shop.disk.raw().remove(0);
    let kept = format!(r#""extra":{{"n":{numbers},"z":{{"deep":[1.0]}}}},"#);
    assert!(record.contains(&kept), "{record}");
    let Ok(Event::Conversion(conversion)) = Event::parse(record.as_bytes()) else { panic!("{record}") };
    // As it is stored as a fact, and read back.
    let stored = serde_json::to_string(&conversion).unwrap();
    assert!(stored.contains(&kept), "{stored}");
    assert_eq!(serde_json::from_str::<crate::event::Conversion>(&stored).unwrap(), *conversion);
    // By value all the same.
    let same = r#"{"order_id":"A","type":"lead","z":{"deep":[1]},"n":[99999999999999999999,11e-1,
        0.1000000000000000055511151231257827,10e399,0,9007199254740993,100]}"#;
    assert!(shop.post("/v1/conversions", same).await.expect(202).is_replay());
    let other = same.replace("9007199254740993", "9007199254740992");
    assert_eq!(shop.post("/v1/conversions", other).await.expect(409).pointers(), ["/extra"]);
}
