//! Spools in a directory, a cluster, and a reader that applies what the topics hold as every consumer does: the number that
//! is due, and no other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};

use crate::clock::ManualClock;
use crate::event::{Event, SpoolState};
use crate::kafka::Cluster;
use crate::shipper::{Parts, Settings, Shipper, ShipperMetrics};
use crate::spool::{Durability, Options, SpoolId, Spools, Topic, Writer};
use crate::time::TimeMs;

pub const NOW: TimeMs = TimeMs(1_700_000_000_000);
pub const TOPICS: [&str; 2] = ["afflux.clicks", "afflux.conversions"];

pub struct Mock {
    pub mock: MockCluster<'static, DefaultProducerContext>,
    pub cluster: Cluster,
}

pub fn mock(partitions: i32) -> Mock {
    let mock = MockCluster::new(1).unwrap();
    for topic in TOPICS {
        mock.create_topic(topic, partitions, 1).unwrap();
    }
    let cluster = Cluster { bootstrap_servers: mock.bootstrap_servers(), prefix: "afflux".into() };
    Mock { mock, cluster }
}

pub fn spools(home: &Path) -> Arc<Spools> {
    let options = Options {
        directory: home.join("spool"),
        segment_bytes: 1 << 20,
        durability: Durability::Process,
        sync_interval: Duration::from_millis(1),
        max_bytes: None,
        keep: Duration::from_secs(3_600),
    };
    Arc::new(Spools::open(options, Arc::new(ManualClock::at(NOW))).unwrap())
}

/// A sealed spool of so many clicks; nothing is written to these spools any more.
pub fn sealed_clicks(spools: &Spools, clicks: u64) -> SpoolId {
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    (0..clicks).for_each(|number| click(&mut writer, number));
    assert_eq!(spools.close(), []);
    writer.id()
}

pub struct World {
    pub spools: Arc<Spools>,
    pub cluster: Cluster,
    pub metrics: Arc<ShipperMetrics>,
    pub clock: Arc<ManualClock>,
    pub heartbeat: Duration,
}

impl World {
    pub fn new(spools: &Arc<Spools>, cluster: &Cluster) -> World {
        World {
            spools: spools.clone(),
            cluster: cluster.clone(),
            metrics: Arc::default(),
            clock: Arc::new(ManualClock::at(NOW)),
            heartbeat: Duration::from_millis(200),
        }
    }

    pub fn parts(&self) -> Parts {
        Parts {
            spools: self.spools.clone(),
            cluster: self.cluster.clone(),
            clock: self.clock.clone(),
            settings: Settings {
                edge: "edge-1".into(),
                batch_records: 100,
                linger_ms: 1,
                heartbeat: self.heartbeat,
                random: 7,
            },
            duplicates: Box::new(|clicks| Ok(vec![None; clicks.len()])),
            metrics: self.metrics.clone(),
        }
    }

    pub fn shipper(&self) -> Shipper {
        Shipper::new(self.parts())
    }

    /// Rounds until it is so.
    pub fn until(&self, shipper: &mut Shipper, what: &str, so: impl Fn(&Shipper) -> bool) {
        let begun = Instant::now();
        while !so(shipper) {
            assert!(begun.elapsed() < Duration::from_secs(60), "not {what}: {:?}", self.metrics);
            shipper.round();
        }
    }

    /// Rounds until everything is shipped and sealed.
    pub fn until_done(&self, shipper: &mut Shipper) {
        let is_done = |shipper: &Shipper| shipper.looked_at_all() && shipper.ships.values().all(|ship| ship.is_done());
        self.until(shipper, "done", is_done);
    }
}

impl Shipper {
    pub fn looked_at_all(&self) -> bool {
        !self.ships.is_empty()
    }
}

/// A click event of about the usual size.
pub fn click(writer: &mut Writer, number: u64) {
    let (spool, seq) = (writer.id(), writer.next_seq());
    let record = format!(
        r#"{{"event":"click","schema":1,"spool":"{spool}","seq":{seq},"click_id":"ID{number}","clicked_at_ms":{},"offer_id":1,"publisher_id":2,"merchant_id":3,"visitor_key":"{:016x}","visitor_new":true,"flags":[],"billable":true,"edge":"edge-1"}}"#,
        NOW.0 + number as i64,
        number % 50,
    );
    append(writer, record.as_bytes());
}

pub fn order(writer: &mut Writer, number: u64) {
    let (spool, seq) = (writer.id(), writer.next_seq());
    let record = format!(
        r#"{{"event":"conversion","schema":1,"spool":"{spool}","seq":{seq},"merchant_id":3,"order_id":"A{number}","received_at_ms":{}}}"#,
        NOW.0
    );
    append(writer, record.as_bytes());
}

pub fn append(writer: &mut Writer, record: &[u8]) {
    let begun = Instant::now();
    while writer.append(record).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a consumer has of a spool.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    pub partitions: Vec<i32>,
    /// The number that is due.
    pub next: u64,
    /// Records that came though another was due.
    pub early: u64,
    /// Records that were there already.
    pub again: u64,
    pub parked: Vec<(u64, String)>,
    pub keys: Vec<String>,
    pub values: Vec<Vec<u8>>,
    pub heartbeats: Vec<SpoolState>,
    pub seal: Option<SpoolState>,
}

/// All that a topic holds, applied in the order of its partitions.
pub fn consume(cluster: &Cluster, topic: Topic) -> BTreeMap<SpoolId, Applied> {
    let mut applied: BTreeMap<SpoolId, Applied> = BTreeMap::new();
    for (partition, key, value) in read(cluster, topic) {
        let Some(address) = crate::event::address(&value) else { continue };
        let spool = applied.entry(SpoolId(address.spool)).or_default();
        if !spool.partitions.contains(&partition) {
            spool.partitions.push(partition);
        }
        match Event::parse(&value) {
            Ok(Event::Heartbeat(state)) => spool.heartbeats.push(*state),
            Ok(Event::Seal(state)) => spool.seal = Some(*state),
            event => {
                let seq = address.seq.unwrap();
                if seq > spool.next {
                    spool.early += 1;
                } else if seq < spool.next {
                    spool.again += 1;
                } else {
                    spool.next += 1;
                    spool.keys.push(key);
                    if let Ok(Event::Parked(parked)) = event {
                        spool.parked.push((parked.seq, parked.why));
                    }
                    spool.values.push(value);
                }
            }
        }
    }
    applied
}

fn read(cluster: &Cluster, topic: Topic) -> Vec<(i32, String, Vec<u8>)> {
    let wait = Duration::from_secs(10);
    let consumer: BaseConsumer = cluster.client().set("group.id", "test").create().unwrap();
    let topic = cluster.topic(topic);
    let metadata = consumer.fetch_metadata(Some(&topic), wait).unwrap();
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        let (begin, end) = consumer.fetch_watermarks(&topic, partition.id(), wait).unwrap();
        list.add_partition_offset(&topic, partition.id(), Offset::Offset(begin)).unwrap();
        left += end - begin;
    }
    consumer.assign(&list).unwrap();
    let (mut records, begun) = (Vec::new(), Instant::now());
    while (records.len() as i64) < left {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} of {left}", records.len());
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.unwrap();
            let key = String::from_utf8(message.key().unwrap_or_default().to_vec()).unwrap();
            records.push((message.partition(), key, message.payload().unwrap_or_default().to_vec()));
        }
    }
    records
}
