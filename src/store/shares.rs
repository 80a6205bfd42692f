//! The latest decision of each conversion once more, as reports group it.

use super::connection::{ManyKeys, Table};
use super::value::{Bind, Row, Value, params};
use super::{Batch, RowId, StoreError, View, numbers, unbits};
use crate::catalog::{MerchantId, OfferId, PublisherId};
use crate::money::{Currency, MinorUnits};
use crate::spool::SpoolId;
use crate::time::TimeMs;

/// One publisher's share, or the row without publisher of an unattributed conversion (contract I45).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRow {
    pub conversion: RowId,
    pub occurred: TimeMs,
    pub merchant_id: MerchantId,
    pub offer_id: Option<OfferId>,
    pub publisher_id: Option<PublisherId>,
    /// Of the share's own touch.
    pub link: Option<String>,
    pub source: Option<String>,
    pub sub1: Option<String>,
    pub kind: String,
    pub coupon_code: Option<String>,
    pub currency: Currency,
    /// Of the whole conversion, what is not refunded.
    pub amount: MinorUnits,
    pub commission: MinorUnits,
    pub reversed: MinorUnits,
}

macro_rules! columns {
    () => {
        "conversion, occurred_at_ms, merchant_id, offer_id, publisher_id, link, source, sub1, type, \
         coupon_code, currency, amount, commission, reversed"
    };
}

const SHARES: Table<14> = Table {
    name: "shares",
    columns: [
        ("conversion", "bigint"),
        ("occurred_at_ms", "bigint"),
        ("merchant_id", "bigint"),
        ("offer_id", "bigint"),
        ("publisher_id", "bigint"),
        ("link", "text"),
        ("source", "text"),
        ("sub1", "text"),
        ("type", "text"),
        ("coupon_code", "text"),
        ("currency", "text"),
        ("amount", "bigint"),
        ("commission", "bigint"),
        ("reversed", "bigint"),
    ],
};

macro_rules! shares_of {
    ($which:literal) => {
        concat!("SELECT ", columns!(), " FROM shares WHERE conversion ", $which, " ORDER BY conversion, publisher_id")
    };
}

impl Batch<'_> {
    /// Before those of other decisions take their place.
    pub fn remove_shares(&self, ids: &[RowId]) -> Result<(), StoreError> {
        let (one, all) =
            ("DELETE FROM shares WHERE conversion = ?1", "DELETE FROM shares WHERE conversion = ANY(?1::bigint[])");
        self.connection.execute_many(one, all, ids.iter().map(|id| [Value::Int(id.0)]))
    }

    pub fn add_shares(&self, rows: &[ShareRow]) -> Result<(), StoreError> {
        self.connection.insert(&SHARES, rows.iter().map(values), "")
    }
}

impl View<'_> {
    /// Conversions that somebody earned, by the spool of their report.
    pub fn attributed_by_spool(&self) -> Result<Vec<(SpoolId, u64)>, StoreError> {
        let sql = "SELECT spool, count(*) FROM conversions
             WHERE EXISTS (SELECT 1 FROM shares WHERE conversion = conversions.id AND publisher_id IS NOT NULL)
             GROUP BY spool ORDER BY spool";
        self.connection.rows(sql, &[], |row| Ok((SpoolId(unbits(row.get(0)?)), row.get(1)?)))
    }

    pub fn shares(&self, id: RowId) -> Result<Vec<ShareRow>, StoreError> {
        self.connection.rows(shares_of!("= ?1"), params![id.0], share_row)
    }

    /// Those of many conversions.
    pub fn shares_of(&self, ids: &[RowId]) -> Result<Vec<ShareRow>, StoreError> {
        let (one, all) = (shares_of!("= ?1"), shares_of!("= ANY(?1::bigint[])"));
        self.connection.rows_of(one, all, ManyKeys::Ints(&numbers(ids)), share_row)
    }

    /// Shows the shares of all conversions that occurred in `from..to`, those of one conversion one after the other;
    /// stops where `show` fails.
    pub fn shares_between<E: From<StoreError>>(
        &self,
        from: TimeMs,
        to: TimeMs,
        mut show: impl FnMut(ShareRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM shares WHERE occurred_at_ms >= ?1 AND occurred_at_ms < ?2 ORDER BY occurred_at_ms, conversion"
        );
        self.connection.query(sql, params![from.0, to.0], |row| show(share_row(row)?))
    }
}

fn values(row: &ShareRow) -> [Value<'_>; 14] {
    [
        row.conversion.0.value(),
        row.occurred.0.value(),
        row.merchant_id.0.value(),
        row.offer_id.map_or(Value::Null, |id| Value::Int(i64::from(id.0))),
        row.publisher_id.map_or(Value::Null, |id| Value::Int(i64::from(id.0))),
        row.link.value(),
        row.source.value(),
        row.sub1.value(),
        row.kind.value(),
        row.coupon_code.value(),
        Value::Text(row.currency.as_str()),
        row.amount.value(),
        row.commission.value(),
        row.reversed.value(),
    ]
}

fn share_row(row: &Row<'_>) -> Result<ShareRow, StoreError> {
    let currency = row.text(10)?;
    Ok(ShareRow {
        conversion: RowId(row.get(0)?),
        occurred: TimeMs(row.get(1)?),
        merchant_id: MerchantId(row.get(2)?),
        offer_id: row.get::<Option<u32>>(3)?.map(OfferId),
        publisher_id: row.get::<Option<u32>>(4)?.map(PublisherId),
        link: row.get(5)?,
        source: row.get(6)?,
        sub1: row.get(7)?,
        kind: row.get(8)?,
        coupon_code: row.get(9)?,
        currency: Currency::parse(currency)
            .map_err(|why| StoreError::Unreadable { what: "currency", why: format!("{currency:?}: {why}") })?,
        amount: row.get(11)?,
        commission: row.get(12)?,
        reversed: row.get(13)?,
    })
}
