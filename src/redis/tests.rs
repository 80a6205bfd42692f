use std::time::{Duration, Instant};

use ::redis::{Cmd, Value};
use rustix::process::Signal;

use super::testing::{Server, link_to};
use super::*;

fn get(key: &str) -> Cmd {
    let mut command = ::redis::cmd("GET");
    command.arg(key);
    command
}

fn set(key: &str, value: &str) -> Cmd {
    let mut command = ::redis::cmd("SET");
    command.arg(key).arg(value);
    command
}

fn text(value: &str) -> Value {
    Value::BulkString(value.into())
}

#[test]
fn a_late_answer_is_never_taken_for_the_next_ones() {
    let server = Server::start(&[]);
    let mut link = link_to(&server.settings(None).with_timeout(TIMEOUT));
    until_answered(&mut link, &[set("a", "1"), set("b", "2")]);
    let connections = link.metrics().connections.value();
    server.signal(Signal::STOP);
    let begun = Instant::now();
    assert_eq!(link.ask(&[get("a")]), Err(NoAnswer::Unavailable));
    assert!(begun.elapsed() >= TIMEOUT.mul_f64(0.95));
    server.signal(Signal::CONT);
    assert_eq!(until_answered(&mut link, &[get("b")]), [text("2")]);
    assert!(link.metrics().connections.value() > connections, "another one than that which the late answer came by");
    assert_eq!(link.metrics().down.value(), 0);
}

const TIMEOUT: Duration = Duration::from_millis(100);

#[test]
fn a_question_has_its_time_and_in_a_pause_it_is_refused_at_once() {
    let server = Server::start(&[]);
    // A thread that loses its turn is late by no fault of a link: of several links one has it in time.
    let is_in_time = |_| {
        let mut link = link_to(&server.settings(None).with_timeout(TIMEOUT));
        until_answered(&mut link, &[set("a", "1")]);
        let outages = link.metrics().outages.value();
        server.signal(Signal::STOP);
        let took = [(); 2].map(|()| {
            let begun = Instant::now();
            assert_eq!(link.ask(&[get("a")]), Err(NoAnswer::Unavailable));
            begun.elapsed()
        });
        server.signal(Signal::CONT);
        assert_eq!(link.metrics().outages.value() - outages, 1);
        assert!(link.metrics().unanswered.value() >= 2);
        took[0] < 4 * TIMEOUT && took[1] < TIMEOUT / 5
    };
    assert!((0..20).any(is_in_time));
}

fn until_answered(link: &mut Link, commands: &[Cmd]) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        match link.ask(commands) {
            Ok(answers) => return answers,
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(20), "no answer"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_opened_again_unseen() {
    let mut server = Server::start(&[]);
    let mut link = server.link();
    assert!(link.ask(&[get("a")]).is_ok());
    server.start_again();
    assert_eq!(link.ask(&[get("a")]), Ok(vec![Value::Nil]));
    assert_eq!(link.metrics().outages.value(), 0);
    server.kill();
    assert_eq!(link.ask(&[get("a")]), Err(NoAnswer::Unavailable));
    server.start_again();
    assert_eq!(until_answered(&mut link, &[get("a")]), [Value::Nil]);
}

#[test]
fn passwords_open_and_wrong_ones_are_unavailable() {
    let server = Server::start(&["--requirepass", "secret:word", "--user", "anna", "on", ">hers", "~*", "+@all"]);
    for (password, opens) in
        [(Some(":secret:word"), true), (Some("anna:hers"), true), (Some("anna:his"), false), (None, false)]
    {
        let mut link = link_to(&server.settings(password));
        assert_eq!(link.ask(&[get("a")]).is_ok(), opens, "{password:?}");
    }
    let shown = format!("{:?}", server.settings(Some("anna:hers")));
    assert!(!shown.contains("hers") && shown.contains("redacted"), "{shown}");
}

#[test]
fn a_password_file_holds_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    let read = || LinkSettings::read("redis://127.0.0.1:6379/3", Some(&file), Duration::from_millis(20));
    assert!(matches!(read(), Err(SettingsError::PasswordFile { .. })));
    for (content, right) in [("word\n", true), ("user:word", true), ("", false), ("\n", false), ("one\ntwo\n", false)] {
        std::fs::write(&file, content).unwrap();
        assert_eq!(read().is_ok(), right, "{content:?}");
    }
    let url = |url: &str| LinkSettings::new(url, None, Duration::from_millis(20));
    assert!(matches!(url("redis://:hidden@127.0.0.1"), Err(SettingsError::PasswordInUrl)));
    for wrong in ["", "127.0.0.1:6379", "http://127.0.0.1", "rediss://127.0.0.1", "redis://127.0.0.1/x"] {
        let told = url(wrong).expect_err(wrong).to_string();
        assert!(told.starts_with("redis.url"), "{told}");
    }
}

