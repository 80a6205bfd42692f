//! The architecture's absences: who may not know whom, what may not stand where. A new reader relies on them.

use std::path::{Path, PathBuf};

const MOST_LINES: usize = 500;

fn rust_files(below: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("source is UTF-8");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// Lines of code outside `#[cfg(test)] mod tests`, comments left out.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn offenders(places: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in places.iter().flat_map(|place| rust_files_or_file(place)) {
        for line in code(&text).filter(|line| words.iter().any(|word| line.contains(word))) {
            found.push(format!("{}: {}", path.display(), line.trim()));
        }
    }
    found
}

fn rust_files_or_file(place: &str) -> Vec<(PathBuf, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(place);
    if path.is_file() {
        let text = std::fs::read_to_string(&path).expect("source is UTF-8");
        return vec![(path, text)];
    }
    let files: Vec<_> = rust_files(place).into_iter().filter(|(path, _)| !is_test(path)).collect();
    assert!(!files.is_empty(), "{place} does not exist");
    files
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
        || path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("_tests"))
}

#[test]
fn files_have_at_most_500_lines() {
    let long: Vec<String> = ["src", "tests", "benches", "loadtest/src", "loadtest/tests"]
        .iter()
        .flat_map(|place| rust_files(place))
        .filter(|(_, text)| text.lines().count() > MOST_LINES)
        .map(|(path, text)| format!("{}: {}", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn unsafe_stands_in_the_spool_alone() {
    let everywhere: Vec<String> = offenders(&["src"], &["unsafe ", "unsafe{"]);
    let outside: Vec<&String> = everywhere.iter().filter(|line| !line.contains("/src/spool/")).collect();
    assert!(outside.is_empty(), "{outside:#?}");
}

/// Values and rules: what they say depends on their arguments alone.
#[test]
fn pure_modules_know_no_runtime_clock_or_disk() {
    let pure = [
        "src/money.rs",
        "src/time.rs",
        "src/click",
        "src/event",
        "src/catalog/rulebook.rs",
        "src/catalog/ids.rs",
        "src/attribution/facts.rs",
        "src/attribution/decision.rs",
        "src/attribution/decide.rs",
        "src/attribution/reduce.rs",
        "src/attribution/touches.rs",
        "src/commission",
        "src/ledger",
        "src/rollup",
    ];
    let banned = [
        "tokio",
        "axum",
        "hyper",
        "rusqlite",
        "postgres",
        "std::fs",
        "std::net",
        "std::env",
        "SystemTime",
        "Instant::now",
        "crate::clock",
        "crate::store",
        "crate::spool",
        "crate::config",
        "rand::",
        "tracing::",
    ];
    let found = offenders(&pure, &banned);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn imports_run_one_way() {
    // Who, and what they may not know.
    let walls: &[(&[&str], &[&str])] = &[
        (
            &["src/edge"],
            &[
                "crate::store",
                "crate::ledger",
                "crate::attribution",
                "crate::dedupe",
                "crate::intake",
                "crate::report",
                "crate::kafka",
                "crate::shipper",
            ],
        ),
        (
            &["src/intake"],
            &["crate::store", "crate::ledger", "crate::attribution", "crate::edge", "crate::kafka", "crate::shipper"],
        ),
        (
            &["src/shipper"],
            &[
                "crate::edge",
                "crate::intake",
                "crate::store",
                "crate::attribution",
                "crate::ledger",
                "crate::dedupe",
                "crate::catalog",
                "crate::config",
                "crate::report",
                "crate::http",
            ],
        ),
        (
            &["src/kafka"],
            &["crate::edge", "crate::intake", "crate::store", "crate::shipper", "crate::catalog", "crate::config"],
        ),
        (
            &["src/spool"],
            &["crate::edge", "crate::intake", "crate::store", "crate::attribution", "crate::catalog", "crate::config"],
        ),
        (&["src/catalog"], &["crate::edge", "crate::intake", "crate::store", "crate::attribution", "crate::spool"]),
        (&["src/http"], &["crate::edge", "crate::intake", "crate::store", "crate::spool", "crate::catalog"]),
        (
            &["src/tls"],
            &["crate::edge", "crate::intake", "crate::http", "crate::config", "crate::store", "crate::spool"],
        ),
        (
            &["src/store", "src/touch", "src/dedupe", "src/rollup"],
            &["crate::edge", "crate::intake", "crate::report", "crate::http"],
        ),
        (
            &["src/attribution", "src/commission", "src/ledger"],
            &["crate::edge", "crate::intake", "crate::report", "crate::http"],
        ),
        (&["src"], &["crate::role"]),
        (
            &["src/event", "src/click", "src/money.rs", "src/time.rs"],
            &["crate::store", "crate::edge", "crate::intake", "crate::attribution"],
        ),
    ];
    for (places, banned) in walls {
        let found: Vec<String> =
            offenders(places, banned).into_iter().filter(|line| !line.contains("/src/role/")).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn sql_stands_in_the_stores_alone() {
    let found: Vec<String> = offenders(&["src"], &["rusqlite", "postgres::", "tokio_postgres"])
        .into_iter()
        .filter(|line| {
            !["/src/store/", "/src/touch/", "/src/intake/orders", "/src/intake/order"]
                .iter()
                .any(|place| line.contains(place))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// Redis is spoken to over links, and by those that keep something there.
#[test]
fn redis_stands_behind_links() {
    let speak = [
        "/src/redis/",
        "/src/dedupe/shared",
        "/src/touch/shared/",
        "/src/intake/order_index/server.rs",
        "/src/intake/order_index/mod.rs",
        "/src/role/",
    ];
    let found: Vec<String> = offenders(&["src"], &["::redis::", "crate::redis"])
        .into_iter()
        .filter(|line| !speak.iter().any(|place| line.contains(place)))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    // Nor do links know whom they are for.
    let knows = ["crate::touch", "crate::dedupe", "crate::intake", "crate::config", "crate::store", "crate::spool"];
    let found = offenders(&["src/redis"], &knows);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn one_module_produces_one_consumes_and_nobody_else_knows_the_client() {
    let outside = |words: &[&str], place: &str| -> Vec<String> {
        offenders(&["src"], words).into_iter().filter(|line| !line.contains(place)).collect()
    };
    assert_eq!(outside(&["rdkafka"], "/src/kafka/"), [""; 0]);
    assert_eq!(outside(&["rdkafka::producer"], "/src/kafka/producer"), [""; 0]);
    assert_eq!(outside(&["rdkafka::consumer"], "/src/kafka/consumer.rs"), [""; 0]);
}

/// Of every role, also of those that no test here starts.
#[test]
fn every_metric_is_documented() {
    let documented = include_str!("../../docs/metrics.md");
    let mut found = Vec::new();
    for (path, text) in rust_files_or_file("src") {
        // A name is a literal of its own; labels and log lines are not.
        let literals = code(&text).flat_map(|line| line.split('"').skip(1).step_by(2));
        let is_name =
            |text: &&str| text.starts_with("afflux_") && text.chars().all(|c| c == '_' || c.is_ascii_lowercase());
        found.extend(literals.filter(is_name).map(|name| (path.display().to_string(), name.to_owned())));
    }
    assert!(found.len() > 100, "{} names are too few to be all", found.len());
    found.retain(|(_, name)| !documented.contains(&format!("`{name}`")));
    assert!(found.is_empty(), "not in docs/metrics.md: {found:#?}");
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = ["todo!", "unimplemented!", concat!("FIX", "ME"), concat!("XX", "X "), "#[ignore", "dbg!("];
    let mut found = Vec::new();
    for (path, text) in ["src", "tests", "benches", "loadtest/src", "loadtest/tests"].iter().flat_map(|place| rust_files(place)) {
        let lines = text.lines().filter(|line| marks.iter().any(|mark| line.contains(mark)));
        found.extend(lines.map(|line| format!("{}: {}", path.display(), line.trim())));
    }
    let found: Vec<&String> = found.iter().filter(|line| !line.contains("tidy.rs")).collect();
    assert!(found.is_empty(), "{found:#?}");
}
