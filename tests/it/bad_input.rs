//! Bad input and what it gets: every row of `tests/fixtures/bad_input.json` against the running service. Nothing may
//! panic, hang or answer 5xx; every click that was not refused is in the spool exactly once.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::rig::server::{self, Start};
use crate::rig::{Client, Response, Server, books, client};

/// More of everything that can be refused, beside the demo catalog.
const MORE: &str = r#"
[[offers]]
id = 13
merchant_id = 1
name = "Paused"
status = "paused"
landing_url = "https://shop.example/paused"
[[offers.terms]]
from = 2020-01-01T00:00:00Z
window_days = 10
model = "last_click"
default_rate = "1%"

[[offers]]
id = 14
merchant_id = 1
name = "Ended"
status = "ended"
landing_url = "https://shop.example/ended"
[[offers.terms]]
from = 2020-01-01T00:00:00Z
window_days = 10
model = "last_click"
default_rate = "1%"

[[offers]]
id = 15
merchant_id = 1
name = "Not yet"
status = "active"
landing_url = "https://shop.example/later"
[[offers.terms]]
from = 2099-01-01T00:00:00Z
window_days = 10
model = "last_click"
default_rate = "1%"

[[publishers]]
id = 36
name = "Sent away"
status = "suspended"
contract_signed = false
"#;

#[derive(Deserialize, Debug)]
struct Row {
    name: String,
    rule: String,
    door: String,
    method: Option<String>,
    target: Option<String>,
    target_repeat: Option<(String, String, usize)>,
    headers: Option<serde_json::Map<String, Value>>,
    header_repeat: Option<(String, String, usize)>,
    header_count: Option<usize>,
    body: Option<String>,
    body_repeat: Option<(String, String, usize, String)>,
    batch: Option<usize>,
    sign: Option<i64>,
    raw: Option<String>,
    status: Vec<u16>,
    pointer: Option<String>,
    location_starts: Option<String>,
    flag: Option<String>,
    reject: Option<String>,
    event: Option<bool>,
    outcome: Option<String>,
}

impl Row {
    fn target(&self) -> String {
        match &self.target_repeat {
            Some((start, again, times)) => format!("{start}{}", again.repeat(*times)),
            None => self.target.clone().expect("a target"),
        }
    }

    fn body(&self) -> String {
        if let Some((start, again, times, end)) = &self.body_repeat {
            return format!("{start}{}{end}", again.repeat(*times));
        }
        if let Some(count) = self.batch {
            let one = json!({"order_id": "B", "type": "sale", "amount": 1});
            return json!({ "conversions": vec![one; count] }).to_string();
        }
        self.body.clone().unwrap_or_default()
    }

    fn headers(&self, body: &str) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = match (&self.headers, self.door.as_str(), self.sign) {
            (Some(given), ..) => {
                given.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().into())).collect()
            }
            (None, "api", None) => vec![
                ("Content-Type".into(), "application/json".into()),
                ("Authorization".into(), format!("Bearer {}", server::TOKEN)),
            ],
            (None, "api", Some(offset_s)) => {
                vec![
                    ("Content-Type".into(), "application/json".into()),
                    ("Afflux-Signature".into(), signature(offset_s, body)),
                ]
            }
            _ => vec![(
                "User-Agent".into(),
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".into(),
            )],
        };
        if let Some((name, again, times)) = &self.header_repeat {
            headers.push((name.clone(), again.repeat(*times)));
        }
        headers.extend((0..self.header_count.unwrap_or(0)).map(|n| (format!("X-{n}"), "1".into())));
        headers
    }
}

fn signature(offset_s: i64, body: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + offset_s;
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"demo-signing-secret-1");
    let tag = hmac::sign(&key, format!("{now}.{body}").as_bytes());
    format!("t={now},v1={}", data_encoding::HEXLOWER.encode(tag.as_ref()))
}

fn ask(server: &Server, row: &Row) -> Response {
    let address = if row.door == "edge" { server.edge } else { server.api };
    let body = row.body();
    let headers = row.headers(&body);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let method = row.method.as_deref().unwrap_or("GET");
    let answer = Client::new(address).try_request(method, &row.target(), &headers, body.as_bytes());
    answer.unwrap_or_else(|error| panic!("{}: no answer: {error}", row.name))
}

