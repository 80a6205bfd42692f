//! Where everything rests that attribution has found out: facts, decisions, ledger, touches, rollups, and how far each
//! spool has been read.
//!
//! Invariants:
//! - One `Store` writes; any number of `Reader`s read, in this process and in others, also after a kill -9.
//! - All effects of a record and the mark that says "applied" are one transaction (`Batch`). The mark moves by
//!   compare-and-set, so a second writer, or an answer to COMMIT that got lost, cannot apply a record twice.
//! - No SQL outside of this folder: its functions are the whole list of what a store must be able to do.

mod catalogs;
mod conversions;
mod decisions;
mod entries;
mod marks;
mod open;
mod refunds;
mod rollups;
mod schema;
mod shares;
mod touches;

use std::path::PathBuf;

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use conversions::{ConversionRow, Horizon, NewConversion, OpenUntil, RowId, StatusFact};
pub use decisions::{DecisionRow, StoredFacts};
pub use entries::BookLine;
pub use marks::{DeadLetter, Mark, Quarantine};
pub use refunds::RefundInsert;
pub use rollups::RollupRow;
pub use shares::ShareRow;
pub use touches::{FoundTouches, Period};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}: not a store of Afflux; nothing was changed")]
    Foreign(PathBuf),
    #[error("{path}: written by a newer version (schema {found}, this version knows up to {known})")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("{0}: there is no store yet; `afflux serve` makes it")]
    Missing(PathBuf),
    #[error("{0}: the store is of an older version; `afflux serve` brings it up to date")]
    Older(PathBuf),
    #[error("{path}: {source}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Somebody else applied these records: what this process remembers is stale.
    #[error("the mark of spool {spool:016x} is not at {expected}: another writer moved it")]
    MarkMoved { spool: u64, expected: u64 },
    /// What was stored does not read back: the file was changed by something else.
    #[error("a stored {what} does not read back: {why}")]
    Unreadable { what: &'static str, why: String },
}

impl StoreError {
    /// Whether the record at hand is to blame, and not the store: another record would fare better.
    pub fn is_about_the_record(&self) -> bool {
        use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
        match self {
            StoreError::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(ConstraintViolation | TooBig | TypeMismatch))
            }
            StoreError::Unreadable { .. } => true,
            StoreError::MarkMoved { .. } => false,
        }
    }
}

/// The one writer.
pub struct Store {
    connection: Connection,
}

/// One transaction of the writer. Dropped without `commit` it leaves no trace.
pub struct Batch<'s> {
    transaction: Transaction<'s>,
}

/// A connection that only reads.
pub struct Reader {
    connection: Connection,
}

/// What can be read, all of it as of one moment.
#[derive(Clone, Copy)]
pub struct View<'c> {
    connection: &'c Connection,
}

impl Store {
    pub fn begin(&mut self) -> Result<Batch<'_>, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Batch { transaction })
    }

    pub fn view(&self) -> View<'_> {
        View { connection: &self.connection }
    }
}

impl Batch<'_> {
    pub fn view(&self) -> View<'_> {
        View { connection: &self.transaction }
    }

    pub fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit()?)
    }

    /// Runs `work`; when it fails, its writes are undone and the batch goes on.
    pub fn attempt<E: From<StoreError>>(&self, work: impl FnOnce(&Self) -> Result<(), E>) -> Result<(), E> {
        self.execute("SAVEPOINT record", [])?;
        let result = work(self);
        if result.is_err() {
            self.execute("ROLLBACK TO record", [])?;
        }
        self.execute("RELEASE record", [])?;
        result
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        Ok(self.transaction.prepare_cached(sql)?.execute(params)?)
    }
}

impl Reader {
    /// Everything that `look` sees is of one moment, whatever the writer does meanwhile.
    pub fn view<T, E: From<StoreError>>(&mut self, look: impl FnOnce(View<'_>) -> Result<T, E>) -> Result<T, E> {
        let transaction = self.connection.transaction().map_err(StoreError::from)?;
        look(View { connection: &transaction })
    }
}

/// SQLite's integers are signed; IDs of spools and keys of visitors are 64 bits without a sign.
fn bits(unsigned: u64) -> i64 {
    unsigned.cast_signed()
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
