//! PostgreSQL down, frozen, crowded or quarrelling: lag, and nothing else.

use crate::cluster::{Cluster, Shape};
use crate::crowd::{Crowd, Pace};
use crate::proxy::{Fault, Proxy};
use crate::{alone, books, by_form, random};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 30 };

fn under_load(name: &str, fault: impl FnOnce(&mut Cluster, &Crowd)) {
    let _alone = alone();
    let mut cluster = Cluster::start(name);
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(300, 30);
    fault(&mut cluster, &crowd);
    crowd.wait_for(200, 20);
    let answers = crowd.go_home();
    books::close(&mut cluster, &answers);
}

#[test]
fn a_stopped_database_is_lag() {
    under_load("postgresql-down", |cluster, crowd| {
        cluster.servers.postgresql(&["stop"]);
        crate::sleep_ms(by_form(2_000, 300_000));
        crowd.wait_for(100, 10);
        cluster.shows("attribution", "afflux_store_errors_total", "kind=\"unavailable\"", 0.0);
        cluster.servers.postgresql(&["start"]);
    });
}

#[test]
fn a_frozen_database_is_lag() {
    under_load("postgresql-frozen", |cluster, crowd| {
        cluster.servers.postgresql(&["pause"]);
        crate::sleep_ms(by_form(5_000, 60_000));
        crowd.wait_for(100, 10);
        // Nothing fails: the database is slow without end, and what there is to apply grows old.
        let applied = cluster.attributions_metric("afflux_attribution_clicks_total", "");
        crowd.wait_for(20, 2);
        assert_eq!(cluster.attributions_metric("afflux_attribution_clicks_total", ""), applied);
        cluster.servers.postgresql(&["cont"]);
    });
}

#[test]
fn cut_connections_double_nothing() {
    under_load("postgresql-cut", |cluster, crowd| {
        for _ in 0..by_form(10, 100) {
            cluster.sql(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                 where datname = current_database() and pid <> pg_backend_pid()",
            );
            crowd.wait_for(20, 2);
        }
        cluster.shows("attribution", "afflux_store_errors_total", "kind=\"unavailable\"", 0.0);
    });
}

#[test]
fn no_connection_to_be_had_is_lag() {
    under_load("postgresql-crowded", |cluster, crowd| {
        let name = cluster.sql("select current_database()");
        cluster.servers.postgresql(&["sql", "-c", &format!("alter database \"{name}\" with allow_connections false")]);
        cluster.servers.postgresql(&[
            "sql",
            "-c",
            &format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{name}'"),
        ]);
        crate::sleep_ms(by_form(3_000, 30_000));
        crowd.wait_for(100, 10);
        cluster.shows("attribution", "afflux_store_errors_total", "kind=\"unavailable\"", 0.0);
        cluster.servers.postgresql(&["sql", "-c", &format!("alter database \"{name}\" with allow_connections true")]);
    });
}

/// Held until somebody waits for it, and 1.5 s more.
const LOCK_THE_LEDGER: &str = "
    do $$ begin
        lock table entries in access exclusive mode;
        for look in 1..600 loop
            if exists (select from pg_locks where relation = 'entries'::regclass and not granted) then
                perform pg_sleep(1.5);
                return;
            end if;
            perform pg_sleep(0.1);
        end loop;
        raise exception 'nobody came to the ledger';
    end $$";

/// Somebody else's lock on the whole ledger, for a while.
#[test]
fn a_locked_table_is_lag() {
    under_load("postgresql-locked", |cluster, crowd| {
        for _ in 0..by_form(2, 20) {
            cluster.sql(LOCK_THE_LEDGER);
            crowd.wait_for(50, 5);
        }
    });
}

/// Somebody else takes locks in another order than we: PostgreSQL ends one of both, perhaps us.
#[test]
fn a_deadlock_is_tried_again() {
    under_load("postgresql-deadlock", |cluster, crowd| {
        let deadlocks = |cluster: &Cluster| {
            cluster.sql("select deadlocks from pg_stat_database where datname = current_database()")
        };
        // A transaction of clicks writes both.
        for round in 0..by_form(40, 100) {
            let (first, second) = if round % 2 == 0 { ("click_rollups", "marks") } else { ("marks", "click_rollups") };
            let output = cluster.try_sql(&format!(
                "begin; lock table {first} in share row exclusive mode; select pg_sleep(0.3); \
                 lock table {second} in share row exclusive mode; commit"
            ));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() || said.contains("deadlock detected"), "{said}");
            crowd.wait_for(10, 1);
            if round >= by_form(6, 100) && deadlocks(cluster) != "0" {
                break;
            }
        }
        println!("{} deadlocks", deadlocks(cluster));
        assert_ne!(deadlocks(cluster), "0", "nobody quarrelled");
    });
}

/// The answer to a COMMIT is lost: it may have happened or not, and only the marks know.
#[test]
fn a_lost_answer_to_commit_doubles_nothing() {
    let _alone = alone();
    let servers = crate::servers::Servers::ours();
    let (_, rest) = servers.postgresql.split_once('@').expect("a user");
    let target = rest.split('/').next().expect("an address").to_owned();
    let proxy = Proxy::start("127.0.0.1:0", &target);
    let url = servers.postgresql.replace(&target, &proxy.address);
    let mut cluster = Cluster::start_with("lost-commit", Shape { postgresql: Some(url), ..Shape::default() });
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    let mut random = random::Random::new(random::seed());
    for _ in 0..by_form(12, 100) {
        crowd.wait_for(40, 4);
        crate::sleep_ms(random.below(50));
        // What was sent arrives, its answer does not, and then the connection is gone.
        proxy.set(Fault::HalfOpen);
        crate::sleep_ms(30 + random.below(100));
        proxy.set(Fault::Reset);
        crate::sleep_ms(20);
        proxy.set(Fault::None);
    }
    let answers = crowd.go_home();
    cluster.shows("attribution", "afflux_store_errors_total", "kind=\"unavailable\"", 0.0);
    books::close(&mut cluster, &answers);
}
