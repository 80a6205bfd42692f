//! How much room spools take, what goes when, and what is never taken for lost.

use super::super::faults::Place;
use super::super::keeper;
use super::*;

fn unused(known: &Known) -> usize {
    listing::list(&known.directory, known.id()).unwrap().unused.len()
}

#[test]
fn h3_segments_made_ahead_do_not_outlive_their_spool() {
    let house = house(Durability::Process);
    for start in 1..=3 {
        let spools = house.open();
        let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
        append(&mut writer, 10);
        let empty = spools.writer(Topic::Conversions, 0).unwrap();
        wait_until("ahead", || {
            spools.list().unwrap().iter().all(|known| known.position.sealed.is_some() || unused(known) > 0)
        });
        drop((writer, empty));
        assert_eq!(spools.close(), []);
        let known = shelf::list(&house.options.directory).unwrap();
        assert_eq!(known.len(), 2 * start);
        for spool in known {
            let listing = listing::list(&spool.directory, spool.id()).unwrap();
            assert_eq!(listing.unused, [], "start {start}");
            // One without a record keeps its control file alone.
            assert_eq!(listing.segments.len(), usize::from(spool.topic() == Topic::Clicks));
        }
    }
}

#[test]
fn h3_what_a_crash_left_ahead_goes_too() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 10);
    let _empty = spools.writer(Topic::Conversions, 0).unwrap();
    wait_until("ahead", || spools.list().unwrap().iter().all(|known| unused(known) > 0));
    let killed = copy_of(&house.options.directory);
    let directory = killed.path().join("spool");
    let again = Spools::open(Options { directory, ..house.options.clone() }, house.clock.clone()).unwrap();
    keeper::run_once(&again);
    for known in again.list().unwrap() {
        let listing = listing::list(&known.directory, known.id()).unwrap();
        assert_eq!(listing.unused, []);
        assert_eq!(listing.segments.len(), usize::from(known.topic() == Topic::Clicks));
    }
}

#[test]
fn h4_a_bound_below_what_live_spools_need_shuts_none_for_good() {
    let mut house = house(Durability::Process);
    house.options.max_bytes = Some(5 * 16_384);
    let spools = house.open();
    let mut writers: Vec<Writer> = (0..4).map(|worker| spools.writer(Topic::Clicks, worker).unwrap()).collect();
    for writer in &mut writers {
        while writer.next_seq() < 1_000 {
            append(writer, 10);
            let next = writer.next_seq();
            wait_until("synced", || writer.durable().is_durable(next - 1));
            spools.consumed(writer.id(), next);
        }
    }
    wait_until("room", || spools.trouble().is_none());
}

#[test]
fn h5_where_the_disk_is_full_what_is_consumed_goes_before_its_time_oldest_first() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 1_000);
    let id = writer.id();
    wait_until("synced", || writer.durable().is_durable(999));
    spools.consumed(id, 500);
    house.faults.disk_full(true);
    let first = || house.only().read_from(0).unwrap().next_seq();
    let deadline = Instant::now() + Duration::from_secs(10);
    while first() == 0 {
        // One that was being made may come first.
        while writer.append(payload(writer.next_seq()).as_bytes()).is_ok() {}
        assert!(Instant::now() < deadline, "nothing was given up");
    }
    assert!(first() <= 500, "what is not consumed stays");
    house.faults.disk_full(false);
    wait_until("room", || spools.trouble().is_none());
    append(&mut writer, 10);
    assert!(house.cat().0, "{}", house.cat().2);
}

/// A sealed spool of 1,000 records, consumed up to `consumed`, whose time is over.
fn old(house: &House, consumed: u64) -> Spools {
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 1_000);
    let id = writer.id();
    drop(writer);
    assert_eq!(spools.close(), []);
    drop(spools);
    house.clock.advance(7_200_000);
    let again = house.open();
    again.consumed(id, consumed);
    again
}

#[test]
fn h8_what_retention_deleted_is_no_damage() {
    let house = house(Durability::Process);
    let spools = old(&house, 700);
    keeper::run_once(&spools);
    let known = house.only();
    let first = known.position.deleted_below;
    assert!((1..=700).contains(&first), "{first}");
    assert_eq!(known.read_from(0).unwrap().next_seq(), first);
    assert_eq!(house.cat(), (true, (first..1_000).map(payload).collect(), String::new()));
    let surveyed = inspect::survey(&house.options.directory).unwrap();
    assert_eq!((surveyed.spools[0].first, surveyed.spools[0].records, surveyed.spools[0].lost), (first, 1_000, 0));
    // Without any segment left it is whole as well.
    let listing = listing::list(&known.directory, known.id()).unwrap();
    control::Control::open(&known.directory).unwrap().set_deleted_below(1_000).unwrap();
    listing.segments.iter().for_each(|segment| std::fs::remove_file(&segment.path).unwrap());
    assert_eq!(house.cat(), (true, Vec::new(), String::new()));
}

#[test]
fn h8_a_segment_that_is_gone_and_was_not_deleted_is_named() {
    let house = house(Durability::Process);
    let spools = old(&house, 0);
    drop(spools);
    let known = house.only();
    let first = listing::list(&known.directory, known.id()).unwrap().segments.remove(0);
    std::fs::remove_file(first.path).unwrap();
    let (whole, _, complaints) = house.cat();
    assert!(!whole && complaints.contains("records 0 to "), "{complaints}");
}

