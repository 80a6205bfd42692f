use super::*;

const S: SpoolId = SpoolId(7);

fn partition(number: i32) -> Partition {
    Partition { topic: 0, number }
}

fn from(offset: i64) -> Origin {
    Origin { topic: Topic::Clicks, partition: partition(1), offset, before: offset as u64 }
}

fn unapplied(queues: &Queues, next: Option<u64>) -> BTreeMap<Partition, i64> {
    let all = queues.unapplied(Instant::now(), |_| next).into_iter();
    all.map(|(partition, at)| {
        assert!(at.last == at.next as u64 || at.next == i64::MAX);
        (partition, at.next)
    })
    .collect()
}

fn held(queues: &Queues) -> Vec<u64> {
    let mut records = Records::default();
    queues.read(S, 0, u64::MAX, 100, &mut records);
    records.items(0).map(|item| item.first()).collect()
}

#[test]
fn a_spool_gets_each_number_once_and_waits_at_a_gap() {
    let mut queues = Queues::default();
    let taken: Vec<Taken> = [(0, 10), (1, 11), (0, 12), (3, 13), (4, 14)]
        .map(|(seq, offset)| queues.take(S, seq, from(offset), b"x"))
        .into();
    assert_eq!(taken, [Taken::Held, Taken::Held, Taken::Known, Taken::Beyond, Taken::Beyond]);
    assert_eq!(queues.reach(Topic::Clicks), [SpoolReach { spool: S, until: 4, sealed: None }]);
    assert!(queues.reach(Topic::Conversions).is_empty());
    assert_eq!(unapplied(&queues, Some(1)), [(partition(1), 11)].into());
    queues.applied(S, 2);
    assert_eq!((held(&queues), queues.records()), (vec![3], 0));
    assert_eq!(unapplied(&queues, None), [(partition(1), 13)].into());
    assert_eq!(queues.gaps().count(), 1);
    // Read again from the beginning: the witness is found in its place, and what came behind it comes again.
    for (seq, offset) in [(0, 10), (1, 11), (2, 9), (3, 13), (4, 14)] {
        queues.take(S, seq, from(offset), b"x");
    }
    assert_eq!((held(&queues), queues.gaps().count()), (vec![2, 3, 4], 0));
    queues.applied(S, 5);
    assert!(unapplied(&queues, None).is_empty() && queues.reach(Topic::Clicks).is_empty());
    assert_eq!((queues.bytes(), queues.records()), (0, 0));
}

#[test]
fn begins_at_the_marks_tells_a_seal_once_and_leaves_what_others_read() {
    let mut queues = Queues::default();
    queues.begin(&[Mark { next: 5, ..Mark::new(S, Topic::Clicks) }]);
    assert_eq!(queues.take(S, 4, from(1), b"x"), Taken::Known);
    assert_eq!(queues.take(S, 5, from(2), b"xy"), Taken::Held);
    queues.seal(S, 6, from(3));
    assert_eq!(queues.reach(Topic::Clicks), [SpoolReach { spool: S, until: 6, sealed: Some(6) }]);
    queues.leave(partition(2));
    assert_eq!(queues.bytes(), 2);
    queues.leave(partition(1));
    assert_eq!((queues.bytes(), queues.reach(Topic::Clicks).len()), (0, 0));
    queues.begin(&[]);
    queues.seal(S, 0, from(3));
    assert_eq!(queues.reach(Topic::Clicks), [SpoolReach { spool: S, until: 0, sealed: Some(0) }]);
    assert!(queues.reach(Topic::Clicks).is_empty());
}

/// What stood behind the gap was not held: with its witness joined, a heartbeat still knows of it.
#[test]
fn a_heartbeat_or_a_seal_is_a_witness_of_what_stands_before_it() {
    let mut queues = Queues::default();
    for (seq, offset) in [(1, 10), (2, 11)] {
        queues.take(S, seq, from(offset), b"x");
    }
    queues.shipped(S, 3, from(12));
    queues.take(S, 0, from(13), b"x");
    assert_eq!((held(&queues), queues.gaps().count()), (vec![0, 1], 1));
    queues.applied(S, 2);
    assert_eq!(queues.gaps().map(|gap| (gap.spool, gap.due)).collect::<Vec<_>>(), [(S, 2)]);
    // The partition is read again from there, and not from behind it.
    assert_eq!(unapplied(&queues, None), [(partition(1), 12)].into());
    queues.take(S, 2, from(11), b"x");
    assert_eq!(queues.gaps().count(), 0);
    queues.seal(S, 5, from(14));
    queues.applied(S, 3);
    assert_eq!(queues.gaps().map(|gap| gap.due).collect::<Vec<_>>(), [3]);
    queues.leave(partition(1));
    assert_eq!(queues.gaps().count(), 0);
}

