//! What Kafka refuses: a record, a topic, a client.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};

use super::world::*;
use crate::kafka::LARGEST_RECORD_BYTES;
use crate::shipper::parked;
use crate::spool::Topic;

#[test]
fn v10_a_record_that_is_refused_alone_is_parked_and_all_others_go() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let mut writers = [0, 1].map(|worker| spools.writer(Topic::Clicks, worker).unwrap());
    let world = World::new(&spools, &mock.cluster);
    for number in 0..300 {
        writers.iter_mut().for_each(|writer| click(writer, number));
    }
    // Until one is parked, whichever is sent alone then.
    mock.mock.request_errors(RDKafkaApiKey::Produce, &[Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 100]);
    let mut shipper = world.shipper();
    assert_eq!(spools.close(), []);
    world.until(&mut shipper, "parked", |_| world.metrics.parked() == 1);
    mock.mock.clear_request_errors(RDKafkaApiKey::Produce);
    world.until_done(&mut shipper);
    let read = consume(&mock.cluster, Topic::Clicks);
    let parked_of = |at: usize| read[&writers[at].id()].parked.clone();
    let parked: Vec<_> = [0, 1].into_iter().flat_map(parked_of).collect();
    assert_eq!(parked.len(), 1, "{parked:?} {:?}", world.metrics);
    assert_eq!(parked[0].1, "too_large");
    assert!(read.values().all(|spool| spool.next == 300 && spool.seal.is_some()));
    assert_eq!(world.metrics.parked(), 1);
    let directory = |at: usize| shipper.ships[&writers[at].id()].known.directory.clone();
    let kept: Vec<_> = [0, 1].map(|at| parked::read(&directory(at), writers[at].id()).unwrap()).concat();
    assert_eq!(kept.len(), 1);
    let address = crate::event::address(&kept[0].record).unwrap();
    assert_eq!(address.seq, Some(parked[0].0));
}

#[test]
fn v10_a_record_too_large_for_the_client_is_parked_in_its_turn() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let options = crate::spool::Options {
        directory: home.path().join("spool"),
        segment_bytes: 16 << 20,
        durability: crate::spool::Durability::Process,
        sync_interval: Duration::from_millis(1),
        max_bytes: None,
        keep: Duration::from_secs(3_600),
    };
    let clock = std::sync::Arc::new(crate::clock::ManualClock::at(NOW));
    let spools = std::sync::Arc::new(crate::spool::Spools::open(options, clock).unwrap());
    let mut writer = spools.writer(Topic::Conversions, 0).unwrap();
    order(&mut writer, 0);
    let (spool, padding) = (writer.id(), "x".repeat(LARGEST_RECORD_BYTES));
    let large = format!(r#"{{"event":"conversion","schema":1,"spool":"{spool}","seq":1,"extra":"{padding}"}}"#);
    append(&mut writer, large.as_bytes());
    order(&mut writer, 2);
    assert_eq!(spools.close(), []);
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    world.until_done(&mut shipper);
    let read = &consume(&mock.cluster, Topic::Conversions)[&spool];
    assert_eq!((read.next, &read.parked[..]), (3, &[(1, "too_large".to_owned())][..]));
    let kept = parked::read(&shipper.ships[&spool].known.directory, spool).unwrap();
    assert_eq!((kept[0].seq, kept[0].record.len()), (1, large.len()));
}

