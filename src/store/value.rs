//! What goes into a statement and what comes out of a row, the same for both back ends: NULL, integers, text, bytes.

use super::StoreError;

/// A value that is bound to a placeholder, or read from a column. Borrows, so binding a row allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'v> {
    Null,
    Int(i64),
    Text(&'v str),
    Bytes(&'v [u8]),
    /// Arrays, for PostgreSQL's `unnest` and `ANY`.
    Ints(&'v [i64]),
    Texts(&'v [&'v str]),
    Many(&'v [Value<'v>]),
    /// No signed integer can hold it: refused by both.
    TooLarge(u64),
}

/// Types of our rows as values.
pub trait Bind {
    fn value(&self) -> Value<'_>;
}

/// Types that can be read from a column.
pub trait Read: Sized {
    /// `None` when the column holds something else.
    fn read(value: Value<'_>) -> Option<Self>;
}

/// Values in the order of the placeholders.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::value::Bind::value(&$value)),*] };
}
pub(super) use params;

/// One row of an answer.
pub enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r ::postgres::Row),
}

impl Row<'_> {
    pub fn get<T: Read>(&self, column: usize) -> Result<T, StoreError> {
        let value = self.value(column)?;
        T::read(value).ok_or_else(|| unreadable(column, value))
    }

    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        match self.value(column)? {
            Value::Text(text) => Ok(text),
            value => Err(unreadable(column, value)),
        }
    }

    pub fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        match self.value(column)? {
            Value::Bytes(bytes) => Ok(bytes),
            value => Err(unreadable(column, value)),
        }
    }

    fn value(&self, column: usize) -> Result<Value<'_>, StoreError> {
        match self {
            Row::Sqlite(row) => super::sqlite::column(row, column),
            Row::Postgres(row) => super::postgres::column(row, column),
        }
    }
}

/// A number that neither back end has room for.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a number larger than a signed integer")]
pub struct TooLarge;

/// What the value is, and not which: it may be somebody's.
fn unreadable(column: usize, value: Value<'_>) -> StoreError {
    let is = match value {
        Value::Null => "NULL",
        Value::Int(_) => "an integer",
        Value::Text(_) => "text",
        Value::Bytes(_) => "bytes",
        Value::Ints(_) | Value::Texts(_) | Value::Many(_) => "an array",
        Value::TooLarge(_) => "a number without a sign",
    };
    StoreError::Unreadable { what: "column", why: format!("column {column} holds {is}") }
}

macro_rules! integers {
    ($($Type:ty),*) => {$(
        impl Bind for $Type {
            fn value(&self) -> Value<'_> {
                Value::Int(i64::from(*self))
            }
        }
        impl Read for $Type {
            fn read(value: Value<'_>) -> Option<$Type> {
                match value {
                    Value::Int(value) => value.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}
integers!(i64, i32, u32);

impl Bind for u64 {
    fn value(&self) -> Value<'_> {
        i64::try_from(*self).map_or(Value::TooLarge(*self), Value::Int)
    }
}

impl Read for u64 {
    fn read(value: Value<'_>) -> Option<u64> {
        i64::read(value)?.try_into().ok()
    }
}

/// A bound: more than the largest integer is no bound, and neither is that.
impl Bind for usize {
    fn value(&self) -> Value<'_> {
        Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Bind for bool {
    fn value(&self) -> Value<'_> {
        Value::Int(i64::from(*self))
    }
}

impl Bind for str {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Bind for String {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Read for String {
    fn read(value: Value<'_>) -> Option<String> {
        match value {
            Value::Text(text) => Some(text.to_owned()),
            _ => None,
        }
    }
}

impl Read for Box<str> {
    fn read(value: Value<'_>) -> Option<Box<str>> {
        String::read(value).map(String::into_boxed_str)
    }
}

impl Bind for Box<str> {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Bind for [u8] {
    fn value(&self) -> Value<'_> {
        Value::Bytes(self)
    }
}

impl<const LENGTH: usize> Bind for [u8; LENGTH] {
    fn value(&self) -> Value<'_> {
        Value::Bytes(self)
    }
}

impl Bind for Vec<u8> {
    fn value(&self) -> Value<'_> {
        Value::Bytes(self)
    }
}

impl Read for Vec<u8> {
    fn read(value: Value<'_>) -> Option<Vec<u8>> {
        match value {
            Value::Bytes(bytes) => Some(bytes.to_owned()),
            _ => None,
        }
    }
}

impl Bind for [i64] {
    fn value(&self) -> Value<'_> {
        Value::Ints(self)
    }
}

impl Bind for [&str] {
    fn value(&self) -> Value<'_> {
        Value::Texts(self)
    }
}

impl<T: Bind> Bind for Option<T> {
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Bind::value)
    }
}

impl<T: Read> Read for Option<T> {
    fn read(value: Value<'_>) -> Option<Option<T>> {
        match value {
            Value::Null => Some(None),
            value => T::read(value).map(Some),
        }
    }
}

impl<T: Bind + ?Sized> Bind for &T {
    fn value(&self) -> Value<'_> {
        (**self).value()
    }
}
