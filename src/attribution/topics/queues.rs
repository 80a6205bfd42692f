//! Records of topics sorted by spool: each spool's next ones in the order of its numbers, until they are applied.
//!
//! A partition holds records of many spools, some of them more than once. What a spool has had is dropped; what comes
//! behind a missing number is not held: one record of it stays as a witness of the gap, and the spool waits. Heartbeats and
//! seals are witnesses too: what they say is shipped stands before them in their partition.
//!
//! A witness holds up the offset of its partition: whoever reads from there meets the gap again. Of a gap that lasts the
//! store knows too, by the mark and by what the edge told: both say how many records there are at least, also when the gap
//! is closed or passed. Once that counts the witness, no offset waits for it, and a restart reads no more than what came in
//! that time.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::attribution::consumer::{Records, SpoolReach};
use crate::kafka::consumer::Partition;
use crate::spool::{SpoolId, Topic};
use crate::store::Mark;
use crate::time::TimeMs;

/// How long the witnesses of a gap hold up the offset of their partition.
const HOLDS_UP: Duration = Duration::from_secs(600);

#[derive(Default)]
pub struct Queues {
    spools: HashMap<SpoolId, Queue>,
    /// Applied to their ends, each with how many records it has. Of all spools there ever were most are here.
    done: HashMap<SpoolId, u64>,
    /// Of whose records the store knows in which partition they are, and how many were told of.
    stated: HashMap<SpoolId, u64>,
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
    /// The number that is missing, since when, as far as it holds up an offset.
    waits: Option<(u64, Instant)>,
    /// A missing number that the store knew of at the beginning.
    noted: Option<u64>,
    /// So many records there are at least, as the store knows by gaps that the spool has or had.
    witnessed: u64,
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
            queue.wait();
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
        let queue = self.queue(spool, from.topic);
        let before = queue.told.take().filter(|told| told.partition == from.partition);
        let at = before.as_ref().map_or(from.at(), |before| earlier(before.at, from.at()));
        let count = before.map_or(count, |before| before.count.max(count));
        queue.told = Some(Told { count, partition: from.partition, at });
        queue.wait();
    }

    /// As `shipped`, of what was written down before. The gap that a mark has is known by that.
    pub fn shipped_before(
        &mut self,
        spool: SpoolId,
        shipped: u64,
        topic: Topic,
        partition: Partition,
        gap: Option<u64>,
    ) {
        let count = shipped.max(behind(gap));
        self.shipped(spool, count, Origin { topic, partition, offset: i64::MAX, before: 0 });
        if let Some(queue) = self.spools.get_mut(&spool).filter(|_| gap.is_some()) {
            queue.noted = Some(queue.due);
            queue.witnessed = queue.witnessed.max(behind(gap));
        }
    }

    /// The store was told that the spool has so many records, at least, and where.
    pub fn state(&mut self, spool: SpoolId, count: u64) {
        self.stated.insert(spool, count);
    }

    /// The store knows of so many by what stood behind gaps, also of those that are closed.
    pub fn witnessed(&mut self, spool: SpoolId, count: u64) {
        if let Some(queue) = self.spools.get_mut(&spool) {
            queue.witnessed = queue.witnessed.max(count);
        }
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
        if queue.beyond.is_some() || queue.told.is_some() {
            queue.wait();
        }
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

    /// Takes the time up to which a spool is applied, and the gap that the store knows of now.
    pub fn saw(&mut self, mark: &Mark) {
        if let Some(queue) = self.spools.get_mut(&mark.spool) {
            queue.last = mark.last;
            queue.witnessed = queue.witnessed.max(behind(mark.gap));
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
    /// Partitions without one are left out. Behind a gap nothing counts that whoever begins anew with the store looks for.
    pub fn unapplied(&self, now: Instant, next: impl Fn(SpoolId) -> Option<u64>) -> BTreeMap<Partition, Resume> {
        let mut first: BTreeMap<Partition, Resume> = BTreeMap::new();
        for (spool, queue) in &self.spools {
            let due = next(*spool).unwrap_or(queue.due);
            let known = queue.known(now, self.stated.get(spool).copied());
            let beyond = queue.beyond.iter().filter(|beyond| beyond.seq >= known);
            let held = queue.records.iter().chain(beyond).filter(|record| record.seq >= due);
            let told = queue.told.iter().filter(|told| told.count > known.max(due));
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

    /// Whether records are held that are not applied, when all below `next` are.
    pub fn holds(&self, spool: SpoolId, next: Option<u64>) -> bool {
        let queue = self.spools.get(&spool);
        queue.is_some_and(|queue| !queue.records.is_empty() && queue.end() > next.unwrap_or(queue.due))
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
            waits: None,
            noted: None,
            witnessed: 0,
            last: None,
            sealed: None,
            seal_is_known: true,
        }
    }

    /// The number that comes next.
    fn end(&self) -> u64 {
        self.records.back().map_or(self.due, |last| last.seq.saturating_add(1))
    }

    fn wait(&mut self) {
        let due = self.end();
        if self.waits.is_none_or(|(waits, _)| waits != due) {
            self.waits = Some((due, Instant::now()));
        }
    }

    /// How many records whoever begins anew with the store looks for, whatever becomes of the gap; 0 while it is new.
    fn known(&self, now: Instant, stated: Option<u64>) -> u64 {
        let due = self.end();
        let is_old = |(waits, since): (u64, Instant)| waits == due && now.saturating_duration_since(since) >= HOLDS_UP;
        let lasts = self.noted == Some(due) || self.waits.is_some_and(is_old);
        stated.filter(|_| lasts).map_or(0, |told| told.max(self.witnessed))
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

/// How many records a spool has, at least, of which this number stood behind a gap.
fn behind(gap: Option<u64>) -> u64 {
    gap.map_or(0, |found| found.saturating_add(1))
}

fn earlier(one: Resume, other: Resume) -> Resume {
    if other.next < one.next { other } else { one }
}
