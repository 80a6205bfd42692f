//! One connection to either back end. All SQL is written once, in what both understand: `?1` for a placeholder,
//! `ON CONFLICT (columns)`, `RETURNING id`, 64-bit integers, text compared byte by byte.

use super::StoreError;
use super::postgres::Session;
use super::sqlite;
use super::value::{Row, Value};

/// Rows of one statement on PostgreSQL: some 100 KB to a few MB, as decisions are. More are some statements.
const ROWS_AT_ONCE: usize = 1_000;

/// A table that gets many rows at once: its name, its columns, and what PostgreSQL calls their types.
pub struct Table<const WIDTH: usize> {
    pub name: &'static str,
    pub columns: [(&'static str, &'static str); WIDTH],
}

/// Keys of rows that are read together.
#[derive(Clone, Copy)]
pub enum ManyKeys<'k> {
    Ints(&'k [i64]),
    Texts(&'k [&'k str]),
}

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

    /// Many rows into the columns of a table. `clash`: what happens where a row is there already, or nothing.
    pub fn insert<'v, const WIDTH: usize>(
        &self,
        table: &Table<WIDTH>,
        rows: impl Iterator<Item = [Value<'v>; WIDTH]>,
        clash: &str,
    ) -> Result<(), StoreError> {
        let sql = match self {
            Connection::Sqlite(_) => table.insert_one(clash),
            Connection::Postgres(_) => table.insert_all(clash),
        };
        self.execute_many(&sql, &sql, rows)
    }

    /// The same for many rows, in one round trip where there is a network. `one`: for SQLite, which takes one row after the
    /// other. `all`: for PostgreSQL, which takes each column as an array.
    pub fn execute_many<'v, const WIDTH: usize>(
        &self,
        one: &str,
        all: &str,
        rows: impl Iterator<Item = [Value<'v>; WIDTH]>,
    ) -> Result<(), StoreError> {
        match self {
            Connection::Sqlite(file) => sqlite::execute_each(file, one, rows),
            Connection::Postgres(session) => {
                let rows: Vec<[Value<'v>; WIDTH]> = rows.collect();
                rows.chunks(ROWS_AT_ONCE).try_for_each(|rows| {
                    let columns: [Vec<Value<'v>>; WIDTH] =
                        std::array::from_fn(|column| rows.iter().map(|row| row[column]).collect());
                    let params: Vec<Value<'_>> = columns.iter().map(|column| Value::Many(column)).collect();
                    session.execute(all, &params).map(drop)
                })
            }
        }
    }

    /// The rows of many keys, in one round trip where there is a network. `one` asks SQLite for the rows of one key, `all`
    /// asks PostgreSQL for those of an array of them; the rows of one key come in the order that both say.
    pub fn rows_of<T>(
        &self,
        one: &str,
        all: &str,
        keys: ManyKeys<'_>,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = Vec::new();
        let mut take = |row: &Row<'_>| {
            rows.push(read(row)?);
            Ok::<(), StoreError>(())
        };
        match (self, keys) {
            (_, ManyKeys::Ints([]) | ManyKeys::Texts([])) => {}
            (Connection::Postgres(session), ManyKeys::Ints(keys)) => session.query(all, &[Value::Ints(keys)], take)?,
            (Connection::Postgres(session), ManyKeys::Texts(keys)) => {
                session.query(all, &[Value::Texts(keys)], take)?
            }
            (Connection::Sqlite(file), ManyKeys::Ints(keys)) => {
                keys.iter().try_for_each(|key| sqlite::query(file, one, &[Value::Int(*key)], &mut take))?;
            }
            (Connection::Sqlite(file), ManyKeys::Texts(keys)) => {
                keys.iter().try_for_each(|key| sqlite::query(file, one, &[Value::Text(key)], &mut take))?;
            }
        }
        Ok(rows)
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

    /// Its own time in milliseconds since 1970, as part of a statement: what is compared with each other is of one clock.
    pub fn now(&self) -> &'static str {
        match self {
            Connection::Sqlite(_) => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            Connection::Postgres(_) => "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)",
        }
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

impl<const WIDTH: usize> Table<WIDTH> {
    fn columns(&self) -> String {
        self.columns.map(|(name, _)| name).join(", ")
    }

    pub fn insert_one(&self, clash: &str) -> String {
        let places: Vec<String> = (1..=WIDTH).map(|place| format!("?{place}")).collect();
        format!("INSERT INTO {} ({}) VALUES ({}) {clash}", self.name, self.columns(), places.join(", "))
    }

    /// Any number of rows is one text, that is prepared once.
    fn insert_all(&self, clash: &str) -> String {
        let typed = |(place, (_, kind)): (usize, &(&str, &str))| format!("?{}::{kind}[]", place + 1);
        let arrays: Vec<String> = self.columns.iter().enumerate().map(typed).collect();
        let (name, columns) = (self.name, self.columns());
        format!("INSERT INTO {name} ({columns}) SELECT * FROM unnest({}) {clash}", arrays.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_values_or_arrays_of_their_columns() {
        let table = Table { name: "t", columns: [("a", "bigint"), ("b", "text")] };
        assert_eq!(table.insert_one(""), "INSERT INTO t (a, b) VALUES (?1, ?2) ");
        assert_eq!(table.insert_all("-"), "INSERT INTO t (a, b) SELECT * FROM unnest(?1::bigint[], ?2::text[]) -");
    }
}
