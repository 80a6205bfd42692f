//! kill -9 at a random moment under load: every answered click stands in the spool once, every accepted order has its
//! outcome, the books close.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::crowd::{Crowd, Ledger};
use crate::rig::server::{Start, TOKEN};
use crate::rig::{Server, books};
use crate::{alone, rounds};

const CLICKS: u64 = 2_000;
const ORDERS: u64 = 100;

#[test]
fn kill_9_loses_nothing_and_doubles_nothing() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let rounds = rounds(5, 100);
    for round in 0..rounds {
        let durability = if round % 2 == 0 { "disk" } else { "process" };
        let start = start_with(durability);
        let server = Server::start(home.path(), &start);
        let crowd = Crowd::start(&server, round);
        crowd.wait_for(CLICKS, ORDERS);
        // A moment that nobody chose: nanoseconds of the clock, up to 20 ms.
        std::thread::sleep(random_moment());
        server.kill();
        ledger.add(crowd.go_home());
        if round % 10 == 9 || round + 1 == rounds {
            let server = Server::start(home.path(), &start);
            assert_nothing_is_missing(&server, &ledger);
            post_again(&server, &mut ledger);
            assert_nothing_is_missing(&server, &ledger);
        }
    }
    println!(
        "kill -9: {rounds} rounds, {} clicks and {} orders answered, 0 lost, 0 doubled",
        ledger.clicks.len(),
        ledger.orders.len()
    );
}

pub fn start_with(durability: &str) -> Start {
    // Small segments: a round rolls several. Unlimited visitors per address: everybody comes from 127.0.0.1.
    let spool = format!("durability = \"{durability}\"\nsegment_bytes = 1_048_576");
    Start { config: vec![("spool", spool)], ..Start::default() }
}

pub fn assert_nothing_is_missing(server: &Server, ledger: &Ledger) {
    assert_what_is_missing_was_counted(server, ledger, 0);
}

/// Where a disk is slower than the clicks that come, some are answered without a record: just as many as the program
/// counted as `unspooled` before it ended.
pub fn assert_what_is_missing_was_counted(server: &Server, ledger: &Ledger, unspooled: u64) {
    let events = books::spooled(server);
    books::assert_chains_have_no_gap(&events);
    let missing = books::missing_or_doubled(&ledger.clicks, &events);
    let spooled = books::click_ids(&events);
    let doubled = missing.iter().filter(|id| spooled.contains_key(*id)).count();
    assert!(
        missing.len() as u64 == unspooled && doubled == 0,
        "{} of {} answered clicks, {doubled} of them doubled, where {unspooled} were counted: {:?}",
        missing.len(),
        ledger.clicks.len(),
        &missing[..missing.len().min(3)]
    );
    let clicks = events.iter().filter(|event| event["event"] == "click").count() as u64;
    let conversions: HashSet<&str> = events
        .iter()
        .filter(|event| event["event"] == "conversion")
        .filter_map(|event| event["conversion_id"].as_str())
        .collect();
    books::wait_for_report(server, clicks, conversions.len() as u64, 60);
    assert_every_order_has_an_outcome(server, ledger, &missing.into_iter().collect());
    books::assert_books_close(server);
}

/// A merchant that does not know what became of its reports sends them all again: whatever moment of the claim, the
/// append or the fdatasync the crash came at, each is accepted, and none counts twice.
fn post_again(server: &Server, ledger: &mut Ledger) {
    let mut api = server.api();
    for sent in std::mem::take(&mut ledger.sent) {
        let body: serde_json::Value = serde_json::from_str(&sent).unwrap();
        let response = api.post_json("/v1/conversions", TOKEN, &body);
        assert_eq!(response.status, 202, "{}", response.text());
        let id = response.json()["conversion_id"].as_str().unwrap().to_owned();
        let order = body["order_id"].as_str().unwrap().to_owned();
        if let Some(known) = ledger.orders.insert(order, id.clone()) {
            assert_eq!(known, id);
            assert_eq!(response.header("idempotency-replayed"), Some("true"), "{sent}");
        }
    }
}

/// An order after a click without a record is decided by whatever else is known of its visitor.
fn assert_every_order_has_an_outcome(server: &Server, ledger: &Ledger, missing: &HashSet<String>) {
    let sent = ledger.sent.iter().map(|body| serde_json::from_str::<serde_json::Value>(body).expect("as it was sent"));
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let clicks: HashMap<String, String> = sent.map(|body| (text(&body["order_id"]), text(&body["click_id"]))).collect();
    let mut api = server.api();
    let authorization = format!("Bearer {TOKEN}");
    for (order, id) in &ledger.orders {
        let response = api.get(&format!("/v1/conversions/{id}"), &[("Authorization", &authorization)]);
        let conversion = response.json();
        if clicks.get(order).is_some_and(|click| missing.contains(click)) {
            assert_ne!(conversion["outcome"], "pending", "{order}: {conversion}");
        } else {
            assert_eq!(conversion["outcome"], "attributed", "{order}: {conversion}");
        }
        assert_eq!(conversion["order_id"], order.as_str());
    }
}

pub fn random_moment() -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Duration::from_micros(u64::from(now.subsec_nanos()) % 20_000)
}
