//! Signals and the drain, seen from outside (contract P7-P9).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::Server;
use crate::rig::server::{self, Start, TOKEN};

/// A start that hangs where it reads its catalog: the catalog is a pipe.
struct Starting {
    child: Child,
    catalog: std::fs::File,
}

impl Starting {
    fn begin(home: &std::path::Path) -> Starting {
        server::write_config(home, &Start::default());
        let catalog = home.join("catalog.toml");
        std::fs::remove_file(&catalog).unwrap();
        assert!(Command::new("mkfifo").arg(&catalog).status().unwrap().success());
        let mut command = Command::new(server::binary());
        command.args(["serve", "--config"]).arg(home.join("afflux.toml")).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // Returns when the other side reads.
        let catalog = std::fs::File::options().write(true).open(&catalog).unwrap();
        Starting { child, catalog }
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap().success()
        );
    }
}

#[test]
fn p7_sigterm_during_the_start_ends_with_0() {
    for name in ["TERM", "INT"] {
        let home = tempfile::tempdir().unwrap();
        let mut starting = Starting::begin(home.path());
        starting.signal(name);
        let status = starting.child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{name}");
    }
}

#[test]
fn p9_sighup_during_the_start_does_not_end_it() {
    let home = tempfile::tempdir().unwrap();
    let mut starting = Starting::begin(home.path());
    starting.signal("HUP");
    starting.catalog.write_all(server::CATALOG.as_bytes()).unwrap();
    drop(starting.catalog);
    let log = BufReader::new(starting.child.stderr.take().unwrap());
    assert!(log.lines().map_while(Result::ok).any(|line| line.contains("listening")), "it ended");
    // It is remembered: the catalog is read once more, and the pipe opened for it.
    let again = std::fs::File::options().write(true).open(home.path().join("catalog.toml"));
    assert!(again.is_ok());
    assert!(Command::new("kill").arg(starting.child.id().to_string()).status().unwrap().success());
    assert_eq!(starting.child.wait().unwrap().code(), Some(0));
}

#[test]
fn p8_while_draining_every_answer_is_the_last_of_its_connection() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let body = r#"{"order_id":"D-1","type":"sale","amount":1}"#;
    let mut stream = BufReader::new(TcpStream::connect(server.api).unwrap());
    let head = format!(
        "POST /v1/conversions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100 "), "{line}");
    server.signal("TERM");
    // Once it is closed the door knows that it drains.
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(server.api).is_ok() {
        assert!(Instant::now() < deadline, "the listener stays open");
        std::thread::sleep(Duration::from_millis(5));
    }
    let ready = server.admin().get("/readyz", &[]);
    assert_eq!((ready.status, ready.header("connection")), (503, Some("close")));
    let alive = server.admin().get("/livez", &[]);
    assert_eq!((alive.status, alive.header("connection")), (200, Some("close")));
    stream.get_mut().write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let answer = answer.trim_start().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 202 ") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
}
