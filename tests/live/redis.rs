//! Redis is a cache and a hint: away, slow, full, emptied or set back, it changes neither redirects nor money.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::cluster::{self, Cluster, Shape};
use crate::crowd::{Crowd, Pace};
use crate::proxy::{Fault, Proxy};
use crate::servers::Servers;
use crate::{alone, books, by_form, random, steady};

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
        cluster.shows("attribution", "afflux_touch_index_moved_total", "", 0.0);
    });
}

/// Parts that depend on every candidate: one touch that is missed or read twice would show.
#[test]
fn flushall_between_the_two_reads_of_a_decision_changes_no_money_with_any_model() {
    let _alone = alone();
    let models = |first, second| {
        let catalog = cluster::CATALOG.replacen("last_click", first, 1);
        // The other offer's stands last.
        let (before, after) = catalog.rsplit_once("last_click").expect("two offers");
        format!("{before}{second}{after}")
    };
    for (first, second) in [("linear", "time_decay"), ("position", "first_click"), ("last_click", "last_click")] {
        let rounds = by_form(10, 200);
        let servers = Servers::ours();
        let (proxy, flushed) = flushing(&servers, rounds);
        let redis = Some(format!("redis://{}/0", proxy.address));
        let mut shape = Shape { redis, catalog: Some(models(first, second)), ..Shape::with("attribution", GRACE) };
        // Of two buckets each is read by a question of its own: the flush falls between these too.
        shape.config.push(("touch", "buckets = 2".into()));
        let mut cluster = Cluster::start_with(&first.replace('_', "-"), shape);
        let crowd = Crowd::with(&cluster, random::seed(), PACE);
        books::wait_for(Duration::from_secs(30 * rounds), "decisions are under way", || {
            let seen = flushed.load(Relaxed);
            if seen >= rounds { Ok(()) } else { Err(format!("{seen} flushes of {rounds}")) }
        });
        crowd.wait_for(50, 5);
        let answers = crowd.go_home();
        cluster.shows("attribution", "afflux_touch_index_moved_total", "", 0.0);
        let by_twin = first != "last_click";
        books::close_with(&mut cluster, &answers, books::Closing { by_twin, ..books::Closing::default() });
    }
}

/// A decision asks how far the index is, and then for touches. This proxy lets the first answer pass and empties Redis
/// before it passes on a question for touches: so many times, each time after enough others that the index was whole again.
fn flushing(servers: &Servers, times: u64) -> (Proxy, Arc<AtomicU64>) {
    let script =
        concat!(include_str!("../../src/touch/shared/layout.lua"), include_str!("../../src/touch/shared/find.lua"));
    let sha = servers.redis(&["cli", "script", "load", script]).trim().to_owned();
    assert_eq!(sha.len(), 40, "{sha}");
    let (flushed, asked) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let (counter, target) = (flushed.clone(), address(servers));
    let server = target.clone();
    let watch = move |piece: &mut Vec<u8>, is_answer: bool| {
        let is_look_up = !is_answer && piece.windows(40).any(|word| word == sha.as_bytes());
        if is_look_up && asked.fetch_add(1, Relaxed) % 5 == 2 && counter.load(Relaxed) < times {
            let mut answer = [0; 5];
            let mut redis = TcpStream::connect(&server).expect("Redis");
            redis.write_all(b"FLUSHALL\r\n").and_then(|()| redis.read_exact(&mut answer)).expect("Redis answers");
            assert_eq!(&answer, b"+OK\r\n");
            counter.fetch_add(1, Relaxed);
        }
    };
    (Proxy::watched("127.0.0.1:0", &target, Box::new(watch)), flushed)
}

fn address(servers: &Servers) -> String {
    servers.redis.trim_start_matches("redis://").split('/').next().expect("an address").to_owned()
}

#[test]
fn a_redis_that_wants_a_password_is_one_that_is_away() {
    under_load("redis-password", |cluster, crowd| {
        cluster.servers.redis(&["cli", "config", "set", "requirepass", "changed"]);
        cluster.servers.redis(&["cli", "-a", "changed", "client", "kill", "type", "normal"]);
        crowd.wait_for(100, 10);
        cluster.shows("attribution", "afflux_redis_down", "use=\"touches\"", 0.0);
        cluster.shows("edge", "afflux_redis_down", "use=\"orders\"", 0.0);
        cluster.shows("edge", "afflux_dedupe_unavailable_total", "", 0.0);
        cluster.servers.redis(&["cli", "-a", "changed", "config", "set", "requirepass", ""]);
        assert_eq!(cluster.edges_count("afflux_shipper_parked_total"), 0.0);
    });
}

#[test]
fn a_frozen_redis_delays_money_and_nothing_else() {
    under_load("frozen-redis", |cluster, crowd| {
        cluster.servers.redis(&["pause"]);
        crowd.wait_for(100, 10);
        crate::sleep_ms(by_form(6_000, 30_000));
        // Clicks that were not looked at for duplicates are counted.
        cluster.shows("edge", "afflux_dedupe_unavailable_total", "", 0.0);
        cluster.servers.redis(&["cont"]);
    });
}

#[test]
fn a_full_redis_changes_no_money() {
    under_load("full-redis", |cluster, crowd| {
        cluster.servers.redis(&["cli", "config", "set", "maxmemory", "1"]);
        crowd.wait_for(200, 20);
        crate::sleep_ms(by_form(0, 30_000));
        cluster.shows("attribution", "afflux_redis_full_total", "use=\"touches\"", 0.0);
        cluster.shows("edge", "afflux_redis_full_total", "", 0.0);
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
        cluster.shows("attribution", "afflux_touch_index_moved_total", "", 0.0);
    });
}

