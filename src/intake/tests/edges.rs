//! Several edges behind one Redis: an order is new at one of them (contract I11-I16).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::shop::{Setup, Shop, sale};
use crate::redis::LinkSettings;
use crate::redis::testing::{self, Server};

fn edge(settings: &LinkSettings) -> Shop {
    Shop::with(Setup { redis: Some(settings.clone()), ..Setup::default() })
}

fn orders(edges: &[&Shop]) -> Vec<String> {
    let events = edges.iter().flat_map(|edge| edge.disk.events());
    events.map(|event| event["order_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn i14_two_edges_never_both_take_an_order_for_new() {
    let settings = testing::settings();
    let (one, other) = (edge(&settings), edge(&settings));
    for number in 0..20 {
        let report = sale(&number.to_string());
        let (first, second) = tokio::join!(one.report(&report), other.report(&report));
        let (first, second) = (first.expect(202), second.expect(202));
        assert_eq!(first.body, second.body);
        assert_ne!(first.is_replay(), second.is_replay());
    }
    assert_eq!(orders(&[&one, &other]).len(), 20);

    let mut report = sale("X");
    let (first, second) = (one.report(&report).await, {
        report["amount"] = json!(5);
        other.report(&report).await
    });
    first.expect(202);
    assert_eq!(second.expect(409).pointers(), ["/amount"]);
}

#[tokio::test]
async fn i16_batches_of_the_same_orders_at_two_edges_end() {
    let settings = testing::settings();
    let (one, other) = (edge(&settings), edge(&settings));
    let names: Vec<String> = (0..100).map(|number| format!("B{number}")).collect();
    let batch = |names: &[String]| Value::from(names.iter().map(|name| sale(name)).collect::<Vec<_>>());
    let forwards = json!({ "conversions": batch(&names) });
    let backwards: Vec<String> = names.iter().rev().cloned().collect();
    let backwards = json!({ "conversions": batch(&backwards) });
    let (first, second) = tokio::join!(one.report(&forwards), other.report(&backwards));
    first.expect(202);
    second.expect(202);
    let written = orders(&[&one, &other]);
    assert_eq!(written.len(), 100);
    assert_eq!(written.into_iter().collect::<BTreeSet<_>>(), names.into_iter().collect());
}

#[tokio::test]
async fn i15_without_redis_both_edges_accept() {
    let mut server = Server::start(&[]);
    let settings = server.settings(None);
    let (one, other) = (edge(&settings), edge(&settings));
    one.report(&sale("A")).await.expect(202);
    server.kill();
    for edge in [&one, &other] {
        assert!(!edge.report(&sale("A")).await.expect(202).is_replay());
    }
    assert!(one.intake.index_unavailable() >= 1);
}
