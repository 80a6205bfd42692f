//! Commands, exit codes, signals, readiness (contract P).

use crate::rig::server::{self, Start};
use crate::rig::{Server, client};

fn exit_code(arguments: &[&str]) -> Option<i32> {
    let output = std::process::Command::new(server::binary()).args(arguments).output().unwrap();
    output.status.code()
}

#[test]
fn p2_bad_usage_is_64() {
    for arguments in
        [&["nonsense"][..], &["settle"], &["edge"], &["serve", "--port", "1"], &["serve", "--config", "/nowhere"]]
    {
        assert_eq!(exit_code(arguments), Some(64), "{arguments:?}");
    }
    assert_eq!(exit_code(&["--help"]), Some(0));
    assert_eq!(exit_code(&["--version"]), Some(0));
}

#[test]
fn p2_a_port_in_use_is_64() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    server::write_config(home.path(), &Start::default());
    for section in ["EDGE", "API", "ADMIN"] {
        let variable = format!("AFFLUX__{section}__LISTEN");
        let mut command = std::process::Command::new(server::binary());
        command.args(["serve", "--config"]).arg(home.path().join("afflux.toml")).env(variable, address.to_string());
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{section}: {error}");
        assert!(error.contains(&address.to_string()), "{section}: {error}");
    }
}

#[test]
fn p2_serve_refuses_a_store_that_it_would_not_use() {
    let home = tempfile::tempdir().unwrap();
    let start = Start { config: vec![("postgresql", "url_file = \"url\"".into())], ..Start::default() };
    server::write_config(home.path(), &start);
    let output = server::run(home.path(), &["serve"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{error}");
    assert!(error.contains("postgresql.url_file: ") && error.contains("only leaving it out is allowed"), "{error}");
}

#[test]
fn p14_an_unknown_variable_or_key_is_refused() {
    let home = tempfile::tempdir().unwrap();
    server::write_config(home.path(), &Start::default());
    let mut command = std::process::Command::new(server::binary());
    command.args(["check", "--config"]).arg(home.path().join("afflux.toml")).env("AFFLUX__EDGE__COLOUR", "red");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("AFFLUX__EDGE__COLOUR"));
    let start = Start { config: vec![("kafka", "colour = \"red\"".into())], ..Start::default() };
    server::write_config(home.path(), &start);
    let output = server::run(home.path(), &["check"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{error}");
    assert!(error.contains("afflux.toml:") && error.contains("kafka"), "{error}");
}

#[test]
fn p4_click_decodes_and_verifies() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let id = server.edge().get("/phone", &[]).click_id();
    let good = server.run(&["click", &id]);
    let shown: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!((good.status.code(), &shown["verified"], &shown["publisher_id"]), (Some(0), &true.into(), &34.into()));
    let mut forged = id.into_bytes();
    forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    for wrong in [forged.as_str(), "short", "-----"] {
        let bad = server.run(&["click", wrong]);
        let shown: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
        assert_eq!((bad.status.code(), &shown["verified"]), (Some(1), &false.into()), "{wrong}");
    }
}

#[test]
fn p17_keys_are_made_once_and_kept_secret() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let first = Server::start(home.path(), &Start::default()).edge().get("/phone", &[]).click_id();
    let keys = home.path().join("data/click.keys");
    assert_eq!(std::fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    let server = Server::start(home.path(), &Start::default());
    assert!(server.run(&["click", &first]).status.success());
}

#[test]
fn p9_sighup_reloads_the_catalog_and_a_bad_one_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    assert_eq!(server.edge().get("/tablet", &[]).status, 404);
    let more = format!("{}\n[[links]]\ncode = \"tablet\"\noffer_id = 12\npublisher_id = 34\n", server::CATALOG);
    std::fs::write(home.path().join("catalog.toml"), &more).unwrap();
    server.signal("HUP");
    let status = || server.edge().get("/tablet", &[]).status;
    wait_until(|| status() == 302);
    std::fs::write(home.path().join("catalog.toml"), more.replace("window_days = 10", "window_days = \"x\"")).unwrap();
    server.signal("HUP");
    let page = || server.admin().get("/metrics", &[]).text();
    wait_until(|| page().contains("afflux_catalog_last_reload_successful 0"));
    assert_eq!(status(), 302);
    assert_eq!(server.admin().get("/readyz", &[]).status, 200);
}

#[test]
fn p9_sighup_reloads_the_keys_and_old_ids_stay_good() {
    let home = tempfile::tempdir().unwrap();
    let file = |lines: &[&str]| {
        let lines: Vec<String> =
            lines.iter().map(|line| line.replace('*', &line[line.len() - 1..].repeat(63))).collect();
        std::fs::write(home.path().join("click.keys"), lines.join("\n").replace(' ', "")).unwrap();
    };
    file(&["0:*1", "visitor:*3"]);
    let start = Start { config: vec![("click", "keys_file = \"click.keys\"".into())], ..Start::default() };
    let server = Server::start(home.path(), &start);
    let first = server.edge().get("/phone", &[]).click_id();
    file(&["7:*2", "0:*1", "visitor:*3"]);
    server.signal("HUP");
    let key_of_a_new_id = || {
        let id = server.edge().get("/phone", &[]).click_id();
        afflux::click::ClickId::decode(&id).unwrap().key_number()
    };
    wait_until(|| key_of_a_new_id() == 7);
    let page = || server.admin().get("/metrics", &[]).text();
    assert!(page().contains("afflux_click_keys_last_reload_successful 1"));
    file(&["8:*4", "visitor:*5"]);
    server.signal("HUP");
    wait_until(|| page().contains("afflux_click_keys_last_reload_successful 0"));
    assert!(page().contains("afflux_click_keys_reloads_total{result=\"failure\"} 1"), "{}", page());
    assert_eq!(key_of_a_new_id(), 7);
    file(&["7:*2", "0:*1", "visitor:*3"]);
    server.signal("HUP");
    wait_until(|| page().contains("afflux_click_keys_last_reload_successful 1"));
    assert!(server.run(&["click", &first]).status.success());
}

#[test]
fn p7_sigterm_ends_with_0_and_the_listeners_are_closed() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let edge = server.edge;
    assert!(client::raw(edge, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("ok"));
    assert_eq!(server.stop().code(), Some(0));
    assert!(std::net::TcpStream::connect(edge).is_err());
}

#[test]
fn p27_every_metric_is_documented() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let documented = include_str!("../../docs/metrics.md");
    let page = server.admin().get("/metrics", &[]).text();
    let missing: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !documented.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
    for name in [
        "afflux_edge_requests_total",
        "afflux_edge_request_seconds_bucket",
        "afflux_spool_records_total",
        "afflux_spool_unsynced_bytes",
        "afflux_spool_used_ratio",
        "afflux_spool_undurable_total",
        "afflux_attribution_lag_seconds",
        "afflux_ledger_imbalance 0",
        "process_cpu_seconds_total",
        "afflux_build_info",
    ] {
        assert!(page.contains(name), "{name} is not exported");
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited 5 s in vain");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
