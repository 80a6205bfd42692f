//! Kafka away, in parts or as a whole: redirects and orders go on, and everything is drained afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, PARTITIONS, Shape};
use crate::crowd::{Crowd, Pace};
use crate::proxy::{Fault, Proxy};
use crate::servers::{BROKERS, Servers};
use crate::{alone, books, by_form, random, steady};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 20 };

/// Clicks a second: a modest load, so that what is measured is the way of a click and not a queue for the processor.
const RATE: u32 = 400;

/// How much later the latest in a hundred redirects may be than usual, in that quarter of the pairs of rounds that was
/// disturbed least: all share the cores with all the servers.
const LATER: f64 = 1.10;

/// How much older, in seconds, the oldest record becomes because of a broker that is gone: each holds a copy of every
/// partition, and the others wait for it until its session has ended, which takes 3 s.
pub const HELD_UP: f64 = 1.0;

/// Rounds with and without brokers in turn, those of a pair side by side and in changing order, at one rate.
#[test]
fn redirects_are_as_fast_while_all_brokers_are_away() {
    let _alone = alone();
    let mut away = Away::new();
    let mut cluster = Cluster::start_with("brokers-away", away.shape());
    let edges: Vec<SocketAddr> = cluster.edges.iter().map(|edge| edge.edge).collect();
    let mut pids = cluster.edges.iter().filter_map(|edge| edge.child_id());
    let is_first = pids.all(|pid| steady::take_precedence(Some(pid)));
    println!("edges run before everybody else: {is_first}");
    let mut answers = steady::clicks(&edges, RATE, Duration::from_secs(2));
    let pairs = by_form(12, 9);
    let mut ratios = Vec::new();
    for pair in 0..pairs {
        // Of the long form one outage is ten minutes long, and all others together another five.
        let long = |is_away: bool| if is_away && pair == 0 { 600 } else { 40 };
        let [mut with, mut without] = [0, 0];
        for is_away in if pair % 2 == 0 { [false, true] } else { [true, false] } {
            away.set(&cluster, is_away);
            let mut round = steady::clicks(&edges, RATE, Duration::from_millis(by_form(1_500, 1_000 * long(is_away))));
            if is_away {
                cluster.shows("edge", "afflux_shipper_lag_records", "", 0.0);
            }
            *if is_away { &mut without } else { &mut with } = round.percentile(99);
            round.micros.clear();
            answers.add(round);
        }
        let ratio = without as f64 / with as f64;
        println!("pair {pair}: redirect p99 {with} us with brokers, {without} us without: {ratio:.2}");
        ratios.push(ratio);
    }
    away.set(&cluster, false);
    let quartile = steady::lower_quartile(&mut ratios);
    println!("redirect p99 without brokers by that with them: lower quartile {quartile:.2} of {ratios:.2?}");
    cluster.shows("edge", "afflux_shipper_errors_total", "kind=\"unreachable\"", 0.0);
    assert_an_outage_takes_what_operators_count_on(&cluster);
    books::close(&mut cluster, &answers);
    assert!(quartile <= LATER, "{quartile}");
}

/// `docs/operations.md` says how much room a day without Kafka takes, by the bytes of a click.
fn assert_an_outage_takes_what_operators_count_on(cluster: &Cluster) {
    let of_clicks = "topic=\"clicks\"";
    let records = cluster.edges_metric("afflux_spool_records_total", of_clicks);
    let bytes = cluster.edges_metric("afflux_spool_bytes_total", of_clicks) / records;
    println!("{bytes:.0} bytes a click in the spool");
    let counted_on = include_str!("../../docs/operations.md")
        .lines()
        .find_map(|line| line.strip_prefix("| record in the spool | ")?.split(' ').next()?.parse::<f64>().ok())
        .expect("the page says how many bytes a record takes");
    assert!(bytes <= counted_on, "{bytes} bytes a click, and the page says {counted_on}");
}

/// Brokers that are away: killed in the long form; in the short one, where each start of three would take longer than the
/// rounds, behind proxies that refuse every connection.
struct Away {
    proxies: Vec<Proxy>,
}

