//! Marks: the number up to which a spool is applied, moved in the transaction of the effects and by compare-and-set.

use super::connection::ManyKeys;
use super::value::{Row, params};
use super::{Batch, StoreError, View, bits, unbits};
use crate::spool::{SpoolId, Topic};
use crate::time::TimeMs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub spool: SpoolId,
    pub topic: Topic,
    /// The number of the first record that is not applied.
    pub next: u64,
    /// How many records the spool has, once it gets no more.
    pub sealed: Option<u64>,
    pub first: Option<TimeMs>,
    pub last: Option<TimeMs>,
    /// The number that stood where `next` was due.
    pub gap: Option<u64>,
}

/// Spools of a topic that were applied to their ends long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    pub topic: Topic,
    pub spools: u64,
    pub records: u64,
}

/// Records that a mark passed without their effects, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    pub spool: SpoolId,
    pub first: u64,
    pub last: u64,
    pub fate: Fate,
}

/// What became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The disk lost them.
    Lost,
    /// Kafka would not take it; its edge keeps it.
    Parked,
    /// It was parked, and fed again in another spool.
    Fed,
    /// Nobody keeps them any more, and an operator had the mark moved over them.
    Passed { reason: String, at: TimeMs },
}

impl Fate {
    /// As the column `parked` has it.
    fn number(&self) -> i64 {
        match self {
            Fate::Lost => 0,
            Fate::Parked => 1,
            Fate::Fed => 2,
            Fate::Passed { .. } => 3,
        }
    }
}

/// A record that could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub spool: SpoolId,
    pub seq: u64,
    pub why: String,
    pub record: Vec<u8>,
}

impl Mark {
    pub fn new(spool: SpoolId, topic: Topic) -> Mark {
        Mark { spool, topic, next: 0, sealed: None, first: None, last: None, gap: None }
    }

    /// Takes the time of a record that is applied now.
    pub fn saw(&mut self, at: TimeMs) {
        self.first.get_or_insert(at);
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }
}

