use super::*;
use crate::event::SpoolState;
use crate::store::{Aged, Batch, Store, testing};

const EMBEDDED: Asked = Asked { cluster: false, now: TimeMs(0) };

fn spooled(spool: u64, records: u64) -> Spooled {
    let (spool, topic) = (SpoolId(spool), Topic::Clicks);
    let (first, sealed, written_to) = (0, true, false);
    let (damaged, unspooled, late, tail, shipped) = (0, 0, 0, 0, None);
    Spooled { spool, topic, first, records, sealed, written_to, damaged, unspooled, late, tail, shipped }
}

fn mark(spool: u64, next: u64, sealed: Option<u64>) -> Mark {
    Mark { next, sealed, last: Some(TimeMs(0)), ..Mark::new(SpoolId(spool), Topic::Clicks) }
}

fn run(marks: &[Mark], lost: &[Quarantine], spools: &[Spooled]) -> (Verdict, String) {
    let disk = Disk { spooled: spools.to_vec(), faults: Vec::new() };
    both(EMBEDDED, &disk, |batch| {
        marks.iter().for_each(|mark| batch.move_mark(mark, 0).unwrap());
        lost.iter().for_each(|range| batch.quarantine(range).unwrap());
    })
}

/// What is said over a file and over a database: the same.
fn both(asked: Asked, disk: &Disk, fill: impl Fn(&Batch<'_>)) -> (Verdict, String) {
    let [file, database] = testing::homes().map(|home| {
        let mut store = Store::open(&home.place).unwrap();
        let batch = store.begin().unwrap();
        fill(&batch);
        batch.commit().unwrap();
        let mut out = Vec::new();
        let verdict = reconcile(Some(&mut Reader::open(&home.place).unwrap()), disk, asked, &mut out).unwrap();
        (verdict, String::from_utf8(out).unwrap())
    });
    assert_eq!(file, database);
    file
}

#[test]
fn p6_lag_and_what_retention_deleted_are_no_faults() {
    let gone = mark(2, 7, Some(7));
    let (verdict, text) = run(&[mark(1, 3, None), gone], &[], &[spooled(1, 5)]);
    assert_eq!(verdict, Verdict::Good, "{text}");
    assert!(
        text.contains("clicks: 12 answered = 12 spooled + 0 undurable; 12 spooled = 10 consumed + 2 lag\n"),
        "{text}"
    );
    assert!(text.contains("0000000000000002 clicks      deleted"), "{text}");
    // Kept segments may begin later than the spool did.
    let kept = Spooled { first: 4, ..spooled(1, 5) };
    assert_eq!(run(&[mark(1, 5, Some(5))], &[], &[kept]).0, Verdict::Good);
}

#[test]
fn p6_spools_that_are_done_with_long_ago_are_added_up() {
    let old = |batch: &Batch<'_>| {
        let marks = [mark(1, 5, Some(5)), mark(2, 7, Some(7)), mark(3, 4, Some(4)), mark(4, 2, None)];
        marks.iter().for_each(|mark| batch.move_mark(mark, 0).unwrap());
        assert_eq!(batch.prune(Aged::Marks, TimeMs(1), 9).unwrap(), 3);
    };
    // The disk still has one of them, and one is open.
    let open = Spooled { written_to: true, sealed: false, ..spooled(4, 2) };
    let disk = Disk { spooled: vec![spooled(3, 4), open], faults: Vec::new() };
    let (verdict, text) = both(EMBEDDED, &disk, old);
    assert_eq!(verdict, Verdict::Good, "{text}");
    assert!(text.contains("clicks: 2 spools with 12 records are done with long ago\n"), "{text}");
    assert!(text.contains("clicks: 6 answered = 6 spooled + 0 undurable; 6 spooled = 6 consumed + 0 lag\n"), "{text}");
    assert!(!text.contains("0000000000000001 "), "{text}");
}

#[test]
fn p6_a_gap_and_damage_are_named() {
    let gap = Mark { gap: Some(9), ..mark(1, 3, None) };
    let unread = Spooled { first: 4, ..spooled(1, 5) };
    for (marks, spools, words) in [
        (vec![gap], vec![spooled(1, 20)], "GAP spool 0000000000000001: records 3 to 8 are missing"),
        (vec![mark(1, 3, None)], vec![unread], "records 3 to 3 are missing"),
        (vec![mark(1, 3, Some(5))], vec![], "records 3 to 4 are missing"),
        (vec![mark(1, 5, None)], vec![Spooled { damaged: 2, ..spooled(1, 5) }], "DAMAGE"),
    ] {
        let (verdict, text) = run(&marks, &[], &spools);
        assert_eq!(verdict, Verdict::Bad, "{text}");
        assert!(text.contains(words), "{text}");
    }
    let lost = Quarantine { spool: SpoolId(1), first: 1, last: 2, fate: Fate::Lost };
    let (verdict, text) = run(&[mark(1, 5, Some(5))], &[lost], &[]);
    assert_eq!(verdict, Verdict::Bad);
    assert!(text.contains("2 records lost by a disk and passed"), "{text}");
}

