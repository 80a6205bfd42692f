//! Short runs against the real program: the books close. `AFFLUX_BINARY` names it; else it is what `cargo build` made.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn afflux() -> PathBuf {
    let named = std::env::var_os("AFFLUX_BINARY").map(PathBuf::from);
    let binary = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/afflux"));
    assert!(binary.exists(), "{} is not there: `cargo build` makes it", binary.display());
    binary
}

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_afflux-loadtest")).args(arguments).output().expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs it in a directory of its own; what it wrote.
fn run(name: &str, arguments: &[&str]) -> serde_json::Value {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (binary, out_text) = (afflux(), out.to_string_lossy().into_owned());
    let always = ["--afflux", &*binary.to_string_lossy(), "--out", &out_text];
    let output = loadtest(&[&["run"], arguments, &always].concat());
    assert!(output.status.success(), "{}", said(&output));
    let outcome = std::fs::read(out.join("outcome.json")).expect("an outcome");
    assert!(!out.join("server").exists(), "what the server wrote is removed where all is right");
    serde_json::from_slice(&outcome).expect("JSON")
}

fn books(outcome: &serde_json::Value) -> &serde_json::Value {
    let rounds = outcome["subjects"][0]["rounds"].as_array().expect("rounds");
    rounds.iter().map(|round| &round["books"]).find(|books| books.is_object()).expect("a round with books")
}

#[test]
fn the_books_close_after_a_closed_loop() {
    let outcome = run("peak", &["peak", "--seconds", "1"]);
    let books = books(&outcome);
    let answered = books["answered"].as_u64().expect("a number");
    assert!(answered > 100, "{books}");
    assert_eq!((&books["recorded"], &books["reported"]), (&answered.into(), &answered.into()));
    let round = &outcome["subjects"][0]["rounds"][0];
    assert!(round["cpu_micros_per_click"].as_f64() > Some(0.0), "{}", round["cpu_micros_per_click"]);
    assert!(round["memory_kib"].as_u64() > Some(1_000) && round["planned_rate"].is_null());
}

#[test]
fn every_cent_of_a_second_of_orders_is_right() {
    let outcome = run("conversions", &["conversions", "--seconds", "1", "--rate", "300"]);
    let books = books(&outcome);
    let money = books["money"].as_array().expect("sums");
    assert!(!money.is_empty() && books["problems"] == serde_json::json!([]), "{books}");
    for sum in money {
        assert!(sum["expected"].as_i64() > Some(0) && sum["expected"] == sum["reported"], "{sum}");
    }
    let rounds = outcome["subjects"][0]["rounds"].as_array().expect("rounds");
    assert_eq!(rounds[0]["planned_rate"], 300.0);
    assert_eq!(rounds[0]["answered"], 300);
    assert!(rounds[1]["answered"].as_u64() > Some(5), "orders and refunds: {}", rounds[1]["answered"]);
}

/// Redirects with one and the same click ID, records nothing, and its report is empty.
fn liar() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines().map_while(Result::ok);
                while let Some(request) = lines.next() {
                    while lines.next().is_some_and(|line| !line.is_empty()) {}
                    let answer = if request.contains("/v1/reports") {
                        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{\"rows\":[]}".to_owned()
                    } else {
                        // Version 1, offer 12, publisher 34.
                        let id = format!("EAAAAAAAAAAAAAwAAAAi{}", "A".repeat(28));
                        let cookie = "c".repeat(22);
                        format!(
                            "HTTP/1.1 302 Found\r\nLocation: https://shop.example/?click_id={id}\r\n\
                             Set-Cookie: aff_vid={cookie}\r\nContent-Length: 0\r\n\r\n"
                        )
                    };
                    let closes = answer.contains("Connection: close");
                    if (&stream).write_all(answer.as_bytes()).is_err() || closes {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[test]
fn a_server_that_answers_and_records_nothing_fails_the_run_and_every_lost_click_is_named_by_its_place() {
    let scenario = Path::new(env!("CARGO_TARGET_TMPDIR")).join("liar.toml");
    let text = "title = 'liar'\nabout = 'a'\n[mix]\nconversion_percent = 0\nreturning_percent = 0\n\
                [[stages]]\nname = 's'\nseconds = 0.5\nrate_per_s = 100\n";
    std::fs::write(&scenario, text).expect("a file");
    let (url, out) = (liar(), Path::new(env!("CARGO_TARGET_TMPDIR")).join("liar"));
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/catalog.toml");
    let [scenario, out, catalog] = [&scenario, &out, &catalog].map(|path| path.to_string_lossy().into_owned());
    let output = loadtest(&[
        "run",
        &scenario,
        "--edge",
        &url,
        "--console",
        &url,
        "--catalog",
        &catalog,
        "--out",
        &out,
        "--patience",
        "0",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let outcome = std::fs::read(Path::new(&out).join("outcome.json")).expect("an outcome");
    let outcome: serde_json::Value = serde_json::from_slice(&outcome).expect("JSON");
    let books = books(&outcome);
    assert_eq!((&books["answered"], &books["reported"]), (&50.into(), &0.into()));
    let problems: Vec<&str> =
        books["problems"].as_array().expect("a list").iter().filter_map(|line| line.as_str()).collect();
    let named = problems.iter().filter(|line| line.starts_with("publisher 34, sub1 s") && line.ends_with("are lost"));
    assert!(named.count() > 5, "{problems:#?}");
}

#[test]
fn what_cannot_be_run_is_told_with_64() {
    let output = loadtest(&["run", "no-such-scenario"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("conversions"), "{}", said(&output));
    let scenario = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.toml");
    std::fs::write(&scenario, "title = 't'\nabout = 'a'\nstages = []\nload_per_s = 3\n").expect("a file");
    let output = loadtest(&["run", &scenario.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("line 4") && said(&output).contains("load_per_s"), "{}", said(&output));
}
