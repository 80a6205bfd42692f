//! Where everything rests that attribution has found out: facts, decisions, ledger, touches, rollups, and how far each
//! spool has been read.
//!
//! A file of SQLite, or a database of PostgreSQL: the functions are the same, written once over `Connection`.
//!
//! Invariants:
//! - One `Store` writes a file; any number of `Reader`s read, in this process and in others, also after a kill -9. In
//!   PostgreSQL several `Store`s write: `locks` keeps them from missing each other's facts.
//! - All effects of a record and the mark that says "applied" are one transaction (`Batch`). The mark moves by
//!   compare-and-set, so a second writer, or an answer to COMMIT that got lost, cannot apply a record twice.
//! - No SQL outside of this folder: its functions are the whole list of what a store must be able to do.

mod catalogs;
mod connection;
mod conversions;
mod database;
mod decisions;
mod entries;
mod file;
mod locks;
mod marks;
mod offsets;
mod open;
mod outbox;
mod personal;
mod place;
mod postgres;
mod postgres_schema;
mod pruning;
mod refunds;
mod rollups;
mod schema;
mod shares;
mod sqlite;
mod states;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod touches;
mod value;
mod visitors;
mod waiting;

use connection::Connection;

pub use conversions::{ConversionRow, Decided, NewConversion, RowId, StatusFact};
pub use decisions::{DecisionRow, StoredFacts, Written};
pub use entries::BookLine;
pub use marks::{DeadLetter, Fate, Mark, Quarantine, Retired};
pub use offsets::Offset;
pub use outbox::Told;
pub use personal::{Differing, ERASED};
pub use place::{Place, PostgresUrl, WrongUrl};
pub use pruning::Aged;
pub use refunds::RefundInsert;
pub use rollups::RollupRow;
pub use shares::ShareRow;
pub use states::KnownSpool;
pub use touches::{FoundTouches, Period};
pub use visitors::{Horizon, OpenUntil, WatchedVisitor};
pub use waiting::{Stand, Waiting};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}: not a store of Afflux; nothing was changed")]
    Foreign(Place),
    #[error("{place}: written by a newer version (schema {found}, this version knows up to {known})")]
    Newer { place: Place, found: i64, known: i64 },
    #[error("{0}: there is no store yet; {maker} makes it", maker = maker(.0))]
    Missing(Place),
    #[error("{0}: the store is of an older version; {maker} brings it up to date", maker = maker(.0))]
    Older(Place),
    #[error("{place}: {why}")]
    Unfit { place: Place, why: String },
    #[error("{place}: {source}")]
    Sqlite { place: Place, source: rusqlite::Error },
    #[error("{place}: {}", postgres::said(.source))]
    Postgres { place: Place, source: ::postgres::Error },
    #[error("{place}: {source}")]
    Store { place: Place, source: StoreError },
    #[error("{place}: {source}")]
    File { place: Place, source: std::io::Error },
}

fn maker(place: &Place) -> &'static str {
    match place {
        Place::Sqlite(_) => "`afflux serve`",
        Place::Postgres(_) => "`afflux attribution`",
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the store: {}", postgres::said(.0))]
    Postgres(#[from] ::postgres::Error),
    /// Somebody else applied these records: what this process remembers is stale.
    #[error("the mark of spool {spool:016x} is not at {expected}: another writer moved it")]
    MarkMoved { spool: u64, expected: u64 },
    /// What was stored does not read back: the file was changed by something else.
    #[error("a stored {what} does not read back: {why}")]
    Unreadable { what: &'static str, why: String },
    /// A connection was asked while it showed rows.
    #[error("the store was asked while it answered")]
    Nested,
    /// Touches of a store in PostgreSQL are in Redis.
    #[error("touches are not kept in PostgreSQL")]
    OnlySqlite,
}

/// Why transactions fail, for whoever watches: another process had applied the records; we may not; it quarrelled with
/// others' transactions; it did not answer, or takes nobody now; a defect that panicked; all else.
pub const KINDS: [&str; 6] = ["moved", "rights", "contended", "unavailable", "panic", "other"];

impl OpenError {
    /// One of `KINDS`.
    pub fn kind(&self) -> &'static str {
        match self {
            OpenError::Postgres { source, .. } => postgres::kind(source),
            OpenError::Store { source, .. } => source.kind(),
            _ => "other",
        }
    }
}

impl StoreError {
    /// One of `KINDS`.
    pub fn kind(&self) -> &'static str {
        match self {
            StoreError::MarkMoved { .. } => "moved",
            StoreError::Postgres(error) => postgres::kind(error),
            _ => "other",
        }
    }

    /// Whether the record at hand is to blame, and not the store: another record would fare better.
    pub fn is_about_the_record(&self) -> bool {
        use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
        match self {
            StoreError::Sqlite(rusqlite::Error::ToSqlConversionFailure(error)) => error.is::<value::TooLarge>(),
            StoreError::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(ConstraintViolation | TooBig | TypeMismatch))
            }
            StoreError::Postgres(error) => postgres::is_about_the_record(error),
            StoreError::Unreadable { .. } => true,
            StoreError::MarkMoved { .. } | StoreError::Nested | StoreError::OnlySqlite => false,
        }
    }
}