#[test]
fn full_is_told_apart_and_reads_go_on() {
    let server = Server::start(&[]);
    let mut link = server.link();
    link.ask(&[set("a", "1")]).unwrap();
    configure(&mut link, "maxmemory", "1");
    assert_eq!(link.ask(&[set("b", "2")]), Err(NoAnswer::Full));
    let script = Script::new("return redis.call('SET', KEYS[1], 'x')");
    let mut command = script.call(1);
    command.arg("c");
    assert_eq!(link.call(&script, &command), Err(NoAnswer::Full));
    assert_eq!(link.ask(&[get("a")]), Ok(vec![text("1")]));
    assert_eq!((link.metrics().full.value(), link.metrics().outages.value()), (2, 0));
}

fn configure(link: &mut Link, name: &str, value: &str) {
    let mut command = ::redis::cmd("CONFIG");
    command.arg("SET").arg(name).arg(value);
    link.ask(&[command]).unwrap();
}

#[test]
fn a_demoted_or_misconfigured_server_is_unavailable_until_it_is_right_again() {
    let mut server = Server::start(&["--enable-protected-configs", "yes"]);
    let mut link = server.link();
    let replica = |of: &[&str]| {
        let mut command = ::redis::cmd("REPLICAOF");
        command.arg(of);
        command
    };
    link.ask(&[replica(&["127.0.0.1", "1"])]).unwrap();
    assert_eq!(link.ask(&[set("a", "1")]), Err(NoAnswer::Unavailable));
    until_answered(&mut link, &[replica(&["NO", "ONE"])]);
    assert!(link.ask(&[set("a", "1")]).is_ok());
    // Snapshots are wanted and fail: MISCONF.
    configure(&mut link, "save", "3600 1");
    let dead_end = server.directory.path().join("gone");
    std::fs::create_dir(&dead_end).unwrap();
    configure(&mut link, "dir", dead_end.to_str().unwrap());
    std::fs::remove_dir(&dead_end).unwrap();
    link.ask(&[::redis::cmd("BGSAVE")]).unwrap();
    let begun = Instant::now();
    while link.ask(&[set("a", "2")]).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on writing");
        std::thread::sleep(Duration::from_millis(10));
    }
    until_answered(&mut link, &[get("a")]);
    assert_eq!(link.ask(&[set("a", "3")]), Err(NoAnswer::Unavailable));
    server.kill();
}

#[test]
fn a_script_is_loaded_where_it_is_not_known() {
    let server = Server::start(&[]);
    let mut link = server.link();
    let script = Script::new("return ARGV[1]");
    let mut command = script.call(0);
    command.arg("x");
    assert_eq!(link.call(&script, &command), Ok(text("x")));
    let mut flush = ::redis::cmd("SCRIPT");
    flush.arg("FLUSH");
    link.ask(&[flush]).unwrap();
    assert_eq!(link.call(&script, &command), Ok(text("x")));
    assert_eq!(link.metrics().outages.value(), 0);
}
