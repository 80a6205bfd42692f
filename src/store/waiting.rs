//! Conversions that wait for their first or their final decision: as a row, so they hold up nobody and survive everything.

use super::connection::Table;
use super::value::{Row, Value, params};
use super::{Batch, Connection, RowId, StoreError, View};
use crate::time::TimeMs;

/// Why a conversion waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Not decided yet: the touch index has not caught up.
    New,
    /// Decided by what was known; again when the index is complete.
    Provisional,
    /// Its click ID names a signing key that is not listed here.
    ForKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: RowId,
    pub since: TimeMs,
    pub stand: Stand,
}

const WAITING: Table<3> =
    Table { name: "waiting", columns: [("conversion", "bigint"), ("since_ms", "bigint"), ("stand", "bigint")] };

impl Batch<'_> {
    /// Each conversion once.
    pub fn put_waiting(&self, waiting: &[Waiting]) -> Result<(), StoreError> {
        let row = |one: &Waiting| [Value::Int(one.id.0), Value::Int(one.since.0), Value::Int(stand_code(one.stand))];
        let clash = "ON CONFLICT (conversion) DO UPDATE SET since_ms = excluded.since_ms, stand = excluded.stand";
        self.connection.insert(&WAITING, waiting.iter().map(row), clash)
    }

    pub fn end_waiting(&self, ids: &[RowId]) -> Result<(), StoreError> {
        let (one, all) =
            ("DELETE FROM waiting WHERE conversion = ?1", "DELETE FROM waiting WHERE conversion = ANY(?1::bigint[])");
        self.connection.execute_many(one, all, ids.iter().map(|id| [Value::Int(id.0)]))
    }

    /// Those that still wait and that nobody else is at, in the order of their numbers. They are this transaction's.
    pub fn lock_waiting(&self, ids: &[RowId]) -> Result<Vec<Waiting>, StoreError> {
        let mut ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        match self.connection {
            Connection::Postgres(_) => {
                let sql = "SELECT conversion, since_ms, stand FROM waiting WHERE conversion = ANY(?1::bigint[])
                     ORDER BY conversion FOR UPDATE SKIP LOCKED";
                self.connection.rows(sql, params![ids[..]], waiting)
            }
            Connection::Sqlite(_) => {
                let sql = "SELECT conversion, since_ms, stand FROM waiting WHERE conversion = ?1";
                let found = ids.into_iter().map(|id| self.connection.first(sql, params![id], waiting).transpose());
                found.flatten().collect()
            }
        }
    }
}

impl View<'_> {
    /// Those that wait longest for the same, the oldest first.
    pub fn waiting_at(&self, stand: Stand, limit: usize) -> Result<Vec<Waiting>, StoreError> {
        let sql = "SELECT conversion, since_ms, stand FROM waiting WHERE stand = ?1
             ORDER BY since_ms, conversion LIMIT ?2";
        self.connection.rows(sql, params![stand_code(stand), limit], waiting)
    }

    /// Those that wait longest for whatever it is, the oldest first: reads all of them.
    pub fn waiting(&self, limit: usize) -> Result<Vec<Waiting>, StoreError> {
        let sql = "SELECT conversion, since_ms, stand FROM waiting ORDER BY since_ms, conversion LIMIT ?1";
        self.connection.rows(sql, params![limit], waiting)
    }

    /// Whether and how a conversion waits.
    pub fn waiting_of(&self, id: RowId) -> Result<Option<Waiting>, StoreError> {
        let sql = "SELECT conversion, since_ms, stand FROM waiting WHERE conversion = ?1";
        self.connection.first(sql, params![id.0], waiting)
    }

    pub fn waiting_count(&self) -> Result<u64, StoreError> {
        self.connection.one("SELECT count(*) FROM waiting", &[], |row| row.get(0))
    }
}

fn waiting(row: &Row<'_>) -> Result<Waiting, StoreError> {
    Ok(Waiting { id: RowId(row.get(0)?), since: TimeMs(row.get(1)?), stand: stand_of_code(row.get(2)?)? })
}

fn stand_code(stand: Stand) -> i64 {
    match stand {
        Stand::New => 0,
        Stand::Provisional => 1,
        Stand::ForKey => 2,
    }
}

fn stand_of_code(code: i64) -> Result<Stand, StoreError> {
    match code {
        0 => Ok(Stand::New),
        1 => Ok(Stand::Provisional),
        2 => Ok(Stand::ForKey),
        other => Err(StoreError::Unreadable { what: "stand", why: other.to_string() }),
    }
}
