//! Clicks in quarter hours.

use super::connection::Table;
use super::value::{Bind, Row, Value, params};
use super::{Batch, Connection, StoreError, View};
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

const ROLLUPS: Table<11> = Table {
    name: "click_rollups",
    columns: [
        ("quarter_ms", "bigint"),
        ("publisher_id", "bigint"),
        ("merchant_id", "bigint"),
        ("offer_id", "bigint"),
        ("link", "text"),
        ("source", "text"),
        ("sub1", "text"),
        ("lane", "bigint"),
        ("clicks", "bigint"),
        ("billable", "bigint"),
        ("rejected", "bigint"),
    ],
};

/// Rows of one statement of PostgreSQL: some 100 KB.
const CHUNK: usize = 1_000;

impl Batch<'_> {
    /// Adds to the rows of a lane: those who count at the same time have lanes of their own, and never wait for each other.
    /// Sort them: neighbours are then on one page, and nobody locks in another order.
    pub fn add_clicks<'k>(
        &self,
        rows: impl Iterator<Item = (&'k ClickKey, Counts)>,
        lane: i32,
    ) -> Result<(), StoreError> {
        match self.connection {
            Connection::Sqlite(_) => self.connection.insert(
                &ROLLUPS,
                rows.map(|(key, counts)| values(key, counts, lane)),
                "ON CONFLICT DO UPDATE SET clicks = clicks + excluded.clicks, billable = billable + excluded.billable,
                     rejected = rejected + excluded.rejected",
            ),
            Connection::Postgres(_) => {
                let rows: Vec<(&ClickKey, Counts)> = rows.collect();
                rows.chunks(CHUNK).try_for_each(|rows| self.add_chunk(rows, lane))
            }
        }
    }

    /// In one statement. Two labels may become one on the way (see `postgres`), so rows are added up first.
    fn add_chunk(&self, rows: &[(&ClickKey, Counts)], lane: i32) -> Result<(), StoreError> {
        let integers = |column: fn(&ClickKey, Counts) -> i64| -> Vec<i64> {
            rows.iter().map(|(key, counts)| column(key, *counts)).collect()
        };
        let texts = |column: fn(&ClickKey) -> &str| -> Vec<&str> { rows.iter().map(|(key, _)| column(key)).collect() };
        self.execute(
            "INSERT INTO click_rollups
                 (quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1, lane, clicks, billable, rejected)
             SELECT q, p, m, o, l, s, s1, ?11::bigint, sum(c)::bigint, sum(b)::bigint, sum(r)::bigint
             FROM unnest(?1::bigint[], ?2::bigint[], ?3::bigint[], ?4::bigint[], ?5::text[], ?6::text[], ?7::text[],
                 ?8::bigint[], ?9::bigint[], ?10::bigint[]) AS counted (q, p, m, o, l, s, s1, c, b, r)
             GROUP BY q, p, m, o, l, s, s1
             ORDER BY q, p, m, o, l COLLATE \"C\", s COLLATE \"C\", s1 COLLATE \"C\"
             ON CONFLICT (quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1, lane)
             DO UPDATE SET clicks = click_rollups.clicks + excluded.clicks,
                 billable = click_rollups.billable + excluded.billable,
                 rejected = click_rollups.rejected + excluded.rejected",
            params![
                integers(|key, _| key.quarter.0)[..],
                integers(|key, _| i64::from(key.publisher_id.0))[..],
                integers(|key, _| i64::from(key.merchant_id.0))[..],
                integers(|key, _| i64::from(key.offer_id.0))[..],
                texts(|key| &key.link)[..],
                texts(|key| &key.source)[..],
                texts(|key| &key.sub1)[..],
                integers(|_, counts| counts.clicks)[..],
                integers(|_, counts| counts.billable)[..],
                integers(|_, counts| counts.rejected)[..],
                lane
            ],
        )?;
        Ok(())
    }
}

fn values<'k>(key: &'k ClickKey, counts: Counts, lane: i32) -> [Value<'k>; 11] {
    [
        Value::Int(key.quarter.0),
        Value::Int(i64::from(key.publisher_id.0)),
        Value::Int(i64::from(key.merchant_id.0)),
        Value::Int(i64::from(key.offer_id.0)),
        key.link.value(),
        key.source.value(),
        key.sub1.value(),
        Value::Int(i64::from(lane)),
        Value::Int(counts.clicks),
        Value::Int(counts.billable),
        Value::Int(counts.rejected),
    ]
}

impl View<'_> {
    /// Source and sub1 of all rows of a publisher's hour.
    pub fn labels(&self, scope: Scope) -> Result<Vec<SourceAndSub>, StoreError> {
        let sql = "SELECT DISTINCT source, sub1 FROM click_rollups
             WHERE quarter_ms IN (CAST(?1 AS BIGINT), CAST(?1 AS BIGINT) + 900000, CAST(?1 AS BIGINT) + 1800000,
                 CAST(?1 AS BIGINT) + 2700000) AND publisher_id = ?2";
        self.connection.rows(sql, params![scope.hour.0, scope.publisher_id.0], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Shows all rows whose quarter hour overlaps `from..to`, ordered by time; stops where `show` fails. What was
    /// counted on several lanes comes as several rows: whoever reads adds them up.
    pub fn click_rollups<E: From<StoreError>>(
        &self,
        from: TimeMs,
        to: TimeMs,
        mut show: impl FnMut(RollupRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql =
            "SELECT quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1, clicks, billable, rejected
             FROM click_rollups WHERE quarter_ms >= ?1 AND quarter_ms < ?2 ORDER BY quarter_ms";
        self.connection.query(sql, params![crate::rollup::quarter(from).0, to.0], |row| show(rollup_row(row)?))
    }

    /// Rows with more billable clicks than clicks, or less than none: none, or the store is broken.
    pub fn impossible_rollups(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM (
                 SELECT 1 FROM click_rollups
                 GROUP BY quarter_ms, publisher_id, merchant_id, offer_id, link, source, sub1
                 HAVING sum(clicks) < 0 OR sum(billable) < 0 OR sum(rejected) < 0 OR sum(billable) > sum(clicks)
             ) AS impossible";
        self.connection.one(sql, &[], |row| row.get(0))
    }

    /// Sums of all rollups: clicks, billable, rejected.
    pub fn click_totals(&self) -> Result<Counts, StoreError> {
        let sql = "SELECT CAST(coalesce(sum(clicks), 0) AS BIGINT), CAST(coalesce(sum(billable), 0) AS BIGINT),
                 CAST(coalesce(sum(rejected), 0) AS BIGINT) FROM click_rollups";
        self.connection
            .one(sql, &[], |row| Ok(Counts { clicks: row.get(0)?, billable: row.get(1)?, rejected: row.get(2)? }))
    }
}

fn rollup_row<'r>(row: &'r Row<'_>) -> Result<RollupRow<'r>, StoreError> {
    Ok(RollupRow {
        quarter: TimeMs(row.get(0)?),
        publisher_id: PublisherId(row.get(1)?),
        merchant_id: MerchantId(row.get(2)?),
        offer_id: OfferId(row.get(3)?),
        link: row.text(4)?,
        source: row.text(5)?,
        sub1: row.text(6)?,
        counts: Counts { clicks: row.get(7)?, billable: row.get(8)?, rejected: row.get(9)? },
    })
}

const _: () = assert!(HOUR_MS == 4 * crate::rollup::QUARTER_MS);
