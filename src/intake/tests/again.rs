//! The same report, refund or key again (contract I11-I16, M44).

use std::sync::Arc;

use serde_json::{Value, json};

use super::shop::{Answer, Setup, Shop, post, sale};
use crate::event::Conversion;

fn with(mut report: Value, change: Value) -> Value {
    report.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    report
}

async fn keyed(shop: &Shop, path: &str, key: &str, body: &Value) -> Answer {
    let request = post(path, "secret").header("idempotency-key", key).body(body.to_string().into()).unwrap();
    shop.ask(request).await
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

#[tokio::test]
async fn i11_other_content_is_409_with_every_field_that_differs() {
    let items = json!([{"sku": "p", "quantity": 1, "unit_amount": 1_000_000}]);
    let full = with(
        sale("A"),
        json!({"coupon_code": "Y", "visitor_id": "v", "customer_id": "c", "new_customer": true, "discount": 5,
               "occurred_at": "2026-11-22T06:00:00Z", "checkout_started_at": "2026-11-22T05:00:00Z", "items": items,
               "note": "n"}),
    );
    for (change, pointers) in [
        (json!({"amount": 2_000_000, "items": null}), vec!["/amount", "/items"]),
        (json!({"click_id": "d"}), vec!["/click_id"]),
        (json!({"click_id": null}), vec!["/click_id"]),
        (json!({"coupon_code": "y"}), vec!["/coupon_code"]),
        (json!({"visitor_id": "w"}), vec!["/visitor_id"]),
        (json!({"occurred_at": "2026-11-22T06:00:00.001Z"}), vec!["/occurred_at"]),
        (json!({"customer_id": "C"}), vec!["/customer_id"]),
        (json!({"new_customer": false}), vec!["/new_customer"]),
        (json!({"discount": null}), vec!["/discount"]),
        (json!({"checkout_started_at": "2026-11-22T05:00:01Z"}), vec!["/checkout_started_at"]),
        (json!({"items": [{"sku": "q", "quantity": 1, "unit_amount": 1_000_000}]}), vec!["/items"]),
        (json!({"note": "m"}), vec!["/extra"]),
        (
            json!({"note": null, "customer_id": null, "coupon_code": "Z"}),
            vec!["/coupon_code", "/customer_id", "/extra"],
        ),
    ] {
        let shop = Shop::open();
        let first = shop.report(&full).await.expect(202);
        let answer = shop.report(&with(full.clone(), change.clone())).await.expect(409);
        assert_eq!(answer.pointers(), pointers, "{change}");
        assert_eq!(answer.json()["conversion_id"], first.json()["conversion_id"]);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(shop.disk.events().len(), 1);
    }
}

#[tokio::test]
async fn i12_spelling_is_no_content() {
    let shop = Shop::open();
    let first = r#"{"order_id":"A","type":"sale","amount":120,"occurred_at":"2026-11-22T06:00:00Z","x":{"a":1,"b":[1.50]},
        "items":[{"sku":"p","quantity":1,"unit_amount":120}],"customer_id":"c"}"#;
    let second = r#" { "customer_id" : "\u0063", "items":[{"unit_amount":120,"quantity":1,"sku":"p","discount":0,"seen":7}],
        "extra":{"x":{"b":[15e-1],"a":1.0}}, "coupon_code":null,
        "occurred_at":"2026-11-22T09:30:00.000+03:30","currency":"IRR","type":"sale","order_id":"A" } "#;
    assert!(!shop.post("/v1/conversions", first).await.expect(202).is_replay());
    assert!(shop.post("/v1/conversions", second).await.expect(202).is_replay());
}

#[tokio::test]
async fn i12_what_we_filled_in_is_not_compared() {
    let shop = Shop::open();
    shop.report(&sale("A")).await.expect(202);
    shop.clock.advance(5_000);
    assert!(shop.report(&sale("A")).await.expect(202).is_replay());
    let told = with(sale("A"), json!({"currency": "IRR", "occurred_at": "2026-11-22T06:30:00Z"}));
    assert!(shop.report(&told).await.expect(202).is_replay());
    assert_eq!(shop.disk.events().len(), 1);
}

