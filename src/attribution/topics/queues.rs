//! Records of topics sorted by spool: each spool's next ones in the order of its numbers, until they are applied.
//!
//! A partition holds records of many spools, some of them more than once. What a spool has had is dropped; what comes
//! behind a missing number is not held: one record of it stays as a witness of the gap, and the spool waits. Heartbeats and
//! seals are witnesses too: what they say is shipped stands before them in their partition.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::attribution::consumer::{Records, SpoolReach};
use crate::kafka::consumer::Partition;
use crate::spool::{SpoolId, Topic};
use crate::store::Mark;
use crate::time::TimeMs;

#[derive(Default)]
pub struct Queues {
    spools: HashMap<SpoolId, Queue>,
    /// Applied to their ends, each with how many records it has. Of all spools there ever were most are here.
    done: HashMap<SpoolId, u64>,
    /// Of all records held.
    bytes: usize,
    records: usize,
}

struct Queue {
    topic: Topic,
    /// The first number that is not applied.
    due: u64,
    /// The numbers from `due` on, none missing.
    records: VecDeque<Queued>,
    /// The lowest number beyond a missing one.
    beyond: Option<Queued>,
    /// That there are more records than were read.
    told: Option<Told>,
    /// Time of the latest record applied.
    last: Option<TimeMs>,
    sealed: Option<u64>,
    /// Whether the store knows of the seal.
    seal_is_known: bool,
}

struct Queued {
    seq: u64,
    partition: Partition,
    at: Resume,
    bytes: Box<[u8]>,
}

/// By a heartbeat or a seal.
struct Told {
    count: u64,
    partition: Partition,
    at: Resume,
}

/// Where a partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    pub next: i64,
    /// Fingerprint of the record before; 0 when it is not known.
    pub last: u64,
}

/// A spool that waits for a missing number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub partition: Partition,
    pub spool: SpoolId,
    pub due: u64,
    /// Time of the record before, where that is known.
    pub last: Option<TimeMs>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Held,
    /// Its number was applied or is held already.
    Known,
    /// A number before it is missing.
    Beyond,
}

/// Where a record came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub topic: Topic,
    pub partition: Partition,
    pub offset: i64,
    /// Fingerprint of the record before it; 0 when it is not known.
    pub before: u64,
}

impl Origin {
    fn at(self) -> Resume {
        Resume { next: self.offset, last: self.before }
    }
}

impl Queues {
    /// Forgets everything but what the store says is applied.
    pub fn begin(&mut self, marks: &[Mark]) {
        *self = Queues::default();
        for mark in marks {
            if mark.sealed == Some(mark.next) {
                self.done.insert(mark.spool, mark.next);
                continue;
            }
            let queue = Queue { due: mark.next, sealed: mark.sealed, last: mark.last, ..Queue::new(mark.topic) };
            self.spools.insert(mark.spool, queue);
        }
    }

    pub fn take(&mut self, spool: SpoolId, seq: u64, from: Origin, record: &[u8]) -> Taken {
        if self.done.get(&spool).is_some_and(|count| seq < *count) {
            return Taken::Known;
        }
        let queue = self.queue(spool, from.topic);
        let end = queue.end();
        if seq < end {
            return Taken::Known;
        }
        let queued = || Queued { seq, partition: from.partition, at: from.at(), bytes: Box::from(record) };
        if seq > end {
            // Read again from the first of those that are not held.
            let at = queue.beyond.as_ref().map_or(from.at(), |beyond| earlier(beyond.at, from.at()));
            match &mut queue.beyond {
                Some(beyond) if beyond.seq <= seq => beyond.at = at,
                beyond => *beyond = Some(Queued { at, ..queued() }),
            }
            return Taken::Beyond;
        }
        queue.records.push_back(queued());
        let mut more = (1, record.len());
        if let Some(beyond) = queue.beyond.take_if(|beyond| beyond.seq <= seq.saturating_add(1))
            && beyond.seq == seq.saturating_add(1)
        {
            more = (2, more.1 + beyond.bytes.len());
            queue.records.push_back(beyond);
        }
        queue.forget_told();
        self.records += more.0;
        self.bytes += more.1;
        Taken::Held
    }

    /// The spool gets no more than `count` records, and all of them stand before this.
    pub fn seal(&mut self, spool: SpoolId, count: u64, from: Origin) {
        if self.done.get(&spool) == Some(&count) {
            return;
        }
        let queue = self.queue(spool, from.topic);
        if queue.sealed != Some(count) {
            queue.sealed = Some(count);
            queue.seal_is_known = false;
        }
        self.shipped(spool, count, from);
    }

    /// As `seal`, of a seal that was written down before, somewhere in the partition.
    pub fn sealed_before(&mut self, spool: SpoolId, count: u64, topic: Topic, partition: Partition) {
        self.seal(spool, count, Origin { topic, partition, offset: i64::MAX, before: 0 });
    }

    /// The spool has at least `count` records, and that many stand before this.
    pub fn shipped(&mut self, spool: SpoolId, count: u64, from: Origin) {
        let known = self.done.get(&spool).copied().or_else(|| self.spools.get(&spool).map(Queue::end)).unwrap_or(0);
        if count <= known {
            return;
        }
        let told = &mut self.queue(spool, from.topic).told;
        let before = told.take().filter(|told| told.partition == from.partition);
        let at = before.as_ref().map_or(from.at(), |before| earlier(before.at, from.at()));
        let count = before.map_or(count, |before| before.count.max(count));
        *told = Some(Told { count, partition: from.partition, at });
    }

