//! Refunds (contract I37, I38).

use serde_json::{Value, json};

use super::shop::{NOW, Shop, post, sale};
use crate::event::Event;

fn refund() -> Value {
    json!({"refund_id": "R-1", "order_id": "A-1001", "reason": "return"})
}

fn with(change: Value) -> Value {
    let mut refund = refund();
    refund.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    refund
}

#[tokio::test]
async fn i37_a_refund_of_items_becomes_an_event() {
    let shop = Shop::open();
    let conversion_id = shop.report(&sale("A-1001")).await.json()["conversion_id"].clone();
    let sent =
        with(json!({"type": "sale", "items": [{"sku": "p1", "quantity": 1}], "occurred_at": "2026-11-22T06:00:00Z"}));
    let answer = shop.refund(&sent).await.expect(202);
    assert_eq!(answer.json(), json!({"refund_id": "R-1", "conversion_id": conversion_id, "status": "accepted"}));
    let mut event = shop.disk.events().pop().unwrap();
    assert_eq!(event["content_hash"].take().as_str().map(str::len), Some(16));
    assert_eq!(
        event,
        json!({
            "event": "refund", "schema": 1, "spool": "0000000000000007", "seq": 1, "refund_id": "R-1",
            "conversion_id": conversion_id, "merchant_id": 1, "order_id": "A-1001", "type": "sale", "reason": "return",
            "items": [{"sku": "p1", "quantity": 1}], "occurred_at_ms": NOW.0 - 1_800_000,
            "occurred_at_filled_in": false, "received_at_ms": NOW.0,
            "content_hash": null,
        })
    );
}

#[tokio::test]
async fn i37_what_a_refund_may_say() {
    for change in [
        json!({}),
        json!({"type": "lead"}),
        json!({"amount": 0}),
        json!({"amount": 9_007_199_254_740_991_i64, "items": []}),
        json!({"amount": 5, "items": null}),
        json!({"reason": "cancellation"}),
        json!({"reason": "adjustment"}),
        json!({"reason": "fraud"}),
        json!({"reason": "out_of_stock"}),
        json!({"reason": "duplicate"}),
        json!({"unknown": {"is": "ignored"}}),
        json!({"items": vec![json!({"sku": "a", "quantity": 1_000_000}); 1_000]}),
    ] {
        let shop = Shop::open();
        let answer = shop.refund(&with(change.clone())).await;
        assert_eq!(answer.status.as_u16(), 202, "{change}: {}", answer.body);
        assert!(matches!(Event::parse(shop.disk.raw()[0].as_bytes()), Ok(Event::Refund(_))));
    }
}

#[tokio::test]
async fn i37_tomans_become_rials() {
    let shop = Shop::open();
    let request = post("/v1/refunds", "toman-secret").body(with(json!({"amount": 12})).to_string().into()).unwrap();
    shop.ask(request).await.expect(202);
    assert_eq!(shop.event()["amount"], 120);
}

#[tokio::test]
async fn i38_a_refund_is_known_by_its_number_alone() {
    let shop = Shop::open();
    let first = shop.refund(&with(json!({"amount": 5}))).await.expect(202);
    shop.clock.advance(60_000);
    let again = shop.refund(&with(json!({"amount": 5, "type": "sale", "x": 1}))).await.expect(202);
    assert_eq!((again.is_replay(), &again.body), (true, &first.body));
    for (change, pointers) in [
        (json!({"amount": 6}), vec!["/amount"]),
        (json!({}), vec!["/amount"]),
        (json!({"items": [{"sku": "a", "quantity": 1}]}), vec!["/items", "/amount"]),
        (json!({"amount": 5, "reason": "fraud"}), vec!["/reason"]),
        (json!({"amount": 5, "type": "lead"}), vec!["/type"]),
        (json!({"amount": 5, "order_id": "B"}), vec!["/order_id"]),
    ] {
        let conflict = shop.refund(&with(change)).await.expect(409);
        assert_eq!(conflict.pointers(), pointers);
        assert_eq!(conflict.json()["conversion_id"], first.json()["conversion_id"]);
    }
    assert!(!shop.refund(&with(json!({"refund_id": "R-2", "amount": 5}))).await.expect(202).is_replay());
    // An order and a refund of the same number have nothing to do with each other.
    shop.report(&sale("R-1")).await.expect(202);
}
