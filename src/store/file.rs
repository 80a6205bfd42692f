//! Opening a file of SQLite: whose it is, which version, and how it is set up.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::schema::{MIGRATIONS, VERSION};
use super::{OpenError, Place};

/// "Aflx": tells our files from those of others that happen to be SQLite.
const APPLICATION_ID: i64 = 0x4166_6c78;

/// How long a statement waits for a lock. Only checkpoints and a second process ever hold one.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Statements are few and fixed, but for those that name a table of touches.
const CACHED_STATEMENTS: usize = 512;

/// Opens or makes the store and brings its schema up to date.
pub fn open(path: &Path) -> Result<Connection, OpenError> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        let failed = |source| OpenError::File { place: place(directory), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let sqlite = |source| OpenError::Sqlite { place: place(path), source };
    let mut connection = Connection::open(path).map_err(sqlite)?;
    connection.busy_timeout(BUSY_WAIT).map_err(sqlite)?;
    let found = version(&connection, path)?;
    set_up(&connection).map_err(sqlite)?;
    migrate(&mut connection, found).map_err(sqlite)?;
    Ok(connection)
}

/// Opens an existing store of this version; changes nothing in it.
pub fn open_to_read(path: &Path) -> Result<Connection, OpenError> {
    if !path.try_exists().map_err(|source| OpenError::File { place: place(path), source })? {
        return Err(OpenError::Missing(place(path)));
    }
    let sqlite = |source| OpenError::Sqlite { place: place(path), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(BUSY_WAIT).map_err(sqlite)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    match version(&connection, path)? {
        0 => Err(OpenError::Missing(place(path))),
        VERSION => Ok(connection),
        _ => Err(OpenError::Older(place(path))),
    }
}

fn place(path: &Path) -> Place {
    Place::Sqlite(path.to_owned())
}

/// The schema's version, 0 for an empty file; refuses what is not ours or not known yet.
fn version(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let number = |sql: &str| -> Result<i64, OpenError> {
        connection.query_row(sql, [], |row| row.get(0)).map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::Foreign(place(path)),
            _ => OpenError::Sqlite { place: place(path), source },
        })
    };
    // As of one moment: another process may be making the store.
    let moment = connection.unchecked_transaction();
    let _moment = moment.map_err(|source| OpenError::Sqlite { place: place(path), source })?;
    let application = number("PRAGMA application_id")?;
    let found = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    match (application, found, tables) {
        (0, 0, 0) => Ok(0),
        (APPLICATION_ID, 1..=VERSION, _) => Ok(found),
        (APPLICATION_ID, _, _) => Err(OpenError::Newer { place: place(path), found, known: VERSION }),
        _ => Err(OpenError::Foreign(place(path))),
    }
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    // FULL: a commit is on disk when it returns; only then may the spool forget a record. At the size of our batches it
    // costs nothing over NORMAL (measured). The write-ahead log is copied back every 16 MiB, and cut to that size.
    write_ahead(connection)?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4096;
         PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;
         PRAGMA foreign_keys = OFF;",
    )?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(())
}

/// This one change does not wait for a lock by itself: another process may be making the same store.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let until = Instant::now() + BUSY_WAIT;
    loop {
        match connection.execute_batch("PRAGMA journal_mode = WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

fn migrate(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        // Another process may have opened the same file at the same moment: who gets the lock makes the step.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if done > step as i64 {
            continue;
        }
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", step + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Reader, Store};

    #[test]
    fn opens_again_what_it_made_and_reads_beside_the_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/afflux.sqlite");
        assert!(matches!(Reader::open(&place(&path)), Err(OpenError::Missing(_))));
        let first = Store::open(&place(&path)).unwrap();
        Reader::open(&place(&path)).unwrap();
        drop(first);
        Store::open(&place(&path)).unwrap();
    }

    #[test]
    fn p11_several_processes_may_make_the_store_at_once() {
        for _ in 0..20 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("afflux.sqlite");
            std::thread::scope(|scope| {
                let opened: Vec<_> = (0..4).map(|_| scope.spawn(|| Store::open(&place(&path)).map(drop))).collect();
                opened.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
            });
        }
    }

    #[test]
    fn refuses_a_newer_file_and_a_foreign_one_and_changes_neither() {
        let directory = tempfile::tempdir().unwrap();
        let newer = directory.path().join("newer");
        drop(Store::open(&place(&newer)).unwrap());
        Connection::open(&newer).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert!(matches!(Store::open(&place(&newer)), Err(OpenError::Newer { .. })));

        let foreign = directory.path().join("foreign");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
        let before = std::fs::read(&foreign).unwrap();
        assert!(matches!(Store::open(&place(&foreign)), Err(OpenError::Foreign(_))));
        assert_eq!(std::fs::read(&foreign).unwrap(), before);

        let text = directory.path().join("text");
        std::fs::write(&text, "not a database at all, but long enough to be looked at ".repeat(20)).unwrap();
        assert!(matches!(Store::open(&place(&text)), Err(OpenError::Foreign(_))));
    }

    #[test]
    fn a_store_of_an_older_version_is_brought_up_to_date() {
        use crate::click::VisitorKey;
        use crate::store::{OpenUntil, RowId};
        use crate::time::TimeMs;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch("INSERT INTO visitors (visitor, until_ms, conversion) VALUES (7, 50, 3)").unwrap();
        drop(old);
        assert!(matches!(Reader::open(&place(&path)), Err(OpenError::Older(_))));
        let store = Store::open(&place(&path)).unwrap();
        // Its conversions are found by clicks however early.
        let found = store.view().conversions_open_to(VisitorKey(7), (TimeMs(1), TimeMs(1)), None, 9).unwrap();
        assert_eq!(found, [OpenUntil { until: TimeMs(50), id: RowId(3) }]);
        Reader::open(&place(&path)).unwrap();
    }
}
