use std::time::Instant;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::types::RDKafkaApiKey;

use super::*;

const WAIT: Duration = Duration::from_secs(15);

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, Cluster) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t.clicks", 2, 1).unwrap();
    let cluster = Cluster { bootstrap_servers: mock.bootstrap_servers(), prefix: "t".into() };
    (mock, cluster)
}

fn produce(cluster: &Cluster, partition: i32, values: std::ops::Range<u32>) {
    let producer: BaseProducer = cluster.client().create().unwrap();
    for value in values {
        let value = value.to_string();
        producer
            .send(BaseRecord::<(), _>::to("t.clicks").partition(partition).payload(&value))
            .map_err(|(error, _)| error)
            .unwrap();
    }
    producer.flush(WAIT).unwrap();
}

#[derive(Debug, PartialEq)]
enum Noted {
    Record(i32, i64, String),
    Assigned(usize),
    Revoked,
    Reset(i32),
}

/// Polls until `enough`.
fn hear(consumer: &mut Consumer, mut enough: impl FnMut(&[Noted]) -> bool) -> Vec<Noted> {
    let (mut noted, began) = (Vec::new(), Instant::now());
    while !enough(&noted) {
        assert!(began.elapsed() < WAIT, "{noted:?}");
        let heard = consumer.poll(Duration::from_millis(50), |heard| match heard {
            Heard::Record { partition, offset, value } => {
                let value = String::from_utf8(value.unwrap().to_vec()).unwrap();
                Noted::Record(partition.number, offset, value)
            }
            Heard::Assigned(partitions) => Noted::Assigned(partitions.len()),
            Heard::Revoked(_) => Noted::Revoked,
            Heard::Reset { partition, .. } => Noted::Reset(partition.number),
        });
        match heard {
            Ok(heard) => noted.extend(heard),
            Err(error) => assert!(matches!(error, ConsumeError::Trouble(_)), "{error}"),
        }
    }
    noted
}

fn at(number: i32) -> Partition {
    Partition { topic: 0, number }
}

fn records(noted: &[Noted], partition: i32) -> Vec<i64> {
    let of = |noted: &Noted| match noted {
        Noted::Record(number, offset, _) if *number == partition => Some(*offset),
        _ => None,
    };
    noted.iter().filter_map(of).collect()
}

#[test]
fn begins_where_it_is_told_seeks_and_comes_back_from_what_is_not_there() {
    let (_mock, cluster) = cluster();
    produce(&cluster, 0, 0..5);
    produce(&cluster, 1, 0..3);
    let mut consumer = Consumer::join(&cluster, "g", &["t.clicks".into()]).unwrap();
    // Partition 1 is said to be longer than it is.
    consumer.set_starts([(at(0), 3), (at(1), 100)].into());
    let noted = hear(&mut consumer, |noted| records(noted, 0).len() == 2 && records(noted, 1).len() == 3);
    assert_eq!(noted[0], Noted::Assigned(2));
    assert!(noted.contains(&Noted::Reset(1)) && !noted.contains(&Noted::Reset(0)));
    assert_eq!((records(&noted, 0), records(&noted, 1)), (vec![3, 4], vec![0, 1, 2]));
    assert_eq!(consumer.positions()[&at(0)], Start::At(5));
    assert!(consumer.seek(at(0), Start::At(1)));
    let noted = hear(&mut consumer, |noted| records(noted, 0).len() == 4);
    assert_eq!(records(&noted, 0), [1, 2, 3, 4]);
    assert!(consumer.seek(at(0), Start::Beginning));
    assert_eq!(records(&hear(&mut consumer, |noted| records(noted, 0).len() == 5), 0)[0], 0);
}

#[test]
fn ends_are_asked_without_reading() {
    let (_mock, cluster) = cluster();
    produce(&cluster, 1, 7..10);
    let ends = Ends::of(&cluster, "t.clicks".into()).unwrap();
    assert_eq!(ends.ends().unwrap(), [(0, 0), (1, 3)].into());
    assert_eq!(ends.record(1, 1).unwrap(), Some(b"8".to_vec()));
    assert_eq!(ends.record(1, 3).unwrap(), None);
}

/// The client says once that an offset is not there, and of no partition. Both have to go on all the same.
#[test]
fn a_partition_that_stopped_goes_on_though_asking_failed_at_first() {
    let (mock, cluster) = cluster();
    produce(&cluster, 0, 0..3);
    produce(&cluster, 1, 0..3);
    let mut consumer = Consumer::join(&cluster, "g", &["t.clicks".into()]).unwrap();
    consumer.set_starts([(at(0), 100), (at(1), 100)].into());
    hear(&mut consumer, |noted| noted == [Noted::Assigned(2)]);
    mock.request_errors(RDKafkaApiKey::ListOffsets, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 2]);
    let noted = hear(&mut consumer, |noted| records(noted, 0).len() == 3 && records(noted, 1).len() == 3);
    assert!(noted.contains(&Noted::Reset(0)) && noted.contains(&Noted::Reset(1)), "{noted:?}");
}

/// A topic made anew that filled up before it was asked how far it goes.
#[test]
fn a_partition_that_stopped_goes_on_where_it_was_when_that_is_there_by_now() {
    let (_mock, cluster) = cluster();
    produce(&cluster, 0, 0..3);
    let mut consumer = Consumer::join(&cluster, "g", &["t.clicks".into()]).unwrap();
    consumer.set_starts([(at(0), 4), (at(1), 0)].into());
    hear(&mut consumer, |noted| noted == [Noted::Assigned(2)]);
    // Until the client has found out.
    std::thread::sleep(Duration::from_secs(2));
    produce(&cluster, 0, 3..8);
    let noted = hear(&mut consumer, |noted| records(noted, 0).len() == 4);
    assert_eq!((records(&noted, 0), noted.contains(&Noted::Reset(0))), (vec![4, 5, 6, 7], false));
}
