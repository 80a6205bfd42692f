//! What lies in the directory and is no spool of it, control files that are damaged, segments that lost their start, and
//! thousands of old spools.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::keeper;
use super::super::page::word;
use super::*;

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

fn unreadable(spools: &Spools) -> u64 {
    spools.inner().found.unreadable.value()
}

/// A spool of `records`, as a kill leaves it.
fn killed(house: &House, records: u64) -> (tempfile::TempDir, Known) {
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, records);
    wait_until("synced", || writer.durable().is_durable(records - 1));
    let copy = copy_of(&house.options.directory);
    drop(writer);
    let known = shelf::list(&copy.path().join("spool")).unwrap().remove(0);
    (copy, known)
}

fn open(house: &House, copy: &tempfile::TempDir) -> Spools {
    let directory = copy.path().join("spool");
    Spools::open(Options { directory, ..house.options.clone() }, house.clock.clone()).unwrap()
}

#[test]
fn c3_a_copy_of_a_spool_beside_it_is_named_and_read_by_nobody() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 10);
    let known = house.only();
    let root = &house.options.directory;
    for name in
        [format!("clicks-{}.bak", known.id()), "clicks-00000000000000aa".into(), format!("conversions-{}", known.id())]
    {
        copy(&known.directory, &root.join(name));
    }
    append(&mut writer, 10);
    wait_until("told", || spools.list().unwrap().len() == 1 && unreadable(&spools) == 3);
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!((spools.recover().unwrap(), spools.list().unwrap().len(), unreadable(&spools)), (0, 1, 3));
    keeper::run_once(&spools);
    let (whole, lines, complaints) = house.cat();
    assert_eq!((whole, lines), (false, numbered(20)));
    assert!(
        complaints.lines().count() == 3 && complaints.contains(".bak: not a spool of this directory"),
        "{complaints}"
    );
    assert_eq!(inspect::survey(root).unwrap().faults.len(), 3);
    // A person who names a copy means it.
    let (mut out, named) = (Vec::new(), inspect::Place::Named(root.join(format!("clicks-{}.bak", known.id()))));
    assert!(inspect::verify(&[named], &mut out, &mut Vec::new()).unwrap());
    assert!(String::from_utf8(out).unwrap().contains("10 records"));
}

#[test]
fn h6_a_control_file_beside_the_spools_hides_none() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 10);
    wait_until("synced", || writer.durable().is_durable(9));
    let stray = house.options.directory.join(control::FILE_NAME);
    for content in [Vec::new(), std::fs::read(house.only().directory.join(control::FILE_NAME)).unwrap()] {
        std::fs::write(&stray, content).unwrap();
        assert_eq!(spools.list().unwrap().len(), 1);
        assert_eq!(house.cat(), (true, numbered(10), String::new()));
        keeper::run_once(&spools);
        assert!(stray.exists());
    }
}

#[test]
fn h7_whatever_is_damaged_in_a_control_file_the_records_are_there_and_no_more() {
    let house = house(Durability::Process);
    let places =
        [0, 8, 16, 32, 40, 60, word::SYNCED * 8, word::SYNCED * 8 + 5, word::WRITTEN * 8 + 5, word::DELETED_BELOW * 8];
    for place in places {
        let (copy, known) = killed(&house, 40);
        let path = known.directory.join(control::FILE_NAME);
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, place as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 0x11], place as u64).unwrap();
        let hint = [word::WRITTEN * 8 + 5, word::DELETED_BELOW * 8].contains(&place);
        let (whole, lines, complaints) = cat(&copy.path().join("spool"));
        assert_eq!((whole, lines), (hint, numbered(40)), "byte {place}: {complaints}");
        let again = open(&house, &copy);
        let sealed = again.list().unwrap()[0].position.sealed;
        assert_eq!(sealed.map(|(records, _)| records), Some(40), "byte {place}");
        assert_eq!(unreadable(&again), u64::from(!hint), "byte {place}");
        let (whole, lines, complaints) = cat(&copy.path().join("spool"));
        assert_eq!((whole, lines), (true, numbered(40)), "byte {place}: {complaints}");
        std::fs::remove_dir_all(&house.options.directory).unwrap();
    }
}

