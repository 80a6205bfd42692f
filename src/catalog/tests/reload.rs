//! Contract P9, P21, P22: the running catalog stays until a better one is there.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use arc_swap::Cache;

use super::*;
use crate::clock::ManualClock;
use crate::metrics::Page;
use crate::time::TimeMs;

fn now() -> TimeMs {
    TimeMs::parse_rfc3339("2026-11-24T00:00:00Z").unwrap()
}

fn with_link(code: &str) -> String {
    format!("{EXAMPLE}\n[[links]]\ncode = \"{code}\"\noffer_id = 12\npublisher_id = 34\n")
}

fn metrics(current: &Current) -> String {
    let mut page = Page::default();
    current.write_metrics(&mut page);
    page.finish()
}

#[test]
fn p21_a_bad_reload_leaves_the_running_snapshot() {
    let home = Home::with(EXAMPLE);
    let current = Current::load(Some(&home.path("catalog.toml")), false).unwrap();
    let mut reader = Cache::new(current.handle());
    assert!(current.changed().is_none());
    home.write("catalog.toml", EXAMPLE.replace("id = 12", "id = \"x\""));
    assert!(current.changed().is_some());
    assert!(current.reload(now()).is_err());
    // Refused, it is not tried again each second.
    assert!(current.changed().is_none());
    assert!(reader.load().link(b"phone").is_some());
    assert!(metrics(&current).contains("afflux_catalog_last_reload_successful 0\n"));
    home.write("catalog.toml", with_link("more"));
    current.reload(now()).unwrap();
    assert!(reader.load().link(b"more").is_some());
    assert!(current.handle().load().link(b"more").is_some());
    let metrics = metrics(&current);
    for line in [
        "afflux_catalog_last_reload_successful 1",
        "afflux_catalog_reloads_total{result=\"success\"} 1",
        "afflux_catalog_reloads_total{result=\"failure\"} 1",
        "afflux_catalog_entries{kind=\"links\"} 2",
        "afflux_catalog_entries{kind=\"coupons\"} 1",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{metrics}");
    }
}

#[test]
fn what_was_missing_or_refers_to_others_is_watched_too() {
    let home = Home::with(EXAMPLE);
    let current = Current::load(Some(&home.path("catalog.toml")), false).unwrap();
    home.write("demo-shop.signing", "rotated\ndemo-signing-secret-1\n");
    assert!(current.changed().is_some());
    current.reload(now()).unwrap();
    assert_eq!(current.handle().load().merchant(MerchantId(1)).unwrap().signing_secrets[0], b"rotated");
    home.write("catalog.toml", format!("links_file = \"links.ndjson\"\n{EXAMPLE}"));
    assert!(current.reload(now()).is_err());
    assert!(current.changed().is_none());
    home.write("links.ndjson", "");
    assert!(current.changed().is_some());
}

#[test]
fn p22_terms_in_force_change_only_when_allowed() {
    let book = |text: &str| loaded(load_text(text)).snapshot.rulebook;
    let running = book(EXAMPLE);
    let changes = |from: &str, to: &str| changed_terms(&running, &book(&EXAMPLE.replacen(from, to, 1)), now()).len();
    assert_eq!(changes("default_rate = \"12%\"", "default_rate = \"11%\""), 1);
    assert_eq!(changes("hold_days = 14", "hold_days = 15"), 1);
    // The campaign lies ahead.
    assert_eq!(changes("default_rate = \"15%\"", "default_rate = \"16%\""), 0);
    assert_eq!(changes("status = \"active\"", "status = \"paused\""), 0);

    let home = Home::with(EXAMPLE);
    let path = home.path("catalog.toml");
    let (strict, lenient) = (Current::load(Some(&path), false).unwrap(), Current::load(Some(&path), true).unwrap());
    home.write("catalog.toml", EXAMPLE.replacen("default_rate = \"12%\"", "default_rate = \"11%\"", 1));
    let said = strict.reload(now()).unwrap_err().to_string();
    assert!(said.contains("catalog.toml:29: offers.terms: offer 12, in force at 2025-12-31T20:30:00.000Z: "), "{said}");
    assert!(said.contains("default_rate \"12%\" is \"11%\"; "), "{said}");
    lenient.reload(now()).unwrap();
}

#[test]
fn a_replaced_snapshot_is_not_dropped_by_a_reader() {
    let home = Home::with(EXAMPLE);
    let current = Current::load(Some(&home.path("catalog.toml")), false).unwrap();
    let mut reader = Cache::new(current.handle());
    let first = Arc::downgrade(reader.load());
    current.reload(now()).unwrap();
    assert!(!current.drop_replaced());
    reader.load();
    assert!(first.upgrade().is_some());
    assert!(current.drop_replaced());
    assert!(first.upgrade().is_none());
}

#[test]
fn p9_the_watcher_reloads_when_asked_and_when_files_change() {
    let home = Home::with(EXAMPLE);
    let current = Current::load(Some(&home.path("catalog.toml")), false).unwrap();
    let clock = ManualClock::at(now());
    let mut reader = Cache::new(current.handle());
    let mut arrives = |code: &str| {
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while reader.load().link(code.as_bytes()).is_none() {
            assert!(std::time::Instant::now() < until, "{code} did not arrive");
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let (ask, asked) = mpsc::sync_channel::<()>(1);
        scope.spawn(|| watch(&current, Some(Duration::from_millis(5)), &{ asked }, &clock));
        home.write("catalog.toml", with_link("first"));
        arrives("first");
        drop(ask);
    });
    std::thread::scope(|scope| {
        let (ask, asked) = mpsc::sync_channel(1);
        scope.spawn(|| watch(&current, None, &{ asked }, &clock));
        home.write("catalog.toml", with_link("second"));
        ask.send(()).unwrap();
        arrives("second");
        drop(ask);
    });
}