impl Batch<'_> {
    /// Writes `mark` if the stored one is still at `from`; otherwise somebody else was here and nothing may be kept. That
    /// the number behind a gap was shipped is remembered when the gap is closed or passed: more may stand behind it.
    pub fn move_mark(&self, mark: &Mark, from: u64) -> Result<(), StoreError> {
        let ms = |time: Option<TimeMs>| time.map(|time| time.0);
        let spool = bits(mark.spool.0);
        let sql = format!(
            "UPDATE marks SET next = ?2, sealed = ?3, first_ms = ?4, last_ms = ?5, gap = ?6, retired = 0,
                 witnessed = CASE WHEN ?6 >= witnessed THEN ?6 + 1 ELSE witnessed END,
                 gap_ms = CASE WHEN ?6 >= 0 THEN CASE WHEN gap = ?6 AND next = ?2 THEN gap_ms ELSE {} END END
             WHERE spool = ?1 AND next = ?7",
            self.connection.now()
        );
        let update = || {
            let (first, last) = (ms(mark.first), ms(mark.last));
            self.execute(&sql, params![spool, mark.next, mark.sealed, first, last, mark.gap, from])
        };
        let mut moved = update()?;
        if moved == 0 && from == 0 {
            // The first of a spool.
            self.execute(
                "INSERT INTO marks (spool, topic, next) VALUES (?1, ?2, 0) ON CONFLICT (spool) DO NOTHING",
                params![spool, topic_name(mark.topic)],
            )?;
            moved = update()?;
        }
        if moved == 1 { Ok(()) } else { Err(StoreError::MarkMoved { spool: mark.spool.0, expected: from }) }
    }

    pub fn quarantine(&self, range: &Quarantine) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO quarantined (spool, first, last, parked) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (spool, first) DO NOTHING",
            params![bits(range.spool.0), range.first, range.last, range.fate.number()],
        )?;
        Ok(())
    }

    /// A parked record was fed again. What stands in its place may be applied later, as it is in another spool.
    pub fn unpark(&self, spool: SpoolId, seq: u64) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO quarantined (spool, first, last, parked) VALUES (?1, ?2, ?2, 2)
             ON CONFLICT (spool, first) DO UPDATE SET parked = 2 WHERE quarantined.parked = 1",
            params![bits(spool.0), seq],
        )?;
        Ok(())
    }

    /// Moves the mark over a gap, from its first number to its last, if the stored mark still is `mark`.
    pub fn pass(&self, mark: &Mark, last: u64, reason: &str, at: TimeMs) -> Result<(), StoreError> {
        let (spool, first) = (mark.spool, mark.next);
        // Nobody else changes the row from here on.
        self.execute("UPDATE marks SET next = next WHERE spool = ?1", params![bits(spool.0)])?;
        let stored = self.view().mark(spool)?.unwrap_or(Mark::new(spool, mark.topic));
        if stored != *mark {
            return Err(StoreError::MarkMoved { spool: spool.0, expected: first });
        }
        self.move_mark(&Mark { next: last.saturating_add(1), gap: None, ..*mark }, first)?;
        // Its first may have been parked, and fed again, before its own mark came there: the range is named all the same.
        self.execute(
            "INSERT INTO quarantined (spool, first, last, parked, reason, at_ms) VALUES (?1, ?2, ?3, 3, ?4, ?5)
             ON CONFLICT (spool, first) DO UPDATE SET last = excluded.last, parked = 3, reason = excluded.reason,
                 at_ms = excluded.at_ms",
            params![bits(spool.0), first, last, reason, at.0],
        )?;
        Ok(())
    }

    /// An attribution runs. `begins`: what it has seen before does not count, it reads on from where the store is.
    pub fn record_running(&self, begins: bool) -> Result<(), StoreError> {
        let (column, now) = (if begins { "began_ms" } else { "alive_ms" }, self.connection.now());
        self.execute(&format!("UPDATE running SET {column} = {now}"), &[])?;
        Ok(())
    }

    pub fn bury(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO dead_letters (spool, seq, why, record) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (spool, seq) DO NOTHING",
            params![bits(letter.spool.0), letter.seq, letter.why, letter.record],
        )?;
        Ok(())
    }
}

macro_rules! marks {
    ($which:literal) => {
        concat!("SELECT spool, topic, next, sealed, first_ms, last_ms, gap FROM marks WHERE ", $which)
    };
}