#[test]
fn h7_a_spool_without_its_control_file_is_read_and_sealed_from_its_segments() {
    let house = house(Durability::Process);
    let (copy, known) = killed(&house, 400);
    std::fs::remove_file(known.directory.join(control::FILE_NAME)).unwrap();
    let (whole, lines, complaints) = cat(&copy.path().join("spool"));
    assert_eq!((whole, lines), (false, numbered(400)));
    assert!(complaints.contains("no control file"), "{complaints}");
    assert!(!inspect::survey(&copy.path().join("spool")).unwrap().faults.is_empty());
    let again = open(&house, &copy);
    assert_eq!(again.list().unwrap()[0].position.sealed.map(|(records, _)| records), Some(400));
}

#[test]
fn a_spool_of_another_version_is_named_and_left_alone() {
    let house = house(Durability::Process);
    let (copy, known) = killed(&house, 10);
    let path = known.directory.join(control::FILE_NAME);
    std::fs::File::options().write(true).open(&path).unwrap().write_all_at(&[1], 7).unwrap();
    let before = std::fs::read(&path).unwrap();
    let again = open(&house, &copy);
    assert_eq!((again.list().unwrap().len(), unreadable(&again)), (0, 1));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let (whole, lines, complaints) = cat(&copy.path().join("spool"));
    assert!(!whole && lines.is_empty() && complaints.contains("version 1"), "{complaints}");
}

#[test]
fn m2_a_segment_that_lost_its_start_is_not_taken_for_one_never_used() {
    let house = house(Durability::Process);
    let (copy, known) = killed(&house, 60);
    let path = listing::list(&known.directory, known.id()).unwrap().segments.remove(0).path;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 4_096 + 1_024], 0).unwrap();
    let left = |stage: &str| {
        let (whole, lines, complaints) = cat(&copy.path().join("spool"));
        assert!(!whole && complaints.contains("records 0 to "), "{stage}: {complaints}");
        assert!(lines.len() > 30 && lines.last() == Some(&payload(59)), "{stage}: {} lines", lines.len());
        lines.len()
    };
    let before = left("before recovery");
    let again = open(&house, &copy);
    keeper::run_once(&again);
    assert_eq!(left("after recovery"), before);
    assert!(path.exists());
}

#[test]
fn m2_a_segment_without_any_record_is_put_aside_where_records_are_missing() {
    let house = house(Durability::Process);
    let (copy, known) = killed(&house, 400);
    let path = listing::list(&known.directory, known.id()).unwrap().segments.remove(1).path;
    let bytes = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0; bytes as usize]).unwrap();
    let again = open(&house, &copy);
    keeper::run_once(&again);
    assert!(!path.exists() && path.with_extension(listing::ASIDE).exists());
    let (whole, _, complaints) = cat(&copy.path().join("spool"));
    assert!(!whole && complaints.contains("put aside as damaged") && complaints.contains("are lost"), "{complaints}");
}

#[test]
fn m5_what_a_start_that_died_early_left_is_removed() {
    let house = house(Durability::Process);
    let root = &house.options.directory;
    let spools = house.open();
    let directories = ["clicks-00000000000000a1", "clicks-00000000000000a2", ".clicks-00000000000000a3.new"];
    for (name, control) in directories.iter().zip([None, Some(vec![0; 4_096]), Some(vec![0; 100])]) {
        std::fs::create_dir(root.join(name)).unwrap();
        control.into_iter().for_each(|bytes| std::fs::write(root.join(name).join(control::FILE_NAME), bytes).unwrap());
    }
    // A segment made ahead and never used makes no difference.
    std::fs::write(root.join(directories[1]).join("0000000000.seg"), vec![0; 16_384]).unwrap();
    spools.recover().unwrap();
    assert_eq!(unreadable(&spools), 0);
    assert!(!root.join(directories[0]).exists() && !root.join(directories[1]).exists());
    drop(house.open());
    assert!(!root.join(directories[2]).exists());
}

