//! `afflux edge` without a Kafka: what visitors and merchants see does not depend on it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::Server;
use crate::rig::server::{self, Start, TOKEN};

/// A port where nobody listens.
const NOBODY: &str = "bootstrap_servers = \"127.0.0.1:1\"";

const KEYS: &str = "0:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n\
                    visitor:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n";

fn start(home: &Path) -> Start {
    std::fs::write(home.join("click.keys"), KEYS).unwrap();
    let config = vec![("click", "keys_file = \"click.keys\"".into()), ("kafka", NOBODY.into())];
    Start { config, role: Some("edge"), ..Start::default() }
}

/// As in a container, whose config lies where nothing can be written.
#[test]
fn an_edge_needs_no_directory_but_its_spools() {
    let home = tempfile::tempdir().unwrap();
    let environment = vec![("AFFLUX__STORE__PATH".to_owned(), "/dev/null/afflux.sqlite".to_owned())];
    let server = Server::start(home.path(), &Start { environment, ..start(home.path()) });
    assert_eq!(server.edge().get("/phone", &[]).status, 302);
    assert!(server.log().contains("no process can take over from this one"), "{}", server.log());
}

#[test]
fn p17_an_edge_without_keys_or_kafka_does_not_start_and_says_so_at_once() {
    let home = tempfile::tempdir().unwrap();
    server::write_config(home.path(), &Start::default());
    let output = server::run(home.path(), &["edge"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("click.keys_file: not set") && said.contains("kafka.bootstrap_servers: not set"), "{said}");
    let output = server::run(home.path(), &["topics", "check"]);
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn p26_kafka_down_changes_nothing_for_visitors_merchants_and_readiness() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &start(home.path()));
    assert_eq!(server.admin().get("/readyz", &[]).status, 200);
    for _ in 0..20 {
        assert_eq!(server.edge().get("/phone", &[]).status, 302);
    }
    let order = serde_json::json!({"order_id": "A-1", "type": "sale", "amount": 1_250_000});
    let answer = server.api().post_json("/v1/conversions", TOKEN, &order);
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(server.api().get("/v1/reports/performance", &[]).status, 404, "and read on the console");
    let page = || server.admin().get("/metrics", &[]).text();
    let begun = Instant::now();
    while !page().contains("afflux_shipper_lag_records 21\n") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", page());
        std::thread::sleep(Duration::from_millis(50));
    }
    let documented = include_str!("../../docs/metrics.md");
    let page = page();
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<&str> = names.filter(|name| !documented.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
    assert_eq!(server.stop().code(), Some(0));

    let mut draining = Command::new(server::binary())
        .args(["edge", "--drain-only", "--config"])
        .arg(home.path().join("afflux.toml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(draining.try_wait().unwrap().is_none(), "nothing is shipped");
    Command::new("kill").arg(draining.id().to_string()).status().unwrap();
    let output = draining.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("records of") && said.contains("remain"), "{said}");
}

#[test]
fn p1_what_is_not_known_cannot_be_shipped_again() {
    let home = tempfile::tempdir().unwrap();
    server::write_config(home.path(), &start(home.path()));
    std::fs::create_dir_all(home.path().join("data/spool")).unwrap();
    let run = |spool: &str| server::run(home.path(), &["reship", spool, "0"]).status.code();
    assert_eq!((run("00000000000000ff"), run("ff")), (Some(1), Some(64)));
}