impl Away {
    fn new() -> Away {
        let of = |(listen, target): (String, String)| Proxy::start(&listen, &target);
        let proxied = if by_form(1, 0) == 1 { Servers::ours().proxied() } else { Vec::new() };
        Away { proxies: proxied.into_iter().map(of).collect() }
    }

    fn shape(&self) -> Shape {
        let addresses: Vec<&str> = self.proxies.iter().map(|proxy| proxy.address.as_str()).collect();
        let kafka = Some(addresses.join(",")).filter(|list| !list.is_empty());
        // No click waits for the disk: that wait is longer than all else, and the disk has nothing to do with brokers.
        Shape { kafka, ..Shape::with("spool", "durability = \"process\"") }
    }

    /// And waits until the edges know it, so that a round is all of one kind.
    fn set(&mut self, cluster: &Cluster, is_away: bool) {
        match (is_away, self.proxies.is_empty()) {
            (true, true) => BROKERS.iter().for_each(|broker| cluster.servers.broker("kill", *broker)),
            (false, true) => cluster.servers.heal(),
            (true, false) => self.proxies.iter().for_each(|proxy| proxy.set(Fault::Reset)),
            (false, false) => self.proxies.iter().for_each(|proxy| proxy.set(Fault::None)),
        }
        let known = || {
            let up = cluster.edges.iter().map(|edge| edge.metric("afflux_kafka_producer_brokers_up", ""));
            let up: Vec<f64> = up.collect();
            let lag = cluster.edges_metric("afflux_shipper_lag_records", "");
            let is_as_meant = if is_away { up.iter().all(|up| *up == 0.0) } else { lag < 100.0 };
            if is_as_meant { Ok(()) } else { Err(format!("{up:?} brokers, {lag} records behind")) }
        };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            books::wait_for(books::patience(), "the edges know how it stands", known);
        }))
        .is_err()
        {
            let said = cluster.servers.try_kafka(&["topics", "--describe", "--topic", &cluster.topic("clicks")]);
            let kafka = |page: String| page.lines().filter(|line| is_of_shipping(line)).collect::<Vec<_>>().join("\n");
            let edges = cluster.edges.iter().map(|edge| edge.metrics().map(kafka).unwrap_or_default());
            panic!("{said:?}\n{}", edges.collect::<Vec<_>>().join("\n--\n"));
        }
    }
}

fn is_of_shipping(line: &str) -> bool {
    line.starts_with("afflux_shipper") || line.starts_with("afflux_kafka")
}

#[test]
fn kill_9_of_all_brokers_is_an_outage_and_no_loss() {
    let _alone = alone();
    let mut cluster = Cluster::start("brokers-down");
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    BROKERS.iter().for_each(|broker| cluster.servers.broker("kill", *broker));
    crowd.wait_for(by_form(100, 10_000), 10);
    cluster.shows("edge", "afflux_shipper_outage", "topic=\"clicks\"", 0.0);
    // What nothing takes piles up; a few records are always under way.
    cluster.shows("edge", "afflux_shipper_lag_records", "", 100.0);
    cluster.servers.heal();
    crowd.wait_for(100, 10);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}