#[tokio::test]
async fn i12_another_status_is_the_same_report_and_a_new_fact() {
    let shop = Shop::open();
    let path = |status: &str| format!("/postback?order_id=A&amount=100&token=p-secret{status}");
    let first = shop.get(&path("")).await.expect(200);
    for (status, replays) in [("&status=trash", true), ("&status=trash", true), ("", true), ("&status=Confirmed", true)]
    {
        let answer = shop.get(&path(status)).await.expect(200);
        assert_eq!((&answer.body, answer.is_replay()), (&first.body, replays));
    }
    let told: Vec<Value> = shop.disk.events().iter().map(|event| event["merchant_status"].clone()).collect();
    assert_eq!(told, [Value::Null, json!("rejected"), json!("approved")]);
    let hashes: std::collections::BTreeSet<_> =
        shop.disk.events().iter().map(|event| event["content_hash"].to_string()).collect();
    assert_eq!(hashes.len(), 1);
    // A conflict changes no status.
    shop.get("/postback?order_id=A&amount=101&token=p-secret&status=trash").await.expect(409);
    assert_eq!(shop.disk.events().len(), 3);
}

#[tokio::test]
async fn i12_a_status_without_a_time_is_the_same_report_at_consumption_too() {
    let shop = Shop::open();
    let told = json!({"order_id": "A", "type": "sale", "amount": 100, "occurred_at": "2026-11-22T06:00:00Z"});
    shop.report(&told).await.expect(202);
    shop.clock.advance(5_000);
    assert!(shop.get("/postback?order_id=A&amount=100&token=p-secret&status=trash").await.expect(200).is_replay());
    let events: Vec<Conversion> =
        shop.disk.events().into_iter().map(|event| serde_json::from_value(event).unwrap()).collect();
    assert_eq!(events.iter().map(|event| event.occurred_at_filled_in).collect::<Vec<_>>(), [Some(false), Some(true)]);
    assert!(events[0].is_same_report(&events[1]));
}

#[tokio::test]
async fn i13_a_known_key_answers_again_and_refuses_another_order() {
    let shop = Shop::open();
    let first = keyed(&shop, "/v1/conversions", "k", &sale("A")).await.expect(202);
    let again = keyed(&shop, "/v1/conversions", "k", &sale("A")).await.expect(202);
    assert_eq!((first.is_replay(), again.is_replay(), &first.body), (false, true, &again.body));
    let other = keyed(&shop, "/v1/conversions", "k", &sale("B")).await.expect(409);
    assert_eq!(other.pointers(), [""]);
    let changed = keyed(&shop, "/v1/conversions", "k", &with(sale("A"), json!({"amount": 1}))).await.expect(409);
    assert_eq!(changed.pointers(), ["/amount"]);
    assert!(keyed(&shop, "/v1/conversions", "new", &sale("A")).await.expect(202).is_replay());
    assert_eq!(keyed(&shop, "/v1/conversions", "new", &sale("B")).await.expect(409).pointers(), [""]);
    assert_eq!(shop.disk.events().len(), 1);
}

#[tokio::test]
async fn i13_a_key_belongs_to_merchant_and_path_and_only_a_202_is_remembered() {
    let shop = Shop::open();
    keyed(&shop, "/v1/conversions", "k", &with(sale("A"), json!({"amount": "x"}))).await.expect(422);
    shop.disk.fail(true);
    keyed(&shop, "/v1/conversions", "k", &sale("A")).await.expect(503);
    shop.disk.fail(false);
    keyed(&shop, "/v1/conversions", "k", &sale("B")).await.expect(202);
    let refund = json!({"refund_id": "R", "order_id": "B", "reason": "return"});
    keyed(&shop, "/v1/refunds", "k", &refund).await.expect(202);
    assert!(keyed(&shop, "/v1/refunds", "k", &refund).await.expect(202).is_replay());
    let other = with(refund, json!({"refund_id": "S"}));
    assert_eq!(keyed(&shop, "/v1/refunds", "k", &other).await.expect(409).pointers(), [""]);
    let merchant_2 = post("/v1/conversions", "toman-secret").header("idempotency-key", "k");
    shop.ask(merchant_2.body(sale("C").to_string().into()).unwrap()).await.expect(202);
}

