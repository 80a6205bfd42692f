//! Tables of touches, in SQLite alone: one per period, so that a new row goes to a small index and old rows leave by dropping a table.

use super::value::{Bind, params};
use super::{Batch, StoreError, View, bits, unbits};
use crate::click::{ClickId, VisitorKey};
use crate::time::TimeMs;
use crate::touch::{Labels, Touched};

/// One table of touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    pub number: i64,
    /// Day of the click that opened it, days since 1970.
    pub day: i64,
    /// Times of the earliest and the latest click in it.
    pub first: TimeMs,
    pub last: TimeMs,
    pub touches: u64,
    /// None while it is open.
    pub filter: Option<Vec<u8>>,
}

/// Click IDs of a visitor in one period; `more` when the limit left some out.
#[derive(Debug, Default)]
pub struct FoundTouches {
    pub click_ids: Vec<ClickId>,
    pub more: bool,
}

impl Batch<'_> {
    /// Makes the table of a new period.
    pub fn open_period(&self, period: &Period) -> Result<(), StoreError> {
        let number = period.number;
        // The click ID holds the visitor's key too; once more as an integer it makes a narrow index.
        self.connection.file()?.execute_batch(&format!(
            "CREATE TABLE touches_{number}
                 (visitor INTEGER NOT NULL, click BLOB NOT NULL, link TEXT, source TEXT, sub1 TEXT);
             CREATE INDEX touches_{number}_by_visitor ON touches_{number} (visitor)"
        ))?;
        self.update_period(period)
    }

    pub fn update_period(&self, period: &Period) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO touch_periods (period, day, first_ms, last_ms, touches, filter) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (period) DO UPDATE SET first_ms = ?3, last_ms = ?4, touches = ?5, filter = ?6",
            params![period.number, period.day, period.first.0, period.last.0, period.touches, period.filter],
        )?;
        Ok(())
    }

    pub fn drop_period(&self, number: i64) -> Result<(), StoreError> {
        self.connection.file()?.execute_batch(&format!("DROP TABLE IF EXISTS touches_{number}"))?;
        self.execute("DELETE FROM touch_periods WHERE period = ?1", params![number])?;
        Ok(())
    }

    pub fn add_touches<'t>(&self, period: i64, touches: impl Iterator<Item = Touched<'t>>) -> Result<(), StoreError> {
        let sql =
            format!("INSERT INTO touches_{period} (visitor, click, link, source, sub1) VALUES (?1, ?2, ?3, ?4, ?5)");
        let file = self.connection.file()?;
        let mut statement = file.prepare_cached(&sql)?;
        for touch in touches {
            let click_id = touch.click_id;
            let visitor = bits(click_id.visitor_key().0);
            let row = [
                visitor.value(),
                click_id.as_bytes().value(),
                touch.link.value(),
                touch.source.value(),
                touch.sub1.value(),
            ];
            statement.execute(rusqlite::params_from_iter(row))?;
        }
        Ok(())
    }
}

impl View<'_> {
    /// The oldest first.
    pub fn periods(&self) -> Result<Vec<Period>, StoreError> {
        let sql = "SELECT period, day, first_ms, last_ms, touches, filter FROM touch_periods ORDER BY period";
        self.connection.file()?;
        self.connection.rows(sql, &[], |row| {
            Ok(Period {
                number: row.get(0)?,
                day: row.get(1)?,
                first: TimeMs(row.get(2)?),
                last: TimeMs(row.get(3)?),
                touches: row.get(4)?,
                filter: row.get(5)?,
            })
        })
    }

    /// The visitor's clicks, those stored last first, at most `limit`.
    pub fn touches(&self, period: i64, visitor: VisitorKey, limit: usize) -> Result<FoundTouches, StoreError> {
        let sql = format!("SELECT click FROM touches_{period} WHERE visitor = ?1 ORDER BY rowid DESC LIMIT ?2");
        let mut statement = self.connection.file()?.prepare_cached(&sql)?;
        let mut rows = statement.query(rusqlite::params![bits(visitor.0), limit.saturating_add(1)])?;
        let mut found = FoundTouches::default();
        while let Some(row) = rows.next()? {
            if found.click_ids.len() == limit {
                found.more = true;
                break;
            }
            let bytes = row.get_ref(0)?.as_blob().ok().and_then(|bytes| bytes.try_into().ok());
            let unreadable = || StoreError::Unreadable { what: "touch", why: "not a click ID".into() };
            found.click_ids.push(bytes.and_then(ClickId::from_bytes).ok_or_else(unreadable)?);
        }
        Ok(found)
    }

    /// What reports show of one touch.
    pub fn touch_labels(&self, period: i64, click_id: ClickId) -> Result<Option<Labels>, StoreError> {
        let sql = format!("SELECT link, source, sub1 FROM touches_{period} WHERE visitor = ?1 AND click = ?2 LIMIT 1");
        self.connection.file()?;
        self.connection.first(&sql, params![bits(click_id.visitor_key().0), click_id.as_bytes()], |row| {
            Ok(Labels { link: row.get(0)?, source: row.get(1)?, sub1: row.get(2)? })
        })
    }

    /// Shows the visitor keys of all touches of a period.
    pub fn visitors(&self, period: i64, mut show: impl FnMut(VisitorKey)) -> Result<(), StoreError> {
        let mut statement = self.connection.file()?.prepare_cached(&format!("SELECT visitor FROM touches_{period}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            show(VisitorKey(unbits(row.get(0)?)));
        }
        Ok(())
    }
}
