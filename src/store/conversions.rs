//! Facts of an order: the report that won, the clicks that may have brought it, the merchant's status.

use super::value::{Row, params};
use super::{Batch, Connection, StoreError, View, bits, read_json, unbits, write_json};
use crate::attribution::{Clicks, Extent, OwnClick, Settings, Touch};
use crate::catalog::MerchantId;
use crate::click::{CLICK_ID_BYTES, ClickId, VisitorKey};
use crate::event::{Conversion, MerchantStatus};
use crate::spool::SpoolId;
use crate::time::TimeMs;

/// The store's own number of a conversion; never shown outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId(pub i64);

/// What the merchant said of an order, and which record said it: the latest received counts (contract M44).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusFact {
    pub status: MerchantStatus,
    /// The latest time of receipt in its spool up to this record. Of two requests at once the later one may be written
    /// first, and a clock may be slewed back: within a spool the order of writing counts, as intake knows no other.
    pub at: TimeMs,
    pub spool: SpoolId,
    pub seq: u64,
}

/// The latest times seen: of a click, and up to which a click may change a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    pub click: TimeMs,
    pub until: TimeMs,
}

/// A conversion that takes a visitor's clicks as facts, up to a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenUntil {
    pub until: TimeMs,
    pub id: RowId,
}

/// A report that won.
#[derive(Debug)]
pub struct NewConversion<'a> {
    pub report: &'a Conversion,
    pub spool: SpoolId,
    pub seq: u64,
    pub own_click: OwnClick,
    pub clicks: &'a Clicks,
    pub status: Option<StatusFact>,
    pub catalog: &'a str,
    pub settings: Settings,
}

/// A conversion as it is kept.
#[derive(Clone, Debug)]
pub struct ConversionRow {
    pub id: RowId,
    pub report: Conversion,
    pub spool: SpoolId,
    pub seq: u64,
    pub own_click: OwnClick,
    pub clicks: Clicks,
    pub status: Option<StatusFact>,
    /// Hash of the rulebook of the first decision: its terms hold for all later ones.
    pub catalog: String,
    pub settings: Settings,
    pub revision: u32,
    /// Time of the latest fact.
    pub booked: TimeMs,
}

/// A row, or why it does not read back.
type ReadRow = (RowId, Result<ConversionRow, StoreError>);

impl NewConversion<'_> {
    /// As it reads back under its number.
    pub fn row(&self, id: RowId) -> ConversionRow {
        ConversionRow {
            id,
            report: self.report.clone(),
            spool: self.spool,
            seq: self.seq,
            own_click: self.own_click,
            clicks: self.clicks.clone(),
            status: self.status,
            catalog: self.catalog.to_owned(),
            settings: self.settings,
            revision: 0,
            booked: self.report.received_at_ms,
        }
    }
}

impl StatusFact {
    /// Whether this one was received later than `other`: a total order, so that the order of arrival does not matter.
    /// Within a spool it is that of the numbers, as `at` never goes back there.
    pub fn is_later_than(&self, other: &StatusFact) -> bool {
        (self.at, self.spool.0, self.seq) > (other.at, other.spool.0, other.seq)
    }
}

macro_rules! columns {
    () => {
        "id, report, spool, seq, own_click, touches, status, status_received_ms, status_spool, status_seq, catalog, \
         settings, revision, booked_ms, extent"
    };
}