#[tokio::test]
async fn i13_a_batch_is_one_body() {
    let shop = Shop::open();
    let batch = json!({"conversions": [sale("A"), {"order_id": 1}, sale("B")]});
    let first = keyed(&shop, "/v1/conversions", "k", &batch).await.expect(202);
    let again = keyed(&shop, "/v1/conversions", "k", &batch).await.expect(202);
    assert_eq!((first.is_replay(), again.is_replay(), &first.body), (false, true, &again.body));
    for other in [json!({"conversions": [sale("B"), sale("A")]}), json!({"conversions": [sale("A")]}), sale("A")] {
        assert_eq!(keyed(&shop, "/v1/conversions", "k", &other).await.expect(409).pointers(), [""]);
    }
    assert_eq!(shop.disk.events().len(), 2);
}

#[tokio::test]
async fn i13_a_batch_that_says_the_same_in_other_words_is_the_same_body() {
    let shop = Shop::open();
    let keyed = async |body: &str| {
        let request = post("/v1/conversions", "secret").header("idempotency-key", "k");
        shop.ask(request.body(body.to_owned().into()).unwrap()).await
    };
    let first = r#"{"conversions":[
        {"order_id":"A","type":"sale","amount":120,"items":[{"sku":"p","quantity":1,"unit_amount":120}],"x":1},
        {"order_id":"B","type":"lead"},
        {"order_id":7,"n":1.0}]}"#;
    let answer = keyed(first).await.expect(202);
    let same = r#"{"note":null,"conversions":[
        {"currency":"IRR","extra":{"x":1.0,"y":null},"type":"sale","order_id":"A","coupon_code":null,
         "items":[{"unit_amount":120,"quantity":1,"sku":"p","discount":null,"seen":true}]},
        {"order_id":"B","type":"lead","amount":0,"items":[],"extra":{},"occurred_at":"2026-11-22T06:00:00Z"},
        {"n":1,"order_id":7}]}"#;
    let again = keyed(same).await.expect(202);
    assert_eq!((again.is_replay(), &again.body), (true, &answer.body));
    for (what, other) in [
        ("another amount", first.replace("120", "121")),
        ("another unknown field", first.replace("\"x\":1", "\"x\":2")),
        ("another rejected item", first.replace("\"n\":1.0", "\"n\":2")),
        ("another order", first.replace("\"B\"", "\"C\"")),
    ] {
        assert_eq!(keyed(&other).await.expect(409).pointers(), [""], "{what}");
    }
    assert_eq!(shop.disk.events().len(), 2);
}

#[tokio::test]
async fn i13_a_batch_with_other_times_is_another_body() {
    let shop = Shop::open();
    let batch = |time: &str| json!({"conversions": [with(sale("A"), json!({"occurred_at": time})), {"order_id": 1}]});
    let first = keyed(&shop, "/v1/conversions", "k", &batch("2026-11-22T06:00:00Z")).await.expect(202);
    let spelled = keyed(&shop, "/v1/conversions", "k", &batch("2026-11-22T09:30:00.0+03:30")).await.expect(202);
    assert_eq!((spelled.is_replay(), spelled.body), (true, first.body));
    let other = keyed(&shop, "/v1/conversions", "k", &batch("2026-11-22T06:00:01Z")).await.expect(409);
    assert_eq!(other.pointers(), [""]);
}

#[tokio::test]
async fn i13_a_batch_sent_unchanged_is_the_same_although_what_is_allowed_changed() {
    let shop = Shop::open();
    // In the future at first, and not any more a little later.
    let batch = json!({"conversions": [with(sale("A"), json!({"occurred_at": "2026-11-22T06:36:00Z"}))]});
    let first = keyed(&shop, "/v1/conversions", "k", &batch).await.expect(202);
    assert_eq!(first.json()["results"][0]["status"], "rejected");
    shop.clock.advance(300_000);
    let again = keyed(&shop, "/v1/conversions", "k", &batch).await.expect(202);
    assert_eq!((again.is_replay(), again.body), (true, first.body));
}

