//! The embedded log as the consumer's source: the spools of one directory, ours and other processes'.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attribution::consumer::{Reach, Records, Source, SpoolReach};
use crate::spool::{Item, Known, Reader, SpoolId, Spools, Topic};

/// How long the clicks that were written are waited for before conversions are put off to the next round.
const SYNC_WAIT: Duration = Duration::from_millis(500);

/// How long conversions are put off at most: a process that was stopped, or an fdatasync that hangs, must not hold them up
/// for ever. A click that is read after them has them decided again while they are pending (contract M50).
const PATIENCE: Duration = Duration::from_secs(5);

/// Between looks for spools whose process died.
const RECOVER_EVERY: Duration = Duration::from_secs(2);

/// Spools of a topic that are read in one round, each with a file and a buffer. Of more, others follow in the next.
const MAX_SPOOLS: usize = 128;

/// Spools that are consumed to their end are told again so often: whoever forgot hears that they are sealed.
const RETELL_EVERY: Duration = Duration::from_secs(10);

/// Bytes of records held for one spool, and for all of a round. At least one record of each is held.
const MAX_SPOOL_BYTES: usize = 8 << 20;
const MAX_BYTES: usize = 64 << 20;

pub struct SpoolSource {
    spools: Arc<Spools>,
    known: HashMap<SpoolId, Known>,
    readers: HashMap<SpoolId, Reader>,
    /// Next number of each spool that is not applied.
    applied: HashMap<SpoolId, u64>,
    /// Where the next round goes on among more spools than it can read.
    turns: HashMap<Topic, SpoolId>,
    /// Held for each spool of this round.
    spool_bytes: usize,
    /// Positions that had moved when `reach` looked.
    moves: u64,
    recovered: Instant,
    retold: Option<Instant>,
    /// Since when clicks that were written are not known to be on disk, or not all could be read in one round.
    behind_since: Option<Instant>,
}

impl SpoolSource {
    pub fn new(spools: Arc<Spools>) -> SpoolSource {
        SpoolSource {
            spools,
            known: HashMap::new(),
            readers: HashMap::new(),
            applied: HashMap::new(),
            turns: HashMap::new(),
            spool_bytes: MAX_SPOOL_BYTES,
            moves: 0,
            recovered: Instant::now(),
            retold: None,
            behind_since: None,
        }
    }

    fn recover_now_and_then(&mut self) -> io::Result<()> {
        if self.recovered.elapsed() >= RECOVER_EVERY {
            self.recovered = Instant::now();
            self.spools.recover()?;
        }
        Ok(())
    }

    /// The reaches of a topic: of the spools that hold something unread as many as fit into a round, and all others.
    /// False when some were left out.
    fn remember(&mut self, known: Vec<Known>, topic: Topic) -> (Vec<SpoolReach>, bool) {
        let of_topic = known.into_iter().filter(|spool| spool.topic() == topic);
        let is_unread = |spool: &Known| self.applied.get(&spool.id()).copied().unwrap_or(0) < until(spool);
        let (unread, read): (Vec<Known>, Vec<Known>) = of_topic.partition(is_unread);
        let all = unread.len() <= MAX_SPOOLS;
        let chosen = self.choose(unread, topic);
        let reaches = chosen.into_iter().chain(read).map(|spool| {
            let reach = SpoolReach {
                spool: spool.id(),
                until: until(&spool),
                sealed: spool.position.sealed.map(|(records, _)| records),
            };
            self.known.insert(spool.id(), spool);
            reach
        });
        (reaches.collect(), all)
    }

    /// In turn, oldest first, so that spools that wait for something do not keep others from being read.
    fn choose(&mut self, mut unread: Vec<Known>, topic: Topic) -> Vec<Known> {
        if unread.len() <= MAX_SPOOLS {
            self.turns.remove(&topic);
            return unread;
        }
        unread.sort_by_key(|spool| (spool.position.started_ms, spool.id()));
        let last = self.turns.get(&topic);
        let start = last.and_then(|last| unread.iter().position(|spool| spool.id() == *last)).map_or(0, |at| at + 1);
        let count = unread.len();
        unread.rotate_left(start % count);
        unread.truncate(MAX_SPOOLS);
        if let Some(last) = unread.last() {
            self.turns.insert(topic, last.id());
        }
        unread
    }

