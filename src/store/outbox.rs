//! Revisions of decisions that are still to be told to others. `serve` has nobody to tell.

use super::connection::Table;
use super::value::{Value, params};
use super::{Batch, Connection, DeadLetter, RowId, StoreError, View, bits, unbits};
use crate::spool::SpoolId;

const OUTBOX: Table<2> = Table { name: "outbox", columns: [("conversion", "bigint"), ("revision", "bigint")] };

/// A revision to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub number: i64,
    pub id: RowId,
    pub revision: u32,
}

impl Batch<'_> {
    /// Puts revisions into the outbox, in the transaction that made them.
    pub fn tell(&self, revisions: &[(RowId, u32)]) -> Result<(), StoreError> {
        let Connection::Postgres(_) = self.connection else { return Ok(()) };
        let row = |(id, revision): &(RowId, u32)| [Value::Int(id.0), Value::Int(i64::from(*revision))];
        self.connection.insert(&OUTBOX, revisions.iter().map(row), "")
    }

    /// The oldest ones that nobody else has taken; they are free again at the end of the transaction.
    pub fn take_outbox(&self, limit: usize) -> Result<Vec<Told>, StoreError> {
        let Connection::Postgres(_) = self.connection else { return Ok(Vec::new()) };
        let sql = "SELECT number, conversion, revision FROM outbox ORDER BY number LIMIT ?1 FOR UPDATE SKIP LOCKED";
        self.connection.rows(sql, params![limit], |row| {
            Ok(Told { number: row.get(0)?, id: RowId(row.get(1)?), revision: row.get(2)? })
        })
    }

    /// Those that were told leave.
    pub fn told(&self, numbers: &[i64]) -> Result<(), StoreError> {
        if matches!(self.connection, Connection::Postgres(_)) {
            self.execute("DELETE FROM outbox WHERE number = ANY(?1::bigint[])", params![numbers[..]])?;
        }
        Ok(())
    }
}

impl Batch<'_> {
    /// Dead letters that were told to nobody and that nobody else has taken.
    pub fn take_dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let Connection::Postgres(_) = self.connection else { return Ok(Vec::new()) };
        let sql = "SELECT spool, seq, why, record FROM dead_letters WHERE told = 0
             ORDER BY spool, seq LIMIT ?1 FOR UPDATE SKIP LOCKED";
        self.connection.rows(sql, params![limit], |row| {
            let spool = SpoolId(unbits(row.get(0)?));
            Ok(DeadLetter { spool, seq: row.get(1)?, why: row.get(2)?, record: row.get(3)? })
        })
    }

    /// They stay here; only once is enough.
    pub fn dead_letter_told(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let sql = "UPDATE dead_letters SET told = 1 WHERE spool = ?1 AND seq = ?2";
        self.execute(sql, params![bits(letter.spool.0), letter.seq])?;
        Ok(())
    }
}

impl View<'_> {
    /// Tells this store from all others, and from itself made anew.
    pub fn store_id(&self) -> Result<u64, StoreError> {
        self.connection.one("SELECT id FROM identity", &[], |row| Ok(unbits(row.get(0)?)))
    }
}
