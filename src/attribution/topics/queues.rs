//! Records of topics sorted by spool: each spool's next ones in the order of its numbers, until they are applied.
//!
//! A partition holds records of many spools, some of them more than once. What a spool has had is dropped; what comes
//! behind a missing number is not held: one record of it stays as a witness of the gap, and the spool waits.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::attribution::consumer::{Records, SpoolReach};
use crate::kafka::consumer::Partition;
use crate::spool::{SpoolId, Topic};
use crate::store::Mark;

#[derive(Default)]
pub struct Queues {
    spools: HashMap<SpoolId, Queue>,
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
    sealed: Option<u64>,
    /// Whether the store knows of the seal.
    seal_is_known: bool,
}

struct Queued {
    seq: u64,
    partition: Partition,
    offset: i64,
    bytes: Box<[u8]>,
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
}

impl Queues {
    /// Forgets everything but what the store says is applied.
    pub fn begin(&mut self, marks: &[Mark]) {
        *self = Queues::default();
        for mark in marks {
            let queue = Queue { due: mark.next, sealed: mark.sealed, ..Queue::new(mark.topic) };
            self.spools.insert(mark.spool, queue);
        }
    }

    pub fn take(&mut self, spool: SpoolId, seq: u64, from: Origin, record: &[u8]) -> Taken {
        let queue = self.spools.entry(spool).or_insert_with(|| Queue::new(from.topic));
        let end = queue.end();
        if seq < end {
            return Taken::Known;
        }
        let queued = || Queued { seq, partition: from.partition, offset: from.offset, bytes: Box::from(record) };
        if seq > end {
            if queue.beyond.as_ref().is_none_or(|beyond| seq < beyond.seq) {
                let held_from = queue.beyond.as_ref().map_or(from.offset, |beyond| beyond.offset.min(from.offset));
                queue.beyond = Some(Queued { offset: held_from, ..queued() });
            }
            return Taken::Beyond;
        }
        queue.records.push_back(queued());
        self.bytes += record.len();
        self.records += 1;
        if let Some(beyond) = queue.beyond.take_if(|beyond| beyond.seq <= seq + 1)
            && beyond.seq == seq + 1
        {
            self.bytes += beyond.bytes.len();
            self.records += 1;
            queue.records.push_back(beyond);
        }
        Taken::Held
    }

    /// The spool gets no more than `count` records.
    pub fn seal(&mut self, spool: SpoolId, topic: Topic, count: u64) {
        let queue = self.spools.entry(spool).or_insert_with(|| Queue::new(topic));
        if queue.sealed != Some(count) {
            queue.sealed = Some(count);
            queue.seal_is_known = false;
        }
    }

    /// The spools of a topic that have something new.
    pub fn reach(&mut self, topic: Topic) -> Vec<SpoolReach> {
        let of_topic = self.spools.iter_mut().filter(|(_, queue)| queue.topic == topic);
        let news = of_topic.filter(|(_, queue)| queue.has_news());
        news.map(|(spool, queue)| {
            queue.seal_is_known = true;
            let until = queue.beyond.as_ref().map_or(queue.end(), |beyond| beyond.seq + 1);
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
        }
    }

    /// Of each partition the offset of the first record that is not applied, when of each spool all below what `next`
    /// says is. Partitions without one are left out.
    pub fn unapplied(&self, next: impl Fn(SpoolId) -> Option<u64>) -> BTreeMap<Partition, i64> {
        let mut first: BTreeMap<Partition, i64> = BTreeMap::new();
        for (spool, queue) in &self.spools {
            let due = next(*spool).unwrap_or(queue.due);
            for record in queue.records.iter().chain(&queue.beyond).filter(|record| record.seq >= due) {
                let offset = first.entry(record.partition).or_insert(record.offset);
                *offset = record.offset.min(*offset);
            }
        }
        first
    }

    /// Partitions with a spool that waits for a missing number.
    pub fn gaps(&self) -> impl Iterator<Item = Partition> {
        self.spools.values().filter_map(|queue| queue.beyond.as_ref()).map(|beyond| beyond.partition)
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
        Queue { topic, due: 0, records: VecDeque::new(), beyond: None, sealed: None, seal_is_known: true }
    }

    /// The number that comes next.
    fn end(&self) -> u64 {
        self.records.back().map_or(self.due, |last| last.seq + 1)
    }

    fn has_news(&self) -> bool {
        !self.records.is_empty() || self.beyond.is_some() || !self.seal_is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SpoolId = SpoolId(7);

    fn partition(number: i32) -> Partition {
        Partition { topic: 0, number }
    }

    fn from(offset: i64) -> Origin {
        Origin { topic: Topic::Clicks, partition: partition(1), offset }
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
        assert_eq!(queues.unapplied(|_| Some(1)), [(partition(1), 11)].into());
        queues.applied(S, 2);
        assert_eq!((held(&queues), queues.records()), (vec![3], 0));
        assert_eq!(queues.unapplied(|_| None), [(partition(1), 13)].into());
        assert_eq!(queues.gaps().count(), 1);
        // Read again from the beginning: the witness is found in its place, and what came behind it comes again.
        for (seq, offset) in [(0, 10), (1, 11), (2, 9), (3, 13), (4, 14)] {
            queues.take(S, seq, from(offset), b"x");
        }
        assert_eq!((held(&queues), queues.gaps().count()), (vec![2, 3, 4], 0));
        queues.applied(S, 5);
        assert!(queues.unapplied(|_| None).is_empty() && queues.reach(Topic::Clicks).is_empty());
        assert_eq!((queues.bytes(), queues.records()), (0, 0));
    }

    #[test]
    fn begins_at_the_marks_tells_a_seal_once_and_leaves_what_others_read() {
        let mut queues = Queues::default();
        queues.begin(&[Mark { next: 5, ..Mark::new(S, Topic::Clicks) }]);
        assert_eq!(queues.take(S, 4, from(1), b"x"), Taken::Known);
        assert_eq!(queues.take(S, 5, from(2), b"xy"), Taken::Held);
        queues.seal(S, Topic::Clicks, 6);
        assert_eq!(queues.reach(Topic::Clicks), [SpoolReach { spool: S, until: 6, sealed: Some(6) }]);
        queues.leave(partition(2));
        assert_eq!(queues.bytes(), 2);
        queues.leave(partition(1));
        assert_eq!((queues.bytes(), queues.reach(Topic::Clicks).len()), (0, 0));
        queues.begin(&[]);
        queues.seal(S, Topic::Clicks, 0);
        assert_eq!(queues.reach(Topic::Clicks), [SpoolReach { spool: S, until: 0, sealed: Some(0) }]);
        assert!(queues.reach(Topic::Clicks).is_empty());
    }
}