    fn list(&mut self) -> io::Result<Vec<Known>> {
        if self.retold.is_none_or(|at| at.elapsed() >= RETELL_EVERY) {
            self.retold = Some(Instant::now());
            return self.spools.list();
        }
        self.spools.list_unconsumed()
    }
}

/// Records below this number may be read.
fn until(spool: &Known) -> u64 {
    spool.position.sealed.map_or(spool.position.synced, |(records, _)| records)
}

impl Source for SpoolSource {
    fn reach(&mut self) -> io::Result<Reach> {
        self.recover_now_and_then()?;
        self.moves = self.spools.moves();
        let conversions = self.list()?;
        let (mut clicks, caught_up) = self.spools.list_synced(SYNC_WAIT)?;
        // Those consumed to their end are among the conversions' list now and then; their clicks are as they were then.
        let seen: std::collections::HashSet<SpoolId> = clicks.iter().map(Known::id).collect();
        clicks.extend(conversions.iter().filter(|known| !seen.contains(&known.id())).cloned());
        self.known.clear();
        let (conversions, _) = self.remember(conversions, Topic::Conversions);
        let (clicks, all) = self.remember(clicks, Topic::Clicks);
        self.readers.retain(|spool, _| self.known.contains_key(spool));
        self.spool_bytes = (MAX_BYTES / conversions.len().max(clicks.len()).clamp(1, MAX_SPOOLS)).min(MAX_SPOOL_BYTES);
        // A conversion should not be decided before the clicks that were answered before it.
        self.behind_since = if caught_up && all { None } else { self.behind_since.or(Some(Instant::now())) };
        let put_off = self.behind_since.is_some_and(|since| since.elapsed() < PATIENCE);
        Ok(Reach { conversions: if put_off { Vec::new() } else { conversions }, clicks })
    }

    fn read(&mut self, spool: SpoolId, from: u64, until: u64, most: usize, into: &mut Records) -> io::Result<()> {
        let Some(known) = self.known.get(&spool) else { return Ok(()) };
        if self.readers.get(&spool).is_none_or(|reader| reader.next_seq() != from) {
            self.readers.insert(spool, known.read_from(from)?);
        }
        let Some(reader) = self.readers.get_mut(&spool) else { return Ok(()) };
        let last = into.len() + most;
        while into.len() < last && into.bytes() < self.spool_bytes {
            match reader.next(until)? {
                None => break,
                Some(Item::Record { seq, payload }) => into.push(seq, payload),
                Some(Item::Lost { first, last, place }) => {
                    tracing::error!(%spool, first, last, place, "records are lost on disk");
                    into.push_lost(first, last);
                }
            }
        }
        Ok(())
    }

    fn applied(&mut self, spool: SpoolId, next: u64) {
        self.spools.consumed(spool, next);
        self.applied.insert(spool, next);
        let drained = |known: &Known| known.position.sealed.is_some_and(|(records, _)| records <= next);
        if self.known.get(&spool).is_some_and(drained) {
            self.readers.remove(&spool);
        }
    }

