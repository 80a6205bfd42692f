//! Every test of the store runs on both back ends.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Place, PostgresUrl};

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
    let url = PostgresUrl::parse(&format!("{url}{sign}options=-c%20search_path%3D{schema}")).unwrap();
    Home { place: Place::Postgres(url), kept: Kept::Schema(schema) }
}

/// Statements of somebody with all rights on the test's server.
pub fn admin(sql: &str) {
    postgres::Client::connect(&server(), postgres::NoTls).unwrap().batch_execute(sql).unwrap();
}

fn server() -> String {
    std::env::var("AFFLUX_TEST_POSTGRESQL")
        .expect("AFFLUX_TEST_POSTGRESQL is the URL of a PostgreSQL server for tests: run this by scripts/servers/with")
}

impl Home {
    /// The tables as somebody else sees them, to break what the store holds.
    pub fn run(&self, sql: &str) {
        match (&self.place, &self.kept) {
            (Place::Sqlite(path), _) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
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