#[test]
fn p1_answered_is_spooled_and_undurable() {
    let disk = Spooled { late: 3, unspooled: 4, ..spooled(1, 5) };
    let (verdict, text) = run(&[mark(1, 5, Some(5))], &[], &[disk]);
    assert_eq!(verdict, Verdict::Good);
    assert!(text.contains("clicks: 9 answered = 5 spooled + 4 undurable; 5 spooled = 5 consumed + 0 lag\n"), "{text}");
    assert!(text.contains("\n3 answers went out before their record was known to be on disk\n"), "{text}");
}

#[test]
fn p6_a_silent_spool_is_named() {
    let dead = Spooled { sealed: false, ..spooled(1, 5) };
    let (verdict, text) = run(&[mark(1, 5, None), mark(2, 4, None)], &[], &[dead]);
    assert_eq!(verdict, Verdict::Good);
    assert!(text.contains("SILENT spool 0000000000000001") && text.contains("SILENT spool 0000000000000002"), "{text}");
}

#[test]
fn without_a_store_everything_lags() {
    let mut out = Vec::new();
    let disk = Disk { spooled: vec![spooled(1, 5)], faults: Vec::new() };
    let verdict = reconcile(None, &disk, EMBEDDED, &mut out).unwrap();
    assert_eq!(verdict, Verdict::Good);
    assert!(String::from_utf8(out).unwrap().contains("5 spooled = 0 consumed + 5 lag"));
}

#[test]
fn p6_answers_without_a_record_late_ones_and_a_tail_are_counted_apart() {
    let lossy = Spooled { unspooled: 3, late: 4, tail: 2, ..spooled(1, 5) };
    let (verdict, text) = run(&[mark(1, 5, Some(5))], &[], &[lossy]);
    assert_eq!(verdict, Verdict::Good, "{text}");
    assert!(text.contains("8 answered = 5 spooled + 3 undurable"), "{text}");
    assert!(text.contains("4 answers went out before their record was known to be on disk"), "{text}");
    assert!(text.contains("2 records behind a torn one"), "{text}");
}

#[test]
fn p6_a_directory_that_is_no_readable_spool_is_named() {
    let mut out = Vec::new();
    let disk = Disk { spooled: Vec::new(), faults: vec!["clicks-1.bak: not a spool".into()] };
    assert_eq!(reconcile(None, &disk, EMBEDDED, &mut out).unwrap(), Verdict::Bad);
    assert!(String::from_utf8(out).unwrap().contains("SPOOL clicks-1.bak: not a spool"));
}

#[test]
fn v10_parked_records_are_told_apart_from_lost_ones() {
    let parked = Quarantine { spool: SpoolId(1), first: 2, last: 2, fate: Fate::Parked };
    let (verdict, text) = run(&[mark(1, 5, Some(5))], &[parked], &[]);
    assert_eq!(verdict, Verdict::Bad);
    assert!(text.contains("\n1 records parked, as Kafka would not take them, and passed\n"), "{text}");
    assert!(text.contains("PARKED spool 0000000000000001: ") && !text.contains("DAMAGE"), "{text}");
}

#[test]
fn p6_what_has_to_be_healed_is_named_however_long_ago_it_was() {
    let (verdict, text) = both(EMBEDDED, &Disk::default(), |batch| {
        for (spool, fate) in [(1, Fate::Parked), (2, Fate::Lost), (3, Fate::Fed)] {
            batch.move_mark(&mark(spool, 5, Some(5)), 0).unwrap();
            batch.quarantine(&Quarantine { spool: SpoolId(spool), first: 2, last: 2, fate }).unwrap();
        }
        let passed = mark(4, 2, Some(5));
        batch.move_mark(&passed, 0).unwrap();
        batch.pass(&passed, 4, "its disk burned", TimeMs(0)).unwrap();
        // What is parked stays, so that it is known on which edge it is.
        assert_eq!(batch.prune(Aged::Marks, TimeMs(1), 9).unwrap(), 3);
    });
    assert_eq!(verdict, Verdict::Bad, "{text}");
    for words in ["PARKED spool 0000000000000001", "DAMAGE spool 0000000000000002", "PASSED spool 0000000000000004"] {
        assert!(text.contains(words), "{text}");
    }
    assert!(text.contains("\n1 records parked, and fed again in another spool\n"), "{text}");
}