impl View<'_> {
    /// Those of all spools but the retired ones.
    pub fn marks(&self) -> Result<Vec<Mark>, StoreError> {
        self.connection.rows(marks!("retired = 0 ORDER BY first_ms NULLS FIRST, spool"), &[], mark)
    }

    /// Spools of which more records were seen than are applied, each with how many it has at least.
    pub fn witnessed(&self) -> Result<Vec<(SpoolId, u64)>, StoreError> {
        let sql = "SELECT spool, witnessed FROM marks WHERE retired = 0 AND witnessed > next";
        self.connection.rows(sql, &[], |row| Ok((SpoolId(unbits(row.get(0)?)), row.get(1)?)))
    }

    /// Those of these spools that are retired.
    pub fn retired_of(&self, spools: &[SpoolId]) -> Result<Vec<Mark>, StoreError> {
        let spools: Vec<i64> = spools.iter().map(|spool| bits(spool.0)).collect();
        let (one, all) =
            (marks!("retired = 1 AND spool = ?1"), marks!("retired = 1 AND spool = ANY(?1::bigint[]) ORDER BY spool"));
        self.connection.rows_of(one, all, ManyKeys::Ints(&spools), mark)
    }

    /// All retired spools of each topic.
    pub fn retired(&self) -> Result<Vec<Retired>, StoreError> {
        let sql = "SELECT topic, count(*), CAST(sum(next) AS BIGINT) FROM marks WHERE retired = 1 GROUP BY topic";
        self.connection.rows(sql, &[], |row| {
            Ok(Retired { topic: topic_named(row.text(0)?)?, spools: row.get(1)?, records: row.get(2)? })
        })
    }

    pub fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError> {
        let sql = "SELECT spool, first, last, parked, reason, at_ms FROM quarantined ORDER BY spool, first";
        self.connection.rows(sql, &[], |row| {
            let fate = match row.get::<i64>(3)? {
                0 => Fate::Lost,
                1 => Fate::Parked,
                2 => Fate::Fed,
                _ => Fate::Passed { reason: row.text(4)?.to_owned(), at: TimeMs(row.get(5)?) },
            };
            Ok(Quarantine { spool: SpoolId(unbits(row.get(0)?)), first: row.get(1)?, last: row.get(2)?, fate })
        })
    }

    /// For how long attributions have run while this spool had the gap, or the seal, that it has: without a break, and all
    /// that time it did not close.
    pub fn waited_ms(&self, spool: SpoolId) -> Result<i64, StoreError> {
        let sql = "SELECT began_ms, alive_ms, COALESCE(
                 (SELECT COALESCE(gap_ms, 0) FROM marks WHERE spool = ?1 AND gap IS NOT NULL),
                 (SELECT written_ms FROM spool_states WHERE spool = ?1 AND sealed = 1), 0) FROM running";
        self.connection.one(sql, params![bits(spool.0)], |row| {
            let [began, alive, since] = [row.get::<i64>(0)?, row.get(1)?, row.get(2)?];
            Ok(alive.saturating_sub(began.max(since)))
        })
    }

    /// How many gaps were passed by command.
    pub fn passed_count(&self) -> Result<u64, StoreError> {
        self.connection.one("SELECT count(*) FROM quarantined WHERE parked = 3", &[], |row| row.get(0))
    }

    /// Whether a record took effect: under its own number, or where it was fed again. What is only parked did not.
    pub fn took_effect(&self, spool: SpoolId, seq: u64) -> Result<bool, StoreError> {
        let sql = "SELECT parked FROM quarantined WHERE spool = ?1 AND first <= ?2 AND last >= ?2";
        let fate = self.connection.first(sql, params![bits(spool.0), seq], |row| row.get::<i64>(0))?;
        Ok(match fate {
            Some(fate) => fate == Fate::Fed.number(),
            None => self.mark(spool)?.is_some_and(|mark| mark.next > seq),
        })
    }

    fn mark(&self, spool: SpoolId) -> Result<Option<Mark>, StoreError> {
        let sql = "SELECT spool, topic, next, sealed, first_ms, last_ms, gap FROM marks WHERE spool = ?1";
        self.connection.first(sql, params![bits(spool.0)], mark)
    }

    pub fn dead_letter_count(&self) -> Result<u64, StoreError> {
        self.connection.one("SELECT count(*) FROM dead_letters", &[], |row| row.get(0))
    }

    pub fn dead_letter(&self, spool: SpoolId, seq: u64) -> Result<Option<DeadLetter>, StoreError> {
        let sql = "SELECT why, record FROM dead_letters WHERE spool = ?1 AND seq = ?2";
        self.connection.first(sql, params![bits(spool.0), seq], |row| {
            Ok(DeadLetter { spool, seq, why: row.get(0)?, record: row.get(1)? })
        })
    }
}

fn mark(row: &Row<'_>) -> Result<Mark, StoreError> {
    Ok(Mark {
        spool: SpoolId(unbits(row.get(0)?)),
        topic: topic_named(row.text(1)?)?,
        next: row.get(2)?,
        sealed: row.get(3)?,
        first: row.get::<Option<i64>>(4)?.map(TimeMs),
        last: row.get::<Option<i64>>(5)?.map(TimeMs),
        gap: row.get(6)?,
    })
}

