//! What edges told of their spools last (contract V10).

use super::value::{Row, params};
use super::{Batch, StoreError, View, bits, unbits};
use crate::event::SpoolState;
use crate::time::TimeMs;

/// A spool as its edge described it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSpool {
    pub state: SpoolState,
    /// It is shipped for good.
    pub sealed: bool,
    /// Kafka's, where its records are.
    pub partition: i32,
}

impl Batch<'_> {
    /// Never goes back: what was told earlier is ignored. A seal stands, also where the edge's clock went back before it:
    /// nothing but a later seal takes its place. Returns whether it is what is known now.
    pub fn record_state(&self, state: &SpoolState, sealed: bool, partition: i32) -> Result<bool, StoreError> {
        let sql = format!(
            "INSERT INTO spool_states (spool, seq, topic, edge, at_ms, shipped, oldest_unshipped_ms, unspooled, late,
                 sealed, partition, written_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, {})
             ON CONFLICT (spool) DO UPDATE SET seq = excluded.seq, topic = excluded.topic, edge = excluded.edge,
                 at_ms = excluded.at_ms, shipped = excluded.shipped,
                 oldest_unshipped_ms = excluded.oldest_unshipped_ms, unspooled = excluded.unspooled,
                 late = excluded.late, sealed = excluded.sealed, partition = excluded.partition,
                 written_ms = CASE WHEN spool_states.sealed = 1 AND spool_states.seq = excluded.seq
                     THEN spool_states.written_ms ELSE excluded.written_ms END
             WHERE excluded.sealed = 1 OR (spool_states.sealed = 0 AND excluded.at_ms >= spool_states.at_ms)",
            self.connection.now()
        );
        let changed = self.execute(
            &sql,
            params![
                bits(state.spool),
                state.seq,
                state.topic,
                state.edge,
                state.at_ms.0,
                state.shipped,
                state.oldest_unshipped_ms.map(|at| at.0),
                state.unspooled,
                state.late,
                sealed,
                partition
            ],
        )?;
        Ok(changed > 0)
    }
}

impl View<'_> {
    /// By edge, topic and spool.
    pub fn spool_states(&self) -> Result<Vec<KnownSpool>, StoreError> {
        let sql =
            "SELECT spool, seq, topic, edge, at_ms, shipped, oldest_unshipped_ms, unspooled, late, sealed, partition
             FROM spool_states ORDER BY edge, topic, spool";
        self.connection.rows(sql, &[], known)
    }
}

fn known(row: &Row<'_>) -> Result<KnownSpool, StoreError> {
    let state = SpoolState {
        spool: unbits(row.get(0)?),
        seq: row.get(1)?,
        topic: row.get(2)?,
        edge: row.get(3)?,
        at_ms: TimeMs(row.get(4)?),
        shipped: row.get(5)?,
        oldest_unshipped_ms: row.get::<Option<i64>>(6)?.map(TimeMs),
        unspooled: row.get(7)?,
        late: row.get(8)?,
    };
    Ok(KnownSpool { state, sealed: row.get::<i64>(9)? != 0, partition: row.get(10)? })
}
