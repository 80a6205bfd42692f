//! What the store holds of people beside the books, and how it is taken out: of one visitor, or of everybody for its age.
//!
//! Nothing here touches an amount, an entry, a decision or what one was made from: clicks are facts by their IDs, which
//! name nobody without the secret visitor key and the cookie. So every decision comes out again as before.

use super::value::{Row, params};
use super::{Batch, Connection, DeadLetter, RowId, Store, StoreError, View, bits, read_json, unbits, write_json};
use crate::catalog::{MerchantId, Rulebook};
use crate::click::VisitorKey;
use crate::event::Conversion;
use crate::spool::SpoolId;
use crate::time::TimeMs;

/// Stands where a record was that held something of somebody.
pub const ERASED: &str = r#"{"erased":true}"#;

/// A report that differed from the one that won, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    pub spool: SpoolId,
    pub seq: u64,
    pub event: String,
}

impl Store {
    /// What SQLite deletes from now on is overwritten with zeros, and not only free to be used again.
    pub fn overwrite_deleted(&self) -> Result<(), StoreError> {
        match &self.connection {
            Connection::Sqlite(_) => self.connection.first("PRAGMA secure_delete = ON", &[], |_| Ok(())).map(drop),
            Connection::Postgres(_) => Ok(()),
        }
    }
}

impl Batch<'_> {
    /// Takes out of a report who bought. False where there is nothing of that any more.
    pub fn strip_report(&self, id: RowId) -> Result<bool, StoreError> {
        let sql = match self.connection {
            Connection::Sqlite(_) => "SELECT report FROM conversions WHERE id = ?1",
            // Nobody puts another copy in its place meanwhile.
            Connection::Postgres(_) => "SELECT report FROM conversions WHERE id = ?1 FOR UPDATE",
        };
        let report =
            self.connection.first(sql, params![id.0], |row| read_json::<Conversion>("report", row.text(0)?))?;
        let Some(mut report) = report else { return Ok(false) };
        if !report.strip() {
            return Ok(false);
        }
        let report = write_json("report", &report)?;
        self.execute("UPDATE conversions SET report = ?2 WHERE id = ?1", params![id.0, report])?;
        Ok(true)
    }

    /// Reports of a conversion that differed from the one that won. Returns how many held something still.
    pub fn erase_differing_of(&self, conversion_id: &str) -> Result<usize, StoreError> {
        let sql = "UPDATE conflicts SET event = ?2 WHERE conversion_id = ?1 AND event <> ?2";
        self.execute(sql, params![conversion_id, ERASED])
    }

    pub fn erase_differing(&self, spool: SpoolId, seq: u64) -> Result<(), StoreError> {
        let sql = "UPDATE conflicts SET event = ?3 WHERE spool = ?1 AND seq = ?2";
        self.execute(sql, params![bits(spool.0), seq, ERASED]).map(drop)
    }

    /// The number and why it could not be applied stay.
    pub fn erase_dead_letter(&self, spool: SpoolId, seq: u64) -> Result<(), StoreError> {
        let sql = "UPDATE dead_letters SET record = ?3, at_ms = -1 WHERE spool = ?1 AND seq = ?2";
        self.execute(sql, params![bits(spool.0), seq, ERASED.as_bytes().to_vec()]).map(drop)
    }

    /// Of a store in SQLite; in a cluster touches are in Redis. Returns how many it were.
    pub fn erase_touches(&self, visitors: &[VisitorKey]) -> Result<u64, StoreError> {
        let mut erased = 0;
        for (period, visitor) in self.view().periods_of(visitors)? {
            let sql = format!("DELETE FROM touches_{period} WHERE visitor = ?1");
            erased += self.execute(&sql, params![bits(visitor.0)])? as u64;
        }
        Ok(erased)
    }

    /// Strips reports received before this, the oldest first, where the last time ended. Looks at no more than `most`.
    pub fn strip_old_reports(&self, before: TimeMs, most: usize) -> Result<usize, StoreError> {
        let stood = self.connection.one("SELECT conversion FROM stripped", &[], |row| Ok(RowId(row.get(0)?)))?;
        let (mut end, mut stripped) = (stood, 0);
        let sql = "SELECT id, report FROM conversions WHERE id > ?1 ORDER BY id LIMIT ?2";
        let rows = self.connection.rows(sql, params![stood.0, most], |row| {
            Ok((RowId(row.get(0)?), read_json::<Conversion>("report", row.text(1)?)))
        })?;
        for (id, report) in rows {
            // One that does not read back was changed by something else: `ledger check` names it, and it holds up no other.
            if let Ok(report) = report {
                // Numbers grow with the time of receipt, nearly: what is behind a young one is looked at later.
                if report.received_at_ms >= before || self.view().waiting_of(id)?.is_some() {
                    break;
                }
                stripped += usize::from(self.strip_report(id)?);
            }
            end = id;
        }
        if end != stood {
            self.execute("UPDATE stripped SET conversion = ?1", params![end.0])?;
        }
        Ok(stripped)
    }

    /// From when on they have been here is known only from now on.
    pub fn date_dead_letters(&self, now: TimeMs) -> Result<(), StoreError> {
        self.execute("UPDATE dead_letters SET at_ms = ?1 WHERE at_ms = 0", params![now.0]).map(drop)
    }
}

