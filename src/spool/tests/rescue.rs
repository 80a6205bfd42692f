//! After a failed fdatasync: nothing is lost, whatever is killed or fails on the way, and nobody is held up.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;

use super::super::faults::Place;
use super::*;

/// A spool with `before` records on disk and `behind` that are written and whose fdatasync is about to fail.
fn about_to_fail(house: &House, spools: &Spools, before: u64, behind: u64) -> Writer {
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, before);
    wait_until("synced", || writer.durable().is_durable(before - 1));
    let hang = house.faults.hang();
    append(&mut writer, behind);
    house.faults.fail_syncs(1);
    drop(hang);
    writer
}

fn wait_for_all(writer: &Writer) {
    let last = writer.next_seq() - 1;
    wait_until("rescued", || writer.durable().is_durable(last));
}

fn recovered(house: &House, directory: PathBuf) -> (bool, Vec<String>, String) {
    let options = Options { directory: directory.clone(), ..house.options.clone() };
    let again = Spools::open(options, house.clock.clone()).unwrap();
    let position = again.list().unwrap()[0].position;
    let found = cat(&directory);
    assert_eq!(position.sealed.map(|(records, _)| records), Some(found.1.len() as u64));
    found
}

#[test]
fn c1_a_segment_that_began_behind_the_last_good_sync_does_not_hide_its_rescue() {
    for durability in [Durability::Process, Durability::Disk] {
        let house = house(durability);
        let spools = house.open();
        // Several segments begin behind number 100, and die together.
        let mut writer = about_to_fail(&house, &spools, 100, 700);
        wait_for_all(&writer);
        append(&mut writer, 300);
        wait_for_all(&writer);
        let killed = copy_of(&house.options.directory);
        let (whole, lines, complaints) = recovered(&house, killed.path().join("spool"));
        assert!(whole, "{complaints}");
        assert_eq!(lines, numbered(1_100));
        drop(writer);
        assert_eq!(spools.close(), []);
        assert_eq!(house.cat(), (true, numbered(1_100), String::new()));
    }
}

#[test]
fn c2_a_kill_at_any_instant_of_a_rescue_loses_nothing() {
    let house = house(Durability::Process);
    let spools = house.open();
    let kills: Arc<Mutex<Vec<(Place, tempfile::TempDir)>>> = Arc::default();
    let (seen, directory) = (kills.clone(), house.options.directory.clone());
    house.faults.visit(move |place| {
        if place != Place::Disowned {
            seen.lock().unwrap().push((place, copy_of(&directory)));
        }
    });
    let writer = about_to_fail(&house, &spools, 100, 700);
    wait_for_all(&writer);
    let kills = std::mem::take(&mut *kills.lock().unwrap());
    let headed = kills.iter().filter(|(place, _)| *place == Place::Headed).count();
    assert!(headed > 3 && kills.iter().any(|(place, _)| *place == Place::Copied), "{headed} segments");
    for (place, copy) in &kills {
        let directory = copy.path().join("spool");
        let (whole, lines, complaints) = cat(&directory);
        assert!(whole, "before recovery, at {place:?}: {complaints}");
        assert_eq!(lines, numbered(800), "before recovery, at {place:?}");
        let (whole, lines, complaints) = recovered(&house, directory);
        assert!(whole, "at {place:?}: {complaints}");
        assert_eq!(lines, numbered(800), "at {place:?}");
    }
}

fn files(house: &House) -> usize {
    std::fs::read_dir(house.only().directory).unwrap().count()
}

#[test]
fn c2_what_a_rescue_made_that_did_not_take_over_goes_again() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 100);
    wait_for_all(&writer);
    let hang = house.faults.hang();
    append(&mut writer, 700);
    let before = files(&house);
    house.faults.disk_full(true);
    house.faults.fail_syncs(1);
    drop(hang);
    wait_until("failing", || spools.trouble().is_some());
    std::thread::sleep(Duration::from_millis(500));
    assert!(files(&house) <= before, "{} files, {before} before", files(&house));
    house.faults.disk_full(false);
    wait_for_all(&writer);
    wait_until("healed", || spools.trouble().is_none());
    drop(writer);
    assert_eq!(spools.close(), []);
    assert_eq!(house.cat(), (true, numbered(800), String::new()));
}

#[test]
fn h1_a_rescue_that_hangs_holds_up_no_append_and_nobody_waits_for_it() {
    let house = house(Durability::Disk);
    let spools = house.open();
    let mut writer = about_to_fail(&house, &spools, 100, 10);
    let hang = house.faults.hang_creation();
    wait_until("failing", || spools.trouble().is_some());
    std::thread::sleep(Duration::from_millis(100));
    let limit = Duration::from_millis(30);
    let began = Instant::now();
    let mut answered = 0;
    for _ in 0..2_000 {
        let seq = writer.next_seq();
        let waits = writer.append(payload(seq).as_bytes()).is_ok() && answered < 50;
        answered += u32::from(waits);
        assert!(!waits || block_on(writer.durable().wait(seq, Some(limit))) == Err(NotDurable));
    }
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    drop(hang);
    wait_for_all(&writer);
}

