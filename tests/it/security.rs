//! `docs/security.md` names a test for each threat: here that they exist, and those that had none elsewhere.

use std::path::Path;

use serde_json::Value;

use crate::rig::server::{CATALOG, Start, TOKEN};
use crate::rig::{Server, books};

fn sources() -> String {
    let mut text = String::new();
    let mut folders: Vec<_> = ["src", "tests"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.extension() {
                _ if entry.is_dir() => folders.push(entry),
                Some(extension) if extension == "rs" => text.push_str(&std::fs::read_to_string(&entry).unwrap()),
                _ => {}
            }
        }
    }
    text
}

#[test]
fn every_threat_has_a_test_and_every_named_test_exists() {
    let document = include_str!("../../docs/security.md");
    let table = document.lines().skip_while(|line| !line.starts_with("| threat |"));
    let rows: Vec<&str> = table.skip(2).take_while(|line| line.starts_with("| ")).collect();
    assert!(rows.len() >= 20, "{} threats are too few to be all", rows.len());
    let sources = sources();
    for row in rows {
        // Within backticks a `|` would end the cell for a reader too.
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test is named: {row}");
        let is_there = |name: &&str| sources.contains(&format!("fn {name}("));
        let missing: Vec<&str> = names.into_iter().filter(|name| !is_there(name)).collect();
        assert!(missing.is_empty(), "{missing:?} in {row}");
    }
}

#[test]
fn secrets_are_compared_in_constant_time() {
    for file in ["src/api/access.rs", "src/api/signature.rs", "src/click/keys.rs"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains("ct_eq"), "{file}");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for plain in ["tag ==", "== tag", "hash ==", "== hash", "== expected", "expected ==", "== token", "token =="] {
            assert!(!code.contains(plain), "{file}: {plain}");
        }
    }
}

/// A log is read by more people than the books are, and kept by nobody's rules.
#[test]
fn logs_hold_nothing_of_visitors_and_callers_and_each_line_is_one() {
    let home = tempfile::tempdir().unwrap();
    let environment = vec![("AFFLUX_LOG".to_owned(), "debug".to_owned())];
    let server = Server::start(home.path(), &Start { environment, ..Start::default() });
    let mark = "mark-8a61";
    let headers = [
        ("User-Agent", format!("Agent/{mark}")),
        ("Referer", format!("https://blog.example/{mark}")),
        ("Cookie", format!("aff_vid=mark8a61mark8a61mark__; x={mark}")),
        ("Accept-Language", mark.to_owned()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for target in
        ["/phone", "/nobody-mark-8a61", "/click?offer_id=12&aff_id=34&url=https%3A%2F%2Fmark-8a61%0d%0aevil%2F"]
    {
        server
            .edge()
            .get(&format!("{target}{}sub1={mark}%0d%0aevil", if target.contains('?') { "&" } else { "?" }), &headers);
    }
    let order = serde_json::json!({"order_id": mark, "type": "sale", "amount": 1, "customer_id": mark});
    assert_eq!(server.api().post_json("/v1/conversions", TOKEN, &order).status, 202);
    assert_eq!(server.api().post_json("/v1/conversions", mark, &order).status, 401);
    let signed = format!("t=1,v1={}", "ab".repeat(32));
    let signature = [("Afflux-Signature", signed.as_str()), ("Content-Type", "application/json")];
    server.api().try_request("POST", "/v1/conversions", &signature, mark.as_bytes()).unwrap();
    server.api().get(&format!("/postback?token={mark}&order_id={mark}"), &[]);
    books::wait_for_report(&server, 2, 1, 20);
    let log = server.log();
    for secret in [mark, "mark8a61", "evil", TOKEN, "127.0.0.1:0", &"ab".repeat(32)] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object())), "{log}");
}

#[test]
fn e3_a_path_leads_to_links_alone_and_never_to_a_file() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    for mut door in [server.edge(), server.api(), server.admin()] {
        for target in [
            "/../afflux.toml",
            "/..%2fafflux.toml",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/phone/../../afflux.toml",
            "//etc/passwd",
            "/.%00./afflux.toml",
            "/afflux.toml",
            "/data/afflux.sqlite",
            "/click.keys",
        ] {
            let answer = door.get(target, &[]);
            assert!(matches!(answer.status, 400 | 401 | 404), "{target}: {answer:?}");
            assert!(!answer.text().contains("root:") && !answer.text().contains("[edge]"), "{target}");
        }
    }
}

#[test]
fn e40_what_strangers_say_of_a_proxy_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let config = vec![("privacy", "ip = \"full\"".to_owned())];
    let start = Start { config, catalog: Some(CATALOG.to_owned()), ..Start::default() };
    let server = Server::start(home.path(), &start);
    let said = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.9;proto=https"),
        ("X-Forwarded-Host", "evil.example"),
    ];
    let answer = server.edge().get("/phone", &said);
    assert_eq!(answer.status, 302);
    assert!(!answer.header("set-cookie").unwrap().contains("Secure"), "{answer:?}");
    assert!(!answer.header("location").unwrap().contains("evil"), "{answer:?}");
    assert_eq!(books::spooled(&server)[0]["ip"], "127.0.0.1");
}

#[test]
fn dependencies_come_from_the_registry_alone_each_with_its_checksum() {
    for lock in [include_str!("../../Cargo.lock"), include_str!("../../fuzz/Cargo.lock")] {
        let packages: Vec<&str> = lock.split("[[package]]").skip(1).collect();
        assert!(packages.len() > 100);
        for package in packages.into_iter().filter(|package| !package.contains("\nname = \"afflux")) {
            assert!(package.contains("\nsource = \"registry+") && package.contains("\nchecksum = \""), "{package}");
        }
    }
}
