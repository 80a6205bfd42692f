//! What only PostgreSQL can do to us.

use super::*;
use crate::spool::Topic;
use crate::store::{Connection, Mark, OpenError, Place, PostgresUrl, Reader, StoreError, postgres_schema, testing};

#[test]
fn a_reader_finds_no_store_in_an_empty_schema_and_changes_nothing() {
    let home = testing::database();
    assert!(matches!(Reader::open(&home.place), Err(OpenError::Missing(_))));
    drop(Store::open(&home.place).unwrap());
    Reader::open(&home.place).unwrap();
    home.run("UPDATE afflux_schema SET version = 0");
    assert!(matches!(Reader::open(&home.place), Err(OpenError::Older(_))));
}

#[test]
fn a_newer_schema_and_somebody_elses_tables_are_refused_and_left_alone() {
    let home = testing::database();
    drop(Store::open(&home.place).unwrap());
    home.run(&format!("UPDATE afflux_schema SET version = {}", postgres_schema::VERSION + 1));
    let newer = Store::open(&home.place).err().unwrap();
    assert!(matches!(newer, OpenError::Newer { .. }), "{newer}");
    assert!(matches!(Reader::open(&home.place), Err(OpenError::Newer { .. })));

    let home = testing::database();
    home.run("CREATE TABLE notes (text TEXT)");
    assert!(matches!(Store::open(&home.place), Err(OpenError::Foreign(_))));
    assert!(matches!(Reader::open(&home.place), Err(OpenError::Foreign(_))));
    home.run("DROP TABLE notes");
    Store::open(&home.place).unwrap();
}

#[test]
fn p11_several_processes_may_make_the_store_at_once() {
    for _ in 0..5 {
        let home = testing::database();
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..4).map(|_| scope.spawn(|| Store::open(&home.place).map(drop))).collect();
            opened.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
        });
    }
}

#[test]
fn nobody_there_and_no_schema_are_told_without_the_password() {
    let nobody = PostgresUrl::parse("postgresql://afflux:hunter2@127.0.0.1:1/books").unwrap();
    let error = Store::open(&Place::Postgres(nobody)).err().unwrap();
    assert!(matches!(error, OpenError::Postgres { .. }));
    let said = error.to_string();
    assert!(said.starts_with("postgresql://127.0.0.1:1/books: ") && !said.contains("hunter2"), "{said}");

    let home = testing::database();
    home.run(&format!("DROP SCHEMA {}", home.schema()));
    let error = Store::open(&home.place).err().unwrap();
    assert!(matches!(error, OpenError::Unfit { .. }), "{error}");
    testing::admin(&format!("CREATE SCHEMA {}", home.schema()));
}

/// Ends the connection of a store, as a server that is started anew does.
fn cut(store: &Store) {
    let Connection::Postgres(session) = &store.connection else { panic!("a file has no connection") };
    let mut process = 0i64;
    let read = |row: &crate::store::value::Row<'_>| {
        process = row.get(0)?;
        Ok::<(), StoreError>(())
    };
    session.query("SELECT pg_backend_pid()::bigint", &[], read).unwrap();
    testing::admin(&format!("SELECT pg_terminate_backend({process})"));
}

#[test]
fn a_connection_that_ends_before_the_commit_leaves_nothing_and_is_nobodys_record() {
    let home = testing::database();
    let mut store = Store::open(&home.place).unwrap();
    let batch = store.begin().unwrap();
    batch.add_conversion(&new(&report("A"), &clicks(0))).unwrap();
    let mark = Mark { next: 1, ..Mark::new(SpoolId(1), Topic::Conversions) };
    batch.move_mark(&mark, 0).unwrap();
    let process = |batch: &crate::store::Batch<'_>| -> i64 {
        batch.connection.one("SELECT pg_backend_pid()::bigint", &[], |row| row.get(0)).unwrap()
    };
    let process = process(&batch);
    testing::admin(&format!("SELECT pg_terminate_backend({process})"));
    let error = batch.commit().unwrap_err();
    assert!(!error.is_about_the_record(), "{error}");
    // Nor does the connection come back by itself.
    assert!(store.begin().is_err());
    let mut store = Store::open(&home.place).unwrap();
    assert_eq!((store.view().conversion_count().unwrap(), store.view().marks().unwrap().len()), (0, 0));
    // Begun anew, it is applied.
    let batch = store.begin().unwrap();
    batch.move_mark(&mark, 0).unwrap();
    batch.commit().unwrap();
}

