//! The whole path without a fault, and what must not start.

use crate::cluster::{Cluster, Shape};
use crate::crowd::{Answers, Crowd};
use crate::process::Process;
use crate::{alone, books, by_form, oracle, random};

/// The crowd, the spool's books and the oracle, held to what is proven already.
#[test]
fn the_oracle_agrees_with_one_process() {
    let _alone = alone();
    let mut cluster = Cluster::without_topics("one", Shape::default(), 0, 0);
    let mut serve = Process::new("serve", "one", cluster.path());
    cluster.write_config(&serve);
    serve.start();
    cluster.edges.push(serve);
    let crowd = Crowd::start(&cluster, random::seed());
    crowd.wait_for(1_000, 150);
    let answers = crowd.go_home();
    let events = books::spooled(&cluster);
    books::assert_answered_is_spooled(&answers, &events);
    let sums = books::wait_for_ledger(&cluster.edges[0], &events, &oracle::ledger(&events), "one process");
    assert!(sums.len() >= 250, "{} balances", sums.len());
    books::assert_every_order_is_decided(&cluster.edges[0], &answers);
}

/// Half of the path: nobody consumes yet.
#[test]
fn every_click_and_order_is_in_kafka_though_edges_are_killed() {
    let _alone = alone();
    let mut cluster = Cluster::make("shipped", Shape::default(), 2, 0);
    cluster.edges.iter_mut().for_each(Process::start);
    let crowd = Crowd::start(&cluster, random::seed());
    for round in 0..by_form(4, 20) as usize {
        crowd.wait_for(200, 20);
        let edge = &mut cluster.edges[round % 2];
        edge.kill();
        edge.start();
    }
    crowd.wait_for(200, 20);
    let answers = crowd.go_home();
    let events = books::spooled(&cluster);
    books::assert_answered_is_spooled(&answers, &events);
    let (records, again) = books::assert_spooled_is_in_kafka(&cluster, &events);
    println!("{} clicks, {records} records in Kafka, {again} of them again", answers.clicks.len());
    cluster.edges.iter_mut().for_each(Process::stop);
}

#[test]
fn every_click_and_order_goes_from_two_edges_to_one_ledger() {
    let _alone = alone();
    let mut cluster = Cluster::start("whole");
    let crowd = Crowd::start(&cluster, random::seed());
    crowd.wait_for(by_form(3_000, 100_000), by_form(300, 10_000));
    let answers = crowd.go_home();
    cluster.processes().for_each(assert_its_metrics_are_documented);
    books::close(&mut cluster, &answers);
}

fn assert_its_metrics_are_documented(process: &Process) {
    let documented = include_str!("../../docs/metrics.md");
    let page = crate::rig::Client::new(process.admin).get("/metrics", &[]).text();
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<&str> = names.filter(|name| !documented.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{} shows what docs/metrics.md does not: {missing:?}", process.name);
}

#[test]
fn a_restart_of_everything_changes_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start("restart");
    let crowd = Crowd::start(&cluster, random::seed());
    crowd.wait_for(500, 50);
    let mut answers = crowd.go_home();
    cluster.edges.iter_mut().chain(&mut cluster.attributions).for_each(|process| process.stop());
    cluster.console.stop();
    cluster.start_all();
    let crowd = Crowd::start(&cluster, random::seed());
    crowd.wait_for(500, 50);
    answers.add(crowd.go_home());
    books::close(&mut cluster, &answers);
}

#[test]
fn kept_orders_wait_while_the_shipper_is_off() {
    let _alone = alone();
    let mut cluster = Cluster::start_with("paused", Shape::with("shipper", "enabled = false"));
    let crowd = Crowd::start(&cluster, random::seed());
    crowd.wait_for(300, 30);
    let answers = crowd.go_home();
    assert_eq!(books::reported(&cluster.console), (0, 0), "nothing is shipped");
    cluster.edges.iter_mut().for_each(|edge| edge.stop());
    cluster.reshape(Shape::default());
    cluster.edges.iter_mut().for_each(|edge| edge.start());
    books::close(&mut cluster, &answers);
}

#[test]
fn only_serve_makes_keys_by_itself() {
    let _alone = alone();
    let mut cluster = Cluster::make("keys", Shape::default(), 1, 1);
    std::fs::remove_file(cluster.path().join("click.keys")).unwrap();
    for process in cluster.edges.iter_mut().chain(&mut cluster.attributions).chain([&mut cluster.console]) {
        let text = std::fs::read_to_string(process.config()).unwrap();
        std::fs::write(process.config(), text.replace("keys_file = \"../click.keys\"", "")).unwrap();
        process.launch(&[]);
        assert_eq!(process.wait(10).code(), Some(64), "{}: {}", process.name, process.log());
        assert!(process.log().contains("click.keys_file"), "{}", process.log());
    }
    // Nobody came, nothing is there.
    books::assert_answered_is_spooled(&Answers::default(), &[]);
}
