//! Whose late clicks may still change which conversions.

use super::connection::Table;
use super::value::{Row, Value, params};
use super::{Batch, Connection, RowId, StoreError, View, bits, unbits};
use crate::click::VisitorKey;
use crate::time::TimeMs;

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

/// A click of this visitor made from `since` to `until` finds the conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedVisitor {
    pub visitor: VisitorKey,
    pub since: TimeMs,
    pub until: TimeMs,
    pub id: RowId,
}

const VISITORS: Table<4> = Table {
    name: "visitors",
    columns: [("visitor", "bigint"), ("since_ms", "bigint"), ("until_ms", "bigint"), ("conversion", "bigint")],
};

impl Batch<'_> {
    /// From now on clicks of these visitors find the conversions. Each visitor once for a conversion.
    pub fn watch_visitors(&self, watched: &[WatchedVisitor]) -> Result<(), StoreError> {
        let clash = "ON CONFLICT (visitor, until_ms, conversion) DO UPDATE SET since_ms =
             CASE WHEN excluded.since_ms < visitors.since_ms THEN excluded.since_ms ELSE visitors.since_ms END";
        let row = |one: &WatchedVisitor| [bits(one.visitor.0), one.since.0, one.until.0, one.id.0].map(Value::Int);
        self.connection.insert(&VISITORS, watched.iter().map(row), clash)
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
}