/// Replication is asynchronous: what the primary answered last, nobody else has.
#[test]
fn a_promoted_replica_that_lacks_the_last_seconds_changes_no_money() {
    let _alone = alone();
    let servers = Servers::ours();
    let front = Proxy::start("127.0.0.1:0", &address(&servers));
    let between = Proxy::start("127.0.0.1:0", &address(&servers));
    let (host, port) = between.address.rsplit_once(':').expect("a port");
    servers.replica(&["up", "--replicaof", host, port, "--repl-diskless-sync-delay", "0"]);
    let redis = Some(format!("redis://{}/0", front.address));
    let mut cluster = Cluster::start_with("promoted", Shape { redis, ..Shape::with("attribution", GRACE) });
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    books::wait_for(Duration::from_secs(60), "the replica follows", || {
        let said = servers.replica(&["cli", "info", "replication"]);
        if said.contains("master_link_status:up") { Ok(()) } else { Err(said) }
    });
    let positions = || {
        let ask = ["cli", "hvals", "w:{0.1}"];
        (indexed(&servers.redis(&ask)), indexed(&servers.replica(&ask)))
    };
    books::wait_for(books::patience(), "the replica has something", || match positions() {
        (_, replica) if replica > 0 => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    between.set(Fault::BlackHole);
    crowd.wait_for(by_form(200, 5_000), 20);
    let (primary, replica) = books::wait_for(books::patience(), "the replica falls behind", || match positions() {
        (primary, replica) if replica < primary => Ok((primary, replica)),
        seen => Err(format!("{seen:?}")),
    });
    servers.redis(&["kill"]);
    servers.replica(&["cli", "replicaof", "no", "one"]);
    let url = servers.replica(&["url"]);
    front.lead_to(url.trim().trim_start_matches("redis://").trim_end_matches("/0"));
    println!("the primary had {primary} records indexed, the replica that was promoted {replica}");
    crowd.wait_for(200, 20);
    let answers = crowd.go_home();
    assert!(replica > 0 && replica < primary, "{replica} of {primary} records");
    cluster.shows("attribution", "afflux_touch_index_moved_total", "", 0.0);
    cluster.shows("edge", "afflux_redis_outages_total", "", 0.0);
    books::close(&mut cluster, &answers);
    servers.replica(&["wipe"]);
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
        cluster.shows("attribution", "afflux_touch_index_moved_total", "", 0.0);
    });
}

/// How many records of all partitions are indexed, by the positions.
fn indexed(positions: &str) -> u64 {
    let number = |line: &str| {
        line.split(|byte: char| !byte.is_ascii_digit()).next().and_then(|digits| digits.parse::<u64>().ok())
    };
    positions.lines().filter_map(number).sum::<u64>()
}

/// Clicks a second: so few that what is measured is the way of a click and not a queue for the processor.
const RATE: u32 = 400;

/// How much later the latest in a hundred redirects may be than usual, in that quarter of the pairs of rounds that was
/// disturbed least: a click that asked Redis would wait for as long as a question may take, which is longer.
const LATER_MS: f64 = 10.0;

/// Rounds with and without a fault in turn, those of a pair side by side and in changing order, at one rate.
#[test]
fn two_seconds_of_latency_are_nothing_to_redirects() {
    let _alone = alone();
    let proxy = Proxy::start("127.0.0.1:0", &address(&Servers::ours()));
    let redis = Some(format!("redis://{}/0", proxy.address));
    let mut shape = Shape { redis, ..Shape::with("attribution", GRACE) };
    // No click waits for the disk: that wait is longer than all else, and the disk has nothing to do with Redis.
    shape.config.push(("spool", "durability = \"process\"".into()));
    let mut cluster = Cluster::start_with("slow-redis", shape);
    let edges: Vec<SocketAddr> = cluster.edges.iter().map(|edge| edge.edge).collect();
    let is_first =
        cluster.edges.iter().filter_map(|edge| edge.child_id()).all(|pid| steady::take_precedence(Some(pid)));
    println!("edges run before everybody else: {is_first}");
    // Whoever orders asks Redis, too.
    let crowd = Crowd::with(&cluster, random::seed(), Pace { people: 1, rest_ms: 50, orders_percent: 50 });
    let mut answers = steady::clicks(&edges, RATE, Duration::from_secs(2));
    for fault in [Fault::Delay, Fault::Reset, Fault::BlackHole] {
        let mut later = Vec::new();
        for pair in 0..by_form(5, 9) {
            let [mut usual, mut slow] = [0, 0];
            for is_slow in if pair % 2 == 0 { [false, true] } else { [true, false] } {
                let unavailable = cluster.edges_metric("afflux_dedupe_unavailable_total", "");
                match fault {
                    Fault::Delay => proxy.delay(if is_slow { 2_000 } else { 0 }),
                    fault => proxy.set(if is_slow { fault } else { Fault::None }),
                }
                let mut round = steady::clicks(&edges, RATE, Duration::from_millis(by_form(1_500, 15_000)));
                if is_slow {
                    // Looking for duplicates gives up in time, and says so.
                    cluster.shows("edge", "afflux_dedupe_unavailable_total", "", unavailable);
                }
                *if is_slow { &mut slow } else { &mut usual } = round.percentile(99);
                round.micros.clear();
                answers.add(round);
            }
            println!("{fault:?}, pair {pair}: redirect p99 {usual} us as usual, {slow} us with the fault");
            later.push((slow as f64 - usual as f64) / 1_000.0);
        }
        proxy.set(Fault::None);
        let quartile = steady::lower_quartile(&mut later);
        assert!(quartile <= LATER_MS, "{fault:?}: {quartile} ms later in the lower quartile of {later:?}");
    }
    answers.add(crowd.go_home());
    books::close(&mut cluster, &answers);
}
