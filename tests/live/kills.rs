//! kill -9 of everything that runs, in turn, under load.

use crate::cluster::Cluster;
use crate::crowd::{Crowd, Pace};
use crate::process::Process;
use crate::servers::BROKERS;
use crate::{alone, books, brokers, by_form, random};

/// Rounds of the long form for one that is killed: over all tests here, over 1,000,000 clicks.
const KILLS: u64 = 20;

fn kill_in_turn(name: &str, kill: impl FnMut(&mut Cluster, u64)) {
    kill_in_rounds(name, by_form(3, KILLS), kill);
}

/// Kills one of them at a moment that the seed chooses, each time under load, and starts it again.
fn kill_in_rounds(name: &str, rounds: u64, mut kill: impl FnMut(&mut Cluster, u64)) {
    let _alone = alone();
    let mut cluster = Cluster::start(name);
    let seed = random::seed();
    let crowd = Crowd::with(&cluster, seed, Pace { rest_ms: by_form(20, 2), ..Pace::default() });
    let mut random = random::Random::new(seed);
    for round in 0..rounds {
        crowd.wait_for(by_form(150, 10_000), by_form(15, 1_000));
        crate::sleep_ms(random.below(200));
        kill(&mut cluster, round);
    }
    crowd.wait_for(100, 10);
    let answers = crowd.go_home();
    println!("{name}: kill -9 {rounds} times");
    books::close(&mut cluster, &answers);
}

/// The process is gone for a moment, as a supervisor takes one to see it.
fn kill_and_start(process: &mut Process) {
    process.kill();
    crate::sleep_ms(300);
    process.start();
}

#[test]
fn kill_9_of_an_edge_loses_nothing() {
    kill_in_turn("kill-edge", |cluster, round| {
        let edge = &mut cluster.edges[round as usize % 2];
        kill_and_start(edge);
        assert!(edge.metric("afflux_spool_recovered_total", "") > 0.0, "the spools it died with are sealed");
    });
}

#[test]
fn kill_9_of_an_attribution_doubles_nothing() {
    kill_in_turn("kill-attribution", |cluster, round| {
        kill_and_start(&mut cluster.attributions[round as usize % 2]);
        let applied = cluster.attributions_metric("afflux_attribution_clicks_total", "");
        cluster.shows("attribution", "afflux_attribution_clicks_total", "", applied);
    });
}

#[test]
fn kill_9_of_the_console_is_nothing_to_the_books() {
    kill_in_turn("kill-console", |cluster, _| {
        let applied = cluster.attributions_metric("afflux_attribution_clicks_total", "");
        kill_and_start(&mut cluster.console);
        cluster.shows("attribution", "afflux_attribution_clicks_total", "", applied);
    });
}

#[test]
fn kill_9_of_each_broker_loses_nothing() {
    kill_in_rounds("kill-broker", by_form(3, KILLS * BROKERS.len() as u64), |cluster, round| {
        let broker = BROKERS[round as usize % BROKERS.len()];
        let usual = cluster.edges_metric("afflux_shipper_lag_seconds", "");
        cluster.servers.broker("kill", broker);
        // It is missed: of its connections nothing can be said, as no edge needs one to each broker.
        cluster.shows("edge", "afflux_shipper_lag_seconds", "", usual + brokers::HELD_UP);
        cluster.servers.broker("start", broker);
    });
}

#[test]
fn kill_9_of_redis_changes_no_money() {
    kill_in_turn("kill-redis", |cluster, _| {
        let outages = cluster.attributions_metric("afflux_redis_outages_total", "");
        cluster.servers.redis(&["kill"]);
        cluster.shows("attribution", "afflux_redis_outages_total", "use=\"touches\"", outages);
        cluster.servers.redis(&["start"]);
    });
}

#[test]
fn kill_9_of_postgresql_doubles_nothing() {
    kill_in_turn("kill-postgresql", |cluster, _| {
        let failed = cluster.attributions_metric("afflux_store_errors_total", "kind=\"unavailable\"");
        cluster.servers.postgresql(&["kill"]);
        cluster.shows("attribution", "afflux_store_errors_total", "kind=\"unavailable\"", failed);
        cluster.servers.postgresql(&["start"]);
    });
}

#[test]
fn kill_9_of_everything_at_once_loses_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start("kill-all");
    let mut answers = crate::crowd::Answers::default();
    for _ in 0..by_form(1, KILLS) {
        let crowd = Crowd::start(&cluster, random::seed());
        crowd.wait_for(300, 30);
        let processes = cluster.edges.iter_mut().chain(&mut cluster.attributions);
        BROKERS.iter().for_each(|broker| cluster.servers.broker("kill", *broker));
        cluster.servers.redis(&["kill"]);
        cluster.servers.postgresql(&["kill"]);
        processes.for_each(Process::kill);
        cluster.console.kill();
        // The merchants and visitors have nobody left to ask until the edges are back.
        cluster.edges.iter_mut().for_each(Process::start);
        crowd.wait_for(50, 5);
        cluster.servers.heal();
        cluster.attributions.iter_mut().chain([&mut cluster.console]).for_each(Process::start);
        crowd.wait_for(50, 5);
        answers.add(crowd.go_home());
    }
    books::close(&mut cluster, &answers);
}
