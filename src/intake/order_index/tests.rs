use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::redis::testing::{self, Server};

fn index(settings: &LinkSettings) -> OrderIndex {
    OrderIndex::start_redis(settings.clone(), Arc::default()).unwrap()
}

fn key(order: &str) -> MarkKey {
    MarkKey::order(MerchantId(1), order, "sale")
}

fn mark(status: Option<MerchantStatus>) -> Mark {
    Mark { hashes: vec![1, u64::MAX, 3], conversion_id: "c-1".into(), status }
}

#[tokio::test]
async fn i11_marks_of_one_edge_are_known_to_another() {
    let settings = testing::settings();
    let (one, other) = (index(&settings), index(&settings));
    let now = TimeMs(1_795_000_000_000);
    let marks: Vec<(MarkKey, Mark)> = [None, Some(MerchantStatus::Approved), Some(MerchantStatus::Rejected)]
        .into_iter()
        .zip(["A", "B", "C"])
        .map(|(status, order)| (key(order), mark(status)))
        .collect();
    one.remember(marks.clone(), now).await;
    let found = other.look(vec![key("C"), key("none"), key("A"), key("B")]).await.unwrap();
    assert_eq!(found, [Some(marks[2].1.clone()), None, Some(marks[0].1.clone()), Some(marks[1].1.clone())]);
    let changed = Mark { status: Some(MerchantStatus::Pending), ..mark(None) };
    other.remember(vec![(key("A"), changed.clone())], now).await;
    assert_eq!(one.look(vec![key("A")]).await, Some(vec![Some(changed)]));

    for answer in [None, Some("{\"results\":[]}".to_owned())] {
        let known = KeyMark { about: key("A"), answer };
        one.remember_key(key("k"), known.clone(), now).await;
        assert_eq!(other.look_key(key("k")).await, Some(known));
    }
    assert_eq!(other.look_key(key("A")).await, None);
    assert_eq!(one.look(Vec::new()).await, Some(Vec::new()));
    assert_eq!((one.unavailable.value(), other.unavailable.value()), (0, 0));
}

#[tokio::test]
async fn i14_a_claim_is_held_by_one_edge_at_a_time() {
    let settings = testing::settings();
    let (one, other) = (index(&settings), Arc::new(index(&settings)));
    let held = one.claim(key("A")).await;
    // What another edge holds is left for the next round, the rest is taken.
    let round = other.claim_free(key("B"), [key("A"), key("C")].into_iter()).await;
    assert_eq!(round.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key("B"), key("C")]);
    let waiting = tokio::spawn({
        let other = Arc::clone(&other);
        async move { other.claim(key("A")).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    drop(held);
    let second = waiting.await.unwrap();
    drop((second, round));
    // All of them are free again, long before a minute.
    for order in ["A", "B", "C"] {
        drop(one.claim(key(order)).await);
    }
    assert_eq!((one.outwaited.value(), other.outwaited.value()), (0, 0));
}

#[tokio::test]
async fn a_claim_of_a_dead_edge_is_waited_for_a_second() {
    let settings = testing::settings();
    let (dead, other) = (index(&settings), index(&settings));
    std::mem::forget(dead.claim(key("A")).await);
    let begun = Instant::now();
    let claim = other.claim(key("A")).await;
    assert!((Duration::from_millis(950)..Duration::from_secs(3)).contains(&begun.elapsed()));
    assert_eq!(other.outwaited.value(), 1);
    // It never was ours: giving it up leaves it to the dead.
    drop(claim);
    assert_eq!(other.look(vec![key("A")]).await, Some(vec![None]));
    let begun = Instant::now();
    drop(other.claim(key("A")).await);
    assert!(begun.elapsed() >= Duration::from_millis(950));
}

#[tokio::test]
async fn i15_without_redis_reports_are_accepted() {
    let mut server = Server::start(&[]);
    let index = index(&server.settings(None));
    index.remember(vec![(key("A"), mark(None))], TimeMs(0)).await;
    server.signal(rustix::process::Signal::STOP);
    let begun = Instant::now();
    let claim = index.claim(key("A")).await;
    assert_eq!(index.look(vec![key("A")]).await, None);
    index.remember(vec![(key("A"), mark(None))], TimeMs(0)).await;
    drop(claim);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(index.unavailable.value() >= 3);
    server.signal(rustix::process::Signal::CONT);
    server.start_again();
    let begun = Instant::now();
    while index.look(vec![key("A")]).await.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_full_redis_still_tells_what_it_knows() {
    let server = Server::start(&[]);
    let index = index(&server.settings(None));
    index.remember(vec![(key("A"), mark(None))], TimeMs(0)).await;
    let mut limit = ::redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg(1);
    server.link().ask(&[limit]).unwrap();
    let claim = index.claim(key("A")).await;
    index.remember(vec![(key("B"), mark(None))], TimeMs(0)).await;
    assert_eq!(index.look(vec![key("A"), key("B")]).await, Some(vec![Some(mark(None)), None]));
    drop(claim);
}

#[test]
fn p2_an_index_whose_thread_is_gone_is_lost() {
    let (thread, questions) = mpsc::channel(1);
    let index = OrderIndex::of(thread, None);
    assert!(!index.is_lost());
    // As a panic of the thread does.
    drop(questions);
    assert!(index.is_lost());
}