#[test]
fn p27_a_topic_that_takes_nothing_is_waited_for_and_the_other_goes_on() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let mut clicks = spools.writer(Topic::Clicks, 0).unwrap();
    let mut orders = spools.writer(Topic::Conversions, 0).unwrap();
    let world = World::new(&spools, &mock.cluster);
    mock.mock.topic_error("afflux.clicks", Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    (0..100).for_each(|number| click(&mut clicks, number));
    (0..100).for_each(|number| order(&mut orders, number));
    let mut shipper = world.shipper();
    let ids = (clicks.id(), orders.id());
    world.until(&mut shipper, "half shipped", |shipper| {
        shipper.ships.get(&ids.1).is_some_and(|ship| ship.acked == 100) && world.metrics.outage[0].value() == 1
    });
    assert_eq!((shipper.ships[&ids.0].acked, world.metrics.outage[1].value()), (0, 0));
    mock.mock.topic_error("afflux.clicks", Error::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    world.until(&mut shipper, "shipped", |shipper| shipper.ships[&ids.0].acked == 100);
    assert_eq!((world.metrics.outage[0].value(), world.metrics.parked()), (0, 0));
    assert_eq!(consume(&mock.cluster, Topic::Clicks)[&ids.0].next, 100);
}

#[test]
fn p27_refusals_of_everything_are_an_outage_and_park_a_bounded_number() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    (0..20).for_each(|number| click(&mut writer, number));
    let world = World::new(&spools, &mock.cluster);
    mock.mock.request_errors(RDKafkaApiKey::Produce, &[Error::RD_KAFKA_RESP_ERR_INVALID_RECORD; 1_000]);
    let mut shipper = world.shipper();
    world.until(&mut shipper, "an outage", |_| world.metrics.outage[0].value() == 1);
    // The stand-in was refused too.
    assert_eq!(world.metrics.parked(), 1);
    mock.mock.clear_request_errors(RDKafkaApiKey::Produce);
    let id = writer.id();
    world.until(&mut shipper, "shipped", |shipper| shipper.ships[&id].acked == 20);
    assert_eq!(consume(&mock.cluster, Topic::Clicks)[&id].next, 20);
    assert_eq!(world.metrics.parked(), 1);
}

#[test]
fn h7_numbers_that_the_disk_lost_are_told_one_by_one() {
    use std::os::unix::fs::FileExt;
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let before = spools(home.path());
    let id = sealed_clicks(&before, 30);
    let directory = crate::spool::find(before.directory(), id).unwrap().unwrap().directory;
    drop(before);
    let segments = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg" || extension == "log"))
        .find(|path| memchr::memmem::find(&std::fs::read(path).unwrap(), b"\"seq\":10,").is_some());
    let segment = segment.unwrap_or_else(|| panic!("{:?}", std::fs::read_dir(&directory).unwrap().collect::<Vec<_>>()));
    let bytes = std::fs::read(&segment).unwrap();
    let file = std::fs::File::options().write(true).open(&segment).unwrap();
    for seq in [10, 11, 12] {
        let at = memchr::memmem::find(&bytes, format!("\"seq\":{seq},").as_bytes()).unwrap();
        file.write_all_at(b"XXXXX", at as u64).unwrap();
    }
    let spools = spools(home.path());
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    world.until_done(&mut shipper);
    let read = &consume(&mock.cluster, Topic::Clicks)[&id];
    assert_eq!((read.next, read.seal.is_some()), (30, true));
    let lost: Vec<_> = [10, 11, 12].map(|seq| (seq, "lost".to_owned())).into();
    assert_eq!(read.parked, lost);
    assert_eq!(world.metrics.parked(), 3);
}

#[test]
fn p27_kafka_away_costs_nothing_but_lag() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(2));
    let spools = spools(home.path());
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let id = writer.id();
    let world = World::new(&spools, &mock.cluster);
    mock.mock.broker_down(-1).unwrap();
    let mut shipper = world.shipper();
    (0..500).for_each(|number| click(&mut writer, number));
    world.until(&mut shipper, "lagging", |_| {
        world.metrics.lag_records.value() == 500 && world.metrics.outage[0].value() == 1
    });
    assert_eq!(world.metrics.lag_ms.value(), 0);
    world.clock.advance(5_000);
    world.until(&mut shipper, "late", |_| world.metrics.lag_ms.value() == 5_000);
    mock.mock.broker_up(-1).unwrap();
    world.until(&mut shipper, "shipped", |shipper| shipper.ships[&id].acked == 500);
    world.until(&mut shipper, "fine", |_| {
        world.metrics.lag_records.value() == 0 && world.metrics.outage[0].value() == 0
    });
    let read = &consume(&mock.cluster, Topic::Clicks)[&id];
    assert_eq!((read.next, read.early), (500, 0));
}
