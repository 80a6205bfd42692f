//! One report: its fields, its event, its answer (contract I1-I8).

use serde_json::json;

use super::shop::{NOW, Shop, sale};

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
            "received_at_ms": NOW.0, "customer_id": "c-9", "new_customer": true, "discount": 50_000,
            "checkout_started_at_ms": 1_795_328_880_000_i64,
            "items": [{"sku": "p1", "category": "mobile", "quantity": 1, "unit_amount": 1_300_000, "discount": 50_000}],
            "source_ip": "192.0.2.7", "content_hash": null,
        })
    );
    assert!(shop.disk.raw()[0].starts_with(r#"{"event":"conversion","schema":1,"spool":"0000000000000007","seq":0,"#));
}

#[tokio::test]
async fn i11_the_same_report_again_is_a_replay_byte_for_byte() {
    let shop = Shop::open();
    let first = shop.report(&sale("A")).await.expect(202);
    let second = shop.report(&sale("A")).await.expect(202);
    assert!(!first.is_replay() && second.is_replay());
    assert_eq!(first.body, second.body);
    assert_eq!(shop.disk.events().len(), 1);
}
