//! Credentials that are wrong and rights that are gone: each server refuses us while we run, as after a rotation that went
//! wrong. Visitors and merchants notice nothing, the kind of the outage is shown, nothing is parked, and all of it is
//! drained when the rights are back. (Redis with a changed password: `redis.rs`.)

use crate::cluster::{Cluster, Shape};
use crate::crowd::{Crowd, Pace};
use crate::servers::Servers;
use crate::{alone, books, by_form, random};

const PACE: Pace = Pace { people: 4, rest_ms: 10, orders_percent: 30 };

fn acl(cluster: &Cluster, words: &[&str]) {
    let prefix = format!("{}.", cluster.prefix);
    let mut all = vec!["acl"];
    all.extend(words);
    all.extend(["--topic", &prefix, "--resource-pattern-type", "prefixed"]);
    cluster.servers.kafka(&all);
}

fn assert_nothing_is_parked(cluster: &Cluster) {
    assert_eq!(cluster.edges_count("afflux_shipper_parked_total"), 0.0, "rights are no fault of a record");
}

#[test]
fn a_kafka_that_does_not_let_us_write_is_an_outage() {
    let _alone = alone();
    let mut cluster = Cluster::start("no-write");
    // From now on there are rules for these topics, and what they do not name is forbidden.
    acl(&cluster, &["--add", "--allow-principal", "User:ANONYMOUS", "--operation", "All"]);
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    let write = ["--deny-principal", "User:ANONYMOUS", "--operation", "Write"];
    acl(&cluster, &[&["--add"], &write[..]].concat());
    cluster.shows("edge", "afflux_shipper_errors_total", "kind=\"authorization\"", 0.0);
    crowd.wait_for(100, 10);
    for topic in ["topic=\"clicks\"", "topic=\"conversions\""] {
        cluster.shows("edge", "afflux_shipper_outage", topic, 0.0);
    }
    cluster.shows("edge", "afflux_shipper_lag_records", "", 100.0);
    crate::sleep_ms(by_form(0, 600_000));
    assert_nothing_is_parked(&cluster);
    acl(&cluster, &[&["--remove"], &write[..]].concat());
    crowd.wait_for(100, 10);
    let answers = crowd.go_home();
    assert_nothing_is_parked(&cluster);
    books::close(&mut cluster, &answers);
}

/// Nobody of us may even see the topics: edges cannot write, attributions cannot read.
#[test]
fn a_kafka_that_does_not_know_us_any_more_is_an_outage() {
    let _alone = alone();
    let mut cluster = Cluster::start("no-rights");
    acl(&cluster, &["--add", "--allow-principal", "User:ANONYMOUS", "--operation", "All"]);
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    let all = ["--deny-principal", "User:ANONYMOUS", "--operation", "All"];
    acl(&cluster, &[&["--add"], &all[..]].concat());
    cluster.shows("edge", "afflux_shipper_errors_total", "kind=\"authorization\"", 0.0);
    cluster.shows("attribution", "afflux_topics_errors_total", "", 0.0);
    crowd.wait_for(100, 10);
    crate::sleep_ms(by_form(0, 600_000));
    assert_nothing_is_parked(&cluster);
    acl(&cluster, &[&["--remove"], &all[..]].concat());
    crowd.wait_for(100, 10);
    let answers = crowd.go_home();
    assert_nothing_is_parked(&cluster);
    books::close(&mut cluster, &answers);
}

#[test]
fn a_postgresql_that_refuses_us_is_lag() {
    let _alone = alone();
    let servers = Servers::ours();
    let role = format!("afflux_{}", random::Random::new(random::seed()).next() & 0xffff_ffff);
    let rules = Rules::of(&servers, &role);
    let (scheme, rest) = servers.postgresql.split_once("postgres@").expect("a superuser");
    let postgresql = Some(format!("{scheme}{role}:right@{rest}"));
    let mut cluster = Cluster::make("no-login", Shape { postgresql, ..Shape::default() }, 2, 2);
    cluster.sql(&format!("create role {role} login password 'right'"));
    cluster.sql(&format!("alter database \"{}\" owner to {role}", cluster.database));
    cluster.start_all();
    let crowd = Crowd::with(&cluster, random::seed(), PACE);
    crowd.wait_for(200, 20);
    for (taken, given) in [
        (format!("alter role {role} password 'changed'"), format!("alter role {role} password 'right'")),
        (format!("alter role {role} nologin"), format!("alter role {role} login")),
        (
            format!("revoke all on all tables in schema public from {role}"),
            format!("grant all on all tables in schema public to {role}"),
        ),
    ] {
        let refused = cluster.attributions_metric("afflux_store_errors_total", "kind=\"rights\"");
        cluster.sql(&taken);
        // Who is connected stays so: a rotation is noticed at the next connection.
        cluster.sql(&format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '{role}'"));
        cluster.shows("attribution", "afflux_store_errors_total", "kind=\"rights\"", refused);
        crowd.wait_for(50, 5);
        crate::sleep_ms(by_form(0, 60_000));
        cluster.sql(&given);
        let applied = cluster.attributions_metric("afflux_attribution_clicks_total", "");
        cluster.shows("attribution", "afflux_attribution_clicks_total", "", applied);
    }
    let answers = crowd.go_home();
    assert_nothing_is_parked(&cluster);
    books::close(&mut cluster, &answers);
    cluster.processes().for_each(|process| assert!(!process.log().contains("right@"), "a password in a log"));
    drop(cluster);
    drop(rules);
    Servers::ours().postgresql(&["sql", "-c", &format!("drop role {role}")]);
}

/// The test's PostgreSQL trusts everybody; while these stand in front of its rules one role needs its password.
struct Rules {
    file: String,
    before: String,
}

impl Rules {
    fn of(servers: &Servers, role: &str) -> Rules {
        let file = servers.postgresql(&["sql", "-A", "-t", "-c", "show hba_file"]).trim().to_owned();
        let before = std::fs::read_to_string(&file).expect("the rules of who may connect");
        std::fs::write(&file, format!("host all {role} 127.0.0.1/32 scram-sha-256\n{before}")).expect("written");
        servers.postgresql(&["sql", "-c", "select pg_reload_conf()"]);
        Rules { file, before }
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.file, &self.before);
    }
}
