//! Clicks in quarter hours.

use rusqlite::params;

use super::{Batch, StoreError, View};
use crate::catalog::{MerchantId, OfferId, PublisherId};
use crate::rollup::{ClickKey, Counts, Scope, SourceAndSub};
use crate::time::{HOUR_MS, TimeMs};

/// A row as reports read it. An empty label is none.
#[derive(Clone, Copy, Debug)]
pub struct RollupRow<'r> {
    pub quarter: TimeMs,
    pub publisher_id: PublisherId,
    pub merchant_id: MerchantId,
    pub offer_id: OfferId,
    pub link: &'r str,
    pub source: &'r str,
    pub sub1: &'r str,
    pub counts: Counts,
}

impl Batch<'_> {
    /// Adds to the rows. Sort them: neighbours are then on one page.
    pub fn add_clicks<'k>(&self, rows: impl Iterator<Item = (&'k ClickKey, Counts)>) -> Result<(), StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO click_rollups
                 (quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1, clicks, billable, rejected)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT DO UPDATE SET clicks = clicks + excluded.clicks, billable = billable + excluded.billable,
                 rejected = rejected + excluded.rejected",
        )?;
        for (key, counts) in rows {
            statement.execute(params![
                key.quarter.0,
                key.publisher_id.0,
                key.merchant_id.0,
                key.offer_id.0,
                key.link,
                key.source,
                key.sub1,
                counts.clicks,
                counts.billable,
                counts.rejected
            ])?;
        }
        Ok(())
    }
}

impl View<'_> {
    /// Source and sub1 of all rows of a publisher's hour.
    pub fn labels(&self, scope: Scope) -> Result<Vec<SourceAndSub>, StoreError> {
        let sql = "SELECT DISTINCT source, sub1 FROM click_rollups
             WHERE quarter_ms IN (?1, ?1 + 900000, ?1 + 1800000, ?1 + 2700000) AND publisher_id = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows =
            statement.query_map(params![scope.hour.0, scope.publisher_id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Shows all rows whose quarter hour overlaps `from..to`, ordered by time; stops where `show` fails.
    pub fn click_rollups<E: From<StoreError>>(
        &self,
        from: TimeMs,
        to: TimeMs,
        mut show: impl FnMut(RollupRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql =
            "SELECT quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1, clicks, billable, rejected
             FROM click_rollups WHERE quarter_ms >= ?1 AND quarter_ms < ?2";
        let mut statement = self.connection.prepare_cached(sql).map_err(StoreError::from)?;
        let mut rows = statement.query(params![crate::rollup::quarter(from).0, to.0]).map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            show(rollup_row(row).map_err(StoreError::from)?)?;
        }
        Ok(())
    }

    /// Rows with more billable clicks than clicks, or less than none: none, or the store is broken.
    pub fn impossible_rollups(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM click_rollups
             WHERE clicks < 0 OR billable < 0 OR rejected < 0 OR billable > clicks";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// Sums of all rollups: clicks, billable, rejected.
    pub fn click_totals(&self) -> Result<Counts, StoreError> {
        let sql = "SELECT coalesce(sum(clicks), 0), coalesce(sum(billable), 0), coalesce(sum(rejected), 0) FROM click_rollups";
        let counts = self
            .connection
            .query_row(sql, [], |row| Ok(Counts { clicks: row.get(0)?, billable: row.get(1)?, rejected: row.get(2)? }));
        Ok(counts?)
    }
}

fn rollup_row<'r>(row: &'r rusqlite::Row<'_>) -> rusqlite::Result<RollupRow<'r>> {
    let label = |index: usize| -> rusqlite::Result<&'r str> { Ok(row.get_ref(index)?.as_str()?) };
    Ok(RollupRow {
        quarter: TimeMs(row.get(0)?),
        publisher_id: PublisherId(row.get(1)?),
        merchant_id: MerchantId(row.get(2)?),
        offer_id: OfferId(row.get(3)?),
        link: label(4)?,
        source: label(5)?,
        sub1: label(6)?,
        counts: Counts { clicks: row.get(7)?, billable: row.get(8)?, rejected: row.get(9)? },
    })
}

const _: () = assert!(HOUR_MS == 4 * crate::rollup::QUARTER_MS);
