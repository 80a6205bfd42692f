//! Statements on SQLite: prepared once and kept, nothing copied on the way.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::StoreError;
use super::value::{Row, TooLarge, Value};

pub fn execute(connection: &Connection, sql: &str, params: &[Value<'_>]) -> Result<usize, StoreError> {
    Ok(connection.prepare_cached(sql)?.execute(params_from_iter(params))?)
}

/// One statement for many rows.
pub fn execute_each<'v, const WIDTH: usize>(
    connection: &Connection,
    sql: &str,
    rows: impl Iterator<Item = [Value<'v>; WIDTH]>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    for row in rows {
        statement.execute(params_from_iter(row))?;
    }
    Ok(())
}

pub fn query<E: From<StoreError>>(
    connection: &Connection,
    sql: &str,
    params: &[Value<'_>],
    mut show: impl FnMut(&Row<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut statement = connection.prepare_cached(sql).map_err(StoreError::from)?;
    let mut rows = statement.query(params_from_iter(params)).map_err(StoreError::from)?;
    while let Some(row) = rows.next().map_err(StoreError::from)? {
        show(&Row::Sqlite(row))?;
    }
    Ok(())
}

/// The first row, if there is one.
pub fn first<T>(
    connection: &Connection,
    sql: &str,
    params: &[Value<'_>],
    read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    rows.next()?.map(|row| read(&Row::Sqlite(row))).transpose()
}

pub fn column<'r>(row: &'r rusqlite::Row<'_>, column: usize) -> Result<Value<'r>, StoreError> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Int(integer),
        ValueRef::Text(text) => Value::Text(std::str::from_utf8(text).map_err(rusqlite::Error::from)?),
        ValueRef::Blob(bytes) => Value::Bytes(bytes),
        ValueRef::Real(_) => {
            return Err(StoreError::Unreadable { what: "column", why: format!("column {column} holds a fraction") });
        }
    })
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let refused = |why: &str| Err(rusqlite::Error::ToSqlConversionFailure(why.into()));
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(integer) => ValueRef::Integer(*integer),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
            Value::Ints(_) | Value::Texts(_) | Value::Many(_) => return refused("SQLite has no arrays"),
            Value::TooLarge(_) => return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(TooLarge))),
        }))
    }
}
