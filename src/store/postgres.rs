//! Statements on PostgreSQL: one connection, its statements prepared once and kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use ::postgres::config::TargetSessionAttrs;
use ::postgres::fallible_iterator::FallibleIterator;
use ::postgres::types::private::BytesMut;
use ::postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use ::postgres::{Client, NoTls, Statement};

use super::StoreError;
use super::value::{Row, TooLarge, Value};

/// A dead machine is noticed within half a minute, on either side of the connection: a commit whose answer is lost then
/// ends as an error, and not as a consumer that waits for ever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const UNANSWERED: Duration = Duration::from_secs(30);

/// The server ends a transaction whose client says nothing for this long: its locks hold up everybody else.
const IDLE_IN_TRANSACTION: &str = "SET idle_in_transaction_session_timeout = 60000";

/// One connection. Borrowed for one statement at a time: while rows are shown no other statement runs.
pub struct Session {
    client: RefCell<Client>,
    statements: RefCell<HashMap<String, Statement>>,
}

impl Session {
    /// `writes`: of several hosts the one that takes writes.
    pub fn connect(config: &::postgres::Config, writes: bool) -> Result<Session, ::postgres::Error> {
        let name = config.get_application_name().unwrap_or("afflux").to_owned();
        let mut config = config.clone();
        if writes {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let mut client = config
            .application_name(&name)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(UNANSWERED)
            // What the server only remarks on is nothing to tell.
            .notice_callback(|_| {})
            .connect(NoTls)?;
        if writes {
            client.batch_execute(IDLE_IN_TRANSACTION)?;
        }
        Ok(Session { client: RefCell::new(client), statements: RefCell::default() })
    }

    /// Whether the server answers within `at_most`.
    pub fn is_alive(&self, at_most: Duration) -> bool {
        self.client.try_borrow_mut().is_ok_and(|mut client| client.is_valid(at_most).is_ok())
    }

    /// Statements without parameters, several at once.
    pub fn run(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.client()?.batch_execute(sql)?)
    }

    pub fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<usize, StoreError> {
        let statement = self.statement(sql)?;
        let mut client = self.client()?;
        let mut rows = client.query_raw(&statement, params)?;
        while rows.next()?.is_some() {}
        Ok(rows.rows_affected().and_then(|rows| usize::try_from(rows).ok()).unwrap_or(0))
    }

    pub fn query<E: From<StoreError>>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        mut show: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let statement = self.statement(sql)?;
        let mut client = self.client()?;
        let mut rows = client.query_raw(&statement, params).map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            show(&Row::Postgres(&row))?;
        }
        Ok(())
    }

    /// The first row, if there is one.
    pub fn first<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let statement = self.statement(sql)?;
        let mut client = self.client()?;
        let mut rows = client.query_raw(&statement, params)?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let first = read(&Row::Postgres(&row))?;
        // To the end: an error behind the first row is an error too.
        while rows.next()?.is_some() {}
        Ok(Some(first))
    }

    /// PostgreSQL answers the COMMIT of a failed transaction with a ROLLBACK and no error; the statement before it fails.
    pub fn commit(&self) -> Result<(), StoreError> {
        self.run("SELECT 1; COMMIT")
    }

    /// Every statement asks for it once.
    fn client(&self) -> Result<std::cell::RefMut<'_, Client>, StoreError> {
        #[cfg(test)]
        super::testing::count_statement();
        self.client.try_borrow_mut().map_err(|_| StoreError::Nested)
    }

    /// There are as many as there are texts in this folder.
    fn statement(&self, sql: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        // `?1` is SQLite's way to write it; no text of ours has another question mark.
        let statement = self.client()?.prepare(&sql.replace('?', "$"))?;
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

pub fn column(row: &::postgres::Row, column: usize) -> Result<Value<'_>, StoreError> {
    let Some(declared) = row.columns().get(column) else {
        return Err(StoreError::Unreadable { what: "column", why: format!("there is no column {column}") });
    };
    let value = match *declared.type_() {
        Type::INT8 => row.try_get::<_, Option<i64>>(column)?.map(Value::Int),
        Type::INT4 => row.try_get::<_, Option<i32>>(column)?.map(|integer| Value::Int(i64::from(integer))),
        Type::BYTEA => row.try_get::<_, Option<&[u8]>>(column)?.map(Value::Bytes),
        _ => row.try_get::<_, Option<&str>>(column)?.map(Value::Text),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// Text of PostgreSQL holds every character but NUL. Names of orders have none; a label of a click that somebody made up
/// may, and must not stop the books: it is kept with the character for one that cannot be shown.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, declared: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(integer) if *declared == Type::INT4 => i32::try_from(*integer)?.to_sql_checked(declared, out),
            Value::Int(integer) => integer.to_sql_checked(declared, out),
            Value::Text(text) => without_nul(text).to_sql_checked(declared, out),
            Value::Bytes(bytes) => bytes.to_sql_checked(declared, out),
            Value::Many(values) => values.to_sql_checked(declared, out),
            Value::Ints(integers) => integers.to_sql_checked(declared, out),
            Value::Texts(texts) if texts.iter().any(|text| text.contains('\0')) => {
                let shown: Vec<_> = texts.iter().map(|text| without_nul(text)).collect();
                shown.to_sql_checked(declared, out)
            }
            Value::Texts(texts) => texts.to_sql_checked(declared, out),
            Value::TooLarge(_) => Err(Box::new(TooLarge)),
        }
    }

    /// Each value says by itself when it is bound.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// What went wrong, with the server's words but without its details: they repeat the row.
pub fn said(error: &::postgres::Error) -> String {
    if let Some(told) = error.as_db_error() {
        return format!("{}: {} ({})", told.severity(), told.message(), told.code().code());
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether another record would have fared better: what it holds does not fit (22, or a number that was not sent), breaks a rule of a table (23), or is
/// too long for an index (54000). All else is the server's, the network's, or the work of others.
pub fn is_about_the_record(error: &::postgres::Error) -> bool {
    let is_too_large = error.source().is_some_and(|source| source.is::<TooLarge>());
    is_too_large
        || error.code().is_some_and(|state| ["22", "23", "54000"].iter().any(|class| state.code().starts_with(class)))
}

/// One of `store::KINDS`, by what PostgreSQL's classes of errors mean.
pub fn kind(error: &::postgres::Error) -> &'static str {
    let Some(state) = error.code() else { return "unavailable" };
    match state.code() {
        "42501" => "rights",
        "55000" | "55006" => "unavailable",
        "55P03" => "contended",
        code => match code.get(..2).unwrap_or_default() {
            "28" => "rights",
            "40" => "contended",
            "08" | "53" | "57" | "58" => "unavailable",
            _ => "other",
        },
    }
}