#[test]
fn h8_a_kill_before_the_segments_are_gone_leaves_a_whole_spool() {
    let house = house(Durability::Process);
    let spools = old(&house, 700);
    let kills: Arc<std::sync::Mutex<Vec<tempfile::TempDir>>> = Arc::default();
    let (seen, directory) = (kills.clone(), house.options.directory.clone());
    house.faults.visit(move |place| {
        if place == Place::Disowned {
            seen.lock().unwrap().push(copy_of(&directory));
        }
    });
    keeper::run_once(&spools);
    let kill = kills.lock().unwrap().pop().unwrap();
    let (whole, lines, complaints) = cat(&kill.path().join("spool"));
    assert!(whole, "{complaints}");
    assert_eq!(lines, house.cat().1);
}

#[test]
fn m1_who_reads_while_old_segments_are_deleted_goes_on_behind_them() {
    let house = house(Durability::Process);
    let spools = old(&house, 900);
    let mut reader = house.only().read_from(0).unwrap();
    // The keeper's own thread may have been here already.
    let Some(Item::Record { seq: begun, .. }) = reader.next(1_000).unwrap() else { panic!("nothing is left") };
    keeper::run_once(&spools);
    let first = house.only().position.deleted_below;
    let mut due = begun + 1;
    while let Some(item) = reader.next(1_000).unwrap() {
        let Item::Record { seq, .. } = item else { panic!("{item:?}") };
        // What was open is read to its end.
        assert!(seq == due || seq == first, "{seq} after {}", due - 1);
        due = seq + 1;
    }
    assert_eq!(due, 1_000);
}

#[test]
fn v10_where_nobody_knows_whether_something_is_parked_the_spool_stays() {
    let house = house(Durability::Process);
    let spools = old(&house, 0);
    let parked = house.only().directory.join(PARKED_FILE);
    // It leads to itself: an error, as that of a disk.
    std::os::unix::fs::symlink(PARKED_FILE, &parked).unwrap();
    spools.consumed(house.only().id(), 1_000);
    keeper::run_once(&spools);
    assert!(house.only().directory.exists());
    std::fs::remove_file(&parked).unwrap();
    keeper::run_once(&spools);
    assert_eq!(shelf::list(&house.options.directory).unwrap(), []);
}

#[test]
fn m3_one_bad_entry_stops_no_retention() {
    let house = house(Durability::Process);
    let spools = old(&house, 700);
    let known = house.only();
    std::fs::create_dir(known.directory.join("x.seg")).unwrap();
    let other = house.options.directory.join("clicks-00000000000000aa");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join(control::FILE_NAME), b"nonsense").unwrap();
    keeper::run_once(&spools);
    assert!(house.only().position.deleted_below > 0);
    let (whole, lines, complaints) = house.cat();
    assert!(!whole && complaints.contains("x.seg: not a file"), "{complaints}");
    assert_eq!(lines.last(), Some(&payload(999)));
}

#[test]
fn m4_a_segment_whose_name_cannot_be_brought_on_disk_leaves_no_file() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    wait_until("ahead", || unused(&house.only()) == 16);
    house.faults.fail_directory_syncs(u64::MAX);
    while writer.append(payload(writer.next_seq()).as_bytes()).is_ok() {}
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(unused(&house.only()), 0);
    let listing = listing::list(&house.only().directory, writer.id()).unwrap();
    assert_eq!(spools.inner().watch.room.used(), listing.bytes());
    house.faults.fail_directory_syncs(0);
    append(&mut writer, 10);
}

#[test]
fn p18_a_crash_does_not_start_the_days_of_what_it_left_anew() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 100);
    wait_until("synced", || writer.durable().is_durable(99));
    // Not synced any more: its own time counts.
    let hang = house.faults.hang();
    append_one(&mut writer, br#"{"clicked_at_ms":400000}"#);
    let killed = copy_of(&house.options.directory);
    drop(hang);
    house.clock.advance(7_200_000);
    let directory = killed.path().join("spool");
    let options = Options { directory: directory.clone(), ..house.options.clone() };
    let again = Spools::open(options, house.clock.clone()).unwrap();
    assert_eq!(again.list().unwrap()[0].position.sealed, Some((101, 400_000)));
    again.consumed(writer.id(), 101);
    keeper::run_once(&again);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn answers_without_a_record_and_late_ones_are_told_apart() {
    let house = house(Durability::Disk);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 3);
    writer.count_unspooled();
    writer.durable().count_undurable();
    writer.durable().count_undurable();
    drop(writer);
    assert_eq!(spools.close(), []);
    let position = house.only().position;
    assert_eq!((position.unspooled, position.undurable), (1, 3));
    let mut page = crate::metrics::Page::default();
    spools.write_metrics(&mut page);
    let text = page.finish();
    for (kind, count) in [("unspooled", 1), ("late", 2), ("lost", 0)] {
        let sample = format!("afflux_spool_undurable_total{{topic=\"clicks\",kind=\"{kind}\"}} {count}\n");
        assert!(text.contains(&sample), "{text}");
    }
}
