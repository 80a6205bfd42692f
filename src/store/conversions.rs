//! Facts of an order: the report that won, the clicks that may have brought it, the merchant's status.

use std::collections::HashMap;

use super::connection::{ManyKeys, Table};
use super::value::{Bind, Row, Value, params};
use super::{Batch, Connection, StoreError, View, bits, read_json, unbits, write_json};
use crate::attribution::{Clicks, Extent, OwnClick, Settings, Touch};
use crate::catalog::MerchantId;
use crate::click::{CLICK_ID_BYTES, ClickId};
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

/// What a decision changes of its conversion.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'d> {
    pub id: RowId,
    pub clicks: &'d Clicks,
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

const CONVERSIONS: Table<20> = Table {
    name: "conversions",
    columns: [
        ("conversion_id", "text"),
        ("merchant_id", "bigint"),
        ("order_id", "text"),
        ("type", "text"),
        ("occurred_at_ms", "bigint"),
        ("content_hash", "text"),
        ("report", "text"),
        ("spool", "bigint"),
        ("seq", "bigint"),
        ("own_click", "text"),
        ("touches", "bytea"),
        ("extent", "bigint"),
        ("catalog", "text"),
        ("settings", "text"),
        ("revision", "bigint"),
        ("booked_ms", "bigint"),
        ("status", "text"),
        ("status_received_ms", "bigint"),
        ("status_spool", "bigint"),
        ("status_seq", "bigint"),
    ],
};

impl Batch<'_> {
    pub fn add_conversion(&self, new: &NewConversion<'_>) -> Result<RowId, StoreError> {
        let texts = Texts::of(new)?;
        let sql = CONVERSIONS.insert_one("RETURNING id");
        self.connection.one(&sql, &values(new, &texts), |row| row.get(0).map(RowId))
    }

    /// Many at once. Returns the number of each, as they stand in `new`.
    pub fn add_conversions(&self, new: &[NewConversion<'_>]) -> Result<Vec<RowId>, StoreError> {
        let texts = new.iter().map(Texts::of).collect::<Result<Vec<Texts>, StoreError>>()?;
        let rows = new.iter().zip(&texts).map(|(new, texts)| values(new, texts));
        self.connection.insert(&CONVERSIONS, rows, "")?;
        let ids: Vec<&str> = new.iter().map(|new| new.report.conversion_id.as_str()).collect();
        let numbers = self.view().numbers_of(&ids)?;
        let missing = || StoreError::Unreadable { what: "conversion", why: "it is not there".into() };
        ids.iter().map(|id| numbers.get(*id).copied().ok_or_else(missing)).collect()
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

    /// What was decided by, of many at once. The rows are this transaction's.
    pub fn record_decided(&self, decided: &[Decided<'_>]) -> Result<(), StoreError> {
        let touches: Vec<Vec<u8>> = decided.iter().map(|one| touches_blob(&one.clicks.touches)).collect();
        self.connection.execute_many(
            "UPDATE conversions SET touches = ?2, extent = ?3, revision = ?4, booked_ms = ?5 WHERE id = ?1",
            "UPDATE conversions SET touches = new.touches, extent = new.extent, revision = new.revision,
                 booked_ms = new.booked_ms
             FROM unnest(?1::bigint[], ?2::bytea[], ?3::bigint[], ?4::bigint[], ?5::bigint[])
                 AS new (id, touches, extent, revision, booked_ms)
             WHERE conversions.id = new.id",
            decided.iter().zip(&touches).map(decided_values),
        )
    }

    pub fn record_clicks(&self, id: RowId, clicks: &Clicks) -> Result<(), StoreError> {
        self.execute(
            "UPDATE conversions SET touches = ?2, extent = ?3 WHERE id = ?1",
            params![id.0, touches_blob(&clicks.touches), extent_code(clicks.extent)],
        )?;
        Ok(())
    }
}

fn decided_values<'t>((one, touches): (&Decided<'_>, &'t Vec<u8>)) -> [Value<'t>; 5] {
    let extent = extent_code(one.clicks.extent);
    let [id, extent, revision, booked] = [one.id.0, extent, i64::from(one.revision), one.booked.0].map(Value::Int);
    [id, touches.value(), extent, revision, booked]
}

/// What a row holds as text or bytes.
struct Texts {
    report: String,
    own_click: String,
    touches: Vec<u8>,
    settings: String,
    status: Option<String>,
}

impl Texts {
    fn of(new: &NewConversion<'_>) -> Result<Texts, StoreError> {
        Ok(Texts {
            report: write_json("report", new.report)?,
            own_click: write_json("own click", &new.own_click)?,
            touches: touches_blob(&new.clicks.touches),
            settings: write_json("settings", &new.settings)?,
            status: new.status.map(|status| write_json("status", &status.status)).transpose()?,
        })
    }
}

fn values<'n>(new: &'n NewConversion<'_>, texts: &'n Texts) -> [Value<'n>; 20] {
    let (report, status) = (new.report, new.status.as_ref());
    let told = |of: fn(&StatusFact) -> Value<'static>| status.map_or(Value::Null, of);
    [
        report.conversion_id.value(),
        report.merchant_id.0.value(),
        report.order_id.value(),
        report.kind.value(),
        report.occurred_at_ms.0.value(),
        report.content_hash.value(),
        texts.report.value(),
        Value::Int(bits(new.spool.0)),
        new.seq.value(),
        texts.own_click.value(),
        texts.touches.value(),
        Value::Int(extent_code(new.clicks.extent)),
        Value::Text(new.catalog),
        texts.settings.value(),
        Value::Int(0),
        report.received_at_ms.0.value(),
        texts.status.value(),
        told(|status| Value::Int(status.at.0)),
        told(|status| Value::Int(bits(status.spool.0))),
        told(|status| i64::try_from(status.seq).map_or(Value::TooLarge(status.seq), Value::Int)),
    ]
}

impl View<'_> {
    /// The numbers of these conversions; those that are not known are left out.
    pub fn numbers_of(&self, conversion_ids: &[&str]) -> Result<HashMap<String, RowId>, StoreError> {
        // Text with a NUL is none to PostgreSQL, so no row has it.
        let ids: Vec<&str> = conversion_ids.iter().copied().filter(|id| !id.contains('\0')).collect();
        let one = "SELECT conversion_id, id FROM conversions WHERE conversion_id = ?1";
        let all = "SELECT conversion_id, id FROM conversions WHERE conversion_id = ANY(?1::text[])";
        let read = |row: &Row<'_>| Ok((row.get(0)?, RowId(row.get(1)?)));
        Ok(self.connection.rows_of(one, all, ManyKeys::Texts(&ids), read)?.into_iter().collect())
    }

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
