//! Errors of the disk, of one topic of two, of a topic that is another one: nothing is left out and nobody else waits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaRespErr as Error;

use super::world::*;
use crate::kafka::producer::{Delivered, Fault, Report};
use crate::shipper::failure::{Suspect, Trouble};
use crate::shipper::hear::{Sent, ticket};
use crate::shipper::reship;
use crate::shipper::ship::{Seal, Ship, Taken};
use crate::spool::{Durability, Known, Options, SpoolId, Spools, Topic};

/// Opening it is an error of the disk.
fn spoil(path: &Path) {
    let aside = path.with_extension("aside");
    fs::rename(path, aside).unwrap();
    symlink(path, path).unwrap();
}

fn heal(path: &Path) {
    fs::rename(path.with_extension("aside"), path).unwrap();
}

/// A spool of many segments.
fn segmented(home: &Path, clicks: u64) -> (Known, Vec<std::path::PathBuf>) {
    let options = Options {
        directory: home.join("spool"),
        segment_bytes: 64 << 10,
        durability: Durability::Process,
        sync_interval: Duration::from_millis(1),
        max_bytes: None,
        keep: Duration::from_secs(3_600),
    };
    let spools = Spools::open(options, std::sync::Arc::new(crate::clock::ManualClock::at(NOW))).unwrap();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    (0..clicks).for_each(|number| click(&mut writer, number));
    assert_eq!(spools.close(), []);
    let known = crate::spool::find(spools.directory(), writer.id()).unwrap().unwrap();
    let paths = fs::read_dir(&known.directory).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "seg")).collect();
    segments.sort();
    (known, segments)
}

#[test]
fn r1_an_error_of_the_disk_within_a_batch_leaves_no_record_out() {
    let home = tempfile::tempdir().unwrap();
    let (known, segments) = segmented(home.path(), 1_500);
    assert!(segments.len() >= 4, "{segments:?}");
    let (mut ship, _) = Ship::open(known).unwrap();
    let mut next = 0;
    let mut take = |ship: &mut Ship, most| {
        let Taken::Batch(batch) = ship.take(most, usize::MAX).unwrap() else { panic!("at {next}") };
        for (seq, _) in batch.records {
            assert_eq!(seq, next);
            next += 1;
        }
        assert_eq!(ship.read, next);
        next
    };
    take(&mut ship, 1);
    spoil(&segments[1]);
    let before = take(&mut ship, 10_000);
    assert!((2..1_500).contains(&before), "{before}");
    heal(&segments[1]);
    assert_eq!(take(&mut ship, 10_000), 1_500);
}

#[test]
fn p1_a_spool_whose_cursor_cannot_be_read_is_left_and_what_is_asked_of_it_waits() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let id = sealed_clicks(&spools, 10);
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    world.until_done(&mut shipper);
    shipper.save(true);
    drop(shipper);

    let directory = spools.directory();
    let cursor = crate::spool::find(directory, id).unwrap().unwrap().directory.join("cursor");
    spoil(&cursor);
    let request = directory.join(format!("reship-{id}"));
    fs::write(&request, "4").unwrap();
    let again = World::new(&spools, &mock.cluster);
    let mut shipper = again.shipper();
    again.until(&mut shipper, "looked", |_| again.metrics.left().is_some());
    assert_eq!(again.metrics.left().map(|left| left.spools), Some(1));
    assert!(request.exists() && shipper.ships.is_empty());
    heal(&cursor);
    again.until(&mut shipper, "asked", |shipper| !request.exists() && shipper.ships.contains_key(&id));
    again.until_done(&mut shipper);
    assert_eq!(consume(&mock.cluster, Topic::Clicks)[&id].again, 6);
    again.until(&mut shipper, "nothing is left", |_| again.metrics.left().is_some_and(|left| left.spools == 0));
}

#[test]
fn p1_a_request_that_cannot_be_read_stops_no_other() {
    let home = tempfile::tempdir().unwrap();
    let path = |spool: u64| home.path().join(format!("reship-{}", SpoolId(spool)));
    fs::write(path(1), "7").unwrap();
    symlink(path(2), path(2)).unwrap();
    fs::write(path(3), [0xff, 0xfe]).unwrap();
    let mut complaints = 0;
    let found = reship::requests(home.path(), |_| complaints += 1);
    assert_eq!((found, complaints), (vec![reship::Request { spool: SpoolId(1), from: 7 }], 1));
    assert!(!path(3).exists(), "no request");
}