#[test]
fn an_answer_to_commit_that_is_lost_is_an_error_and_the_mark_protects() {
    let home = testing::database();
    let mut store = Store::open(&home.place).unwrap();
    let mark = Mark { next: 1, ..Mark::new(SpoolId(1), Topic::Conversions) };
    let apply = |store: &mut Store| -> Result<(), StoreError> {
        let batch = store.begin()?;
        batch.move_mark(&mark, 0)?;
        batch.add_conversion(&new(&report("A"), &clicks(0)))?;
        batch.commit()
    };
    // The server commits, and its answer never comes: it ends itself behind the commit, within one message.
    let batch = store.begin().unwrap();
    batch.move_mark(&mark, 0).unwrap();
    batch.add_conversion(&new(&report("A"), &clicks(0))).unwrap();
    let lost = batch.connection.run("COMMIT; SELECT pg_terminate_backend(pg_backend_pid()); SELECT pg_sleep(5)");
    assert!(lost.is_err());
    drop(batch);
    drop(store);
    let mut store = Store::open(&home.place).unwrap();
    let again = apply(&mut store);
    assert!(matches!(again, Err(StoreError::MarkMoved { .. })), "{again:?}");
    assert_eq!(store.view().conversion_count().unwrap(), 1);
    assert_eq!(store.view().marks().unwrap(), [mark]);
}

#[test]
fn a_transaction_that_failed_is_not_committed_in_silence() {
    let home = testing::database();
    let mut store = Store::open(&home.place).unwrap();
    let batch = store.begin().unwrap();
    batch.add_conversion(&new(&report("A"), &clicks(0))).unwrap();
    assert!(batch.add_conversion(&new(&report("A"), &clicks(0))).is_err());
    assert!(batch.commit().is_err());
    assert_eq!(store.view().conversion_count().unwrap(), 0);
}

#[test]
fn a_broken_connection_is_seen_before_it_is_used() {
    let home = testing::database();
    let store = Store::open(&home.place).unwrap();
    cut(&store);
    let reader = Reader { connection: store.connection };
    assert!(!reader.is_alive());
    assert!(Reader::open(&home.place).unwrap().is_alive());
}

#[test]
fn what_does_not_fit_is_the_records_fault_and_what_others_do_is_not() {
    let home = testing::database();
    let mut store = Store::open(&home.place).unwrap();
    let batch = store.begin().unwrap();
    for (sql, about) in [
        ("INSERT INTO marks VALUES (NULL, '', 0)", true),
        ("SELECT 1 / 0", true),
        ("SELECT 9223372036854775807 + 1", true),
        ("SELECT nothing FROM nowhere", false),
        ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)", false),
        ("SET LOCAL lock_timeout = 0; SELECT 1", false),
    ] {
        let result = batch.attempt(|batch| batch.execute(sql, &[]).map(drop));
        assert_eq!(result.unwrap_err().is_about_the_record(), about, "{sql}");
    }
    // Longer than an index of PostgreSQL takes, and no two letters of it alike enough to be compressed.
    let mut state = 1u64;
    let long: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (state >> 33) as u8 % 26)
    })
    .take(9_000)
    .collect();
    let long = batch.attempt(|batch| batch.add_conversion(&new(&report(&long), &clicks(0))).map(drop));
    assert!(long.unwrap_err().is_about_the_record());
    batch.commit().unwrap();
}

#[test]
fn touches_are_not_kept_here() {
    let home = testing::database();
    let store = Store::open(&home.place).unwrap();
    assert!(matches!(store.view().periods(), Err(StoreError::OnlySqlite)));
}

#[test]
fn a_view_that_is_asked_while_it_shows_rows_says_so() {
    let home = testing::database();
    let mut store = Store::open(&home.place).unwrap();
    let batch = store.begin().unwrap();
    batch.add_refund(&refund("R", "A", json!({})), true).unwrap();
    let view = batch.view();
    let mut nested = None;
    view.each_refund("id-A", (0, 9), |_| nested = Some(view.refunds_waiting())).unwrap();
    assert!(matches!(nested, Some(Err(StoreError::Nested))));
}
