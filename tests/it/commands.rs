//! Commands: what they print, where, and how they end (contract P1-P4, P16).

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::rig::Server;
use crate::rig::server::{self, Start};

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(server::binary()).args(arguments).output().unwrap()
}

fn with_config(home: &Path, section: &'static str, line: &str) {
    server::write_config(home, &Start { config: vec![(section, line.into())], ..Start::default() });
}

#[test]
fn p2_what_cannot_be_written_ends_with_74_and_a_reader_that_left_with_0() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let id = server.edge().get("/phone", &[]).click_id();
    let config = home.path().join("afflux.toml");
    for arguments in [&["check"][..], &["click", &id], &["spool", "cat"], &["spool", "ls"], &["reconcile"]] {
        let command = |out: Stdio| {
            let mut command = Command::new(server::binary());
            command.args(arguments).arg("--config").arg(&config).stdout(out).output().unwrap()
        };
        let full = command(std::fs::File::options().write(true).open("/dev/full").unwrap().into());
        assert_eq!(full.status.code(), Some(74), "{arguments:?}: {}", error(&full));
        assert!(error(&full).contains("No space left"), "{arguments:?}: {}", error(&full));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let broken = command(writer.into());
        assert_eq!(broken.status.code(), Some(0), "{arguments:?}: {}", error(&broken));
    }
}

#[test]
fn p3_check_writes_the_plan_alone_to_stdout() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("afflux.toml"), "[admin]\nlisten = \"0.0.0.0:9464\"\n").unwrap();
    let output = server::run(home.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(!text(&output).contains("warning") && text(&output).starts_with("edge  "), "{}", text(&output));
    assert!(error(&output).contains("warning: catalog.path: no catalog is configured"), "{}", error(&output));
    assert!(error(&output).contains("warning: admin.listen: 0.0.0.0:9464"), "{}", error(&output));
}

#[test]
fn p3_check_reads_what_the_config_names_and_tells_all_that_is_wrong_together() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let lines = "[edge]\nworkers = 2\nbots_file = \"my.bots\"\n\
                 datacenters_file = \"my.networks\"\n[click]\nkeys_file = \"my.keys\"\n[spool]\nmax_bytes = 4096\n\
                 [catalog]\npath = \"catalog.toml\"\n";
    std::fs::write(path("afflux.toml"), lines).unwrap();
    std::fs::write(path("catalog.toml"), "[[publishers]]\nid = 1\n").unwrap();
    std::fs::write(path("my.keys"), "0:aa\n").unwrap();
    std::fs::write(path("my.networks"), "192.0.2.0/24 # one\n192.0.2.1/24\n").unwrap();
    for command in ["check", "serve"] {
        let output = server::run(home.path(), &[command]);
        let said = error(&output);
        assert_eq!(output.status.code(), Some(64), "{command}: {said}");
        let expected = [
            (path("afflux.toml"), ":3: edge.bots_file: "),
            (path("afflux.toml"), ":8: spool.max_bytes: 4096 bytes are too few; 0 is allowed, or at least 603979776: "),
            (path("catalog.toml"), ":1: publishers.status: missing"),
            (path("my.keys"), ":1: not `NUMBER:HEX`"),
            (
                path("my.networks"),
                ":2: \"192.0.2.1/24\" is no network; ADDRESS/BITS without bits behind them is allowed",
            ),
        ];
        assert_eq!(said.lines().count(), expected.len(), "{command}: {said}");
        for (line, (file, rest)) in said.lines().zip(expected) {
            assert!(line.starts_with(&format!("{file}{rest}")), "{command}: {line}");
        }
    }
    std::fs::remove_file(path("my.keys")).unwrap();
    assert!(error(&server::run(home.path(), &["check"])).contains("afflux.toml:6: click.keys_file: "));
}

#[test]
fn p3_a_port_in_use_is_told_with_the_line_that_names_it() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let lines = format!("[edge]\n\nlisten = \"{address}\"\n[api]\nlisten = \"127.0.0.1:0\"\n");
    std::fs::write(home.path().join("afflux.toml"), lines).unwrap();
    let mut command = Command::new(server::binary());
    command.args(["serve", "--config"]).arg(home.path().join("afflux.toml"));
    let output = command.env("AFFLUX__ADMIN__LISTEN", "203.0.113.1:1").output().unwrap();
    let said = error(&output);
    assert_eq!(output.status.code(), Some(64), "{said}");
    // Both at once, behind what was logged.
    let edge = format!("{}/afflux.toml:3: edge.listen: {address}: ", home.path().display());
    let told = |start: &str| said.lines().any(|line| line.starts_with(start));
    assert!(told(&edge), "{said}");
    assert!(told("environment:1: AFFLUX__ADMIN__LISTEN: 203.0.113.1:1: "), "{said}");
}

#[test]
fn p4_click_shows_what_can_be_read_of_another_version_or_a_cut_id() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let id = server.edge().get("/phone", &[]).click_id();
    for (wrong, version) in [(format!("I{}", &id[1..]), 2), (id[..40].to_owned(), 1), (format!("{id}A"), 1)] {
        let output = server.run(&["click", &wrong]);
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &shown["verified"]), (Some(1), &false.into()), "{wrong}");
        assert_eq!((&shown["version"], &shown["offer_id"]), (&version.into(), &12.into()), "{shown}");
    }
}

#[test]
fn p2_explain_says_what_it_looked_for() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    for (arguments, words) in [
        (&["explain", "nobody-knows"][..], "\"nobody-knows\""),
        (&["explain", "--json", "--order", "1/A-9/lead"], "\"A-9/lead\" of merchant 1"),
    ] {
        let output = server.run(arguments);
        assert_eq!((output.status.code(), text(&output).as_str()), (Some(1), ""));
        assert!(error(&output).contains(words), "{}", error(&output));
    }
}

#[test]
fn v16_spool_commands_name_the_directory() {
    let home = tempfile::tempdir().unwrap();
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let file = home.path().join("afflux.toml");
    with_config(home.path(), "edge", "workers = 1");
    let none = home.path().join("none");
    for command in ["ls", "cat", "verify"] {
        for directory in [&none, &empty, &file] {
            let name = directory.display().to_string();
            let output = run(&["spool", command, &name]);
            assert_eq!(output.status.code(), Some(64), "{command} {name}");
            assert!(error(&output).starts_with(&name), "{command}: {}", error(&output));
        }
        // The configured one: nothing was started yet.
        let output = server::run(home.path(), &["spool", command]);
        assert_eq!(output.status.code(), Some(0), "{command}: {}", error(&output));
        let configured = home.path().join("data/spool").display().to_string();
        assert_eq!(error(&output).contains(&configured), command != "cat", "{command}: {}", error(&output));
    }
    std::fs::create_dir(home.path().join("data")).unwrap();
    std::fs::write(home.path().join("data/spool"), "not a directory").unwrap();
    let output = server::run(home.path(), &["spool", "ls"]);
    assert!(output.status.code() == Some(74) && error(&output).contains("data/spool: "), "{}", error(&output));
}
