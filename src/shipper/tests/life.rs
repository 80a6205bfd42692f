//! A spool's way from its first record to its seal.

use super::world::*;
use crate::lock::Lock;
use crate::shipper::cursor::{self, Found};
use crate::shipper::reship::{self, Reshipped};
use crate::shipper::ship::Seal;
use crate::spool::Topic;

#[test]
fn v15_all_records_of_a_spool_are_in_one_partition_in_order_with_heartbeats_and_a_seal() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(5));
    let spools = spools(home.path());
    let mut clicks = [0, 1].map(|worker| spools.writer(Topic::Clicks, worker).unwrap());
    let mut orders = spools.writer(Topic::Conversions, 0).unwrap();
    let (world, ids) = (World::new(&spools, &mock.cluster), [clicks[0].id(), clicks[1].id(), orders.id()]);
    let mut shipper = world.shipper();
    for number in 0..1_000 {
        click(&mut clicks[number as usize % 2], number);
        if number % 10 == 0 {
            order(&mut orders, number);
            shipper.round();
        }
    }
    assert_eq!(spools.close(), []);
    world.until_done(&mut shipper);
    shipper.save(true);

    let read = consume(&mock.cluster, Topic::Clicks);
    for (worker, id) in ids[..2].iter().enumerate() {
        let spool = &read[id];
        assert_eq!((spool.next, spool.early, spool.again), (500, 0, 0), "{id}");
        assert_eq!(spool.partitions, [(7 + worker as i32) % 5], "the random start and the worker");
        assert_eq!(spool.keys[3], format!("{:016x}", (2 * 3 + worker) % 50));
        let seal = spool.seal.clone().unwrap();
        assert_eq!((seal.seq, seal.shipped, seal.oldest_unshipped_ms), (Some(499), 500, None));
        assert_eq!((seal.edge.as_str(), seal.topic.as_str()), ("edge-1", "clicks"));
        assert!(!spool.heartbeats.is_empty());
        let Found::Cursor(cursor) = cursor::read(&shipper.ships[id].known.directory, *id).unwrap() else { panic!() };
        assert_eq!((cursor.next, cursor.partitions, cursor.sealed), (500, 5, true));
    }
    let read = consume(&mock.cluster, Topic::Conversions);
    assert_eq!((read[&ids[2]].next, read[&ids[2]].keys[1].as_str()), (100, "3/A10"));
    assert_eq!(world.metrics.delivered[0].value(), 1_000);
    assert_eq!(world.metrics.resent.value(), 0);

    // Another lifetime finds that nothing is left.
    let mut page = crate::metrics::Page::default();
    let again = World::new(&world.spools, &mock.cluster);
    let mut shipper = again.shipper();
    again.until(&mut shipper, "looked", |_| again.metrics.left().is_some());
    again.metrics.write(&mut page);
    assert_eq!(again.metrics.left().map(|left| (left.spools, left.records)), Some((0, 0)));
    assert!(page.finish().contains("afflux_shipper_delivered_total{topic=\"clicks\"} 0\n"));
}

#[test]
fn p6_a_heartbeat_says_what_is_on_disk_and_what_is_shipped() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    // Soon after the start, also of a spool without records.
    world.until(&mut shipper, "told", |_| world.metrics.heartbeats.value() >= 1);
    click(&mut writer, 0);
    click(&mut writer, 1);
    writer.count_unspooled();
    let id = writer.id();
    world.until(&mut shipper, "shipped", |shipper| shipper.ships[&id].acked == 2);
    let heartbeats = world.metrics.heartbeats.value();
    world.until(&mut shipper, "told again", |shipper| {
        world.metrics.heartbeats.value() >= heartbeats + 2 && shipper.producer.as_ref().unwrap().waiting() == 0
    });
    let read = consume(&mock.cluster, Topic::Clicks);
    let (first, last) = (read[&id].heartbeats.first().unwrap(), read[&id].heartbeats.last().unwrap());
    assert_eq!((first.seq, first.shipped), (None, 0));
    assert_eq!((last.seq, last.shipped, last.unspooled, last.late), (Some(1), 2, 1, 0));
    assert_eq!((last.oldest_unshipped_ms, last.at_ms), (None, NOW));
}

