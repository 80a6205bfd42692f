//! The ledger's entries: appended, never edited (triggers hold that), unique by their ID.

use super::connection::{ManyKeys, Table};
use super::value::{Bind, Row, Value, params};
use super::{Batch, RowId, StoreError, View, numbers};
use crate::catalog::MerchantId;
use crate::ledger::Entry;
use crate::money::{Currency, MinorUnits};
use crate::time::TimeMs;

/// What one account holds of one conversion: a line of the books without their history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookLine {
    pub merchant_id: MerchantId,
    pub order_id: String,
    pub kind: String,
    pub conversion_id: String,
    pub account: String,
    pub currency: String,
    pub amount: MinorUnits,
}

const ENTRIES: Table<8> = Table {
    name: "entries",
    columns: [
        ("entry_id", "text"),
        ("conversion", "bigint"),
        ("revision", "bigint"),
        ("line", "bigint"),
        ("account", "text"),
        ("currency", "text"),
        ("amount", "bigint"),
        ("at_ms", "bigint"),
    ],
};

macro_rules! entries_of {
    ($which:literal) => {
        concat!(
            "SELECT conversion_id, entries.revision, line, account, amount, currency, at_ms, conversion
             FROM entries JOIN conversions ON conversions.id = conversion WHERE conversion ",
            $which,
            " ORDER BY conversion, entries.revision, line"
        )
    };
}

impl Batch<'_> {
    pub fn add_entries(&self, entries: &[(RowId, &Entry)]) -> Result<(), StoreError> {
        let texts: Vec<(String, String)> =
            entries.iter().map(|(_, entry)| (entry.id().0, entry.account.to_string())).collect();
        let rows = entries.iter().zip(&texts).map(|((id, entry), (entry_id, account))| {
            [
                entry_id.value(),
                Value::Int(id.0),
                entry.revision.value(),
                entry.line.value(),
                account.value(),
                Value::Text(entry.currency.as_str()),
                entry.amount.value(),
                entry.at_ms.0.value(),
            ]
        });
        self.connection.insert(&ENTRIES, rows, "")
    }
}

impl View<'_> {
    /// All entries of a conversion in the order in which they were posted.
    pub fn entries(&self, id: RowId) -> Result<Vec<Entry>, StoreError> {
        self.connection.rows(entries_of!("= ?1"), params![id.0], entry)
    }

    /// Those of many conversions; of each in the order in which they were posted.
    pub fn entries_of(&self, ids: &[RowId]) -> Result<Vec<(RowId, Entry)>, StoreError> {
        let (one, all) = (entries_of!("= ?1"), entries_of!("= ANY(?1::bigint[])"));
        let read = |row: &Row<'_>| Ok((RowId(row.get(7)?), entry(row)?));
        self.connection.rows_of(one, all, ManyKeys::Ints(&numbers(ids)), read)
    }

    /// Shows what each account holds of each conversion by the facts received up to `until`, accounts at 0 left out;
    /// sorted by order, merchant, type, account, currency. A function of the facts, however they came in.
    pub fn books<E: From<StoreError>>(
        &self,
        until: TimeMs,
        mut show: impl FnMut(BookLine) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "SELECT merchant_id, order_id, type, min(conversion_id), account, entries.currency,
                 CAST(sum(entries.amount) AS BIGINT)
             FROM conversions JOIN entries ON entries.conversion = conversions.id AND at_ms <= ?1
             GROUP BY order_id, merchant_id, type, account, entries.currency HAVING sum(entries.amount) <> 0
             ORDER BY order_id, merchant_id, type, account, entries.currency";
        self.connection.query(sql, params![until.0], |row| show(book_line(row)?))
    }

    /// Entries that belong to no conversion, or stand under another ID than their own: none, or the store is broken.
    pub fn stray_entries(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT entry_id FROM entries LEFT JOIN conversions ON conversions.id = conversion
             WHERE conversions.id IS NULL OR entry_id <> conversion_id || '.' || entries.revision || '.' || line
             ORDER BY entry_id LIMIT 100";
        self.connection.rows(sql, &[], |row| row.get(0))
    }

    /// The sum of all entries by currency, where it is not 0.
    pub fn imbalance(&self) -> Result<Vec<(String, MinorUnits)>, StoreError> {
        let sql = "SELECT currency, CAST(sum(amount) AS BIGINT) FROM entries GROUP BY currency HAVING sum(amount) <> 0";
        self.connection.rows(sql, &[], |row| Ok((row.get(0)?, row.get(1)?)))
    }
}

fn book_line(row: &Row<'_>) -> Result<BookLine, StoreError> {
    Ok(BookLine {
        merchant_id: MerchantId(row.get(0)?),
        order_id: row.get(1)?,
        kind: row.get(2)?,
        conversion_id: row.get(3)?,
        account: row.get(4)?,
        currency: row.get(5)?,
        amount: row.get(6)?,
    })
}

fn entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    let unreadable = |what, text: &str| StoreError::Unreadable { what, why: text.to_owned() };
    let (account, currency) = (row.text(3)?, row.text(5)?);
    Ok(Entry {
        conversion_id: row.get(0)?,
        revision: row.get(1)?,
        line: row.get(2)?,
        account: account.parse().map_err(|_| unreadable("account", account))?,
        amount: row.get(4)?,
        currency: Currency::parse(currency).map_err(|_| unreadable("currency", currency))?,
        at_ms: TimeMs(row.get(6)?),
    })
}