/// The one writer of a file; one of several of a database.
pub struct Store {
    connection: Connection,
}

/// One transaction of the writer. Dropped without `commit` it leaves no trace.
pub struct Batch<'s> {
    connection: &'s Connection,
    open: bool,
}

/// A connection that only reads.
pub struct Reader {
    connection: Connection,
}

/// What can be read, all of it as of one moment. (Within a batch on PostgreSQL: each answer as of its own.)
#[derive(Clone, Copy)]
pub struct View<'c> {
    connection: &'c Connection,
}

impl Store {
    pub fn begin(&mut self) -> Result<Batch<'_>, StoreError> {
        self.connection.begin()?;
        Ok(Batch { connection: &self.connection, open: true })
    }

    pub fn view(&self) -> View<'_> {
        View { connection: &self.connection }
    }
}

impl Batch<'_> {
    pub fn view(&self) -> View<'_> {
        View { connection: self.connection }
    }

    /// An error does not say that nothing was kept: on PostgreSQL the answer may have been lost. Whoever applies the
    /// records again finds out by the marks.
    pub fn commit(mut self) -> Result<(), StoreError> {
        self.connection.commit()?;
        self.open = false;
        Ok(())
    }

    /// Runs `work`; when it fails, its writes are undone and the batch goes on.
    pub fn attempt<E: From<StoreError>>(&self, work: impl FnOnce(&Self) -> Result<(), E>) -> Result<(), E> {
        self.execute("SAVEPOINT record", &[])?;
        let result = work(self);
        if result.is_err() {
            self.execute("ROLLBACK TO SAVEPOINT record", &[])?;
        }
        self.execute("RELEASE SAVEPOINT record", &[])?;
        result
    }

    fn execute(&self, sql: &str, params: &[value::Value<'_>]) -> Result<usize, StoreError> {
        self.connection.execute(sql, params)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.open {
            self.connection.roll_back();
        }
    }
}

impl Reader {
    /// Everything that `look` sees is of one moment, whatever the writer does meanwhile.
    pub fn view<T, E: From<StoreError>>(&mut self, look: impl FnOnce(View<'_>) -> Result<T, E>) -> Result<T, E> {
        self.connection.begin_reading()?;
        let moment = Moment(&self.connection);
        look(View { connection: moment.0 })
    }

    /// Whether it still answers: a connection that was kept may be broken since.
    pub fn is_alive(&self) -> bool {
        match &self.connection {
            Connection::Sqlite(_) => true,
            Connection::Postgres(session) => session.is_alive(ALIVE_WITHIN),
        }
    }
}

const ALIVE_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// A transaction that reads: there is nothing to commit.
struct Moment<'c>(&'c Connection);

impl Drop for Moment<'_> {
    fn drop(&mut self) {
        self.0.roll_back();
    }
}

/// Both back ends' integers are signed; IDs of spools and keys of visitors are 64 bits without a sign.
fn bits(unsigned: u64) -> i64 {
    unsigned.cast_signed()
}

fn numbers(ids: &[RowId]) -> Vec<i64> {
    ids.iter().map(|id| id.0).collect()
}

fn unbits(signed: i64) -> u64 {
    signed.cast_unsigned()
}

/// Reads back JSON that we wrote.
fn read_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable { what, why: error.to_string() })
}

fn write_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unreadable { what, why: error.to_string() })
}