/// A spool that no disk here has.
fn told(spool: u64, records: u64, shipped: u64, at_ms: i64) -> SpoolState {
    let (seq, topic, edge) = (records.checked_sub(1), "clicks".to_owned(), "edge-7".to_owned());
    let (oldest_unshipped_ms, unspooled, late) = (None, 2, 0);
    SpoolState { spool, seq, topic, edge, at_ms: TimeMs(at_ms), shipped, oldest_unshipped_ms, unspooled, late }
}

fn run_cluster(marks: &[Mark], told: &[(SpoolState, bool)], now: i64) -> (Verdict, String) {
    both(Asked { cluster: true, now: TimeMs(now) }, &Disk::default(), |batch| {
        marks.iter().for_each(|mark| batch.move_mark(mark, 0).unwrap());
        for (state, sealed) in told {
            batch.record_state(state, *sealed, 3).unwrap();
        }
    })
}

#[test]
fn p6_across_edges_every_stage_is_counted() {
    let (verdict, text) = run_cluster(&[mark(1, 6, None)], &[(told(1, 10, 8, 1_000), false)], 2_000);
    assert_eq!(verdict, Verdict::Good, "{text}");
    let sums = "clicks: 12 answered = 10 spooled + 2 undurable; 10 spooled = 8 shipped + 2 unshipped; \
                8 shipped = 6 consumed + 2 lag\n";
    assert!(text.contains(sums) && text.contains("edge-7/3") && text.contains(" open "), "{text}");
    assert!(!text.contains("SILENT"), "{text}");
}

#[test]
fn p6_an_edge_that_went_silent_is_named() {
    let (verdict, text) = run_cluster(&[mark(1, 6, None)], &[(told(1, 6, 6, 1_000), false)], 400_000);
    assert_eq!(verdict, Verdict::Good, "{text}");
    assert!(text.contains("SILENT spool 0000000000000001 of edge-7: not sealed"), "{text}");
}

#[test]
fn p6_a_gap_in_kafka_is_named_with_its_edge_and_what_heals_it() {
    let gap = Mark { gap: Some(9), ..mark(1, 3, None) };
    let heals = "records 3 to 8 are missing; `afflux reship 0000000000000001 3` on edge-7 sends them again";
    let (verdict, text) = run_cluster(&[gap], &[(told(1, 20, 20, 1_000), false)], 2_000);
    assert!(verdict == Verdict::Bad && text.contains(heals), "{text}");
}

/// A part of the gap came after all, and nobody reads at the moment: no mark has a gap, and no edge told of more.
#[test]
fn p6_what_was_seen_behind_a_gap_is_lag_until_it_is_applied() {
    let (gap, later) = (Mark { gap: Some(9), ..mark(1, 3, None) }, mark(1, 4, None));
    let (_, text) = both(Asked { cluster: true, now: TimeMs(2_000) }, &Disk::default(), |batch| {
        batch.move_mark(&gap, 0).unwrap();
        batch.move_mark(&later, 3).unwrap();
        batch.record_state(&told(1, 3, 3, 1_000), false, 3).unwrap();
    });
    assert!(text.contains("10 spooled = 10 shipped + 0 unshipped; 10 shipped = 4 consumed + 6 lag\n"), "{text}");
}

#[test]
fn p6_records_missing_at_the_end_of_a_sealed_spool_are_a_gap_once_they_had_time_to_come() {
    let sealed = (told(1, 20, 20, 1_000), true);
    let (verdict, text) = run_cluster(&[mark(1, 15, None)], std::slice::from_ref(&sealed), 2_000);
    assert_eq!(verdict, Verdict::Good, "{text}");
    let (verdict, text) = run_cluster(&[mark(1, 15, None)], &[sealed], 100_000);
    assert!(verdict == Verdict::Bad && text.contains("records 15 to 19 are missing; `afflux reship"), "{text}");
}

#[test]
fn v10_a_parked_record_that_is_fed_again_is_no_fault_any_more() {
    let fed = Quarantine { spool: SpoolId(1), first: 2, last: 2, fate: Fate::Fed };
    let (verdict, text) = run(&[mark(1, 5, Some(5))], &[fed], &[]);
    assert_eq!(verdict, Verdict::Good, "{text}");
    assert!(text.contains("\n1 records parked, and fed again in another spool\n"), "{text}");
}

/// What `pass` says, and `reconcile` after it; over a file and a database the same.
fn pass_both(marks: &[Mark], told: &[(SpoolState, bool)], range: (u64, u64)) -> [(Verdict, String); 2] {
    pass_at("gap_ms = 0", "alive_ms = 700000", marks, told, range, false)
}