#[test]
fn a_gap_that_lasts_holds_up_no_offset_once_the_store_knows_of_it() {
    let later = Instant::now() + 2 * HOLDS_UP;
    let at = |queues: &Queues, now| queues.unapplied(now, |_| None).get(&partition(1)).map(|at| at.next);
    let mut queues = Queues::default();
    for (seq, offset) in [(0, 10), (2, 11)] {
        queues.take(S, seq, from(offset), b"x");
    }
    queues.applied(S, 1);
    queues.shipped(S, 9, from(12));
    // Of a spool whose edge was not heard of nobody would know where to search.
    assert_eq!((at(&queues, Instant::now()), at(&queues, later)), (Some(11), Some(11)));
    // Nor of one that told of fewer, while the store does not know of the witness; with that it is looked for what stands
    // before the heartbeat.
    queues.state(S, 1);
    assert_eq!(at(&queues, later), Some(11));
    queues.saw(&Mark { next: 1, gap: Some(2), ..Mark::new(S, Topic::Clicks) });
    assert_eq!(at(&queues, later), Some(12));
    queues.state(S, 9);
    assert_eq!((at(&queues, Instant::now()), at(&queues, later)), (Some(11), None));
    // Another gap, and what is not applied is not passed over for one.
    queues.take(S, 1, from(13), b"x");
    assert_eq!(at(&queues, later), Some(11));
    // After a restart: the store knows, and the witnesses hold up nothing, whatever is read of them.
    queues.begin(&[Mark { next: 1, gap: Some(2), ..Mark::new(S, Topic::Clicks) }]);
    queues.shipped_before(S, 1, Topic::Clicks, partition(1), Some(2));
    queues.state(S, 1);
    assert_eq!(queues.gaps().map(|gap| gap.due).collect::<Vec<_>>(), [1]);
    queues.take(S, 2, from(11), b"x");
    assert_eq!(at(&queues, Instant::now()), None);
    queues.shipped(S, 9, from(12));
    queues.state(S, 9);
    assert_eq!(at(&queues, Instant::now()), None);
    queues.take(S, 1, from(13), b"x");
    assert_eq!((held(&queues), at(&queues, Instant::now())), (vec![1, 2], Some(11)));
    queues.applied(S, 3);
    assert_eq!(
        (queues.gaps().map(|gap| gap.due).collect::<Vec<_>>(), at(&queues, Instant::now())),
        (vec![3], Some(12))
    );
}

#[test]
fn spools_that_are_done_take_no_room_until_they_get_more() {
    let mut queues = Queues::default();
    let done = Mark { next: 5, sealed: Some(5), ..Mark::new(SpoolId(8), Topic::Clicks) };
    queues.begin(&[done, Mark { next: 5, ..Mark::new(S, Topic::Clicks) }]);
    queues.sealed_before(SpoolId(8), 5, Topic::Clicks, partition(1));
    queues.shipped(SpoolId(8), 5, from(1));
    assert_eq!((queues.spools.len(), queues.done.len()), (1, 1));
    assert_eq!(queues.take(SpoolId(8), 4, from(1), b"x"), Taken::Known);
    queues.take(S, 5, from(2), b"x");
    queues.seal(S, 6, from(3));
    assert_eq!(queues.reach(Topic::Clicks).len(), 1);
    queues.applied(S, 6);
    assert_eq!((queues.spools.len(), queues.done.len()), (0, 2));
    assert_eq!((queues.take(S, 5, from(2), b"x"), queues.take(S, 6, from(4), b"x")), (Taken::Known, Taken::Held));
    // One that was retired is known again, wherever reading it again began.
    let retired = Mark { next: 9, sealed: Some(9), ..Mark::new(SpoolId(6), Topic::Clicks) };
    for first in [0, 4] {
        queues.begin(&[]);
        for seq in first..7 {
            queues.take(SpoolId(6), seq, from(20 + seq as i64), b"x");
        }
        if first == 4 {
            queues.seal(SpoolId(6), 9, from(29));
        }
        queues.recall(&retired);
        assert_eq!((queues.spools.len(), queues.done.len(), queues.bytes()), (0, 1, 0));
        assert!(unapplied(&queues, None).is_empty() && queues.reach(Topic::Clicks).is_empty());
        assert_eq!(queues.take(SpoolId(6), 7, from(27), b"x"), Taken::Known);
    }
    // A seal of the store counts as told where nothing of it was read yet; it holds up no offset.
    queues.begin(&[Mark { next: 5, ..Mark::new(S, Topic::Clicks) }]);
    queues.sealed_before(S, 7, Topic::Clicks, partition(1));
    assert_eq!((queues.gaps().count(), unapplied(&queues, None)), (1, [(partition(1), i64::MAX)].into()));
    assert_eq!(queues.reach(Topic::Clicks), [SpoolReach { spool: S, until: 5, sealed: Some(7) }]);
}