/// By a broker that ends in an orderly way, and by an election that gives it back what was its own.
#[test]
fn a_change_of_leaders_loses_nothing() {
    let _alone = alone();
    let mut cluster = Cluster::start("leaders");
    let election = election(&cluster);
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    for round in 0..by_form(1, 9) as usize {
        let broker = BROKERS[round % BROKERS.len()];
        let its_own = led(&cluster).expect("the topic is described").iter().filter(|one| one.first == broker).count();
        assert!(its_own > 0, "nothing changes by the end of broker {broker}");
        cluster.servers.broker("leave", broker);
        // Who is asked may not have heard of it yet.
        books::wait_for(books::patience(), "the others lead", || {
            let led = led(&cluster)?;
            let is_changed = led.iter().all(|one| one.leader.is_some_and(|leader| leader != broker));
            if is_changed { Ok(()) } else { Err(format!("{led:?} without {broker}")) }
        });
        crowd.wait_for(100, 10);
        cluster.servers.broker("start", broker);
        books::wait_for(books::patience(), "all partitions have their first leaders", || {
            // It is refused for partitions of which the broker that came back has not caught up yet.
            let tool = ["tool", "org.apache.kafka.tools.LeaderElectionCommand", "--election-type", "preferred"];
            let said = cluster.servers.try_kafka(&[&tool[..], &["--path-to-json-file", &election]].concat());
            let led = led(&cluster)?;
            let is_as_before = led.iter().all(|one| one.leader == Some(one.first));
            if is_as_before { Ok(()) } else { Err(format!("{led:?}; the election: {said:?}")) }
        });
        crowd.wait_for(100, 10);
    }
    let answers = crowd.go_home();
    assert_eq!(cluster.edges_count("afflux_shipper_parked_total"), 0.0);
    books::close(&mut cluster, &answers);
    assert_eq!(cluster.attributions_count("afflux_attribution_gaps"), 0.0);
}

/// A file that names all partitions of this cluster, for the tool that elects.
fn election(cluster: &Cluster) -> String {
    let topics = ["clicks", "conversions"].map(|topic| cluster.topic(topic));
    let partitions: Vec<_> = topics
        .iter()
        .flat_map(|topic| (0..PARTITIONS).map(move |partition| json!({"topic": topic, "partition": partition})))
        .collect();
    let file = cluster.path().join("election.json");
    std::fs::write(&file, json!({ "partitions": partitions }).to_string()).expect("written");
    file.display().to_string()
}

/// Who leads a partition, and whose it is as long as all brokers live.
#[derive(Debug)]
struct Led {
    leader: Option<u32>,
    first: u32,
}

/// Each partition of clicks.
fn led(cluster: &Cluster) -> Result<Vec<Led>, String> {
    let said = cluster.servers.try_kafka(&["topics", "--describe", "--topic", &cluster.topic("clicks")])?;
    let led = read_led(&said);
    if led.len() == PARTITIONS as usize { Ok(led) } else { Err(said) }
}

fn read_led(said: &str) -> Vec<Led> {
    let number = |rest: &str| rest.split(|byte: char| !byte.is_ascii_digit()).next()?.parse::<u32>().ok();
    let after = |rest: &str, name: &str| number(rest.split_once(name)?.1);
    let partitions = said.lines().filter(|line| line.contains("Leader: "));
    partitions
        .filter_map(|line| Some(Led { leader: after(line, "Leader: "), first: after(line, "Replicas: ")? }))
        .collect()
}

#[test]
fn leaders_are_read_from_what_kafka_says() {
    let said = "Topic: x\tPartitionCount: 2\tReplicationFactor: 3\tConfigs: min.insync.replicas=2\n\
                \tTopic: x\tPartition: 0\tLeader: 2\tReplicas: 1,2,3\tIsr: 2,3\n\
                \tTopic: x\tPartition: 1\tLeader: none\tReplicas: 3,1,2\tIsr: \n";
    let led = read_led(said).iter().map(|one| (one.leader, one.first)).collect::<Vec<_>>();
    assert_eq!(led, [(Some(2), 1), (None, 3)]);
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
    crate::sleep_ms(by_form(2_000, 60_000));
    cluster.shows("edge", "afflux_shipper_lag_records", "", 100.0);
    let delivered = cluster.edges_metric("afflux_shipper_delivered_total", "");
    crowd.wait_for(50, 5);
    assert_eq!(cluster.edges_metric("afflux_shipper_delivered_total", ""), delivered, "one copy is not enough");
    cluster.servers.heal();
    crowd.wait_for(100, 10);
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
        let usual = cluster.edges_metric("afflux_shipper_lag_seconds", "");
        cluster.servers.broker("pause", *broker);
        cluster.shows("edge", "afflux_shipper_lag_seconds", "", usual + HELD_UP);
        crate::sleep_ms(by_form(5_000, 30_000));
        cluster.servers.broker("cont", *broker);
        crowd.wait_for(100, 10);
    }
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}
