//! What leaves the store for its age, a bounded piece at a time.
//!
//! The books never do, nor what they were made from; only who bought is taken out of it (`personal.rs`). Nor do marks: a record that comes again after years is known by the
//! mark of its spool, however old a copy it comes from. A spool that is done with is only *retired*: its mark is not
//! loaded with the others any more, but looked up when its spool is met.

use super::value::params;
use super::{Batch, Connection, ERASED, StoreError};
use crate::time::TimeMs;

/// Who prunes a database holds this lock ("AflP"): one of many is enough.
const LOCK: i64 = 0x4166_6c50;

/// A piece that takes longer is given up: nobody is kept waiting for what can be done later.
const AT_MOST: &str = "SET LOCAL statement_timeout = 2000";

/// Rows that leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aged {
    /// Applied to its end, no record of it is parked, and nothing was heard of it since: retired.
    Marks,
    /// What edges told of retired spools.
    SpoolStates,
    /// Whose late clicks change what.
    Visitors,
    /// Clicks in quarter hours.
    ClickRollups,
    /// Of reports: who bought. The rows stay.
    Reports,
    /// Of reports that differed from the one that won: what they said. The rows stay.
    Conflicts,
    /// Of records that could not be applied: their bytes. The rows stay.
    DeadLetters,
}

impl Batch<'_> {
    /// False when somebody else prunes at the moment. True holds to the end of the transaction.
    pub fn begin_pruning(&self) -> Result<bool, StoreError> {
        let Connection::Postgres(session) = self.connection else { return Ok(true) };
        session.run(AT_MOST)?;
        let sql = "SELECT CAST(pg_try_advisory_xact_lock(?1) AS INT)";
        self.connection.one(sql, params![LOCK], |row| Ok(row.get::<i64>(0)? != 0))
    }

    /// Takes at most `most` rows away that are older than `before`. Rows that somebody else is at are left for the next
    /// time. Returns how many it were.
    pub fn prune(&self, aged: Aged, before: TimeMs, most: usize) -> Result<usize, StoreError> {
        let Some((table, key, which)) = aged.rows() else { return self.strip_old_reports(before, most) };
        // PostgreSQL finds rows by their places; SQLite by their keys, and nobody else is there.
        let (key, found) = match self.connection {
            Connection::Sqlite(_) => (key, format!("IN (SELECT {key} FROM {table} WHERE {which} LIMIT ?2)")),
            Connection::Postgres(_) => {
                let found =
                    format!("SELECT ctid FROM {table} WHERE {which} LIMIT ?2 FOR UPDATE OF {table} SKIP LOCKED");
                ("ctid", format!("= ANY(ARRAY({found}))"))
            }
        };
        let change = match aged {
            Aged::Marks => format!("UPDATE {table} SET retired = 1"),
            Aged::Conflicts => format!("UPDATE {table} SET event = '{ERASED}'"),
            Aged::DeadLetters => format!("UPDATE {table} SET at_ms = -1, record = {}", self.erased_bytes()),
            _ => format!("DELETE FROM {table}"),
        };
        self.execute(&format!("{change} WHERE ({key}) {found}"), params![before.0, most])
    }

    fn erased_bytes(&self) -> String {
        match self.connection {
            Connection::Sqlite(_) => format!("CAST('{ERASED}' AS BLOB)"),
            Connection::Postgres(_) => format!("convert_to('{ERASED}', 'UTF8')"),
        }
    }
}

impl Aged {
    /// Table, key, and which of its rows. None for what no statement can do.
    fn rows(self) -> Option<(&'static str, &'static str, &'static str)> {
        Some(match self {
            Aged::Reports => return None,
            Aged::Conflicts => ("conflicts", "spool, seq", r#"received_at_ms < ?1 AND event <> '{"erased":true}'"#),
            Aged::DeadLetters => ("dead_letters", "spool, seq", "at_ms > 0 AND at_ms < ?1"),
            Aged::Marks => (
                "marks",
                "spool",
                "retired = 0 AND sealed = next AND gap IS NULL AND witnessed <= next AND (last_ms IS NULL OR last_ms < ?1) AND NOT EXISTS
                     (SELECT 1 FROM spool_states WHERE spool_states.spool = marks.spool AND spool_states.at_ms >= ?1)
                 AND NOT EXISTS
                     (SELECT 1 FROM quarantined WHERE quarantined.spool = marks.spool AND parked = 1)",
            ),
            Aged::SpoolStates => (
                "spool_states",
                "spool",
                "sealed = 1 AND at_ms < ?1 AND EXISTS
                     (SELECT 1 FROM marks WHERE marks.spool = spool_states.spool AND retired = 1)",
            ),
            Aged::Visitors => ("visitors", "visitor, until_ms, conversion", "until_ms < ?1"),
            Aged::ClickRollups => (
                "click_rollups",
                "quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1, lane",
                "quarter_ms < ?1",
            ),
        })
    }
}
