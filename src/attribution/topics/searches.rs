//! When a partition is read again for what is missing in it, and from where.
//!
//! A gap is given time to close by itself, and all that was in the partition by then is read: what is missing may stand
//! behind. Then it is read again from before the last record of the spool, up to where it was; and again after pauses that
//! double, each time from further back: what is missing may be sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::queues::Gap;
use crate::kafka::consumer::{Consumer, KafkaError, Partition, Start};
use crate::spool::SpoolId;

const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LAST_PAUSE: Duration = Duration::from_secs(3_600);

/// The pause after Kafka did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Clocks of edges may differ by that much.
const FIRST_BACK_MS: i64 = 3_600_000;

/// Gaps remembered of a partition; past it only those that are there now.
const MAX_KNOWN: usize = 1_024;

#[derive(Default)]
pub struct Searches {
    of: BTreeMap<Partition, Search>,
}

struct Search {
    stage: Stage,
    pause: Duration,
    back_ms: i64,
    /// The gaps that the pauses are for; a new one is not kept waiting for the old.
    known: BTreeSet<(SpoolId, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Pause {
        until: Instant,
    },
    /// All that was there first.
    Ahead {
        end: i64,
    },
    Again {
        end: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// To know where the partition ends.
    End,
    /// To read again from this time; from the beginning where it is not known.
    Again { since_ms: Option<i64> },
}

impl Searches {
    /// Searches for what is missing. Returns the partitions that are read again from now on.
    pub fn look(&mut self, gaps: &[Gap], consumer: &mut Consumer) -> Vec<Partition> {
        let now = Instant::now();
        let partitions: BTreeSet<Partition> = gaps.iter().map(|gap| gap.partition).collect();
        let mut begun = Vec::new();
        for partition in partitions {
            let Some(position) = consumer.positions().get(&partition).copied() else { continue };
            let search = self.of.entry(partition).or_insert_with(|| Search::new(now));
            let gaps = gaps.iter().filter(|gap| gap.partition == partition);
            let Some(wish) = search.wish(gaps, position, now) else { continue };
            match search.grant(wish, (partition, position), consumer) {
                Ok(true) => begun.push(partition),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "kafka");
                    search.stage = Stage::Pause { until: now + ASK_AGAIN };
                }
            }
        }
        begun
    }

    /// Positions are others now; what was searched for is not found yet.
    pub fn begin(&mut self) {
        let now = Instant::now();
        for search in self.of.values_mut().filter(|search| matches!(search.stage, Stage::Again { .. })) {
            search.stage = Stage::Pause { until: now + search.pause };
        }
    }

    pub fn leave(&mut self, partition: Partition) {
        self.of.remove(&partition);
    }
}

impl Search {
    fn new(now: Instant) -> Search {
        let stage = Stage::Pause { until: now + FIRST_PAUSE };
        Search { stage, pause: FIRST_PAUSE, back_ms: FIRST_BACK_MS, known: BTreeSet::new() }
    }

