use std::time::Instant;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::*;

type Mock = MockCluster<'static, DefaultProducerContext>;

fn mock() -> (Mock, Cluster) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("afflux.clicks", 2, 1).unwrap();
    let cluster = Cluster { bootstrap_servers: mock.bootstrap_servers(), prefix: "afflux".into() };
    (mock, cluster)
}

fn producer(cluster: &Cluster) -> Producer {
    Producer::new(cluster, Pace { linger_ms: 1 }, Arc::default()).unwrap()
}

fn reports(producer: &Producer, count: usize) -> Vec<Report> {
    let (mut reports, begun) = (Vec::new(), Instant::now());
    while reports.len() < count {
        assert!(begun.elapsed() < Duration::from_secs(20), "{reports:?}");
        producer.poll(Duration::from_millis(5), &mut reports);
    }
    reports
}

#[test]
fn every_record_is_reported_in_order_with_its_offset() {
    let (_mock, cluster) = mock();
    let producer = producer(&cluster);
    assert_eq!(producer.partitions("afflux.clicks", Duration::from_secs(5)), Ok(2));
    for ticket in 0..100 {
        producer.send("afflux.clicks", 1, b"key", b"value", ticket).unwrap();
    }
    let reports = reports(&producer, 100);
    for (ticket, report) in reports.iter().enumerate() {
        let delivered = Delivered { partition: 1, offset: Some(ticket as i64) };
        assert_eq!(*report, Report { ticket, result: Ok(delivered) });
    }
    assert_eq!(producer.end_offset("afflux.clicks", 1, Duration::from_secs(5)), Ok(100));
    assert_eq!(producer.trouble(), None);
}

#[test]
fn faults_are_told_apart_by_what_is_to_be_done() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};
    let (mock, cluster) = mock();
    for (error, wanted) in [
        (Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Fault::Record("too_large")),
        (Error::RD_KAFKA_RESP_ERR_INVALID_RECORD, Fault::Record("refused")),
        (Error::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, Fault::Outage("invalid_timestamp")),
        (Error::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, Fault::Outage("policy")),
        (Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Fault::Outage("authorization")),
        (Error::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, Fault::Client),
    ] {
        let producer = producer(&cluster);
        mock.request_errors(RDKafkaApiKey::Produce, &[error]);
        producer.send("afflux.clicks", 0, b"key", b"value", 7).unwrap();
        assert_eq!(reports(&producer, 1), [Report { ticket: 7, result: Err(wanted) }]);
    }
    assert_eq!(fault(Some(Code::InvalidDifferentRecord)), Fault::Purged);
    let producer = producer(&cluster);
    let large = vec![b'x'; LARGEST_RECORD_BYTES + 1];
    assert_eq!(producer.send("afflux.clicks", 0, b"key", &large, 1), Err(NotSent::Fault(Fault::Record("too_large"))));
    let sent = producer.send("afflux.clicks", 2, b"key", b"value", 1);
    assert!(
        sent == Err(NotSent::Fault(Fault::NoPartition)) || reports(&producer, 1)[0].result == Err(Fault::NoPartition)
    );
}

#[test]
fn what_waits_for_a_broker_that_is_down_can_be_purged() {
    let (mock, cluster) = mock();
    mock.broker_down(-1).unwrap();
    let producer = producer(&cluster);
    for ticket in 0..10 {
        producer.send("afflux.clicks", 0, b"key", b"value", ticket).unwrap();
    }
    let mut reports = Vec::new();
    assert!(producer.purge(Duration::from_secs(5), &mut reports));
    assert_eq!(reports.len(), 10);
    assert!(reports.iter().all(|report| report.result == Err(Fault::Purged)));
    assert_eq!(producer.waiting(), 0);
}
