//! The order index's SQLite file and the one thread that uses it.
//!
//! WAL with `synchronous = NORMAL`: a commit is a write, which survives the end of the process. After a power cut the
//! latest marks may be missing, and that is allowed: a mark is only ever written after its event is on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::mpsc;

use super::{KeyMark, Mark, MarkKey, Question};
use crate::event::MerchantStatus;
use crate::time::TimeMs;

/// Questions answered by one transaction.
const BATCH: usize = 256;
const REOPEN_AFTER: Duration = Duration::from_secs(5);
/// Another process on the same file (contract P11) may hold it for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// A key is remembered for at least 30 days (contract I13), an order for more than a year: later repetitions are found
/// by the exact check.
pub const KEEP_KEYS_DAYS: i64 = 31;
pub const KEEP_ORDERS_DAYS: i64 = 400;
const PRUNE_EVERY: Duration = Duration::from_secs(60);
const PRUNE_ROWS: usize = 5_000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS orders (
        key BLOB PRIMARY KEY, day INTEGER NOT NULL, hashes BLOB NOT NULL, conversion_id TEXT NOT NULL, status INTEGER
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX IF NOT EXISTS orders_by_day ON orders (day);
    CREATE TABLE IF NOT EXISTS keys (
        key BLOB PRIMARY KEY, day INTEGER NOT NULL, about BLOB NOT NULL, answer TEXT
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX IF NOT EXISTS keys_by_day ON keys (day);";

/// Sends an answer once its transaction is committed.
type Reply = Box<dyn FnOnce()>;

/// Answers until all askers are gone. What cannot be answered is dropped: the asker does without.
pub fn run(path: &Path, mut questions: mpsc::Receiver<Question>) {
    let mut database: Option<Database> = None;
    let mut reopen_at = Instant::now();
    while let Some(first) = questions.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = questions.try_recv()
        {
            batch.push(next);
        }
        if database.is_none() && Instant::now() >= reopen_at {
            database = Database::open(path).inspect_err(|error| complain(path, error)).ok();
            reopen_at = Instant::now() + REOPEN_AFTER;
        }
        let Some(open) = &mut database else { continue };
        if let Err(error) = open.answer(batch) {
            complain(path, &error);
            database = None;
        }
    }
}

fn complain(path: &Path, error: &rusqlite::Error) {
    tracing::warn!(file = %path.display(), %error, "the order index is down: reports are accepted without it");
}

struct Database {
    connection: Connection,
    prune_at: Instant,
}

impl Database {
    fn open(path: &Path) -> rusqlite::Result<Database> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Database { connection, prune_at: Instant::now() })
    }

    /// One transaction for all; on an error nobody is answered.
    fn answer(&mut self, batch: Vec<Question>) -> rusqlite::Result<()> {
        let latest = batch.iter().filter_map(Question::now).max();
        let writes = latest.is_some();
        let behavior = if writes { TransactionBehavior::Immediate } else { TransactionBehavior::Deferred };
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let replies = batch.into_iter().map(|question| question.apply(&transaction)).collect::<Result<Vec<_>, _>>()?;
        if let Some(now) = latest.filter(|_| Instant::now() >= self.prune_at) {
            prune(&transaction, now)?;
            self.prune_at = Instant::now() + PRUNE_EVERY;
        }
        transaction.commit()?;
        replies.into_iter().for_each(|reply| reply());
        Ok(())
    }
}

impl Question {
    /// When the write came; `None` for those that only read.
    fn now(&self) -> Option<TimeMs> {
        match self {
            Question::Remember(_, now, _) | Question::RememberKey(_, _, now, _) => Some(*now),
            Question::Look(..) | Question::LookKey(..) | Question::Claim(..) | Question::Release(..) => None,
        }
    }

    /// An asker that no longer waits is no error.
    fn apply(self, transaction: &Transaction<'_>) -> rusqlite::Result<Reply> {
        Ok(match self {
            Question::Look(keys, answer) => {
                let marks = keys.iter().map(|key| look(transaction, key)).collect::<Result<Vec<_>, _>>()?;
                Box::new(move || drop(answer.send(marks)))
            }
            Question::Remember(marks, now, answer) => {
                for (key, mark) in &marks {
                    remember(transaction, key, mark, now)?;
                }
                Box::new(move || answer.send(()).unwrap_or(()))
            }
            Question::LookKey(key, answer) => {
                let mark = look_key(transaction, &key)?;
                Box::new(move || drop(answer.send(mark)))
            }
            Question::RememberKey(key, mark, now, answer) => {
                let sql = "INSERT OR REPLACE INTO keys (key, day, about, answer) VALUES (?1, ?2, ?3, ?4)";
                transaction.prepare_cached(sql)?.execute(params![
                    key.0,
                    now.day_number(),
                    mark.about.0,
                    mark.answer
                ])?;
                Box::new(move || answer.send(()).unwrap_or(()))
            }
            // Whoever writes about an order is in this process, where `Claims` knows.
            Question::Claim(keys, _, answer) => Box::new(move || drop(answer.send(vec![true; keys.len()]))),
            Question::Release(..) => Box::new(|| {}),
        })
    }
}

fn look(transaction: &Transaction<'_>, key: &MarkKey) -> rusqlite::Result<Option<Mark>> {
    let mut statement =
        transaction.prepare_cached("SELECT hashes, conversion_id, status FROM orders WHERE key = ?1")?;
    let read = |row: &rusqlite::Row<'_>| {
        let hashes: Vec<u8> = row.get(0)?;
        let status: Option<i64> = row.get(2)?;
        Ok(Mark { hashes: unpack(&hashes), conversion_id: row.get(1)?, status: status.and_then(status_of_code) })
    };
    statement.query_row(params![key.0], read).optional()
}

fn remember(transaction: &Transaction<'_>, key: &MarkKey, mark: &Mark, now: TimeMs) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO orders (key, day, hashes, conversion_id, status) VALUES (?1, ?2, ?3, ?4, ?5)";
    let hashes: Vec<u8> = mark.hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect();
    let row = params![key.0, now.day_number(), hashes, mark.conversion_id, mark.status.map(status_code)];
    transaction.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

fn look_key(transaction: &Transaction<'_>, key: &MarkKey) -> rusqlite::Result<Option<KeyMark>> {
    let mut statement = transaction.prepare_cached("SELECT about, answer FROM keys WHERE key = ?1")?;
    let read = |row: &rusqlite::Row<'_>| Ok(KeyMark { about: MarkKey(row.get(0)?), answer: row.get(1)? });
    statement.query_row(params![key.0], read).optional()
}

/// Forgets the oldest, a bounded number at a time.
fn prune(transaction: &Transaction<'_>, now: TimeMs) -> rusqlite::Result<()> {
    for (table, keep_days) in [("orders", KEEP_ORDERS_DAYS), ("keys", KEEP_KEYS_DAYS)] {
        let sql =
            format!("DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE day < ?1 LIMIT {PRUNE_ROWS})");
        transaction.execute(&sql, params![now.day_number() - keep_days])?;
    }
    Ok(())
}

pub fn unpack(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|eight| u64::from_be_bytes(*eight)).collect()
}

pub fn status_code(status: MerchantStatus) -> i64 {
    match status {
        MerchantStatus::Approved => 1,
        MerchantStatus::Pending => 2,
        MerchantStatus::Rejected => 3,
    }
}

pub fn status_of_code(code: i64) -> Option<MerchantStatus> {
    match code {
        1 => Some(MerchantStatus::Approved),
        2 => Some(MerchantStatus::Pending),
        3 => Some(MerchantStatus::Rejected),
        _ => None,
    }
}
