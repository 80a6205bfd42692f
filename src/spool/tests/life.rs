//! A spool's life without faults: written, read while it is written, sealed, kept, deleted.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_appended_reads_back_over_many_segments() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 1_000);
    drop(writer);
    assert_eq!(spools.close(), []);
    let known = house.only();
    assert_eq!(known.position.sealed.map(|(records, _)| records), Some(1_000));
    let (whole, lines, complaints) = house.cat();
    assert!(whole, "{complaints}");
    assert_eq!(lines, numbered(1_000));
}

#[test]
fn a_reader_follows_the_synced_position_and_starts_anywhere() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    let known = house.only();
    let mut reader = known.read_from(0).unwrap();
    for round in 1..=50 {
        append(&mut writer, 20);
        wait_until("synced", || house.only().position.synced == round * 20);
        while let Some(item) = reader.next(round * 20).unwrap() {
            let Item::Record { seq, payload: bytes } = item else { panic!("{item:?}") };
            assert_eq!(bytes, payload(seq).as_bytes());
        }
        assert_eq!(reader.next_seq(), round * 20);
    }
    let mut reader = known.read_from(777).unwrap();
    assert!(matches!(reader.next(1_000).unwrap(), Some(Item::Record { seq: 777, .. })));
}

#[test]
fn an_abandoned_spool_is_sealed_at_the_next_start_and_numbers_begin_anew() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 300);
    let id = writer.id();
    // As a kill would leave it: not closed, the lock gone.
    let copy = copy_of(&house.options.directory);
    let directory = copy.path().join("spool");
    let again = Spools::open(Options { directory, ..house.options.clone() }, house.clock.clone()).unwrap();
    let known = again.list().unwrap();
    assert_eq!((known[0].id(), known[0].position.sealed.map(|(records, _)| records)), (id, Some(300)));
    let mut new = again.writer(Topic::Clicks, 0).unwrap();
    assert_ne!(new.id(), id);
    append(&mut new, 1);
    drop(writer);
}

#[test]
fn a_live_spool_of_another_process_is_left_alone_and_can_be_read() {
    let house = house(Durability::Process);
    let first = house.open();
    let mut writer = first.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 10);
    let second = house.open();
    assert_eq!(house.only().position.sealed, None);
    assert_eq!(second.recover().unwrap(), 0);
    wait_until("synced", || house.only().position.synced == 10);
    let (whole, lines, _) = house.cat();
    assert!(whole && lines.len() == 10);
}

#[test]
fn p18_consumed_segments_go_when_they_are_old_and_never_before() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    append(&mut writer, 1_000);
    let id = writer.id();
    wait_until("synced", || house.only().position.synced == 1_000);
    let segments = || listing::list(&house.only().directory, id).unwrap().segments.len();
    let before = segments();
    assert!(before > 5);
    house.clock.advance(7_200_000);
    append(&mut writer, 200);
    std::thread::sleep(Duration::from_millis(300));
    assert!(segments() >= before, "nothing is consumed yet");
    spools.consumed(id, 500);
    super::super::keeper::run_once(&spools);
    let left = house.only().read_from(0).unwrap().next_seq();
    assert!((1..=500).contains(&left), "records below {left} are gone");
    drop(writer);
    spools.consumed(id, 1_200);
    assert_eq!(spools.close(), []);
    drop(spools);
    house.clock.advance(7_200_000);
    let again = house.open();
    again.consumed(id, 1_200);
    super::super::keeper::run_once(&again);
    assert!(shelf::list(&house.options.directory).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_sizes_read_back(sizes in prop::collection::vec(1usize..4_000, 1..200)) {
        let house = house(Durability::Process);
        let spools = house.open();
        let mut writer = spools.writer(Topic::Conversions, 0).unwrap();
        let records: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![b'a' + (n % 26) as u8; *size]).collect();
        for record in &records {
            append_one(&mut writer, record);
        }
        drop(writer);
        assert_eq!(spools.close(), []);
        let mut reader = house.only().read_from(0).unwrap();
        for (seq, record) in records.iter().enumerate() {
            prop_assert_eq!(reader.next(u64::MAX).unwrap(), Some(Item::Record { seq: seq as u64, payload: record }));
        }
    }
}

#[test]
fn a_record_that_fits_into_no_segment_is_refused_and_takes_no_number() {
    let house = house(Durability::Process);
    let spools = house.open();
    let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
    assert_eq!(writer.append(&[b'x'; 16_384]), Err(NotSpooled::TooLarge(16_384)));
    assert_eq!(writer.append(b""), Err(NotSpooled::TooLarge(0)));
    append(&mut writer, 3);
}