    fn queue(&mut self, spool: SpoolId, topic: Topic) -> &mut Queue {
        // One that gets more than it said it would is not done.
        let done = self.done.remove(&spool);
        let queue = || Queue { due: done.unwrap_or(0), sealed: done, ..Queue::new(topic) };
        self.spools.entry(spool).or_insert_with(queue)
    }

    /// The spools of a topic that have something new.
    pub fn reach(&mut self, topic: Topic) -> Vec<SpoolReach> {
        let of_topic = self.spools.iter_mut().filter(|(_, queue)| queue.topic == topic);
        let news = of_topic.filter(|(_, queue)| queue.has_news());
        news.map(|(spool, queue)| {
            queue.seal_is_known = true;
            let until = queue.beyond.as_ref().map_or(queue.end(), |beyond| beyond.seq.saturating_add(1));
            SpoolReach { spool: *spool, until, sealed: queue.sealed }
        })
        .collect()
    }

    pub fn read(&self, spool: SpoolId, from: u64, until: u64, most: usize, into: &mut Records) {
        let Some(queue) = self.spools.get(&spool) else { return };
        let held = queue.records.iter().chain(&queue.beyond);
        let wanted = held.filter(|record| (from..until).contains(&record.seq));
        wanted.take(most).for_each(|record| into.push(record.seq, &record.bytes));
    }

    pub fn applied(&mut self, spool: SpoolId, next: u64) {
        let Some(queue) = self.spools.get_mut(&spool) else { return };
        while let Some(record) = queue.records.pop_front_if(|record| record.seq < next) {
            self.bytes -= record.bytes.len();
            self.records -= 1;
        }
        queue.due = queue.due.max(next);
        queue.beyond.take_if(|beyond| beyond.seq < next);
        queue.forget_told();
        if queue.is_done() {
            self.done.insert(spool, queue.due);
            self.spools.remove(&spool);
        }
    }

    /// The mark of a spool that was not among those at the beginning.
    pub fn recall(&mut self, mark: &Mark) {
        if let Some(queue) = self.spools.get_mut(&mark.spool) {
            queue.last = mark.last;
            queue.sealed = queue.sealed.or(mark.sealed);
            queue.seal_is_known |= queue.sealed == mark.sealed;
        }
        self.applied(mark.spool, mark.next);
    }

    /// Takes the time up to which a spool is applied.
    pub fn saw(&mut self, mark: &Mark) {
        if let Some(queue) = self.spools.get_mut(&mark.spool) {
            queue.last = mark.last;
        }
    }

    /// Somebody else reads it now.
    pub fn leave(&mut self, partition: Partition) {
        for queue in self.spools.values_mut() {
            let is_of = |record: &Queued| record.partition == partition;
            // Records are contiguous: of what is dropped in the middle the rest is of no use either.
            if let Some(first) = queue.records.iter().position(is_of) {
                for record in queue.records.drain(first..) {
                    self.bytes -= record.bytes.len();
                    self.records -= 1;
                }
            }
            queue.beyond.take_if(|beyond| is_of(beyond));
            queue.told.take_if(|told| told.partition == partition);
        }
    }

    /// Of each partition where the first record is that is not applied, when of each spool all below what `next` says is.
    /// Partitions without one are left out.
    pub fn unapplied(&self, next: impl Fn(SpoolId) -> Option<u64>) -> BTreeMap<Partition, Resume> {
        let mut first: BTreeMap<Partition, Resume> = BTreeMap::new();
        for (spool, queue) in &self.spools {
            let due = next(*spool).unwrap_or(queue.due);
            let held = queue.records.iter().chain(&queue.beyond).filter(|record| record.seq >= due);
            let told = queue.told.iter().filter(|told| told.count > due);
            for (partition, at) in
                held.map(|one| (one.partition, one.at)).chain(told.map(|one| (one.partition, one.at)))
            {
                first.entry(partition).and_modify(|known| *known = earlier(*known, at)).or_insert(at);
            }
        }
        first
    }

    pub fn gaps(&self) -> impl Iterator<Item = Gap> {
        self.spools.iter().filter_map(|(spool, queue)| {
            let beyond = queue.beyond.as_ref().map(|beyond| beyond.partition);
            let partition = beyond.or_else(|| queue.told.as_ref().map(|told| told.partition))?;
            Some(Gap { partition, spool: *spool, due: queue.end(), last: queue.last })
        })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn records(&self) -> usize {
        self.records
    }
}

impl Queue {
    fn new(topic: Topic) -> Queue {
        Queue {
            topic,
            due: 0,
            records: VecDeque::new(),
            beyond: None,
            told: None,
            last: None,
            sealed: None,
            seal_is_known: true,
        }
    }

    /// The number that comes next.
    fn end(&self) -> u64 {
        self.records.back().map_or(self.due, |last| last.seq.saturating_add(1))
    }

    fn has_news(&self) -> bool {
        !self.records.is_empty() || self.beyond.is_some() || !self.seal_is_known
    }

    fn is_done(&self) -> bool {
        self.sealed == Some(self.due) && !self.has_news() && self.told.is_none()
    }

    fn forget_told(&mut self) {
        let end = self.end();
        self.told.take_if(|told| told.count <= end);
    }
}

fn earlier(one: Resume, other: Resume) -> Resume {
    if other.next < one.next { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SpoolId = SpoolId(7);

    fn partition(number: i32) -> Partition {
        Partition { topic: 0, number }
    }

    fn from(offset: i64) -> Origin {
        Origin { topic: Topic::Clicks, partition: partition(1), offset, before: offset as u64 }
    }

    fn unapplied(queues: &Queues, next: Option<u64>) -> BTreeMap<Partition, i64> {
        let all = queues.unapplied(|_| next).into_iter();
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
}