#[test]
fn h1_no_writer_makes_a_segment() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 10);
    let hang = house.faults.hang_creation();
    let began = Instant::now();
    let refused = (0..10_000).find_map(|_| writer.append(payload(writer.next_seq()).as_bytes()).err());
    assert_eq!(refused, Some(NotSpooled::Full));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop(hang);
    append(&mut writer, 10);
}

#[test]
fn h2_a_disk_that_fails_for_long_takes_no_more_room_and_is_tried_less_and_less() {
    let mut house = house(Durability::Process);
    house.options.max_bytes = Some(20 * 16_384);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 50);
    wait_for_all(&writer);
    house.faults.fail_syncs(u64::MAX);
    let until = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < until {
        // Full when the bound is reached, and that is right.
        let _ = writer.append(payload(writer.next_seq()).as_bytes());
        std::thread::sleep(Duration::from_millis(1));
        let used = spools.inner().watch.room.used();
        assert!(used <= 2 * 20 * 16_384, "{used} bytes");
    }
    let chain = spools.inner().chains().remove(0);
    let tries = chain.numbers.sync_errors.value();
    assert!((3..=9).contains(&tries), "{tries} tries in 2.5 s");
    house.faults.fail_syncs(0);
    wait_for_all(&writer);
    let records = writer.next_seq();
    super::super::keeper::run_once(&spools);
    let listing = listing::list(&house.only().directory, writer.id()).unwrap();
    assert_eq!(listing.replaced, [], "what was replaced is gone");
    assert_eq!(spools.inner().watch.room.used(), listing.bytes());
    drop(writer);
    assert_eq!(spools.close(), []);
    assert_eq!(house.cat(), (true, numbered(records), String::new()));
}

/// Overwrites what stands in the files of the spool from number `from` on, as the kernel may drop pages after a failed
/// fdatasync.
fn lose_pages(house: &House, writer: &Writer, from: u64) {
    let listing = listing::list(&house.only().directory, writer.id()).unwrap();
    for segment in &listing.segments {
        let file = std::fs::File::options().read(true).write(true).open(&segment.path).unwrap();
        if let Some((offset, _)) = search::next_record(&file, writer.id(), 4_096, from..u64::MAX).unwrap() {
            file.write_all_at(&vec![0; (segment.bytes - offset) as usize], offset).unwrap();
        }
    }
}

#[test]
fn m8_what_the_kernel_dropped_comes_from_memory() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 100);
    wait_for_all(&writer);
    let hang = house.faults.hang();
    append(&mut writer, 700);
    lose_pages(&house, &writer, 100);
    house.faults.fail_syncs(1);
    drop(hang);
    wait_for_all(&writer);
    drop(writer);
    assert_eq!(spools.close(), []);
    assert_eq!(house.cat(), (true, numbered(800), String::new()));
}

#[test]
fn m8_beyond_the_bound_of_copies_what_verifies_is_rescued_and_the_rest_is_named() {
    for lost in [false, true] {
        let house = house(Durability::Disk);
        house.faults.no_copies();
        let spools = house.open();
        let mut writer = spools.writer(Topic::Conversions, 0).unwrap();
        append(&mut writer, 100);
        wait_for_all(&writer);
        let hang = house.faults.hang();
        append(&mut writer, 700);
        if lost {
            lose_pages(&house, &writer, 600);
        }
        house.faults.fail_syncs(1);
        drop(hang);
        let (durable, clear) = (writer.durable(), if lost { 600 } else { 800 });
        wait_until("rescued", || durable.is_durable(clear - 1));
        // Nobody is told that it is on disk.
        assert_eq!(block_on(durable.wait(799, None)).is_ok(), !lost);
        assert_eq!(durable.is_durable(799), !lost);
        append(&mut writer, 5);
        wait_for_all(&writer);
        drop(writer);
        assert_eq!(spools.close(), []);
        let (whole, lines, complaints) = house.cat();
        let expected: Vec<String> = (0..clear).chain(800..805).map(payload).collect();
        assert_eq!((whole, lines), (!lost, expected), "{complaints}");
        assert_eq!(complaints.contains("records 600 to 799 are lost"), lost, "{complaints}");
        let mut page = crate::metrics::Page::default();
        spools.write_metrics(&mut page);
        let named = r#"afflux_spool_undurable_total{topic="conversions",kind="lost"} 200"#;
        assert_eq!(page.finish().contains(named), lost);
    }
}

#[test]
fn m6_an_end_while_the_disk_fails_tells_what_is_not_on_disk() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 30);
    wait_for_all(&writer);
    house.faults.fail_syncs(u64::MAX);
    append(&mut writer, 12);
    let spool = writer.id();
    drop(writer);
    assert_eq!(spools.close(), [Unsealed { spool, topic: Topic::Clicks, unsynced: 12 }]);
    house.faults.fail_syncs(0);
    drop(spools);
    let killed = copy_of(&house.options.directory);
    let (whole, lines, complaints) = recovered(&house, killed.path().join("spool"));
    assert!(whole, "{complaints}");
    assert_eq!(lines, numbered(42));
}
