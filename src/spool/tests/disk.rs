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

/// Appends until `records` are there, telling that all is consumed; false when it did not get there in time.
fn append_consumed(spools: &Spools, writers: &mut [Writer], records: u64) -> bool {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    for writer in writers {
        while writer.next_seq() < records {
            let seq = writer.next_seq();
            if writer.append(payload(seq).as_bytes()).is_err() {
                wait_until("synced", || writer.durable().is_durable(seq - 1));
                spools.consumed(writer.id(), seq);
            }
            if std::time::Instant::now() > deadline {
                return false;
            }
        }
    }
    true
}

#[test]
fn p18_a_bound_that_current_segments_fill_does_not_shut_what_is_consumed_for_good() {
    let mut house = house(Durability::Process);
    // Four spools, and not even room for what each of them writes to and has ahead.
    house.options.max_bytes = Some(5 * 16_384);
    let spools = house.open();
    let mut writers: Vec<Writer> = (0..4).map(|worker| spools.writer(Topic::Clicks, worker).unwrap()).collect();
    assert!(append_consumed(&spools, &mut writers, 2_000), "{:?}", spools.trouble());
    wait_until("room", || spools.trouble().is_none());
}

#[test]
fn p27_the_used_ratio_is_current_and_the_bound_is_held_between_two_counts() {
    let mut house = house(Durability::Process);
    house.options.max_bytes = Some(8 * 16_384);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let on_disk = || {
        let segments = listing::list(&house.only().directory, house.only().id()).unwrap();
        (segments.segments.len() + segments.unused.len()) as u64 * 16_384
    };
    // A segment that is being made may come later than it is needed.
    wait_until("full", || {
        while writer.append(payload(writer.next_seq()).as_bytes()).is_ok() {
            assert!(spools.inner().watch.room.used() <= 8 * 16_384);
        }
        // Counted twice for a moment is not full.
        on_disk() == 8 * 16_384
    });
    wait_until("counted", || spools.inner().watch.room.used() == on_disk());
    let mut page = crate::metrics::Page::default();
    spools.write_metrics(&mut page);
    let text = page.finish();
    assert!(text.contains("afflux_spool_used_ratio 1\n"), "{text}");
}

#[test]
fn p18_segments_made_ahead_do_not_pile_up_over_starts() {
    let house = house(Durability::Process);
    for start in 0..5 {
        let spools = house.open();
        let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
        append(&mut writer, 10);
        wait_until("a segment ahead", || !unused(&house, writer.id()).is_empty());
        let id = writer.id();
        drop(writer);
        assert_eq!(spools.close(), []);
        let again = house.open();
        again.consumed(id, 10);
        super::super::keeper::run_once(&again);
        assert_eq!(unused(&house, id).len(), 0, "start {start}");
    }
}

fn unused(house: &House, id: SpoolId) -> Vec<std::path::PathBuf> {
    let known = crate::spool::shelf::list(&house.options.directory).unwrap();
    let spool = known.iter().find(|known| known.id() == id).unwrap();
    let unused = listing::list(&spool.directory, id).unwrap().unused;
    unused.into_iter().map(|rest| rest.path).collect()
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