    fn wait(&mut self, at_most: Duration) {
        self.spools.wait_for_move(self.moves, at_most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::spool::{Durability, Options, Writer};
    use crate::time::TimeMs;

    fn spools(home: &tempfile::TempDir) -> Arc<Spools> {
        let options = Options {
            directory: home.path().join("spool"),
            segment_bytes: 1 << 20,
            durability: Durability::Process,
            sync_interval: Duration::from_millis(1),
            max_bytes: None,
            keep: Duration::from_secs(3_600),
        };
        Arc::new(Spools::open(options, Arc::new(ManualClock::at(TimeMs(1_000)))).unwrap())
    }

    fn append(writer: &mut Writer, record: &[u8]) {
        while writer.append(record).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// One round: what `reach` offers is read and applied, but for the spools that `stuck` names.
    fn round(source: &mut SpoolSource, stuck: &[SpoolId]) -> Reach {
        let reach = source.reach().unwrap();
        for spool in reach.clicks.iter().chain(&reach.conversions).filter(|reach| !stuck.contains(&reach.spool)) {
            let from = source.applied.get(&spool.spool).copied().unwrap_or(0);
            let mut records = Records::default();
            source.read(spool.spool, from, spool.until, 1_000, &mut records).unwrap();
            let next = records.items(0).last().map_or(from, |item| item.last() + 1);
            source.applied(spool.spool, next);
        }
        reach
    }

    #[test]
    fn h9_of_many_spools_as_many_are_read_at_once_as_there_may_be_and_all_in_turn() {
        let home = tempfile::tempdir().unwrap();
        let first = spools(&home);
        let count = MAX_SPOOLS + 20;
        for _ in 0..count {
            append(&mut first.writer(Topic::Clicks, 0).unwrap(), b"a click");
        }
        append(&mut first.writer(Topic::Conversions, 0).unwrap(), b"an order");
        assert_eq!(first.close(), []);
        drop(first);
        let mut source = SpoolSource::new(spools(&home));
        let reach = round(&mut source, &[]);
        assert_eq!((reach.clicks.len(), reach.conversions.len()), (MAX_SPOOLS, 0), "orders wait for all clicks");
        assert!(source.readers.len() <= MAX_SPOOLS);
        assert_eq!(round(&mut source, &[]).clicks.len(), count - MAX_SPOOLS);
        assert_eq!(source.applied.values().filter(|next| **next == 1).count(), count + 1);
        assert_eq!(round(&mut source, &[]).clicks.len(), 0, "what is consumed is not offered in each round");
    }

    #[test]
    fn h9_spools_that_wait_do_not_keep_others_from_being_read() {
        let home = tempfile::tempdir().unwrap();
        let first = spools(&home);
        let count = MAX_SPOOLS + 20;
        for _ in 0..count {
            append(&mut first.writer(Topic::Clicks, 0).unwrap(), b"a click");
        }
        assert_eq!(first.close(), []);
        drop(first);
        let mut source = SpoolSource::new(spools(&home));
        let reach = source.reach().unwrap();
        let stuck: Vec<SpoolId> = reach.clicks.iter().map(|reach| reach.spool).collect();
        assert_eq!(stuck.len(), MAX_SPOOLS);
        round(&mut source, &stuck);
        round(&mut source, &stuck);
        assert_eq!(source.applied.values().filter(|next| **next == 1).count(), count - MAX_SPOOLS);
    }

    #[test]
    fn m7_large_records_are_read_in_bounded_pieces() {
        let home = tempfile::tempdir().unwrap();
        let spools = spools(&home);
        let mut writer = spools.writer(Topic::Conversions, 0).unwrap();
        let record = vec![b'x'; 500_000];
        for _ in 0..40 {
            append(&mut writer, &record);
        }
        let mut source = SpoolSource::new(spools.clone());
        let deadline = Instant::now() + Duration::from_secs(10);
        while source.reach().unwrap().conversions.iter().all(|reach| reach.until < 40) {
            assert!(Instant::now() < deadline);
        }
        let mut records = Records::default();
        source.read(writer.id(), 0, 40, 1_000, &mut records).unwrap();
        assert!(records.bytes() <= MAX_SPOOL_BYTES + record.len(), "{}", records.bytes());
        let next = records.items(0).last().map_or(0, |item| item.last() + 1);
        assert!(next > 10);
        let mut rest = Records::default();
        source.read(writer.id(), next, 40, 1_000, &mut rest).unwrap();
        assert_eq!(rest.items(0).next().map(|item| item.first()), Some(next));
    }
}
