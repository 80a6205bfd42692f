//! Disks that fail once, hang, are slow or full.

use super::*;

fn synced(house: &House) -> u64 {
    house.only().position.synced
}

#[test]
fn a_failed_fdatasync_is_healed_elsewhere_and_loses_nothing() {
    for durability in [Durability::Disk, Durability::Process] {
        let house = house(durability);
        let spools = house.open();
        let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
        for round in 1..=20u64 {
            house.faults.fail_syncs(round % 3);
            append(&mut writer, 100);
            let durable = writer.durable();
            block_on(durable.wait(round * 100 - 1, None)).unwrap();
            assert_eq!(synced(&house), round * 100);
        }
        assert_eq!(spools.trouble(), None);
        drop(writer);
        assert_eq!(spools.close(), []);
        let (whole, lines, complaints) = house.cat();
        assert!(whole, "{complaints}");
        assert_eq!(lines, numbered(2_000));
    }
}

#[test]
fn while_the_disk_fails_readiness_is_down_and_waiting_ends() {
    let house = house(Durability::Disk);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    house.faults.fail_syncs(u64::MAX);
    append(&mut writer, 1);
    wait_until("poisoned", || spools.trouble().is_some());
    let durable = writer.durable();
    assert_eq!(block_on(durable.wait(0, Some(Duration::from_millis(5)))), Err(NotDurable));
    assert_eq!(block_on(durable.wait(0, None)), Err(NotDurable));
    house.faults.fail_syncs(0);
    wait_until("healed", || spools.trouble().is_none());
    assert_eq!(block_on(durable.wait(0, None)), Ok(()));
}

#[test]
fn while_one_fdatasync_hangs_nobody_waits() {
    let house = house(Durability::Disk);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 1);
    let durable = writer.durable();
    block_on(durable.wait(0, None)).unwrap();
    let hang = house.faults.hang();
    append(&mut writer, 1);
    let limit = Duration::from_millis(30);
    assert_eq!(block_on(durable.wait(1, Some(limit))), Err(NotDurable));
    let began = std::time::Instant::now();
    for _ in 0..100 {
        append(&mut writer, 1);
        assert_eq!(block_on(durable.wait(writer.next_seq() - 1, Some(limit))), Err(NotDurable));
    }
    assert!(began.elapsed() < 50 * limit, "{:?}", began.elapsed());
    drop(hang);
    block_on(durable.wait(101, None)).unwrap();
}

#[test]
fn a_full_disk_refuses_says_so_and_takes_records_again_when_there_is_room() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    house.faults.disk_full(true);
    let mut appended = 0;
    let refused = loop {
        match writer.append(payload(appended).as_bytes()) {
            Ok(seq) => appended = seq + 1,
            Err(error) => break error,
        }
        assert!(appended < 10_000);
    };
    assert_eq!(refused, NotSpooled::Full);
    assert!(spools.trouble().is_some());
    house.faults.disk_full(false);
    wait_until("room", || spools.trouble().is_none());
    assert_eq!(writer.append(payload(appended).as_bytes()), Ok(appended));
    drop(writer);
    assert_eq!(spools.close(), []);
    let (whole, lines, complaints) = house.cat();
    assert!(whole, "{complaints}");
    assert_eq!(lines, numbered(appended + 1));
}

#[test]
fn the_bound_holds_and_only_consumed_segments_make_room() {
    let mut house = house(Durability::Process);
    house.options.max_bytes = Some(10 * 16_384);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let fill = |writer: &mut Writer| {
        for _ in 0..5_000 {
            let seq = writer.next_seq();
            if writer.append(payload(seq).as_bytes()).is_err() {
                return true;
            }
            if seq.is_multiple_of(50) {
                super::super::keeper::run_once(&spools);
            }
        }
        false
    };
    assert!(fill(&mut writer), "never full");
    wait_until("synced", || synced(&house) == writer.next_seq());
    spools.consumed(writer.id(), writer.next_seq());
    super::super::keeper::run_once(&spools);
    wait_until("room", || spools.trouble().is_none());
    append(&mut writer, 10);
}

#[test]
fn a_consumer_waiting_for_clicks_sees_what_was_written_before() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    for round in 1..=50 {
        append(&mut writer, 1);
        let (known, caught_up) = spools.list_synced(Duration::from_secs(5)).unwrap();
        assert!(caught_up);
        assert_eq!(known[0].position.synced, round);
    }
}
