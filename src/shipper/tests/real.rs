//! Against a real Kafka: what the mock cluster cannot tell.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::world::*;
use crate::kafka::Cluster;
use crate::kafka::topics::{self, Shape};
use crate::spool::Topic;

fn cluster(name: &str) -> Cluster {
    let prefix = format!("shipper-{name}-{}", std::process::id());
    let cluster = Cluster { bootstrap_servers: crate::kafka::test_servers(), prefix };
    create(&cluster);
    cluster
}

fn create(cluster: &Cluster) {
    let shape = Shape { partitions: 3, replicas: 1, min_insync_replicas: 1, retention_days: 1_000 };
    topics::create(cluster, &topics::wanted(cluster, shape)).unwrap();
}

fn delete(cluster: &Cluster) {
    let admin: AdminClient<DefaultClientContext> = cluster.client().create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let topics = [cluster.topic(Topic::Clicks)];
    runtime.block_on(admin.delete_topics(&[topics[0].as_str()], &AdminOptions::new())).unwrap();
}

#[test]
fn v15_records_reach_a_real_kafka_once_and_in_order() {
    let (home, cluster) = (tempfile::tempdir().unwrap(), cluster("order"));
    let spools = spools(home.path());
    let mut clicks = spools.writer(Topic::Clicks, 0).unwrap();
    let mut orders = spools.writer(Topic::Conversions, 0).unwrap();
    (0..5_000).for_each(|number| click(&mut clicks, number));
    (0..500).for_each(|number| order(&mut orders, number));
    let ids = (clicks.id(), orders.id());
    assert_eq!(spools.close(), []);
    let world = World::new(&spools, &cluster);
    let mut shipper = world.shipper();
    world.until_done(&mut shipper);
    let read = &consume(&cluster, Topic::Clicks)[&ids.0];
    assert_eq!((read.next, read.again, read.early, read.partitions.len()), (5_000, 0, 0, 1));
    assert!(read.seal.is_some());
    assert_eq!(consume(&cluster, Topic::Conversions)[&ids.1].next, 500);
}

#[test]
fn r1_a_topic_that_was_made_anew_gets_all_that_is_kept() {
    let (home, cluster) = (tempfile::tempdir().unwrap(), cluster("anew"));
    let spools = spools(home.path());
    let mut old = spools.writer(Topic::Clicks, 0).unwrap();
    (0..1_000).for_each(|number| click(&mut old, number));
    let world = World::new(&spools, &cluster);
    let mut shipper = world.shipper();
    let id = old.id();
    world.until(&mut shipper, "shipped", |shipper| shipper.ships.get(&id).is_some_and(|ship| ship.acked == 1_000));
    shipper.save(true);
    delete(&cluster);
    std::thread::sleep(Duration::from_secs(1));
    create(&cluster);
    (0..10).for_each(|number| click(&mut old, number));
    world.until(&mut shipper, "noticed", |_| world.metrics.lost_acks.value() > 0);
    assert_eq!(spools.close(), []);
    world.until_done(&mut shipper);
    let read = &consume(&cluster, Topic::Clicks)[&id];
    assert_eq!(read.next, 1_010, "{read:?}");
}

#[test]
fn p27_a_topic_that_is_not_there_is_an_outage_until_it_is() {
    let (home, mut cluster) = (tempfile::tempdir().unwrap(), cluster("absent"));
    cluster.prefix.push_str("-later");
    let spools = spools(home.path());
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let id = writer.id();
    click(&mut writer, 1);
    let world = World::new(&spools, &cluster);
    let mut shipper = world.shipper();
    world.until(&mut shipper, "an outage", |_| world.metrics.outage[0].value() == 1);
    create(&cluster);
    world.until(&mut shipper, "shipped", |shipper| shipper.ships[&id].acked == 1);
    assert_eq!(world.metrics.outage[0].value(), 0);
}

#[test]
fn r1_a_topic_that_was_made_anew_and_has_grown_past_ours_gets_all_that_is_kept() {
    let (home, cluster) = (tempfile::tempdir().unwrap(), cluster("grown"));
    let ours = spools(home.path());
    let mut old = ours.writer(Topic::Clicks, 0).unwrap();
    let (world, id) = (World::new(&ours, &cluster), old.id());
    (0..100).for_each(|number| click(&mut old, number));
    let mut shipper = world.shipper();
    world.until(&mut shipper, "shipped", |shipper| shipper.ships.get(&id).is_some_and(|ship| ship.acked == 100));
    delete(&cluster);
    click(&mut old, 100);
    world.until(&mut shipper, "an outage", |_| world.metrics.outage[0].value() == 1);
    create(&cluster);
    // The same random start: the same partition.
    let elsewhere = tempfile::tempdir().unwrap();
    let theirs = spools(elsewhere.path());
    let mut other = theirs.writer(Topic::Clicks, 0).unwrap();
    (0..300).for_each(|number| click(&mut other, number));
    assert_eq!(theirs.close(), []);
    let others = World::new(&theirs, &cluster);
    others.until_done(&mut others.shipper());
    world.until(&mut shipper, "noticed", |_| world.metrics.lost_acks.value() == 1);
    assert_eq!(ours.close(), []);
    world.until_done(&mut shipper);
    assert_eq!(consume(&cluster, Topic::Clicks)[&id].next, 101);
}
