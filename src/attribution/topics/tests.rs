//! The source beside a store: by what is heard, and of a cluster that lives in this process.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

use super::*;
use crate::spool::SpoolId;
use crate::store::testing::{Home, file};
use crate::store::{Store, View};
use crate::time::TimeMs;

const A: SpoolId = SpoolId(0xa);
const B: SpoolId = SpoolId(0xb);
const CLICKS: Partition = Partition { topic: 0, number: 0 };

fn record(spool: SpoolId, seq: u64) -> String {
    format!(r#"{{"event":"click","schema":1,"spool":"{:016x}","seq":{seq}}}"#, spool.0)
}

fn state(spool: SpoolId, shipped: u64) -> SpoolState {
    SpoolState {
        spool: spool.0,
        seq: shipped.checked_sub(1),
        topic: "clicks".into(),
        edge: "edge-1".into(),
        at_ms: TimeMs(1),
        shipped,
        oldest_unshipped_ms: None,
        unspooled: 0,
        late: 0,
    }
}

/// A source that hears what it is told, and a store.
struct World {
    source: TopicSource,
    store: Store,
    _home: Home,
}

impl World {
    fn new() -> World {
        let home = file();
        let store = Store::open(&home.place).unwrap();
        let cluster = Cluster { bootstrap_servers: "127.0.0.1:1".into(), prefix: "t".into() };
        let mut source = TopicSource::new(cluster, Arc::default());
        source.begin(store.view()).unwrap();
        World { source, store, _home: home }
    }

    fn hear(&mut self, offset: i64, record: &str) {
        self.source.hear(Heard::Record { partition: CLICKS, offset, value: Some(record.as_bytes()) });
    }

    /// As the consumer does, with the effects left out.
    fn apply(&mut self, spool: SpoolId, from: u64, next: u64) {
        apply(&mut self.source, &mut self.store, spool, from, next);
    }

    fn offsets(&self) -> Vec<(i32, i64)> {
        offsets(self.store.view())
    }
}

fn apply(source: &mut TopicSource, store: &mut Store, spool: SpoolId, from: u64, next: u64) {
    let mark = Mark { next, ..Mark::new(spool, Topic::Clicks) };
    let batch = store.begin().unwrap();
    batch.move_mark(&mark, from).unwrap();
    source.record(&batch, &[mark]).unwrap();
    batch.commit().unwrap();
    source.applied(spool, next);
}

fn offsets(view: View<'_>) -> Vec<(i32, i64)> {
    view.offsets(Topic::Clicks).unwrap().iter().map(|one| (one.partition, one.next)).collect()
}

#[test]
fn no_offset_is_written_down_while_a_partition_is_read_again() {
    let mut world = World::new();
    for (offset, seq) in [(0, 0), (1, 2), (2, 3), (3, 4)] {
        world.hear(offset, &record(A, seq));
    }
    world.apply(A, 0, 1);
    assert_eq!(world.offsets(), [(0, 1)]);
    // A search begins: what was missing is there now, and joins its witness. What stood behind that is not held.
    world.source.heard.remove(&CLICKS);
    world.hear(0, &record(A, 1));
    world.apply(A, 1, 3);
    assert_eq!((world.source.queues.records(), world.offsets()), (0, vec![(0, 1)]));
    for (offset, seq) in [(1, 2), (2, 3), (3, 4)] {
        world.hear(offset, &record(A, seq));
    }
    world.apply(A, 3, 5);
    assert_eq!(world.offsets(), [(0, 4)]);
}

#[test]
fn what_a_heartbeat_says_is_shipped_holds_up_the_offset_until_it_is_there() {
    let mut world = World::new();
    world.hear(0, &record(A, 0));
    world.hear(1, &Event::heartbeat(&state(A, 2)));
    world.hear(2, &record(B, 0));
    world.apply(A, 0, 1);
    world.apply(B, 0, 1);
    assert_eq!(world.source.queues.gaps().map(|gap| (gap.spool, gap.due)).collect::<Vec<_>>(), [(A, 1)]);
    assert_eq!(world.offsets(), [(0, 1)]);
    world.hear(3, &record(A, 1));
    world.apply(A, 1, 2);
    assert_eq!((world.source.queues.gaps().count(), world.offsets()), (0, vec![(0, 4)]));
}

/// Else the spool would seem to be cut short for as long as nobody applies them.
#[test]
fn a_seal_is_written_down_with_the_last_of_what_stands_before_it() {
    let mut world = World::new();
    let states = |world: &World| world.store.view().spool_states().unwrap().len();
    [(0, 0), (1, 1), (2, 2)].iter().for_each(|(offset, seq)| world.hear(*offset, &record(A, *seq)));
    world.hear(3, &Event::seal(&state(A, 3)));
    world.hear(4, &record(B, 0));
    world.apply(B, 0, 1);
    world.apply(A, 0, 2);
    assert_eq!((states(&world), world.offsets()), (0, vec![(0, 2)]));
    world.apply(A, 2, 3);
    assert_eq!((states(&world), world.offsets()), (1, vec![(0, 5)]));
    // Of a partition that somebody else has now nothing is told.
    world.hear(5, &record(B, 1));
    world.hear(6, &Event::seal(&state(B, 2)));
    world.source.leave(CLICKS);
    world.apply(SpoolId(0xc), 0, 1);
    assert_eq!(states(&world), 1);
}

#[test]
fn a_position_is_of_the_topic_whose_record_stands_before_it() {
    let mut world = World::new();
    world.hear(0, &record(A, 0));
    world.hear(1, &record(A, 1));
    world.apply(A, 0, 2);
    // Another process: one record is read again, and it is the same.
    let begin = |world: &mut World| {
        world.source = TopicSource::new(world.source.cluster.clone(), Arc::default());
        world.source.begin(world.store.view()).unwrap();
        assert_eq!(world.source.starts(), [(CLICKS, 1)].into());
    };
    begin(&mut world);
    world.hear(1, &record(A, 1));
    assert!(world.source.seeks.is_empty() && world.source.metrics.resets.value() == 0);
    // It is gone for its age.
    begin(&mut world);
    world.hear(2, &record(A, 2));
    assert_eq!((world.source.seeks.len(), world.source.queues.records()), (0, 1));
    begin(&mut world);
    world.source.hear(Heard::Reset { partition: CLICKS, to: 2 });
    assert_eq!(world.source.metrics.resets.value(), 0);
    // It is another.
    begin(&mut world);
    world.hear(1, &record(B, 1));
    world.hear(2, &record(B, 2));
    assert_eq!(world.source.seeks, [(CLICKS, Start::Beginning)].into());
    assert_eq!((world.source.queues.records(), world.source.metrics.resets.value()), (0, 1));
    begin(&mut world);
    world.source.hear(Heard::Reset { partition: CLICKS, to: 0 });
    assert_eq!(world.source.metrics.resets.value(), 1);
}

#[test]
fn what_cannot_be_read_is_kept_under_what_it_is() {
    let mut world = World::new();
    let largest = Event::heartbeat(&SpoolState { shipped: u64::MAX, ..state(A, 1) });
    for unreadable in ["one", "another", "another", &record(A, u64::MAX), &largest] {
        // The topic was made anew each time.
        world.source.furthest.clear();
        world.hear(7, unreadable);
    }
    world.apply(B, 0, 1);
    assert_eq!(world.store.view().dead_letter_count().unwrap(), 4);
    assert_eq!(world.source.metrics.unreadable.value(), 5);
}

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, Cluster) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t.clicks", 1, 1).unwrap();
    mock.create_topic("t.conversions", 1, 1).unwrap();
    let cluster = Cluster { bootstrap_servers: mock.bootstrap_servers(), prefix: "t".into() };
    (mock, cluster)
}

