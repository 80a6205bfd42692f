//! Short runs against the real program: the books close. `AFFLUX_BINARY` names it; else it is what `cargo build` made.

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
