//! Opening a database of PostgreSQL: whose it is, which version, and making the tables. They lie in the first schema of
//! the connection's `search_path`, which is `public` unless the URL says otherwise.

use super::postgres::Session;
use super::postgres_schema::{MIGRATIONS, VERSION, VERSION_TABLE};
use super::value::{Row, params};
use super::{OpenError, Place, PostgresUrl, StoreError};

/// Who makes the tables holds this lock ("Aflx").
const LOCK: i64 = 0x4166_6c78;

/// Connects and brings the tables up to date.
pub fn open(url: &PostgresUrl) -> Result<Session, OpenError> {
    let session = connect(url, true)?;
    match found(&session, url)? {
        Found::Version(VERSION) => Ok(session),
        Found::Version(found) if found > VERSION => Err(newer(url, found)),
        Found::Version(_) | Found::Nothing => {
            let made = migrate(&session, url);
            if made.is_err() {
                // Nothing of it stays; when even that fails, the connection's end does it.
                let _ = session.run("ROLLBACK");
            }
            made.map(|()| session)
        }
        Found::Others => Err(OpenError::Foreign(place(url))),
    }
}

/// Connects to an existing store of this version; changes nothing in it.
pub fn open_to_read(url: &PostgresUrl) -> Result<Session, OpenError> {
    let session = connect(url, false)?;
    match found(&session, url)? {
        Found::Version(VERSION) => Ok(session),
        Found::Version(found) if found > VERSION => Err(newer(url, found)),
        Found::Version(_) => Err(OpenError::Older(place(url))),
        Found::Nothing => Err(OpenError::Missing(place(url))),
        Found::Others => Err(OpenError::Foreign(place(url))),
    }
}

fn connect(url: &PostgresUrl, writes: bool) -> Result<Session, OpenError> {
    Session::connect(url.config(), writes).map_err(|source| OpenError::Postgres { place: place(url), source })
}

enum Found {
    Nothing,
    Version(i64),
    /// Tables, and none of ours.
    Others,
}

fn found(session: &Session, url: &PostgresUrl) -> Result<Found, OpenError> {
    let store = |source| OpenError::Store { place: place(url), source };
    let unfit = |why: &str| OpenError::Unfit { place: place(url), why: why.to_owned() };
    let one = |sql: &str, read: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>| {
        session.query(sql, params![], read).map_err(store)
    };
    let (mut encoding, mut schema) = (String::new(), None::<String>);
    one("SELECT current_setting('server_encoding'), current_schema()::text", &mut |row| {
        (encoding, schema) = (row.get(0)?, row.get(1)?);
        Ok(())
    })?;
    if encoding != "UTF8" {
        return Err(unfit("the database's encoding is not UTF8"));
    }
    if schema.is_none() {
        return Err(unfit("search_path names no schema that exists"));
    }
    let (mut ours, mut tables) = (0, 0);
    // Tables of extensions are nobody's.
    let count = "SELECT count(*) FILTER (WHERE relname = 'afflux_schema'), count(*) FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT EXISTS
             (SELECT 1 FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')";
    one(count, &mut |row| {
        (ours, tables) = (row.get::<i64>(0)?, row.get::<i64>(1)?);
        Ok(())
    })?;
    match (ours, tables) {
        (0, 0) => Ok(Found::Nothing),
        (0, _) => Ok(Found::Others),
        _ => version(session).map(Found::Version).map_err(store),
    }
}

fn version(session: &Session) -> Result<i64, StoreError> {
    let none = || StoreError::Unreadable { what: "version", why: "there is none".into() };
    session.first("SELECT version FROM afflux_schema", params![], |row| row.get(0))?.ok_or_else(none)
}

/// All steps in one transaction. Another process may be at the same: who gets the lock makes them, the other sees that
/// nothing is left to do.
fn migrate(session: &Session, url: &PostgresUrl) -> Result<(), OpenError> {
    let store = |source| OpenError::Store { place: place(url), source };
    session.run("BEGIN ISOLATION LEVEL READ COMMITTED").map_err(store)?;
    session.run(&format!("SELECT pg_advisory_xact_lock({LOCK})")).map_err(store)?;
    let done = match found(session, url)? {
        Found::Others => return Err(OpenError::Foreign(place(url))),
        Found::Version(found) if found > VERSION => return Err(newer(url, found)),
        Found::Version(found) => found,
        Found::Nothing => {
            session.run(VERSION_TABLE).map_err(store)?;
            0
        }
    };
    for sql in MIGRATIONS.iter().skip(usize::try_from(done).unwrap_or(0)) {
        session.run(sql).map_err(store)?;
    }
    session.execute("UPDATE afflux_schema SET version = ?1", params![VERSION]).map_err(store)?;
    session.commit().map_err(store)
}

fn place(url: &PostgresUrl) -> Place {
    Place::Postgres(url.clone())
}

fn newer(url: &PostgresUrl, found: i64) -> OpenError {
    OpenError::Newer { place: place(url), found, known: VERSION }
}
