//! One connection to either back end. All SQL is written once, in what both understand: `?1` for a placeholder,
//! `ON CONFLICT (columns)`, `RETURNING id`, 64-bit integers, text compared byte by byte.

use super::StoreError;
use super::postgres::Session;
use super::sqlite;
use super::value::{Row, Value};

/// Rows of one INSERT: each number of rows is a statement of its own that is kept prepared, so they are few.
const ROWS_AT_ONCE: usize = 16;

pub enum Connection {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Session>),
}

impl Connection {
    /// Returns how many rows it changed.
    pub fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<usize, StoreError> {
        match self {
            Connection::Sqlite(file) => sqlite::execute(file, sql, params),
            Connection::Postgres(session) => session.execute(sql, params),
        }
    }

    /// Many rows into the columns of a table. `table`: its name and, in brackets, its columns; `clash`: what happens where
    /// a row is there already, or nothing. SQLite takes one after the other; over a network some at once are faster.
    pub fn insert<'v, const WIDTH: usize>(
        &self,
        table: &str,
        rows: impl Iterator<Item = [Value<'v>; WIDTH]>,
        clash: &str,
    ) -> Result<(), StoreError> {
        match self {
            Connection::Sqlite(file) => sqlite::execute_each(file, &insert(table, WIDTH, 1, clash), rows),
            Connection::Postgres(session) => {
                let rows: Vec<[Value<'v>; WIDTH]> = rows.collect();
                rows.chunks(ROWS_AT_ONCE).try_for_each(|rows| {
                    session.execute(&insert(table, WIDTH, rows.len(), clash), rows.as_flattened()).map(drop)
                })
            }
        }
    }

    /// Shows the rows one by one as they come; stops where `show` fails. `show` may not ask this connection anything.
    pub fn query<E: From<StoreError>>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        show: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Connection::Sqlite(file) => sqlite::query(file, sql, params, show),
            Connection::Postgres(session) => session.query(sql, params, show),
        }
    }

    /// All rows, for statements that bound how many there are.
    pub fn rows<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = Vec::new();
        self.query(sql, params, |row| {
            rows.push(read(row)?);
            Ok::<(), StoreError>(())
        })?;
        Ok(rows)
    }

    /// The first row, if there is one.
    pub fn first<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self {
            Connection::Sqlite(file) => sqlite::first(file, sql, params, read),
            Connection::Postgres(session) => session.first(sql, params, read),
        }
    }

    /// The only row of a statement that always has one.
    pub fn one<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let none = || StoreError::Unreadable { what: "answer", why: "it has no row".into() };
        self.first(sql, params, read)?.ok_or_else(none)
    }

    /// Statements without parameters, several at once.
    pub fn run(&self, sql: &str) -> Result<(), StoreError> {
        match self {
            Connection::Sqlite(file) => Ok(file.execute_batch(sql)?),
            Connection::Postgres(session) => session.run(sql),
        }
    }

    /// A transaction that writes. On PostgreSQL each statement sees what others committed before it; who must not miss
    /// that takes locks first (`locks`).
    pub fn begin(&self) -> Result<(), StoreError> {
        match self {
            Connection::Sqlite(file) => Ok(file.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)?),
            Connection::Postgres(session) => session.run("BEGIN ISOLATION LEVEL READ COMMITTED"),
        }
    }

    /// A transaction that reads, all of it as of one moment.
    pub fn begin_reading(&self) -> Result<(), StoreError> {
        match self {
            Connection::Sqlite(file) => Ok(file.execute_batch("BEGIN DEFERRED")?),
            Connection::Postgres(session) => session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        }
    }

    pub fn commit(&self) -> Result<(), StoreError> {
        match self {
            Connection::Sqlite(file) => Ok(file.prepare_cached("COMMIT")?.execute([]).map(drop)?),
            Connection::Postgres(session) => session.commit(),
        }
    }

    /// Nothing of the transaction stays. When even that fails the connection is broken, and with it the transaction.
    pub fn roll_back(&self) {
        let _ = self.run("ROLLBACK");
    }

    /// The file, for what only SQLite keeps.
    pub fn file(&self) -> Result<&rusqlite::Connection, StoreError> {
        match self {
            Connection::Sqlite(file) => Ok(file),
            Connection::Postgres(_) => Err(StoreError::OnlySqlite),
        }
    }
}

/// An INSERT of so many rows of so many columns.
fn insert(table: &str, columns: usize, rows: usize, clash: &str) -> String {
    let row = |row: usize| {
        let places: Vec<String> = (1..=columns).map(|column| format!("?{}", row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("INSERT INTO {table} VALUES {} {clash}", rows.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_through_all_rows() {
        assert_eq!(insert("t (a, b)", 2, 2, ""), "INSERT INTO t (a, b) VALUES (?1, ?2), (?3, ?4) ");
    }
}
