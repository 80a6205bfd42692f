//! Flipped bytes, cut files, torn tails.

use std::os::unix::fs::FileExt;

use super::*;

/// A sealed spool of one small segment, and the offset behind its last record.
fn sealed(records: u64) -> (House, std::path::PathBuf, usize) {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, records);
    drop(writer);
    assert_eq!(spools.close(), []);
    let known = house.only();
    let path = listing::list(&known.directory, known.id()).unwrap().segments[0].path.clone();
    let used = (0..records).map(|seq| format::record_bytes(payload(seq).len())).sum::<usize>() + format::HEADER_BYTES;
    (house, path, used)
}

#[test]
fn a_flipped_byte_anywhere_is_named_and_costs_at_most_its_record() {
    let (house, path, used) = sealed(20);
    let whole = std::fs::read(&path).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let expected: Vec<String> = (0..20).map(payload).collect();
    // Every byte of the header's fields and of the records; the header's empty rest in steps.
    let positions = (0..64).chain((64..4_096).step_by(61)).chain(4_096..used);
    for at in positions {
        file.write_all_at(&[whole[at] ^ 0x41], at as u64).unwrap();
        let (undamaged, lines, complaints) = house.cat();
        assert!(!undamaged, "byte {at} is not noticed");
        assert!(complaints.contains(&*path.to_string_lossy()), "byte {at}: {complaints}");
        let lost: Vec<&String> = expected.iter().filter(|line| !lines.contains(line)).collect();
        assert!(lost.len() <= 1, "byte {at} costs {} records", lost.len());
        assert!(lines.iter().all(|line| expected.contains(line)), "byte {at}: something else was read");
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
    }
    assert!(house.cat().0);
}

#[test]
fn behind_the_synced_position_damage_is_a_silent_tail() {
    let house = house(Durability::Disk);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 10);
    wait_until("synced", || house.only().position.synced == 10);
    // The next ones are written and never synced.
    let hang = house.faults.hang();
    append(&mut writer, 10);
    let kept = copy_of(&house.options.directory);
    let copy = kept.path().join("spool");
    let known = shelf::list(&copy).unwrap().remove(0);
    assert_eq!(known.position.synced, 10);
    let path = listing::list(&known.directory, known.id()).unwrap().segments[0].path.clone();
    let offset: usize =
        (0..14).map(|seq| format::record_bytes(payload(seq).len())).sum::<usize>() + format::HEADER_BYTES;
    std::fs::File::options().write(true).open(&path).unwrap().write_all_at(&[0xff], offset as u64 + 17).unwrap();
    let (whole, lines, complaints) = cat(&copy);
    assert!(whole, "{complaints}");
    assert_eq!(lines.len(), 14);
    let again = Spools::open(Options { directory: copy, ..house.options.clone() }, house.clock.clone()).unwrap();
    assert_eq!(again.list().unwrap()[0].position.sealed.map(|(records, _)| records), Some(14));
    drop(hang);
}

#[test]
fn files_that_are_cut_emptied_or_gone_are_named_and_the_rest_survives() {
    for cut in [0, 100, 4_096, 9_000] {
        let (house, path, _) = sealed(400);
        let known = house.only();
        let segments = listing::list(&known.directory, known.id()).unwrap().segments;
        let (second, third) = (&segments[1], &segments[2]);
        let file = std::fs::File::options().write(true).open(&second.path).unwrap();
        file.set_len(cut).unwrap();
        let (whole, lines, complaints) = house.cat();
        assert!(!whole && !complaints.is_empty(), "cut to {cut}");
        let lost = 400 - lines.len() as u64;
        assert!(lost > 0 && lost <= third.first_seq - second.first_seq, "cut to {cut}: {lost}");
        std::fs::remove_file(&second.path).unwrap();
        let (whole, lines, complaints) = house.cat();
        assert!(!whole && lines.len() as u64 == 400 - (third.first_seq - second.first_seq), "{complaints}");
        assert!(path.exists());
    }
}

#[test]
fn a_damaged_control_file_keeps_no_other_spool_from_starting() {
    let (house, _, _) = sealed(5);
    let control = house.only().directory.join(control::FILE_NAME);
    std::fs::write(&control, b"nonsense").unwrap();
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 5);
    // Both are there: the damaged one was made anew.
    assert_eq!(spools.list().unwrap().len(), 2);
}
