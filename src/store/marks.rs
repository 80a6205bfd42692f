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

/// Records that the disk lost, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantine {
    pub spool: SpoolId,
    pub first: u64,
    pub last: u64,
    /// Its edge keeps it, or says what became of it: Kafka would not take it.
    pub parked: bool,
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
    /// Writes `mark` if the stored one is still at `from`; otherwise somebody else was here and nothing may be kept.
    pub fn move_mark(&self, mark: &Mark, from: u64) -> Result<(), StoreError> {
        let ms = |time: Option<TimeMs>| time.map(|time| time.0);
        let spool = bits(mark.spool.0);
        let update = || {
            self.execute(
                "UPDATE marks SET next = ?2, sealed = ?3, first_ms = ?4, last_ms = ?5, gap = ?6, retired = 0
                 WHERE spool = ?1 AND next = ?7",
                params![spool, mark.next, mark.sealed, ms(mark.first), ms(mark.last), mark.gap, from],
            )
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

    pub fn quarantine(&self, range: Quarantine) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO quarantined (spool, first, last, parked) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (spool, first) DO NOTHING",
            params![bits(range.spool.0), range.first, range.last, range.parked],
        )?;
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
        let sql = "SELECT spool, first, last, parked FROM quarantined ORDER BY spool, first";
        self.connection.rows(sql, &[], |row| {
            let parked = row.get::<i64>(3)? != 0;
            Ok(Quarantine { spool: SpoolId(unbits(row.get(0)?)), first: row.get(1)?, last: row.get(2)?, parked })
        })
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