impl Batch<'_> {
    pub fn add_conversion(&self, new: &NewConversion<'_>) -> Result<RowId, StoreError> {
        let report = new.report;
        let id = self.connection.one(
            "INSERT INTO conversions (conversion_id, merchant_id, order_id, type, occurred_at_ms, content_hash, report,
                 spool, seq, own_click, touches, extent, catalog, settings, revision, booked_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 0, ?15)
             RETURNING id",
            params![
                report.conversion_id,
                report.merchant_id.0,
                report.order_id,
                report.kind,
                report.occurred_at_ms.0,
                report.content_hash,
                write_json("report", report)?,
                bits(new.spool.0),
                new.seq,
                write_json("own click", &new.own_click)?,
                touches_blob(&new.clicks.touches),
                extent_code(new.clicks.extent),
                new.catalog,
                write_json("settings", &new.settings)?,
                report.received_at_ms.0,
            ],
            |row| row.get(0).map(RowId),
        )?;
        if let Some(status) = &new.status {
            self.record_status(id, status)?;
        }
        Ok(id)
    }

    /// Puts a copy of the same report in its place that was received earlier.
    pub fn replace_report(&self, id: RowId, report: &Conversion, spool: SpoolId, seq: u64) -> Result<(), StoreError> {
        self.execute(
            "UPDATE conversions SET report = ?2, occurred_at_ms = ?3, spool = ?4, seq = ?5 WHERE id = ?1",
            params![id.0, write_json("report", report)?, report.occurred_at_ms.0, bits(spool.0), seq],
        )?;
        Ok(())
    }

    pub fn record_status(&self, id: RowId, status: &StatusFact) -> Result<(), StoreError> {
        self.execute(
            "UPDATE conversions SET status = ?2, status_received_ms = ?3, status_spool = ?4, status_seq = ?5 WHERE id = ?1",
            params![
                id.0,
                write_json("status", &status.status)?,
                status.at.0,
                bits(status.spool.0),
                status.seq
            ],
        )?;
        Ok(())
    }

    /// Once the key of its click ID is listed.
    pub fn record_own_click(&self, id: RowId, own_click: OwnClick) -> Result<(), StoreError> {
        let own_click = write_json("own click", &own_click)?;
        self.execute("UPDATE conversions SET own_click = ?2 WHERE id = ?1", params![id.0, own_click])?;
        Ok(())
    }

    /// Those that nobody else is at, in the order of their numbers. They are this transaction's. One that does not read
    /// back says so by itself.
    pub fn lock_free_conversions(&self, ids: &[RowId]) -> Result<Vec<ReadRow>, StoreError> {
        let mut ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let read = |row: &Row<'_>| Ok((RowId(row.get(0)?), conversion_row(row)));
        match self.connection {
            Connection::Postgres(_) => {
                let sql = concat!(
                    "SELECT ",
                    columns!(),
                    " FROM conversions WHERE id = ANY(?1::bigint[]) ORDER BY id FOR UPDATE SKIP LOCKED"
                );
                self.connection.rows(sql, params![ids[..]], read)
            }
            Connection::Sqlite(_) => {
                let sql = concat!("SELECT ", columns!(), " FROM conversions WHERE id = ?1");
                let found = ids.into_iter().map(|id| self.connection.first(sql, params![id], read).transpose());
                found.flatten().collect()
            }
        }
    }

    pub fn record_clicks(&self, id: RowId, clicks: &Clicks) -> Result<(), StoreError> {
        self.execute(
            "UPDATE conversions SET touches = ?2, extent = ?3 WHERE id = ?1",
            params![id.0, touches_blob(&clicks.touches), extent_code(clicks.extent)],
        )?;
        Ok(())
    }

    /// From now on a click of this visitor made from `since` to `until` finds the conversion.
    pub fn watch_visitor(
        &self,
        visitor: VisitorKey,
        since: TimeMs,
        until: TimeMs,
        id: RowId,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO visitors (visitor, since_ms, until_ms, conversion) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (visitor, until_ms, conversion) DO UPDATE SET since_ms =
                 CASE WHEN excluded.since_ms < visitors.since_ms THEN excluded.since_ms ELSE visitors.since_ms END",
            params![bits(visitor.0), since.0, until.0, id.0],
        )?;
        Ok(())
    }

    /// On PostgreSQL only when it is a minute further: all who write would wait for each other at this one row.
    pub fn record_horizon(&self, horizon: Horizon) -> Result<(), StoreError> {
        let params = params![horizon.click.0, horizon.until.0];
        match self.connection {
            Connection::Sqlite(_) => self.execute("UPDATE horizon SET click_ms = ?1, until_ms = ?2", params)?,
            Connection::Postgres(_) => self.execute(
                "UPDATE horizon SET click_ms = greatest(click_ms, ?1), until_ms = greatest(until_ms, ?2)
                 WHERE click_ms + 60000 < ?1 OR until_ms + 60000 < ?2",
                params,
            )?,
        };
        Ok(())
    }

    /// `View::conversions_open_to` for many visitors at once, each once, with the times of its first
    /// and last click. Those of a visitor stand together; which ones are left out at the limit is not said.
    pub fn conversions_open_to_many(
        &self,
        visitors: &[(VisitorKey, TimeMs, TimeMs)],
        limit: usize,
    ) -> Result<Vec<(VisitorKey, OpenUntil)>, StoreError> {
        match self.connection {
            Connection::Sqlite(_) => self.open_to_each(visitors, limit),
            Connection::Postgres(_) => self.open_to_all(visitors, limit),
        }
    }

    fn open_to_each(
        &self,
        visitors: &[(VisitorKey, TimeMs, TimeMs)],
        limit: usize,
    ) -> Result<Vec<(VisitorKey, OpenUntil)>, StoreError> {
        let mut found = Vec::new();
        for (visitor, first, last) in visitors {
            let open = self.view().conversions_open_to(*visitor, (*first, *last), None, limit - found.len())?;
            found.extend(open.into_iter().map(|open| (*visitor, open)));
        }
        Ok(found)
    }

    fn open_to_all(
        &self,
        visitors: &[(VisitorKey, TimeMs, TimeMs)],
        limit: usize,
    ) -> Result<Vec<(VisitorKey, OpenUntil)>, StoreError> {
        let sql = "SELECT visitors.visitor, until_ms, conversion
             FROM unnest(?1::bigint[], ?2::bigint[], ?3::bigint[]) AS asked (visitor, first, last)
             JOIN visitors ON visitors.visitor = asked.visitor AND until_ms >= first AND since_ms <= last
             ORDER BY visitors.visitor, until_ms, conversion LIMIT ?4";
        let keys: Vec<i64> = visitors.iter().map(|(visitor, ..)| bits(visitor.0)).collect();
        let first: Vec<i64> = visitors.iter().map(|(_, first, _)| first.0).collect();
        let last: Vec<i64> = visitors.iter().map(|(.., last)| last.0).collect();
        self.connection.rows(sql, params![keys[..], first[..], last[..], limit], |row| {
            let open = OpenUntil { until: TimeMs(row.get(1)?), id: RowId(row.get(2)?) };
            Ok((VisitorKey(unbits(row.get(0)?)), open))
        })
    }
}

