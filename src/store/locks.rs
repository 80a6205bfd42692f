//! Locks of rows that several writers of a database may change: held to the end of the transaction, always taken in the
//! same order. A file has one writer and needs none.

use xxhash_rust::xxh3::xxh3_64;

use super::value::params;
use super::{Batch, Connection, RowId, StoreError, bits};

impl Batch<'_> {
    /// Nobody else decides these conversions until the end of the transaction, whether they have a row already or not:
    /// so two consumers do not miss each other's report and refund. Their rows are locked too.
    pub fn lock_conversions(&self, ids: &[&str]) -> Result<(), StoreError> {
        let Connection::Postgres(session) = self.connection else { return Ok(()) };
        // Two IDs with one hash only wait for each other. `unnest` keeps the order.
        let mut hashes: Vec<i64> = ids.iter().map(|id| bits(xxh3_64(id.as_bytes()))).collect();
        hashes.sort_unstable();
        hashes.dedup();
        session.query(
            "SELECT pg_advisory_xact_lock(hash)::text FROM unnest(?1::bigint[]) AS hash",
            params![hashes[..]],
            |_| Ok::<(), StoreError>(()),
        )?;
        // Text with a NUL is none to PostgreSQL, so no row has it.
        let ids: Vec<&str> = ids.iter().copied().filter(|id| !id.contains('\0')).collect();
        let sql = "SELECT id FROM conversions WHERE conversion_id = ANY(?1::text[]) ORDER BY id FOR UPDATE";
        session.query(sql, params![ids[..]], |_| Ok(()))
    }

    /// Nobody else changes these rows until the end of the transaction. Waits for those that others are at.
    pub fn lock_rows(&self, ids: &[RowId]) -> Result<(), StoreError> {
        let Connection::Postgres(session) = self.connection else { return Ok(()) };
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let sql = "SELECT id FROM conversions WHERE id = ANY(?1::bigint[]) ORDER BY id FOR UPDATE";
        session.query(sql, params![ids[..]], |_| Ok(()))
    }
}
