//! `afflux edge` with a real Kafka: what was answered is in the topics, whatever is killed.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use afflux::event::address;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::rig::Server;
use crate::rig::server::{self, Start, TOKEN};

fn servers() -> String {
    std::env::var("AFFLUX_TEST_KAFKA").expect("AFFLUX_TEST_KAFKA is not set: run the tests by scripts/servers/with")
}

fn start(home: &Path, prefix: &str) -> Start {
    let keys = "0:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n\
                visitor:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n";
    std::fs::write(home.join("click.keys"), keys).unwrap();
    let kafka = format!(
        "bootstrap_servers = \"{}\"\nprefix = \"{prefix}\"\npartitions = 3\nreplicas = 1\nmin_insync_replicas = 1",
        servers()
    );
    let process = "durability = \"process\"".into();
    let config = vec![("spool", process), ("click", "keys_file = \"click.keys\"".into()), ("kafka", kafka)];
    Start { config, role: Some("edge"), ..Start::default() }
}

/// The values of a topic, each partition in order.
fn read(topic: &str) -> Vec<Vec<u8>> {
    let wait = Duration::from_secs(10);
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", servers()).set("group.id", "test").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), wait).unwrap();
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), wait).unwrap();
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        left += end;
    }
    consumer.assign(&list).unwrap();
    let (mut values, begun) = (Vec::new(), Instant::now());
    while (values.len() as i64) < left {
        assert!(begun.elapsed() < Duration::from_secs(60));
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            values.push(message.unwrap().payload().unwrap_or_default().to_vec());
        }
    }
    values
}

/// What a reader has that takes of each spool the number that is due, and no other; and the spools that have their seal.
fn applied(values: &[Vec<u8>]) -> (Vec<&Vec<u8>>, usize, usize) {
    let (mut due, mut sealed, mut taken) = (BTreeMap::<u64, u64>::new(), HashSet::new(), Vec::new());
    for value in values {
        let address = address(value).unwrap();
        let next = due.entry(address.spool).or_default();
        match address.event {
            "heartbeat" => {}
            "seal" => {
                sealed.insert(address.spool);
            }
            _ if address.seq == Some(*next) => {
                *next += 1;
                taken.push(value);
            }
            _ => {}
        }
    }
    (taken, due.len(), sealed.len())
}

#[test]
fn p1_what_an_edge_answered_is_in_kafka_though_it_is_killed_again_and_again() {
    let home = tempfile::tempdir().unwrap();
    let prefix = format!("edge-{}", std::process::id());
    let start = start(home.path(), &prefix);
    server::write_config(home.path(), &start);
    assert_eq!(server::run(home.path(), &["topics", "check"]).status.code(), Some(1));
    assert_eq!(server::run(home.path(), &["topics", "create"]).status.code(), Some(0));
    let checked = server::run(home.path(), &["topics", "check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stdout));

    let (mut clicks, mut orders) = (HashSet::new(), 0);
    for life in 0..4 {
        let server = Server::start(home.path(), &start);
        let (mut edge, mut api) = (server.edge(), server.api());
        for number in 0..300 {
            clicks.insert(edge.get("/phone", &[]).click_id());
            if number % 10 == 0 {
                let order =
                    serde_json::json!({"order_id": format!("{life}-{number}"), "type": "sale", "amount": 1_000});
                assert_eq!(api.post_json("/v1/conversions", TOKEN, &order).status, 202);
                orders += 1;
            }
        }
        // At different moments of the shipper.
        std::thread::sleep(Duration::from_millis(life * 130));
        server.kill();
    }
    let drained = server::run(home.path(), &["edge", "--drain-only"]);
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));

    let values = read(&format!("{prefix}.clicks"));
    let (taken, spools, sealed) = applied(&values);
    assert_eq!(spools, sealed, "every spool that was heard of has its seal");
    let ids: Vec<String> = taken
        .iter()
        .map(|value| {
            serde_json::from_slice::<serde_json::Value>(value).unwrap()["click_id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!((ids.len(), ids.into_iter().collect::<HashSet<_>>()), (clicks.len(), clicks));
    assert_eq!(applied(&read(&format!("{prefix}.conversions"))).0.len(), orders);
    // Nothing is left: at once, and without anything new.
    assert_eq!(server::run(home.path(), &["edge", "--drain-only"]).status.code(), Some(0));
    assert_eq!(read(&format!("{prefix}.clicks")).len(), values.len());
}
