//! Many reports in one request (contract I9, I10).

use serde_json::{Value, json};

use super::shop::{Answer, Shop, pointers, sale};

async fn batch(shop: &Shop, conversions: &[Value]) -> Answer {
    shop.report(&json!({"conversions": conversions})).await
}

#[tokio::test]
async fn i9_every_item_has_its_result_and_a_bad_one_spoils_no_other() {
    let shop = Shop::open();
    shop.report(&sale("known")).await.expect(202);
    let mut other = sale("known");
    other["amount"] = 5.into();
    let items = [sale("A"), json!({"order_id": 5, "type": "sale", "amount": 1}), json!("x"), sale("known"), other];
    let answer = batch(&shop, &items).await.expect(202);
    assert!(!answer.is_replay());
    let results = answer.json()["results"].clone();
    assert_eq!(results.as_array().map(Vec::len), Some(5));
    for (index, result) in results.as_array().unwrap().iter().enumerate() {
        assert_eq!(result["index"], index);
    }
    let id = |order: &str| {
        let event = shop.disk.events().into_iter().find(|event| event["order_id"] == order).unwrap();
        event["conversion_id"].clone()
    };
    assert_eq!(results[0], json!({"index": 0, "status": "accepted", "conversion_id": id("A")}));
    assert_eq!((&results[1]["status"], &results[1]["problem"]["status"]), (&json!("rejected"), &json!(422)));
    assert_eq!(pointers(&results[1]["problem"]), ["/order_id"]);
    assert_eq!(pointers(&results[2]["problem"]), [""]);
    assert_eq!(results[3], json!({"index": 3, "status": "accepted", "conversion_id": id("known"), "replayed": true}));
    assert_eq!((&results[4]["status"], &results[4]["problem"]["status"]), (&json!("rejected"), &json!(409)));
    assert_eq!(results[4]["problem"]["conversion_id"], id("known"));
    assert_eq!(pointers(&results[4]["problem"]), ["/amount"]);
    assert_eq!(shop.disk.events().len(), 2);
}

#[tokio::test]
async fn i9_a_batch_of_bad_items_is_202() {
    let shop = Shop::open();
    let answer = batch(&shop, &[json!({}), json!(null)]).await.expect(202);
    assert!(answer.json()["results"].as_array().unwrap().iter().all(|result| result["status"] == "rejected"));
    assert!(shop.disk.events().is_empty());
}

#[tokio::test]
async fn i9_without_the_disk_the_whole_batch_is_503_and_may_be_sent_again() {
    let shop = Shop::open();
    shop.disk.fail(true);
    batch(&shop, &[sale("A"), sale("B")]).await.expect(503);
    shop.disk.fail(false);
    let results = batch(&shop, &[sale("A"), sale("B")]).await.expect(202).json()["results"].clone();
    assert!(results.as_array().unwrap().iter().all(|result| result["status"] == "accepted"));
}

#[tokio::test]
async fn i10_a_thousand_items_are_taken_in_order() {
    let shop = Shop::open();
    let items: Vec<Value> = (0..1_000).map(|n| sale(&n.to_string())).collect();
    let results = batch(&shop, &items).await.expect(202).json()["results"].clone();
    assert_eq!(results.as_array().map(Vec::len), Some(1_000));
    let orders: std::collections::BTreeSet<_> =
        shop.disk.events().iter().map(|event| event["order_id"].to_string()).collect();
    assert_eq!(orders.len(), 1_000);
    let again = batch(&shop, &items).await.expect(202).json()["results"].clone();
    assert!(again.as_array().unwrap().iter().all(|result| result["replayed"] == true));
    assert_eq!(shop.disk.events().len(), 1_000);
}

#[tokio::test]
async fn i10_the_same_order_twice_in_a_batch_is_a_replay_or_a_conflict() {
    let shop = Shop::open();
    let mut other = sale("A");
    other["customer_id"] = "c".into();
    let results = batch(&shop, &[sale("A"), sale("A"), other]).await.expect(202).json()["results"].clone();
    assert_eq!(results[0].get("replayed"), None);
    assert_eq!(results[1]["replayed"], true);
    assert_eq!(results[2]["problem"]["status"], 409);
    assert_eq!(pointers(&results[2]["problem"]), ["/customer_id"]);
    assert_eq!(shop.disk.events().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i14_batches_of_the_same_orders_do_not_block_each_other() {
    let shop = std::sync::Arc::new(Shop::open());
    let orders: Vec<Value> = (0..100).map(|n| sale(&n.to_string())).collect();
    let mut tasks = Vec::new();
    for turn in 0..20 {
        let (shop, mut orders) = (shop.clone(), orders.clone());
        orders.rotate_left(turn * 5);
        if turn % 2 == 0 {
            orders.reverse();
        }
        tasks.push(tokio::spawn(async move { batch(&shop, &orders).await.expect(202).json()["results"].clone() }));
    }
    let mut accepted = 0;
    for task in tasks {
        let results = task.await.unwrap();
        accepted += results.as_array().unwrap().iter().filter(|result| result.get("replayed").is_none()).count();
    }
    assert_eq!((accepted, shop.disk.events().len()), (100, 100));
}