impl View<'_> {
    pub fn conversion(&self, conversion_id: &str) -> Result<Option<ConversionRow>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM conversions WHERE conversion_id = ?1");
        self.connection.first(sql, params![conversion_id], conversion_row)
    }

    pub fn conversion_row(&self, id: RowId) -> Result<Option<ConversionRow>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM conversions WHERE id = ?1");
        self.connection.first(sql, params![id.0], conversion_row)
    }

    /// All types of an order; of one merchant, or of all. At most `limit`.
    pub fn conversions_of_order(
        &self,
        order_id: &str,
        merchant_id: Option<MerchantId>,
        limit: usize,
    ) -> Result<Vec<ConversionRow>, StoreError> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM conversions WHERE order_id = ?1 AND (CAST(?2 AS BIGINT) IS NULL OR merchant_id = ?2)
             ORDER BY merchant_id, type LIMIT ?3"
        );
        self.connection.rows(sql, params![order_id, merchant_id.map(|id| id.0), limit], conversion_row)
    }

    /// The next conversions after `after` in the order they were stored: to walk through all in bounded steps.
    pub fn conversions_after(&self, after: RowId, limit: usize) -> Result<Vec<ConversionRow>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM conversions WHERE id > ?1 ORDER BY id LIMIT ?2");
        self.connection.rows(sql, params![after.0, limit], conversion_row)
    }

    /// The next conversions of the visitor that a click from `first` to `last` is a fact of, by the time up to which they
    /// take clicks; at most `limit`, behind `after`: to walk through all in bounded steps. One may come twice.
    pub fn conversions_open_to(
        &self,
        visitor: VisitorKey,
        (first, last): (TimeMs, TimeMs),
        after: Option<OpenUntil>,
        limit: usize,
    ) -> Result<Vec<OpenUntil>, StoreError> {
        let sql = "SELECT until_ms, conversion FROM visitors
             WHERE visitor = ?1 AND (until_ms, conversion) > (?2, ?3) AND since_ms <= ?4
             ORDER BY until_ms, conversion LIMIT ?5";
        let after = after.unwrap_or(OpenUntil { until: first, id: RowId(i64::MIN) });
        let read = |row: &Row<'_>| Ok(OpenUntil { until: TimeMs(row.get(0)?), id: RowId(row.get(1)?) });
        self.connection.rows(sql, params![bits(visitor.0), after.until.0, after.id.0, last.0, limit], read)
    }

    /// On PostgreSQL `until` may be up to a minute too late, and `click` too early: never the other way.
    pub fn horizon(&self) -> Result<Horizon, StoreError> {
        let behind = match self.connection {
            Connection::Sqlite(_) => 0,
            Connection::Postgres(_) => 60_000,
        };
        let read = |row: &Row<'_>| {
            let until: i64 = row.get(1)?;
            Ok(Horizon { click: TimeMs(row.get(0)?), until: TimeMs(until.saturating_add(behind)) })
        };
        self.connection.one("SELECT click_ms, until_ms FROM horizon", &[], read)
    }

    pub fn conversion_count(&self) -> Result<u64, StoreError> {
        self.connection.one("SELECT count(*) FROM conversions", &[], |row| row.get(0))
    }
}