#[test]
fn p1_a_seal_is_sent_again_where_all_records_stay() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let id = sealed_clicks(&spools, 10);
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    world.until_done(&mut shipper);
    shipper.save(true);
    assert!(shipper.set_back(id, 10));
    assert_eq!(shipper.ships[&id].seal, Seal::Open);
    world.until_done(&mut shipper);
    assert_eq!(world.metrics.seals.value(), 2);
    shipper.save(true);
    drop(shipper);
    assert_eq!(reship::reship(spools.directory(), id, 10, NOW).unwrap(), reship::Reshipped::Set(10));
    let mut shipper = world.shipper();
    world.until(&mut shipper, "known", |shipper| shipper.ships.contains_key(&id));
    world.until_done(&mut shipper);
    assert_eq!((world.metrics.seals.value(), consume(&mock.cluster, Topic::Clicks)[&id].again), (3, 0));
}

#[test]
fn p27_a_suspect_of_a_topic_that_takes_nothing_stops_no_other_topic() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let mut clicks = spools.writer(Topic::Clicks, 0).unwrap();
    let mut orders = spools.writer(Topic::Conversions, 0).unwrap();
    (0..10).for_each(|number| click(&mut clicks, number));
    let world = World::new(&spools, &mock.cluster);
    mock.mock.topic_error("afflux.clicks", Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let mut shipper = world.shipper();
    let ids = (clicks.id(), orders.id());
    world.until(&mut shipper, "an outage", |_| world.metrics.outage[0].value() == 1);
    shipper.suspects.push(Suspect { spool: ids.0, until: 10, most: 1 });
    // As after many failures: nothing of clicks is even tried.
    (0..20).for_each(|_| {
        shipper.routes[0].pause.fail();
    });
    (0..100).for_each(|number| order(&mut orders, number));
    let (begun, heartbeats) = (Instant::now(), world.metrics.heartbeats.value());
    world.until(&mut shipper, "orders shipped and told", |shipper| {
        shipper.ships[&ids.1].acked == 100 && world.metrics.heartbeats.value() > heartbeats
    });
    assert!(shipper.routes[0].outage.is_some() && begun.elapsed() < Duration::from_secs(30));
    mock.mock.topic_error("afflux.clicks", Error::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    world.until(&mut shipper, "clicks shipped", |shipper| shipper.ships[&ids.0].acked == 10);
    assert!(consume(&mock.cluster, Topic::Conversions)[&ids.1].next == 100 && world.metrics.parked() == 0);
}

#[test]
fn r1_another_topic_that_has_grown_past_ours_is_noticed_at_the_start() {
    let (home, first) = (tempfile::tempdir().unwrap(), mock(1));
    let ours = spools(home.path());
    let mut writer = ours.writer(Topic::Clicks, 0).unwrap();
    let id = writer.id();
    (0..100).for_each(|number| click(&mut writer, number));
    let world = World::new(&ours, &first.cluster);
    let mut shipper = world.shipper();
    world.until(&mut shipper, "shipped", |shipper| shipper.ships.get(&id).is_some_and(|ship| ship.acked == 100));
    shipper.save(true);
    // The same Kafka finds nothing wrong.
    let mut shipper = world.shipper();
    let is_checked = |shipper: &super::super::Shipper| {
        !shipper.homes.homes.is_empty() && shipper.homes.homes.values().all(|home| home.witness.is_none())
    };
    world.until(&mut shipper, "checked", is_checked);
    assert_eq!(world.metrics.lost_acks.value(), 0);
    drop(shipper);

    let (elsewhere, second) = (tempfile::tempdir().unwrap(), mock(1));
    let theirs = spools(elsewhere.path());
    let mut other = theirs.writer(Topic::Clicks, 0).unwrap();
    (0..300).for_each(|number| click(&mut other, number));
    assert_eq!(theirs.close(), []);
    let others = World::new(&theirs, &second.cluster);
    others.until_done(&mut others.shipper());

    let world = World::new(&ours, &second.cluster);
    let mut shipper = world.shipper();
    world.until(&mut shipper, "noticed", |_| world.metrics.lost_acks.value() == 1);
    assert_eq!(ours.close(), []);
    world.until_done(&mut shipper);
    assert_eq!(consume(&second.cluster, Topic::Clicks)[&id].next, 100);
}

#[test]
fn h9_of_a_spool_whose_directory_vanished_nothing_is_counted_as_waiting() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let before = spools(home.path());
    let id = sealed_clicks(&before, 100);
    let spools = spools(home.path());
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    world.until_done(&mut shipper);
    mock.mock.broker_down(-1).unwrap();
    shipper.give_up(&mut Default::default());
    assert!(shipper.set_back(id, 0));
    world.until(&mut shipper, "waiting", |shipper| shipper.homes.waiting((Topic::Clicks, 0)).0 >= 100);
    let (records, bytes) = shipper.homes.waiting((Topic::Clicks, 0));
    assert!(records >= 100 && bytes == shipper.waiting_bytes && bytes > 0);
    fs::remove_dir_all(&shipper.ships[&id].known.directory).unwrap();
    world.until(&mut shipper, "gone", |shipper| !shipper.ships.contains_key(&id));
    assert_eq!((shipper.waiting_bytes, shipper.homes.waiting((Topic::Clicks, 0))), (0, (0, 0)));
}