fn produce(cluster: &Cluster, records: &[String]) {
    let producer: BaseProducer = cluster.client().create().unwrap();
    for record in records {
        let record = BaseRecord::<(), _>::to("t.clicks").partition(0).payload(record);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(15)).unwrap();
}

/// Until the spool may be read so far.
fn read(source: &mut TopicSource, store: &Store, spool: SpoolId, until: u64) {
    let began = Instant::now();
    while !source.reach().unwrap().clicks.iter().any(|reach| (reach.spool, reach.until) == (spool, until)) {
        assert!(began.elapsed() < Duration::from_secs(30));
        source.wait(Duration::from_millis(50));
        if source.has_changed() {
            source.begin(store.view()).unwrap();
        }
    }
}

#[test]
fn a_topic_made_anew_and_longer_than_the_old_is_read_from_its_beginning() {
    let home = file();
    let mut store = Store::open(&home.place).unwrap();
    let (old, cluster_of_old) = cluster();
    produce(&cluster_of_old, &[0, 1, 2].map(|seq| record(A, seq)));
    let mut source = TopicSource::new(cluster_of_old, Arc::default());
    source.begin(store.view()).unwrap();
    read(&mut source, &store, A, 3);
    apply(&mut source, &mut store, A, 0, 3);
    assert_eq!(offsets(store.view()), [(0, 3)]);
    drop((source, old));

    let (_new, cluster) = cluster();
    produce(&cluster, &[0, 1, 2, 3, 4].map(|seq| record(B, seq)));
    let mut source = TopicSource::new(cluster, Arc::default());
    source.begin(store.view()).unwrap();
    read(&mut source, &store, B, 5);
    assert_eq!(source.metrics.resets.value(), 1);
}