#[test]
fn m9_reading_beyond_many_damaged_places_takes_no_longer_than_they_are_many() {
    let mut house = house(Durability::Process);
    house.options.segment_bytes = 8 << 20;
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let records = 20_000;
    append(&mut writer, records);
    drop(writer);
    assert_eq!(spools.close(), []);
    let known = house.only();
    let path = listing::list(&known.directory, known.id()).unwrap().segments.remove(0).path;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let mut offset = 4_096;
    for seq in 0..records {
        if seq % 4 == 1 {
            file.write_all_at(&[0xff], offset + 20).unwrap();
        }
        offset += format::record_bytes(payload(seq).len()) as u64;
    }
    let began = Instant::now();
    let (whole, lines, _) = house.cat();
    assert!(!whole);
    assert_eq!(lines.len() as u64, records - records / 4);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_segment_that_is_not_what_the_next_one_sealed_is_named() {
    let house = house(Durability::Process);
    let (copy, known) = killed(&house, 400);
    drop(open(&house, &copy));
    let listing = listing::list(&known.directory, known.id()).unwrap();
    let file = std::fs::File::options().write(true).open(&listing.segments[1].path).unwrap();
    // Another record, whole, in the place of the first: as a disk that lost a write and kept an older one.
    let seq = listing.segments[1].first_seq;
    let forged = payload(seq).replace('x', "y");
    let word = format::commit_word(known.id(), seq, forged.as_bytes());
    file.write_all_at(forged.as_bytes(), 4_096 + 16).unwrap();
    file.write_all_at(&word.to_le_bytes(), 4_096).unwrap();
    let (whole, _, complaints) = cat(&copy.path().join("spool"));
    assert!(!whole && complaints.contains("not those it was sealed with"), "{complaints}");
}

#[test]
fn h9_spools_that_are_consumed_to_their_end_are_out_of_the_way() {
    let house = house(Durability::Process);
    let spools = house.open();
    let ids: Vec<SpoolId> = (0..20)
        .map(|_| {
            let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
            append(&mut writer, 2);
            writer.id()
        })
        .collect();
    assert_eq!(spools.close(), []);
    drop(spools);
    let again = house.open();
    let writer = again.writer(Topic::Clicks, 0).unwrap();
    assert_eq!((again.list().unwrap().len(), again.list_unconsumed().unwrap().len()), (21, 21));
    ids.iter().for_each(|id| again.consumed(*id, 2));
    let left = again.list_unconsumed().unwrap();
    assert_eq!((again.list().unwrap().len(), left.len()), (21, 1));
    assert_eq!(left[0].id(), writer.id());
    let (known, caught_up) = again.list_synced(Duration::from_secs(1)).unwrap();
    assert!(caught_up && known == left);
}

#[test]
fn v11_a_control_file_that_cannot_be_read_for_a_while_is_not_made_anew() {
    let house = house(Durability::Process);
    let (copy, known) = killed(&house, 20);
    let (control, aside) = (known.directory.join(control::FILE_NAME), known.directory.join("aside"));
    control::Control::open(&known.directory).unwrap().add_unspooled();
    std::fs::rename(&control, &aside).unwrap();
    // It leads to itself: an error that says nothing of what is in the file, as that of a disk.
    std::os::unix::fs::symlink(control::FILE_NAME, &control).unwrap();
    assert!(recovery::recover(&known.directory).is_err());
    let spools = open(&house, &copy);
    for _ in 0..2 {
        assert_eq!((spools.recover().unwrap(), spools.list().unwrap(), unreadable(&spools)), (0, Vec::new(), 1));
    }
    assert!(Reader::open(&known.directory, known.id(), 0).is_err());
    std::fs::rename(&aside, &control).unwrap();
    assert_eq!(spools.recover().unwrap(), 1);
    let position = control::read(&known.directory).unwrap();
    assert_eq!((position.unspooled, position.sealed.map(|(records, _)| records)), (1, Some(20)));
}

#[test]
fn p2_what_is_half_made_is_held_while_it_is_removed_and_stops_no_start() {
    let house = house(Durability::Process);
    let root = &house.options.directory;
    let unfinished = |id: u64| root.join(format!(".clicks-{id:016x}.new"));
    std::fs::create_dir_all(unfinished(1)).unwrap();
    std::fs::write(unfinished(1).join(control::FILE_NAME), b"half").unwrap();
    // Gone before it is looked at, and not to be looked at.
    std::os::unix::fs::symlink("nothing", unfinished(2)).unwrap();
    std::os::unix::fs::symlink(unfinished(3), unfinished(3)).unwrap();
    let held = Arc::new(std::sync::Mutex::new(Vec::new()));
    house.faults.visit({
        let (held, path) = (held.clone(), unfinished(1));
        move |place| {
            if place == super::super::faults::Place::Untidy {
                held.lock().unwrap().push(control::Lock::take(&path).unwrap().is_none());
            }
        }
    });
    let _spools = house.open();
    assert_eq!(*held.lock().unwrap(), [true]);
    assert!(!unfinished(1).exists());
}
