//! Attributions that come, go, freeze and wake: each record takes effect once, whoever applies it.

use crate::cluster::{Cluster, Shape};
use crate::crowd::{Crowd, Pace};
use crate::{alone, books, by_form, random};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 30 };

/// Longer than the session of a consumer, so that others have its partitions when it wakes.
fn past_the_session_ms() -> u64 {
    by_form(15_000, 60_000)
}

#[test]
fn a_frozen_attribution_wakes_to_a_refusal() {
    let _alone = alone();
    let mut cluster = Cluster::start("frozen-attribution");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    for round in 0..by_form(1, 10) as usize {
        crowd.wait_for(200, 20);
        let frozen = &cluster.attributions[round % 2];
        frozen.signal("STOP");
        crate::sleep_ms(past_the_session_ms());
        frozen.signal("CONT");
    }
    crowd.wait_for(200, 20);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}

/// Short freezes: the partition stays or just moved, and two work at it for a moment.
#[test]
fn hiccups_at_any_moment_double_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start("hiccups");
    let seed = random::seed();
    let mut random = random::Random::new(seed);
    let crowd = Crowd::with(&cluster, seed, PACE);
    for _ in 0..by_form(10, 200) {
        let attribution = random.pick(&cluster.attributions);
        attribution.signal("STOP");
        crate::sleep_ms(random.below(400));
        attribution.signal("CONT");
        crate::sleep_ms(random.below(100));
    }
    crowd.wait_for(200, 20);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}

#[test]
fn one_four_two_attributions_while_partitions_are_added() {
    let _alone = alone();
    let mut cluster = Cluster::make("rescaled", Shape::default(), 2, 1);
    cluster.start_all();
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    for _ in 0..3 {
        cluster.add_attribution().start();
        crowd.wait_for(100, 10);
    }
    for topic in ["clicks", "conversions"] {
        let topic = cluster.topic(topic);
        cluster.servers.kafka(&["topics", "--alter", "--topic", &topic, "--partitions", "12"]);
    }
    crowd.wait_for(200, 20);
    // New partitions are for spools that begin now.
    for edge in &mut cluster.edges {
        edge.stop();
        edge.start();
    }
    crowd.wait_for(200, 20);
    cluster.attributions[0].stop();
    cluster.attributions[2].kill();
    crowd.wait_for(200, 20);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}

#[test]
fn nobody_consumes_for_a_while() {
    let _alone = alone();
    let mut cluster = Cluster::start("nobody");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(100, 10);
    cluster.attributions.iter_mut().for_each(|attribution| attribution.stop());
    crowd.wait_for(by_form(500, 100_000), 50);
    cluster.attributions.iter_mut().for_each(|attribution| attribution.start());
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}