fn ask_raw(server: &Server, row: &Row, bytes: &str) -> Result<(), String> {
    // One byte for one character: the table can say bytes from 0x80.
    let bytes: Vec<u8> = bytes.chars().map(|character| character as u8).collect();
    let answer = client::raw(server.edge, &bytes);
    let status = answer.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    match status {
        Some(code) if row.status.contains(&code) => Ok(()),
        _ => Err(format!("{} ({}): {:?} instead of {:?}", row.name, row.rule, answer.lines().next(), row.status)),
    }
}

fn check(row: &Row, response: &Response, new_events: &[Value]) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{} ({}): {what}", row.name, row.rule));
    if !row.status.contains(&response.status) {
        return wrong(format!("{} instead of {:?}: {}", response.status, row.status, response.text()));
    }
    if let Some(start) = &row.location_starts
        && !response.header("location").is_some_and(|location| location.starts_with(start.as_str()))
    {
        return wrong(format!("Location {:?}", response.header("location")));
    }
    if let Some(pointer) = &row.pointer {
        let problem = response.json();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        if !errors.iter().any(|error| error["pointer"] == pointer.as_str()) {
            return wrong(format!("no error at {pointer:?}: {problem}"));
        }
    }
    if row.door == "edge"
        && response.header("cache-control") != Some("no-store")
        && response.status != 400
        && response.status != 431
    {
        return wrong(format!("Cache-Control {:?}", response.header("cache-control")));
    }
    if let Some(expected) = row.event {
        let clicks: Vec<&Value> = new_events.iter().filter(|event| event["event"] == "click").collect();
        if clicks.len() != usize::from(expected) {
            return wrong(format!("{} click events", clicks.len()));
        }
        if let Some(reject) = &row.reject
            && (clicks[0]["reject"] != reject.as_str()
                || clicks[0].get("click_id").is_some()
                || clicks[0]["billable"] != false)
        {
            return wrong(format!("event {}", clicks[0]));
        }
        if let Some(flag) = &row.flag
            && !clicks[0]["flags"].as_array().is_some_and(|flags| flags.iter().any(|known| known == flag.as_str()))
        {
            return wrong(format!("flags {}", clicks[0]["flags"]));
        }
    }
    Ok(())
}

#[test]
fn every_row_of_the_table_gets_its_answer() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../fixtures/bad_input.json")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let catalog = Some(format!("{}{MORE}", server::CATALOG));
    let server = Server::start(home.path(), &Start { catalog, ..Start::default() });
    let mut failures = Vec::new();
    let mut seen = 0;
    let mut expected_outcomes = Vec::new();
    for row in &rows {
        if let Some(bytes) = &row.raw {
            failures.extend(ask_raw(&server, row, bytes).err());
            seen = books::spooled(&server).len();
            continue;
        }
        let response = ask(&server, row);
        let mut new_events = Vec::new();
        if row.door == "edge" {
            // By spool and number the newest may stand anywhere: what was not there before is new.
            let events = books::spooled(&server);
            let count = events.len() - seen;
            seen = events.len();
            new_events = newest(events, count);
        }
        if let Some(outcome) = &row.outcome {
            expected_outcomes.push((
                row,
                response.json()["conversion_id"].as_str().unwrap_or_default().to_owned(),
                outcome,
            ));
        }
        if response.status >= 500 {
            failures.push(format!("{}: {}", row.name, response.status));
        }
        failures.extend(check(row, &response, &new_events).err());
        if row.door == "api" {
            seen = books::spooled(&server).len();
        }
    }
    for (row, id, outcome) in expected_outcomes {
        failures.extend(wait_for_reason(&server, &id, outcome).err().map(|seen| format!("{}: {seen}", row.name)));
    }
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), rows.len(), failures.join("\n"));
    assert_eq!(server.admin().get("/readyz", &[]).status, 200);
    books::assert_books_close(&server);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

fn newest(mut events: Vec<Value>, count: usize) -> Vec<Value> {
    let at = |event: &Value| event["clicked_at_ms"].as_i64().or(event["received_at_ms"].as_i64()).unwrap_or(0);
    events.sort_by_key(at);
    events.split_off(events.len() - count)
}

fn wait_for_reason(server: &Server, id: &str, reason: &str) -> Result<(), String> {
    let authorization = format!("Bearer {}", server::TOKEN);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let seen = server.api().get(&format!("/v1/conversions/{id}"), &[("Authorization", &authorization)]).json();
        if seen["reason"] == reason {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            return Err(seen.to_string());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
