//! Refunds, unique per merchant and refund ID; one whose order is unknown waits as a row (contract M41).

use std::collections::HashSet;

use super::connection::ManyKeys;
use super::value::params;
use super::{Batch, StoreError, View, bits, read_json, write_json};
use crate::event::{Conversion, Refund};
use crate::spool::SpoolId;

/// What became of a refund that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundInsert {
    New,
    /// Known, with the same content.
    Exact,
    /// Known, with other content: the first committed stands.
    Conflict,
}

impl Batch<'_> {
    /// `waiting`: its order is not known yet.
    pub fn add_refund(&self, refund: &Refund, waiting: bool) -> Result<RefundInsert, StoreError> {
        let added = self.execute(
            "INSERT INTO refunds (merchant_id, refund_id, conversion_id, content_hash, event, waiting)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (merchant_id, refund_id) DO NOTHING",
            params![
                refund.merchant_id.0,
                refund.refund_id,
                refund.conversion_id,
                refund.content_hash,
                write_json("refund", refund)?,
                waiting
            ],
        )?;
        if added == 1 {
            return Ok(RefundInsert::New);
        }
        let sql = "SELECT event FROM refunds WHERE merchant_id = ?1 AND refund_id = ?2";
        let key = params![refund.merchant_id.0, refund.refund_id];
        let known: Option<Refund> = self.connection.first(sql, key, |row| read_json("refund", row.text(0)?))?;
        let exact = known.is_some_and(|known| known.is_same_report(refund));
        Ok(if exact { RefundInsert::Exact } else { RefundInsert::Conflict })
    }

    /// The order came: its refunds wait no more. Returns how many did.
    pub fn end_refunds_waiting(&self, conversion_id: &str) -> Result<usize, StoreError> {
        self.execute("UPDATE refunds SET waiting = 0 WHERE conversion_id = ?1 AND waiting = 1", params![conversion_id])
    }

    /// Keeps a report that differs from the one that won (contract M48).
    pub fn add_conversion_conflict(&self, spool: SpoolId, seq: u64, report: &Conversion) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO conflicts (spool, seq, conversion_id, content_hash, received_at_ms, event)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                bits(spool.0),
                seq,
                report.conversion_id,
                report.content_hash,
                report.received_at_ms.0,
                write_json("report", report)?
            ],
        )?;
        Ok(())
    }

    pub fn add_refund_conflict(&self, spool: SpoolId, seq: u64, refund: &Refund) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO conflicts (spool, seq, conversion_id, refund_id, content_hash, received_at_ms, event)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                bits(spool.0),
                seq,
                refund.conversion_id,
                refund.refund_id,
                refund.content_hash,
                refund.received_at_ms.0,
                write_json("refund", refund)?
            ],
        )?;
        Ok(())
    }
}

impl View<'_> {
    /// Shows the refunds of a conversion in the order in which they were stored: at most `limit`, behind the first `skip`.
    pub fn each_refund(
        &self,
        conversion_id: &str,
        (skip, limit): (u64, u64),
        mut show: impl FnMut(Refund),
    ) -> Result<(), StoreError> {
        let sql = "SELECT event FROM refunds WHERE conversion_id = ?1 ORDER BY id LIMIT ?2 OFFSET ?3";
        let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.connection.query(sql, params![conversion_id, bound(limit), bound(skip)], |row| {
            show(read_json("refund", row.text(0)?)?);
            Ok(())
        })
    }

    /// Which of these conversions have refunds.
    pub fn refunded(&self, conversion_ids: &[&str]) -> Result<HashSet<String>, StoreError> {
        // Text with a NUL is none to PostgreSQL, so no row has it.
        let ids: Vec<&str> = conversion_ids.iter().copied().filter(|id| !id.contains('\0')).collect();
        let one = "SELECT conversion_id FROM refunds WHERE conversion_id = ?1 LIMIT 1";
        let all = "SELECT DISTINCT conversion_id FROM refunds WHERE conversion_id = ANY(?1::text[])";
        let found = self.connection.rows_of(one, all, ManyKeys::Texts(&ids), |row| row.get(0))?;
        Ok(found.into_iter().collect())
    }

    /// The first `limit` refunds of a conversion that were stored, in that order.
    pub fn refunds(&self, conversion_id: &str, limit: usize) -> Result<Vec<Refund>, StoreError> {
        let mut refunds = Vec::new();
        self.each_refund(conversion_id, (0, limit as u64), |refund| refunds.push(refund))?;
        Ok(refunds)
    }

    /// How many refunds a conversion has, counted up to `most`.
    pub fn refund_count(&self, conversion_id: &str, most: u64) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM refunds WHERE conversion_id = ?1 LIMIT ?2) AS counted";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.connection.one(sql, params![conversion_id, most], |row| row.get(0))
    }

    pub fn refunds_waiting(&self) -> Result<u64, StoreError> {
        self.connection.one("SELECT count(*) FROM refunds WHERE waiting = 1", &[], |row| row.get(0))
    }

    /// Refunds that wait although their order is there: none, or the store is broken.
    pub fn refunds_forgotten(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT refund_id FROM refunds WHERE (waiting = 1) =
             EXISTS (SELECT 1 FROM conversions WHERE conversions.conversion_id = refunds.conversion_id)
             ORDER BY refund_id LIMIT 100";
        self.connection.rows(sql, &[], |row| row.get(0))
    }

    /// How many reports of this conversion, and of its refunds, differed from those that won.
    pub fn conflict_count(&self, conversion_id: &str) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM conflicts WHERE conversion_id = ?1";
        self.connection.one(sql, params![conversion_id], |row| row.get(0))
    }
}