fn pass_at(
    gap: &str,
    running: &str,
    marks: &[Mark],
    told: &[(SpoolState, bool)],
    (first, last): (u64, u64),
    even_if_late: bool,
) -> [(Verdict, String); 2] {
    let asked = Asked { cluster: true, now: TimeMs(100_000) };
    let said = testing::homes().map(|home| {
        let mut store = Store::open(&home.place).unwrap();
        let batch = store.begin().unwrap();
        marks.iter().for_each(|mark| batch.move_mark(mark, 0).unwrap());
        for (state, sealed) in told {
            batch.record_state(state, *sealed, 3).unwrap();
        }
        batch.commit().unwrap();
        home.run(&format!("UPDATE marks SET {gap}; UPDATE spool_states SET written_ms = at_ms"));
        home.run(&format!("UPDATE running SET {running}"));
        let range = Range { spool: SpoolId(1), first, last };
        let (mut passed, mut reconciled) = (Vec::new(), Vec::new());
        let wanted = Wish { range, reason: "its disk burned", even_if_late };
        let verdict = pass(&mut store, &Disk::default(), asked, wanted, &mut passed).unwrap();
        let mut reader = Reader::open(&home.place).unwrap();
        let after = reconcile(Some(&mut reader), &Disk::default(), asked, &mut reconciled).unwrap();
        [(verdict, passed), (after, reconciled)].map(|(verdict, text)| (verdict, String::from_utf8(text).unwrap()))
    });
    let [file, database] = said;
    assert_eq!(file, database);
    file
}

#[test]
fn a_gap_is_passed_exactly_as_it_is_open_and_named_with_its_reason() {
    let gap = [Mark { gap: Some(9), ..mark(1, 3, None) }];
    let open = [(told(1, 20, 20, 99_000), false)];
    for (first, last) in [(3, 7), (3, 9), (2, 8), (4, 8), (0, u64::MAX)] {
        let [(verdict, said), (after, _)] = pass_both(&gap, &open, (first, last));
        assert_eq!((verdict, after), (Verdict::Bad, Verdict::Bad));
        assert!(said.contains("the gap that is open is 3 to 8; nothing was passed"), "{said}");
    }
    let [(verdict, said), (after, reconciled)] = pass_both(&gap, &open, (3, 8));
    assert_eq!((verdict, after), (Verdict::Good, Verdict::Good), "{said}{reconciled}");
    let named =
        "PASSED spool 0000000000000001: records 3 to 8, by command at 1970-01-01T00:01:40.000Z: its disk burned\n";
    assert!(reconciled.contains(named) && !reconciled.contains("GAP"), "{reconciled}");
}

#[test]
fn a_gap_beside_which_nobody_read_for_long_is_not_passed() {
    let (gap, open) = ([Mark { gap: Some(9), ..mark(1, 3, None) }], [(told(1, 20, 20, 99_000), false)]);
    let pass = |gap_ms, running, even_if_late| pass_at(gap_ms, running, &gap, &open, (3, 8), even_if_late);
    // It is new; attribution has just begun; it does not run.
    for (gap_ms, running) in [
        ("gap_ms = 200000", "alive_ms = 700000"),
        ("gap_ms = 0", "began_ms = 200000, alive_ms = 700000"),
        ("gap_ms = 0", "alive_ms = 500000"),
    ] {
        let [(verdict, said), (after, _)] = pass(gap_ms, running, false);
        assert_eq!((verdict, after), (Verdict::Bad, Verdict::Bad));
        assert!(said.contains("the gap may be only late; nothing was passed"), "{said}");
        let [(verdict, said), _] = pass(gap_ms, running, true);
        assert_eq!(verdict, Verdict::Good, "{said}");
    }
    let [(verdict, said), _] = pass("gap_ms = 0", "began_ms = 100000, alive_ms = 700000", false);
    assert_eq!(verdict, Verdict::Good, "{said}");
}

#[test]
fn what_is_missing_at_the_end_of_a_sealed_spool_is_passed_and_what_is_late_is_not() {
    let sealed = |at_ms| [(told(1, 20, 20, at_ms), true)];
    let [(verdict, said), (after, reconciled)] = pass_both(&[mark(1, 15, None)], &sealed(1_000), (15, 19));
    assert_eq!((verdict, after), (Verdict::Good, Verdict::Good), "{said}{reconciled}");
    let [(verdict, said), _] = pass_both(&[mark(1, 15, None)], &sealed(99_000), (15, 19));
    assert!(verdict == Verdict::Bad && said.contains("it has no gap; nothing was passed"), "{said}");
    let [(verdict, said), _] = pass_both(&[], &[], (15, 19));
    assert!(verdict == Verdict::Bad && said.contains("nobody here has heard of this spool"), "{said}");
}