#[test]
fn h9_many_old_spools_are_shipped_with_few_open_at_once() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(4));
    let before = spools(home.path());
    let count = super::super::feed::MAX_OPEN + 60;
    for number in 0..count {
        let mut writer = before.writer(Topic::Clicks, 0).unwrap();
        click(&mut writer, number as u64);
        click(&mut writer, number as u64);
    }
    let unused = before.writer(Topic::Clicks, 0).unwrap().id();
    assert_eq!(before.close(), []);
    drop(before);
    let spools = spools(home.path());
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    world.until_done(&mut shipper);
    let read = consume(&mock.cluster, Topic::Clicks);
    assert_eq!(read.len(), count, "of a spool without records nobody hears");
    assert!(!read.contains_key(&unused));
    assert!(read.values().all(|spool| spool.next == 2 && spool.seal.is_some() && spool.partitions.len() == 1));
    let open = shipper.ships.values().filter(|ship| ship.is_reading()).count();
    assert!(open <= super::super::feed::MAX_OPEN, "{open}");
}

#[test]
fn p1_kept_records_are_sent_again_while_it_runs_and_while_it_does_not() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(2));
    let spools = spools(home.path());
    let id = sealed_clicks(&spools, 50);
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    world.until_done(&mut shipper);
    shipper.save(true);
    drop(shipper);

    let directory = spools.directory();
    assert!(reship::reship(directory, id, 51, NOW).is_err());
    assert_eq!(reship::reship(directory, id, 20, NOW).unwrap(), Reshipped::Set(20));
    let mut shipper = world.shipper();
    world.until(&mut shipper, "known", |shipper| shipper.ships.contains_key(&id));
    world.until_done(&mut shipper);
    assert_eq!(consume(&mock.cluster, Topic::Clicks)[&id].again, 30);

    let lock = Lock::take(&crate::shipper::run::lock_path(directory)).unwrap();
    let asking = std::thread::spawn({
        let directory = directory.to_owned();
        move || reship::reship(&directory, id, 45, NOW).unwrap()
    });
    world.until(&mut shipper, "asked", |shipper| shipper.ships[&id].seal == Seal::Open);
    assert_eq!(asking.join().unwrap(), Reshipped::Taken);
    world.until_done(&mut shipper);
    drop(lock);
    assert_eq!(consume(&mock.cluster, Topic::Clicks)[&id].again, 35);
}

#[test]
fn p11_one_process_ships_and_the_other_waits_for_its_end() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(2));
    let spools = spools(home.path());
    let world = World::new(&spools, &mock.cluster);
    let lock = Lock::take(&crate::shipper::run::lock_path(spools.directory())).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let is_stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| crate::shipper::run(world.parts(), is_stopped));
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(world.metrics.shipping.value(), 0);
        drop(lock);
        while world.metrics.shipping.value() == 0 {
            std::thread::yield_now();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        running.join().unwrap();
    });
}

#[test]
fn r1_a_spool_goes_back_ten_minutes_and_the_next_lifetime_knows_as_well() {
    let (home, mock) = (tempfile::tempdir().unwrap(), mock(1));
    let spools = spools(home.path());
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let id = writer.id();
    let world = World::new(&spools, &mock.cluster);
    let mut shipper = world.shipper();
    for minute in 1..=30 {
        (0..10).for_each(|number| click(&mut writer, number));
        world.until(&mut shipper, "shipped", |shipper| {
            shipper.ships.get(&id).is_some_and(|ship| ship.acked == minute * 10)
        });
        world.clock.advance(60_000);
        shipper.save(true);
    }
    let now = crate::clock::Clock::now(&*world.clock);
    assert_eq!(shipper.ships[&id].back(now), 200);
    drop(shipper);
    let mut shipper = world.shipper();
    world.until(&mut shipper, "met", |shipper| shipper.ships.contains_key(&id));
    assert_eq!(shipper.ships[&id].back(now), 200, "as it was saved");
    shipper.give_up(&mut Default::default());
    shipper.resend_lost((Topic::Clicks, 0), 290);
    world.until(&mut shipper, "shipped again", |shipper| shipper.ships[&id].acked == 300);
    let read = &consume(&mock.cluster, Topic::Clicks)[&id];
    assert_eq!((read.next, read.early), (300, 0));
    assert!(read.again >= 100, "{}", read.again);
}