pub(super) fn topic_name(topic: Topic) -> &'static str {
    match topic {
        Topic::Clicks => "clicks",
        Topic::Conversions => "conversions",
    }
}

fn topic_named(name: &str) -> Result<Topic, StoreError> {
    match name {
        "clicks" => Ok(Topic::Clicks),
        "conversions" => Ok(Topic::Conversions),
        other => Err(StoreError::Unreadable { what: "topic", why: other.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, testing};

    #[test]
    fn a_mark_moves_only_from_where_it_is() {
        for home in testing::homes() {
            let mut store = Store::open(&home.place).unwrap();
            // The highest bit set: not lost in SQLite's signed integers.
            let mut mark = Mark::new(SpoolId(u64::MAX - 1), Topic::Clicks);
            mark.next = 5;
            mark.saw(TimeMs(7));
            let batch = store.begin().unwrap();
            batch.move_mark(&mark, 0).unwrap();
            batch.commit().unwrap();
            assert_eq!(store.view().marks().unwrap(), [mark]);

            let batch = store.begin().unwrap();
            assert!(matches!(batch.move_mark(&mark, 4), Err(StoreError::MarkMoved { expected: 4, .. })));
            drop(batch);
            assert_eq!(store.view().marks().unwrap(), [mark]);
        }
    }

    #[test]
    fn v10_a_parked_record_counts_as_fed_whichever_is_applied_first() {
        for home in testing::homes() {
            let mut store = Store::open(&home.place).unwrap();
            let of = |seq, fate| Quarantine { spool: SpoolId(9), first: seq, last: seq, fate };
            let batch = store.begin().unwrap();
            batch.quarantine(&of(1, Fate::Parked)).unwrap();
            batch.unpark(SpoolId(9), 1).unwrap();
            batch.unpark(SpoolId(9), 2).unwrap();
            batch.quarantine(&of(2, Fate::Parked)).unwrap();
            batch.quarantine(&of(3, Fate::Lost)).unwrap();
            batch.unpark(SpoolId(9), 3).unwrap();
            batch.commit().unwrap();
            let all = [of(1, Fate::Fed), of(2, Fate::Fed), of(3, Fate::Lost)];
            assert_eq!(store.view().quarantined().unwrap(), all);
        }
    }

    #[test]
    fn v10_what_is_parked_took_no_effect_until_it_is_fed_and_what_the_mark_passed_did() {
        for home in testing::homes() {
            let mut store = Store::open(&home.place).unwrap();
            let batch = store.begin().unwrap();
            batch.move_mark(&Mark { next: 6, ..Mark::new(SpoolId(9), Topic::Clicks) }, 0).unwrap();
            let of = |first, last, fate| Quarantine { spool: SpoolId(9), first, last, fate };
            batch.quarantine(&of(1, 1, Fate::Parked)).unwrap();
            batch.quarantine(&of(2, 2, Fate::Fed)).unwrap();
            batch.quarantine(&of(3, 4, Fate::Lost)).unwrap();
            let took = [0, 1, 2, 3, 4, 5, 6].map(|seq| batch.view().took_effect(SpoolId(9), seq).unwrap());
            assert_eq!(took, [true, false, true, false, false, true, false]);
            assert!(!batch.view().took_effect(SpoolId(8), 0).unwrap());
            batch.commit().unwrap();
        }
    }

    #[test]
    fn a_gap_is_passed_only_as_it_was_seen() {
        for home in testing::homes() {
            let mut store = Store::open(&home.place).unwrap();
            let gap = Mark { next: 5, gap: Some(9), ..Mark::new(SpoolId(9), Topic::Clicks) };
            let batch = store.begin().unwrap();
            batch.move_mark(&gap, 0).unwrap();
            batch.commit().unwrap();
            // One of the missing records came meanwhile: another gap.
            for seen in [Mark { gap: Some(12), ..gap }, Mark { next: 4, ..gap }] {
                let batch = store.begin().unwrap();
                assert!(matches!(batch.pass(&seen, 8, "why", TimeMs(7)), Err(StoreError::MarkMoved { .. })));
            }
            assert_eq!((store.view().marks().unwrap(), store.view().passed_count().unwrap()), (vec![gap], 0));
            let batch = store.begin().unwrap();
            batch.pass(&gap, 8, "the disk is gone", TimeMs(7)).unwrap();
            batch.commit().unwrap();
            // What the gap was seen by is still to come.
            assert_eq!(store.view().witnessed().unwrap(), [(SpoolId(9), 10)]);
            assert_eq!(store.view().marks().unwrap(), [Mark { next: 9, gap: None, ..gap }]);
            let fate = Fate::Passed { reason: "the disk is gone".into(), at: TimeMs(7) };
            let passed = Quarantine { spool: SpoolId(9), first: 5, last: 8, fate };
            assert_eq!((store.view().quarantined().unwrap(), store.view().passed_count().unwrap()), (vec![passed], 1));
        }
    }

    #[test]
    fn a_passed_range_is_named_also_where_its_first_was_fed_again() {
        for home in testing::homes() {
            let mut store = Store::open(&home.place).unwrap();
            let gap = Mark { next: 5, gap: Some(9), ..Mark::new(SpoolId(9), Topic::Clicks) };
            let batch = store.begin().unwrap();
            batch.move_mark(&gap, 0).unwrap();
            batch.unpark(SpoolId(9), 5).unwrap();
            batch.pass(&gap, 8, "the disk is gone", TimeMs(7)).unwrap();
            batch.commit().unwrap();
            let fate = Fate::Passed { reason: "the disk is gone".into(), at: TimeMs(7) };
            let passed = Quarantine { spool: SpoolId(9), first: 5, last: 8, fate };
            assert_eq!((store.view().quarantined().unwrap(), store.view().passed_count().unwrap()), (vec![passed], 1));
        }
    }

    #[test]
    fn a_gap_is_waited_for_while_attribution_runs_and_from_its_begin_on() {
        for home in testing::homes() {
            let mut store = Store::open(&home.place).unwrap();
            let waited = |store: &Store, times: &str| {
                home.run(times);
                store.view().waited_ms(SpoolId(9)).unwrap()
            };
            let mut go = |mark: Mark, from| {
                let batch = store.begin().unwrap();
                batch.move_mark(&mark, from).unwrap();
                batch.record_running(false).unwrap();
                batch.commit().unwrap();
                store.view().waited_ms(SpoolId(9)).unwrap()
            };
            let gap = Mark { next: 5, gap: Some(9), ..Mark::new(SpoolId(9), Topic::Clicks) };
            // Written this moment; written again it is as old as it was; another one is new.
            assert!(go(gap, 0) < 60_000);
            home.run("UPDATE marks SET gap_ms = gap_ms - 500000");
            assert!(go(gap, 5) >= 500_000);
            assert!(go(Mark { gap: Some(8), ..gap }, 5) < 60_000);
            let times = "UPDATE marks SET gap_ms = 1000; UPDATE running SET began_ms = 400, alive_ms = 1700";
            assert_eq!(waited(&store, times), 700);
            assert_eq!(waited(&store, "UPDATE running SET began_ms = 1500"), 200);
        }
    }

    #[test]
    fn dead_letters_keep_the_raw_bytes() {
        for home in testing::homes() {
            let mut store = Store::open(&home.place).unwrap();
            let letter = DeadLetter { spool: SpoolId(9), seq: 3, why: "no JSON".into(), record: vec![0, 255, b'{'] };
            let batch = store.begin().unwrap();
            batch.bury(&letter).unwrap();
            batch.bury(&letter).unwrap();
            batch.commit().unwrap();
            assert_eq!(store.view().dead_letter(SpoolId(9), 3).unwrap(), Some(letter));
            assert_eq!(store.view().dead_letter_count().unwrap(), 1);
        }
    }
}