impl View<'_> {
    /// Merchants of all catalogs that ever decided something.
    pub fn merchants(&self) -> Result<Vec<MerchantId>, StoreError> {
        let sql = "SELECT rulebook FROM catalogs ORDER BY hash";
        let books = self.connection.rows(sql, &[], |row| read_json::<Rulebook>("catalog", row.text(0)?))?;
        let mut merchants: Vec<MerchantId> = books.iter().flat_map(|book| book.merchants.keys().copied()).collect();
        merchants.sort_unstable();
        merchants.dedup();
        Ok(merchants)
    }

    pub fn touch_count(&self, visitors: &[VisitorKey]) -> Result<u64, StoreError> {
        let mut count = 0;
        for (period, visitor) in self.periods_of(visitors)? {
            let sql = format!("SELECT count(*) FROM touches_{period} WHERE visitor = ?1");
            count += self.connection.one(&sql, params![bits(visitor.0)], |row| row.get::<u64>(0))?;
        }
        Ok(count)
    }

    /// Every table of touches with every visitor.
    fn periods_of(&self, visitors: &[VisitorKey]) -> Result<Vec<(i64, VisitorKey)>, StoreError> {
        let Connection::Sqlite(_) = self.connection else { return Ok(Vec::new()) };
        let each = |number: i64| visitors.iter().map(move |visitor| (number, *visitor));
        Ok(self.periods()?.iter().flat_map(|period| each(period.number)).collect())
    }

    pub fn differing_count(&self, conversion_id: &str) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM conflicts WHERE conversion_id = ?1 AND event <> ?2";
        self.connection.one(sql, params![conversion_id, ERASED], |row| row.get(0))
    }

    /// Reports that differed and are still whole, behind one, to walk through all in bounded steps.
    pub fn differing_after(&self, after: Option<(SpoolId, u64)>, most: usize) -> Result<Vec<Differing>, StoreError> {
        let sql =
            "SELECT spool, seq, event FROM conflicts WHERE event <> ?4 AND (spool > ?1 OR (spool = ?1 AND seq > ?2))
             ORDER BY spool, seq LIMIT ?3";
        let (spool, seq) = behind(after);
        self.connection.rows(sql, params![spool, seq, most, ERASED], |row: &Row<'_>| {
            Ok(Differing { spool: SpoolId(unbits(row.get(0)?)), seq: row.get(1)?, event: row.get(2)? })
        })
    }

    /// The same of records that could not be applied.
    pub fn dead_letters_after(
        &self,
        after: Option<(SpoolId, u64)>,
        most: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = "SELECT spool, seq, why, record FROM dead_letters
             WHERE at_ms >= 0 AND (spool > ?1 OR (spool = ?1 AND seq > ?2)) ORDER BY spool, seq LIMIT ?3";
        let (spool, seq) = behind(after);
        self.connection.rows(sql, params![spool, seq, most], |row: &Row<'_>| {
            let spool = SpoolId(unbits(row.get(0)?));
            Ok(DeadLetter { spool, seq: row.get(1)?, why: row.get(2)?, record: row.get(3)? })
        })
    }
}

/// The order of keys is that of signed integers.
fn behind(after: Option<(SpoolId, u64)>) -> (i64, i64) {
    after.map_or((i64::MIN, -1), |(spool, seq)| (bits(spool.0), i64::try_from(seq).unwrap_or(i64::MAX)))
}