fn conversion_row(row: &Row<'_>) -> Result<ConversionRow, StoreError> {
    let status = match row.get::<Option<String>>(6)? {
        None => None,
        Some(status) => Some(StatusFact {
            status: read_json("status", &status)?,
            at: TimeMs(row.get(7)?),
            spool: SpoolId(unbits(row.get(8)?)),
            seq: row.get(9)?,
        }),
    };
    Ok(ConversionRow {
        id: RowId(row.get(0)?),
        report: read_json("report", row.text(1)?)?,
        spool: SpoolId(unbits(row.get(2)?)),
        seq: row.get(3)?,
        own_click: read_json("own click", row.text(4)?)?,
        clicks: Clicks { touches: touches_of(row.bytes(5)?)?, extent: extent_of_code(row.get(14)?)? },
        status,
        catalog: row.get(10)?,
        settings: read_json("settings", row.text(11)?)?,
        revision: row.get(12)?,
        booked: TimeMs(row.get(13)?),
    })
}

fn extent_code(extent: Extent) -> i64 {
    match extent {
        Extent::Whole => 0,
        Extent::Reduced => 1,
        Extent::Cut => 2,
    }
}

fn extent_of_code(code: i64) -> Result<Extent, StoreError> {
    match code {
        0 => Ok(Extent::Whole),
        1 => Ok(Extent::Reduced),
        2 => Ok(Extent::Cut),
        other => Err(StoreError::Unreadable { what: "extent", why: other.to_string() }),
    }
}

fn touches_blob(touches: &[Touch]) -> Vec<u8> {
    touches.iter().flat_map(|touch| touch.0.as_bytes()).copied().collect()
}

fn touches_of(blob: &[u8]) -> Result<Vec<Touch>, StoreError> {
    let unreadable = || StoreError::Unreadable { what: "touch", why: format!("{} bytes", blob.len()) };
    if !blob.len().is_multiple_of(CLICK_ID_BYTES) {
        return Err(unreadable());
    }
    let touch = |bytes: &[u8]| bytes.try_into().ok().and_then(ClickId::from_bytes).map(Touch).ok_or_else(unreadable);
    blob.chunks_exact(CLICK_ID_BYTES).map(touch).collect()
}