    fn wish<'g>(&mut self, gaps: impl Iterator<Item = &'g Gap> + Clone, position: Start, now: Instant) -> Option<Wish> {
        self.meet(gaps.clone(), now);
        let is_behind = |end: i64| !matches!(position, Start::At(next) if next >= end);
        match self.stage {
            Stage::Pause { until } => (now >= until).then_some(Wish::End),
            Stage::Ahead { end } if is_behind(end) => None,
            Stage::Ahead { .. } => {
                // Unknown of one: from the beginning for all.
                let since = gaps.map(|gap| gap.last).min().flatten();
                Some(Wish::Again { since_ms: since.map(|since| since.0.saturating_sub(self.back_ms)) })
            }
            Stage::Again { end } => {
                if !is_behind(end) {
                    self.pause = (self.pause * 2).min(LAST_PAUSE);
                    self.stage = Stage::Pause { until: now + self.pause };
                }
                None
            }
        }
    }

    fn meet<'g>(&mut self, gaps: impl Iterator<Item = &'g Gap> + Clone, now: Instant) {
        let met: BTreeSet<_> = gaps.map(|gap| (gap.spool, gap.due)).collect();
        if met.is_subset(&self.known) {
            return;
        }
        (self.pause, self.back_ms) = (FIRST_PAUSE, FIRST_BACK_MS);
        if let Stage::Pause { until } = &mut self.stage {
            *until = (*until).min(now + FIRST_PAUSE);
        }
        if self.known.len() + met.len() > MAX_KNOWN {
            self.known.clear();
        }
        self.known.extend(met);
    }

    /// True when it is read again from now on.
    fn grant(
        &mut self,
        wish: Wish,
        (partition, position): (Partition, Start),
        consumer: &mut Consumer,
    ) -> Result<bool, KafkaError> {
        let since_ms = match wish {
            Wish::End => {
                self.stage = Stage::Ahead { end: consumer.end(partition)? };
                return Ok(false);
            }
            Wish::Again { since_ms } => since_ms,
        };
        let found = since_ms.map(|ms| consumer.since(partition, ms)).transpose()?.flatten();
        let (Start::At(end), true) = (position, consumer.seek(partition, found.map_or(Start::Beginning, Start::At)))
        else {
            return Ok(false);
        };
        tracing::warn!(
            topic = partition.topic,
            number = partition.number,
            from = found,
            "read again for a missing record"
        );
        self.stage = Stage::Again { end };
        self.back_ms = self.back_ms.saturating_mul(2);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeMs;

    const GAP: Gap =
        Gap { partition: Partition { topic: 0, number: 1 }, spool: SpoolId(7), due: 3, last: Some(TimeMs(10_000_000)) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_search_ends_before_the_pause_to_the_next_one_begins() {
        let began = Instant::now();
        let mut search = Search::new(began);
        let wish = |search: &mut Search, next, at| search.wish([GAP].iter(), Start::At(next), began + seconds(at));
        assert_eq!((wish(&mut search, 50, 9), wish(&mut search, 50, 10)), (None, Some(Wish::End)));
        // A backlog is read first.
        search.stage = Stage::Ahead { end: 100 };
        assert_eq!(wish(&mut search, 99, 500), None);
        let again = Some(Wish::Again { since_ms: Some(10_000_000 - FIRST_BACK_MS) });
        assert_eq!(wish(&mut search, 100, 501), again);
        search.stage = Stage::Again { end: 100 };
        // However long it takes.
        assert_eq!((wish(&mut search, 5, 5_000), wish(&mut search, 99, 50_000)), (None, None));
        assert_eq!(wish(&mut search, 100, 60_000), None);
        assert_eq!((wish(&mut search, 100, 60_019), wish(&mut search, 100, 60_020)), (None, Some(Wish::End)));
    }

    #[test]
    fn pauses_outlive_a_new_beginning_but_not_a_new_gap() {
        let now = Instant::now();
        let mut search = Search::new(now);
        search.wish([GAP].iter(), Start::At(1), now);
        (search.pause, search.stage) = (LAST_PAUSE, Stage::Again { end: 9 });
        let mut searches = Searches { of: [(GAP.partition, search)].into() };
        searches.begin();
        let search = searches.of.get_mut(&GAP.partition).unwrap();
        // Nothing is known to be missing before it is read again.
        search.wish([].iter(), Start::At(1), now);
        search.wish([GAP].iter(), Start::At(1), now);
        assert_eq!(search.pause, LAST_PAUSE);
        let other = Gap { due: 9, last: None, ..GAP };
        search.wish([GAP, other].iter(), Start::At(1), now);
        assert_eq!((search.pause, search.stage), (FIRST_PAUSE, Stage::Pause { until: now + FIRST_PAUSE }));
        search.stage = Stage::Ahead { end: 1 };
        let wish = search.wish([GAP, other].iter(), Start::At(1), now);
        assert_eq!(wish, Some(Wish::Again { since_ms: None }));
    }
}
