//! Every test of the store runs on both back ends.

use std::sync::atomic::{AtomicU32, Ordering};

use super::value::Value;
use super::{Place, PostgresUrl, Store, sqlite};

/// A place for one test: a file in a directory of its own, or a schema of its own. Gone with this.
pub struct Home {
    pub place: Place,
    kept: Kept,
}

enum Kept {
    /// Removed when dropped.
    Directory {
        _directory: tempfile::TempDir,
    },
    Schema(String),
}

thread_local! {
    static STATEMENTS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

pub fn count_statement() {
    STATEMENTS.with(|statements| statements.set(statements.get() + 1));
}

/// Statements that this thread has sent to PostgreSQL so far, each of them a round trip; preparing one counts too.
pub fn statements() -> u64 {
    STATEMENTS.with(std::cell::Cell::get)
}

/// One of each kind.
pub fn homes() -> [Home; 2] {
    [file(), database()]
}

pub fn file() -> Home {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(directory.path().join("afflux.sqlite"));
    Home { place, kept: Kept::Directory { _directory: directory } }
}

pub fn database() -> Home {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let schema = format!("test_{}_{number}", std::process::id());
    admin(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}"));
    let url = server();
    let sign = if url.contains('?') { '&' } else { '?' };
    let url = PostgresUrl::parse(&format!("{url}{sign}application_name={schema}&options=-c%20search_path%3D{schema}"))
        .unwrap();
    Home { place: Place::Postgres(url), kept: Kept::Schema(schema) }
}

/// Statements of somebody with all rights on the test's server.
pub fn admin(sql: &str) {
    apart(|| postgres::Client::connect(&server(), postgres::NoTls).unwrap().batch_execute(sql).unwrap());
}

/// On a thread of its own: a test may run within a runtime, where a connection to PostgreSQL may neither be used nor end.
pub fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Copies all rows of a file into a database, but touches, and what the file may hold of them: what reads must then answer
/// the same. For tests that fill a store by the consumer of `serve`.
pub fn copy(file: &Place, database: &Home) {
    let Place::Sqlite(path) = file else { panic!("copied from a file") };
    apart(|| {
        let (from, to) = (rusqlite::Connection::open(path).unwrap(), Store::open(&database.place).unwrap());
        let tables = "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace
             AND relkind = 'r' AND relname NOT IN ('afflux_schema', 'outbox', 'entries')";
        let mut tables: Vec<String> = to.connection.rows(tables, &[], |row| row.get(0)).unwrap();
        to.connection.run("ALTER TABLE entries DISABLE TRIGGER ALL; DELETE FROM entries").unwrap();
        to.connection.run("ALTER TABLE entries ENABLE TRIGGER ALL").unwrap();
        tables.push("entries".into());
        tables.iter().for_each(|table| copy_table(&from, &to, table));
    });
}

fn copy_table(from: &rusqlite::Connection, to: &Store, table: &str) {
    if table != "entries" {
        to.connection.run(&format!("DELETE FROM {table}")).unwrap();
    }
    let mut read = from.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let (names, width) = (read.column_names().join(", "), read.column_count());
    let places: Vec<String> = (1..=width).map(|place| format!("?{place}")).collect();
    let insert = format!("INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({})", places.join(", "));
    let mut rows = read.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let values: Vec<Value<'_>> = (0..width).map(|column| sqlite::column(row, column).unwrap()).collect();
        to.connection.execute(&insert, &values).unwrap();
    }
}

/// A file's tables as somebody else sees them, to break what the store holds.
pub fn run_in_file(place: &Place, sql: &str) {
    let Place::Sqlite(path) = place else { panic!("a file") };
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn server() -> String {
    std::env::var("AFFLUX_TEST_POSTGRESQL")
        .expect("AFFLUX_TEST_POSTGRESQL is the URL of a PostgreSQL server for tests: run this by scripts/servers/with")
}

impl Home {
    /// Of a database.
    pub fn schema(&self) -> &str {
        match &self.kept {
            Kept::Schema(schema) => schema,
            Kept::Directory { .. } => panic!("a file has no schema"),
        }
    }

    /// The tables as somebody else sees them, to break what the store holds.
    pub fn run(&self, sql: &str) {
        match (&self.place, &self.kept) {
            (Place::Sqlite(_), _) => run_in_file(&self.place, sql),
            (Place::Postgres(_), Kept::Schema(schema)) => admin(&format!("SET search_path = {schema}; {sql}")),
            (Place::Postgres(_), Kept::Directory { .. }) => unreachable!("a database has a schema"),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Kept::Schema(schema) = &self.kept {
            admin(&format!("DROP SCHEMA {schema} CASCADE"));
        }
    }
}