#[test]
fn p6_a_heartbeat_says_no_more_than_was_seen() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let id = writer.id();
    (0..2).for_each(|number| click(&mut writer, number));
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    world.until(&mut shipper, "shipped", |shipper| shipper.ships.get(&id).is_some_and(|ship| ship.acked == 2));
    let mut ship = shipper.ships.remove(&id).unwrap();
    assert_eq!(shipper.state_of(&mut ship).oldest_unshipped_ms, None);
    // One more is written and not on disk.
    (ship.known.position.written, ship.known.position.newest_ms) = (3, NOW.0 - 7);
    assert_eq!(shipper.state_of(&mut ship).oldest_unshipped_ms, Some(crate::time::TimeMs(NOW.0 - 7)));

    // What cannot be listed was not looked at.
    let (directory, aside) = (spools.directory().to_owned(), home.path().join("aside"));
    fs::rename(&directory, &aside).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    let at = shipper.looked.at;
    world.clock.advance(60_000);
    shipper.look();
    assert_eq!(shipper.looked.at, at);
    fs::rename(&aside, &directory).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    shipper.look();
    assert_eq!(shipper.looked.at.0, at.0 + 60_000);
}

#[test]
fn p27_a_question_that_nobody_answers_gives_up_nothing() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let mut first = spools.writer(Topic::Clicks, 0).unwrap();
    click(&mut first, 0);
    let world = World::new(&spools, &mock.cluster);
    let (mut shipper, id) = (world.shipper(), first.id());
    world.until(&mut shipper, "shipped", |shipper| shipper.ships.get(&id).is_some_and(|ship| ship.acked == 1));
    mock.mock.broker_down(-1).unwrap();
    click(&mut first, 1);
    world.until(&mut shipper, "waiting", |shipper| shipper.ships[&id].pending.len() == 1);
    let mut second = spools.writer(Topic::Clicks, 1).unwrap();
    click(&mut second, 0);
    shipper.routes[0].forget_partitions();
    world.until(&mut shipper, "asked in vain", |shipper| !shipper.routes[0].may_ask());
    assert_eq!((world.metrics.resent.value(), shipper.ships[&id].pending.len()), (0, 1));
    mock.mock.broker_up(-1).unwrap();
    let ids = [id, second.id()];
    world.until(&mut shipper, "shipped", |shipper| ids.iter().map(|id| shipper.ships[id].acked).sum::<u64>() == 3);
    assert_eq!(world.metrics.resent.value(), 0);
}

#[test]
fn r1_a_record_that_came_back_for_another_one_is_sent_again() {
    let mut trouble = Trouble::default();
    trouble.add(Fault::Purged, SpoolId(1), Topic::Clicks, None);
    assert!(trouble.is_none(), "a heartbeat has its own time");
    trouble.add(Fault::Purged, SpoolId(1), Topic::Clicks, Some(3));
    assert!(!trouble.is_none());
}

/// A partition has a new leader, and what the old one did not answer is sent again behind what the new one was sent first.
#[test]
fn p27_what_was_delivered_before_an_earlier_record_is_sent_again_behind_it() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let (world, id) = (World::new(&spools, &mock.cluster), writer.id());
    let mut shipper = world.shipper();
    click(&mut writer, 0);
    world.until(&mut shipper, "shipped", |shipper| shipper.ships.get(&id).is_some_and(|ship| ship.acked == 1));
    mock.mock.broker_down(-1).unwrap();
    (1..10).for_each(|number| click(&mut writer, number));
    world.until(&mut shipper, "waiting", |shipper| shipper.ships[&id].pending.len() == 9);
    let slot = shipper.ships[&id].slot.unwrap();
    let told = |seq: u64| Report {
        ticket: ticket(slot, Sent::Record(seq)),
        result: Ok(Delivered { partition: 0, offset: Some(seq as i64) }),
    };
    let mut trouble = Trouble::default();
    shipper.settle_reports(&mut vec![told(5), told(6)], &mut trouble);
    assert_eq!((trouble.overtook, shipper.ships[&id].acked), (Some(Topic::Clicks), 1));
    shipper.recover(trouble);
    assert_eq!((world.metrics.resent.value(), shipper.ships[&id].sent), (9, 1));
    mock.mock.broker_up(-1).unwrap();
    assert_eq!(spools.close(), []);
    world.until_done(&mut shipper);
    let read = consume(&mock.cluster, Topic::Clicks);
    assert_eq!((read[&id].next, read[&id].early), (10, 0));
}