#[tokio::test]
async fn i12_null_in_extra_is_as_if_absent() {
    let shop = Shop::open();
    assert!(!shop.report(&sale("A")).await.expect(202).is_replay());
    for extra in [json!({"extra": {}}), json!({"extra": {"a": null}}), json!({"extra": null, "a": null})] {
        assert!(shop.report(&with(sale("A"), extra.clone())).await.expect(202).is_replay(), "{extra}");
    }
    assert!(!shop.report(&with(sale("B"), json!({"extra": {"a": {"b": null}}}))).await.expect(202).is_replay());
    assert!(shop.report(&with(sale("B"), json!({"a": {}}))).await.expect(202).is_replay());
    assert_eq!(shop.disk.events()[0].get("extra"), None);
}

#[tokio::test]
async fn i13_marks_survive_a_restart() {
    let (index, _directory) = {
        let shop = Shop::open();
        keyed(&shop, "/v1/conversions", "k", &sale("A")).await.expect(202);
        (shop.directory.path().join("orders.sqlite"), shop.directory)
    };
    let shop = Shop::with(Setup { index: Some(index), ..Setup::default() });
    assert!(shop.report(&sale("A")).await.expect(202).is_replay());
    shop.report(&with(sale("A"), json!({"amount": 1}))).await.expect(409);
    assert_eq!(keyed(&shop, "/v1/conversions", "k", &sale("B")).await.expect(409).pointers(), [""]);
    assert!(shop.disk.events().is_empty());
}

#[tokio::test]
async fn i15_without_the_index_every_report_is_accepted_and_counted() {
    let shop = Shop::with(Setup { index: Some("/proc/nowhere/orders.sqlite".into()), ..Setup::default() });
    for _ in 0..2 {
        assert!(!keyed(&shop, "/v1/conversions", "k", &sale("A")).await.expect(202).is_replay());
    }
    shop.report(&with(sale("A"), json!({"amount": 1}))).await.expect(202);
    assert_eq!(shop.disk.events().len(), 3);
    assert!(shop.intake.index_unavailable() >= 3);
}

#[tokio::test]
async fn i15_a_file_that_is_no_database_is_as_if_down() {
    let directory = tempfile::tempdir().unwrap();
    let index = directory.path().join("orders.sqlite");
    std::fs::write(&index, "not a database ".repeat(1_000)).unwrap();
    let shop = Shop::with(Setup { index: Some(index), ..Setup::default() });
    shop.report(&sale("A")).await.expect(202);
    shop.report(&sale("A")).await.expect(202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i16_fifty_equal_reports_at_once_are_one() {
    for with_key in [false, true] {
        let shop = Arc::new(Shop::open());
        shop.disk.hang(true);
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let shop = shop.clone();
                tokio::spawn(async move {
                    match with_key {
                        true => keyed(&shop, "/v1/conversions", "k", &sale("A")).await,
                        false => shop.report(&sale("A")).await,
                    }
                })
            })
            .collect();
        while shop.disk.raw().is_empty() {
            tokio::task::yield_now().await;
        }
        shop.disk.hang(false);
        let mut first = 0;
        for task in tasks {
            first += u32::from(!task.await.unwrap().expect(202).is_replay());
        }
        assert_eq!((first, shop.disk.events().len()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i16_fifty_different_reports_at_once_are_one_and_49_conflicts() {
    let shop = Arc::new(Shop::open());
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.report(&with(sale("A"), json!({"amount": n}))).await })
        })
        .collect();
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(task.await.unwrap().status.as_u16());
    }
    let count = |status| statuses.iter().filter(|known| **known == status).count();
    assert_eq!((count(202), count(409), shop.disk.events().len()), (1, 49, 1));
}
