//! Kafka away, in parts or as a whole: redirects and orders go on, and everything is drained afterwards.

use crate::cluster::Cluster;
use crate::crowd::{Crowd, Pace};
use crate::servers::BROKERS;
use crate::{alone, books, by_form, random};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 20 };

/// How many milliseconds the p99 of redirects may be above the usual one while something is away: the tests share two
/// cores with all the servers, so this catches waiting, not a few microseconds. The benchmark compares exactly.
const SLACK_MICROS: u64 = 50_000;

#[test]
fn redirects_go_on_while_all_brokers_are_down() {
    let _alone = alone();
    let mut cluster = Cluster::start("brokers-down");
    let seed = random::seed();
    let crowd = Crowd::with(&cluster, seed, PACE);
    crowd.wait_for(500, 50);
    let mut before = crowd.go_home();
    BROKERS.iter().for_each(|broker| cluster.servers.broker("kill", *broker));
    let crowd = Crowd::with(&cluster, seed + 1, PACE);
    crate::sleep_ms(by_form(8_000, 600_000));
    crowd.wait_for(100, 10);
    let mut during = crowd.go_home();
    let (usual, down) = (before.percentile(99), during.percentile(99));
    println!("redirect p99: {usual} us with brokers, {down} us without");
    let edge = &cluster.edges[0];
    assert!(edge.metric("afflux_shipper_lag_records", "") > 0.0, "lag is seen while brokers are down");
    cluster.servers.heal();
    before.add(during);
    books::close(&mut cluster, &before);
    assert!(down < usual + SLACK_MICROS, "{down} us, usually {usual} us");
}

#[test]
fn two_brokers_of_three_down_is_an_outage_and_no_loss() {
    let _alone = alone();
    let mut cluster = Cluster::start("not-enough");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    // min.insync.replicas is 2: what is left must refuse.
    cluster.servers.broker("kill", 1);
    cluster.servers.broker("kill", 2);
    crate::sleep_ms(by_form(5_000, 60_000));
    cluster.servers.heal();
    crowd.wait_for(200, 20);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}

#[test]
fn a_frozen_broker_holds_up_its_partitions_and_nothing_else() {
    let _alone = alone();
    let mut cluster = Cluster::start("frozen-broker");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    for broker in BROKERS.iter().take(by_form(1, 3) as usize) {
        cluster.servers.broker("pause", *broker);
        crate::sleep_ms(by_form(8_000, 30_000));
        cluster.servers.broker("cont", *broker);
        crowd.wait_for(100, 10);
    }
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}