#[test]
fn seals_of_others_are_not_told_again_and_ours_are() {
    let home = file();
    let mut store = Store::open(&home.place).unwrap();
    let batch = store.begin().unwrap();
    for (spool, partition) in [(A, 0), (B, 5)] {
        batch.move_mark(&Mark { next: 2, ..Mark::new(spool, Topic::Clicks) }, 0).unwrap();
        batch.record_state(&state(spool, 2), true, partition).unwrap();
    }
    batch.commit().unwrap();
    let (_mock, cluster) = cluster();
    produce(&cluster, &[record(SpoolId(0xc), 0)]);
    let mut source = TopicSource::new(cluster, Arc::default());
    source.begin(store.view()).unwrap();
    let began = Instant::now();
    let reach = loop {
        assert!(began.elapsed() < Duration::from_secs(30));
        let reach = source.reach().unwrap().clicks;
        if reach.iter().any(|reach| reach.spool == A) {
            break reach;
        }
        source.wait(Duration::from_millis(50));
        if source.has_changed() {
            source.begin(store.view()).unwrap();
        }
    };
    assert!(reach.iter().all(|reach| reach.spool != B), "{reach:?}");
}

/// Of 0 to 12 Kafka lost 5 to 8; the edge's last heartbeat was before all of that.
#[test]
fn what_stands_behind_a_gap_that_is_passed_is_read_however_long_it_was_open() {
    let home = file();
    let mut store = Store::open(&home.place).unwrap();
    let (_mock, cluster) = cluster();
    produce(&cluster, &[0, 1, 2, 3, 4, 9, 10, 11, 12].map(|seq| record(A, seq)));
    let gap = Mark { next: 5, gap: Some(9), ..Mark::new(A, Topic::Clicks) };
    let batch = store.begin().unwrap();
    batch.move_mark(&gap, 0).unwrap();
    batch.record_state(&state(A, 5), false, 0).unwrap();
    // The gap was old: its witness held up the offset no more.
    batch.record_offset(Topic::Clicks, Offset { partition: 0, next: 9, last: 0 }).unwrap();
    batch.commit().unwrap();
    let mut source = TopicSource::new(cluster, Arc::default());
    source.begin(store.view()).unwrap();
    let batch = store.begin().unwrap();
    batch.pass(&gap, 8, "its disk burned", TimeMs(7)).unwrap();
    batch.commit().unwrap();
    source.begin(store.view()).unwrap();
    read(&mut source, &store, A, 13);
}

#[test]
fn a_seal_stands_whatever_the_clock_did_before_it() {
    let mut source = World::new().source;
    let state = |at_ms, shipped| SpoolState { spool: 7, at_ms: TimeMs(at_ms), ..state(A, shipped) };
    let partition = Partition { number: 3, ..CLICKS };
    let from = Origin { topic: Topic::Clicks, partition, offset: 1, before: 0 };
    for (at, shipped, is_seal) in [(90, 1, false), (10, 2, true), (95, 1, false)] {
        source.state(state(at, shipped), is_seal, from);
    }
    assert_eq!(source.states[&7], (state(10, 2), true, 3));
}

#[test]
fn a_number_that_no_spool_reaches_is_a_dead_letter() {
    let mut source = World::new().source;
    for (offset, event, seq) in [(0, "click", 1_u64 << 48), (1, "seal", u64::MAX), (2, "heartbeat", 1 << 63)] {
        let record = format!(
            r#"{{"event":"{event}","schema":1,"spool":"00000000000000ff","seq":{seq},"topic":"clicks","edge":"e","at_ms":1,"shipped":0,"unspooled":0,"late":0}}"#
        );
        source.record_of(Partition { number: 3, ..CLICKS }, offset, record.as_bytes());
    }
    assert_eq!((source.unreadable.len(), source.states.len()), (3, 0));
}
