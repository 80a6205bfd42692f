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

pub struct SpoolSource {
    spools: Arc<Spools>,
    known: HashMap<SpoolId, Known>,
    readers: HashMap<SpoolId, Reader>,
    /// Positions that had moved when `reach` looked.
    moves: u64,
    recovered: Instant,
    /// Since when clicks that were written are not known to be on disk.
    behind_since: Option<Instant>,
}

impl SpoolSource {
    pub fn new(spools: Arc<Spools>) -> SpoolSource {
        SpoolSource {
            spools,
            known: HashMap::new(),
            readers: HashMap::new(),
            moves: 0,
            recovered: Instant::now(),
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

    fn remember(&mut self, known: Vec<Known>, topic: Topic) -> Vec<SpoolReach> {
        let of_topic = known.into_iter().filter(|spool| spool.topic() == topic);
        of_topic
            .map(|spool| {
                let position = spool.position;
                let sealed = position.sealed.map(|(records, _)| records);
                let until = sealed.unwrap_or(position.synced);
                self.known.insert(spool.id(), spool);
                SpoolReach { spool: position.spool, until, sealed }
            })
            .collect()
    }
}

impl Source for SpoolSource {
    fn reach(&mut self) -> io::Result<Reach> {
        self.recover_now_and_then()?;
        self.moves = self.spools.moves();
        let conversions = self.spools.list()?;
        let (clicks, caught_up) = self.spools.list_synced(SYNC_WAIT)?;
        self.known.clear();
        let conversions = self.remember(conversions, Topic::Conversions);
        let clicks = self.remember(clicks, Topic::Clicks);
        self.readers.retain(|spool, _| self.known.contains_key(spool));
        // A conversion should not be decided before the clicks that were answered before it.
        self.behind_since = if caught_up { None } else { self.behind_since.or(Some(Instant::now())) };
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
        while into.len() < last {
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
        let drained = |known: &Known| known.position.sealed.is_some_and(|(records, _)| records <= next);
        if self.known.get(&spool).is_some_and(drained) {
            self.readers.remove(&spool);
        }
    }

    fn wait(&mut self, at_most: Duration) {
        self.spools.wait_for_move(self.moves, at_most);
    }
}
