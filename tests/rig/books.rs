//! The books, as an outsider can count them: spool, rollup, ledger.

use std::collections::{HashMap, HashSet};

use super::Server;
use super::server::OPERATOR;

/// Every event of `afflux spool cat`; panics when it does not end well.
pub fn spooled(server: &Server) -> Vec<serde_json::Value> {
    let output = server.run(&["spool", "cat"]);
    assert!(output.status.success(), "spool cat: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("one event a line")).collect()
}

/// How often each click ID stands in the spool.
pub fn click_ids(events: &[serde_json::Value]) -> HashMap<String, u32> {
    let mut count = HashMap::new();
    for event in events.iter().filter(|event| event["event"] == "click") {
        if let Some(id) = event["click_id"].as_str() {
            *count.entry(id.to_owned()).or_default() += 1;
        }
    }
    count
}

/// No gap in any spool's numbers.
pub fn assert_chains_have_no_gap(events: &[serde_json::Value]) {
    let mut next: HashMap<&str, u64> = HashMap::new();
    for event in events {
        let spool = event["spool"].as_str().expect("spool");
        let expected = next.entry(spool).or_insert_with(|| event["seq"].as_u64().expect("seq"));
        assert_eq!(event["seq"].as_u64(), Some(*expected), "spool {spool}");
        *expected += 1;
    }
}

/// Answered click IDs that do not stand in the spool exactly once.
pub fn missing_or_doubled(answered: &HashSet<String>, events: &[serde_json::Value]) -> Vec<String> {
    let spooled = click_ids(events);
    answered.iter().filter(|id| spooled.get(*id) != Some(&1)).cloned().collect()
}

/// Σ clicks and Σ conversions of the report, everything since 2020.
pub fn reported(server: &Server) -> (u64, u64) {
    let authorization = format!("Bearer {OPERATOR}");
    let target = "/v1/reports/performance?from=2020-01-01&to=2100-01-01&group_by=merchant";
    let response = server.api().get(target, &[("Authorization", &authorization)]);
    assert_eq!(response.status, 200, "{}", response.text());
    let rows = response.json()["rows"].as_array().expect("rows").clone();
    let sum = |name: &str| rows.iter().map(|row| row[name].as_u64().unwrap_or(0)).sum();
    (sum("clicks") + sum("rejected_clicks"), sum("conversions"))
}

/// Waits until the report shows as many clicks and conversions, at most `seconds`.
pub fn wait_for_report(server: &Server, clicks: u64, conversions: u64, seconds: u64) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        let seen = reported(server);
        if seen == (clicks, conversions) {
            return;
        }
        if std::time::Instant::now() > deadline {
            // Whether it is slow or stands still.
            let metrics = server.admin().get("/metrics", &[]).text();
            let consumed: Vec<&str> = metrics.lines().filter(|line| line.starts_with("afflux_attribution_")).collect();
            let (spooled, log) = ((clicks, conversions), server.log());
            panic!("reported {seen:?}, spooled {spooled:?}\n{log}\n{consumed:#?}");
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

pub fn assert_books_close(server: &Server) {
    for command in [&["ledger", "check"][..], &["reconcile"][..]] {
        let output = server.run(command);
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{command:?}: {}{}", said(&output.stdout), said(&output.stderr));
    }
}
