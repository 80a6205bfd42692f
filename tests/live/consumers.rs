//! Attributions that come, go, freeze and wake: each record takes effect once, whoever applies it.

use crate::cluster::{Cluster, PARTITIONS, Shape};
use crate::crowd::{Crowd, Pace};
use crate::process::Process;
use crate::proxy::{self, Proxy};
use crate::{alone, books, by_form, random};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 30 };

fn wait_until_held(attribution: &Process, partitions: u32) {
    books::wait_for(books::patience(), "its partitions are given to others", || {
        let held = attribution.metric("afflux_topics_partitions", "");
        if held == f64::from(partitions) { Ok(()) } else { Err(format!("{held} of {partitions}")) }
    });
}

#[test]
fn a_frozen_attribution_wakes_to_a_refusal() {
    let _alone = alone();
    let mut cluster = Cluster::start("frozen-attribution");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    for round in 0..by_form(1, 10) as usize {
        crowd.wait_for(200, 20);
        let [frozen, other] = [round % 2, 1 - round % 2].map(|number| &cluster.attributions[number]);
        frozen.signal("STOP");
        // Its session is over, and when it wakes all that it holds is the other's.
        wait_until_held(other, 2 * PARTITIONS);
        crate::sleep_ms(by_form(0, 45_000));
        frozen.signal("CONT");
        wait_until_held(other, PARTITIONS);
    }
    crowd.wait_for(200, 20);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}

/// The second attribution comes to Kafka by proxies that give its groups another name, so that Kafka gives all partitions
/// to each of both: nothing but the marks in the database and the positions in Redis stands between them.
#[test]
fn two_that_hold_the_same_partitions_count_nothing_twice() {
    let _alone = alone();
    let mut cluster = Cluster::make("no-lease", Shape::default(), 2, 2);
    let proxies = renaming(&cluster);
    let bootstrap: Vec<&str> = proxies.iter().map(|proxy| proxy.address.as_str()).collect();
    let config = cluster.attributions[1].config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(&cluster.servers.kafka, &bootstrap.join(","))).unwrap();
    cluster.start_all();
    let all = f64::from(2 * PARTITIONS);
    books::wait_for(books::patience(), "each has all partitions", || {
        let held = cluster.attributions.iter().map(|one| one.metric("afflux_topics_partitions", ""));
        let held: Vec<f64> = held.collect();
        if held == [all, all] { Ok(()) } else { Err(format!("{held:?}")) }
    });
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(by_form(600, 100_000), by_form(60, 10_000));
    let answers = crowd.go_home();
    let held = cluster.attributions_metric("afflux_topics_partitions", "");
    let refused = cluster.attributions_metric("afflux_store_errors_total", "kind=\"moved\"");
    let repeated = cluster.attributions_metric("afflux_topics_repeated_total", "");
    println!("{refused} transactions refused, {repeated} records read that the other had applied");
    books::close(&mut cluster, &answers);
    assert_eq!(held, 2.0 * all, "each had all partitions to the end");
    assert!(refused > 0.0, "the two never met");
}

/// Proxies before the brokers behind which our groups have other names, as long as the right ones.
fn renaming(cluster: &Cluster) -> Vec<Proxy> {
    let names = ["attribution", "touches"].map(|group| {
        let name = cluster.topic(group).into_bytes();
        let other = [&name[..name.len() - 1], b"2"].concat();
        (name, other)
    });
    let listen = |(listen, target): (String, String)| {
        let names = names.clone();
        let watch = move |piece: &mut Vec<u8>, is_answer: bool| {
            for (name, other) in &names {
                let (from, to) = if is_answer { (other, name) } else { (name, other) };
                proxy::replace(piece, from, to);
            }
        };
        Proxy::watched(&listen, &target, Box::new(watch))
    };
    cluster.servers.proxied().into_iter().map(listen).collect()
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
