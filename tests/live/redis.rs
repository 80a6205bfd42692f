//! Redis is a cache and a hint: away, slow, full, emptied or set back, it changes neither redirects nor money.

use crate::cluster::{self, Cluster, Shape};
use crate::crowd::{Answers, Crowd, Pace};
use crate::proxy::{Fault, Proxy};
use crate::{alone, books, by_form, random};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 30 };
/// Short: a provisional decision and its second look are part of the test.
const GRACE: &str = "grace_ms = 2000";

/// Load, a fault in the midst of it, its end, load, and the books.
fn under_load(name: &str, fault: impl FnOnce(&mut Cluster, &Crowd)) -> Cluster {
    let _alone = alone();
    let mut cluster = Cluster::start_with(name, Shape::with("attribution", GRACE));
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(300, 30);
    fault(&mut cluster, &crowd);
    crowd.wait_for(200, 20);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
    cluster
}

#[test]
fn flushall_in_mid_load_changes_no_money() {
    under_load("flushall", |cluster, crowd| {
        for _ in 0..by_form(5, 100) {
            cluster.servers.redis(&["cli", "flushall"]);
            crowd.wait_for(50, 5);
        }
    });
}

/// Parts that depend on every candidate: one touch that is missed or read twice would show.
#[test]
fn flushall_changes_no_money_with_any_model() {
    let _alone = alone();
    let catalog = cluster::CATALOG.replacen("last_click", "linear", 1).replacen("last_click", "time_decay", 1);
    for (catalog, name) in [
        (catalog.clone(), "linear-decay"),
        (catalog.replace("linear", "position").replace("time_decay", "first_click"), "position-first"),
    ] {
        let shape = Shape { catalog: Some(catalog), ..Shape::with("attribution", GRACE) };
        let mut cluster = Cluster::start_with(name, shape);
        let crowd = Crowd::with(&cluster, random::seed(), PACE);
        for _ in 0..by_form(5, 50) {
            crowd.wait_for(60, 10);
            cluster.servers.redis(&["cli", "flushall"]);
        }
        let answers = crowd.go_home();
        books::close_with(&mut cluster, &answers, books::Closing { by_twin: true, ..books::Closing::default() });
    }
}

#[test]
fn a_redis_that_wants_a_password_is_one_that_is_away() {
    under_load("redis-password", |cluster, crowd| {
        cluster.servers.redis(&["cli", "config", "set", "requirepass", "changed"]);
        cluster.servers.redis(&["cli", "-a", "changed", "client", "kill", "type", "normal"]);
        crowd.wait_for(100, 10);
        crate::sleep_ms(2_000);
        cluster.servers.redis(&["cli", "-a", "changed", "config", "set", "requirepass", ""]);
    });
}

#[test]
fn a_frozen_redis_delays_money_and_nothing_else() {
    under_load("frozen-redis", |cluster, crowd| {
        cluster.servers.redis(&["pause"]);
        crowd.wait_for(100, 10);
        crate::sleep_ms(by_form(6_000, 30_000));
        let unavailable: f64 =
            cluster.edges.iter().map(|edge| edge.metric("afflux_dedupe_unavailable_total", "")).sum();
        assert!(unavailable > 0.0, "clicks that were not looked at for duplicates are counted");
        cluster.servers.redis(&["cont"]);
    });
}

#[test]
fn a_full_redis_changes_no_money() {
    under_load("full-redis", |cluster, crowd| {
        cluster.servers.redis(&["cli", "config", "set", "maxmemory", "1"]);
        crowd.wait_for(200, 20);
        crate::sleep_ms(by_form(3_000, 30_000));
        cluster.servers.redis(&["cli", "config", "set", "maxmemory", "0"]);
    });
}

#[test]
fn an_old_snapshot_of_redis_is_caught_up() {
    under_load("snapshot", |cluster, crowd| {
        cluster.servers.redis(&["cli", "save"]);
        crowd.wait_for(300, 30);
        cluster.servers.redis(&["kill"]);
        cluster.servers.redis(&["start"]);
    });
}

/// As a replica that lacks the last seconds: its touches are gone, and so is what it says of its position.
#[test]
fn a_half_lost_index_is_caught_up() {
    under_load("half-lost", |cluster, crowd| {
        for _ in 0..by_form(3, 20) {
            let keys = cluster.servers.redis(&["cli", "--scan"]);
            let touches: Vec<&str> = keys.lines().filter(|key| key.starts_with("w:")).collect();
            for key in touches {
                cluster.servers.redis(&["cli", "del", key]);
            }
            crowd.wait_for(100, 10);
        }
    });
}

#[test]
fn two_seconds_of_latency_are_nothing_to_redirects() {
    let _alone = alone();
    let servers = crate::servers::Servers::ours();
    let target = servers.redis.trim_start_matches("redis://").split('/').next().expect("an address").to_owned();
    let proxy = Proxy::start("127.0.0.1:0", &target);
    let redis = Some(format!("redis://{}/0", proxy.address));
    let shape = Shape { redis, ..Shape::with("attribution", GRACE) };
    let mut cluster = Cluster::start_with("slow-redis", shape);
    let seed = random::seed();
    let mut answers = Answers::default();
    let mut p99 = Vec::new();
    for (round, fault) in [None, Some(Fault::Delay), Some(Fault::Reset), Some(Fault::BlackHole)].into_iter().enumerate()
    {
        match fault {
            Some(Fault::Delay) => proxy.delay(2_000),
            Some(fault) => proxy.set(fault),
            None => {}
        }
        let crowd = Crowd::with(&cluster, seed + round as u64, PACE);
        crate::sleep_ms(by_form(2_000, 30_000));
        crowd.wait_for(200, 5);
        let mut more = crowd.go_home();
        p99.push(more.percentile(99));
        answers.add(more);
        proxy.set(Fault::None);
    }
    println!("redirect p99 as usual, with 2 s of latency, cut, silent: {p99:?} us");
    books::close(&mut cluster, &answers);
    assert!(p99.iter().all(|micros| *micros < p99[0] + 50_000), "{p99:?}");
}
