//! More connections than there is room for (contract E33, E34, P7, P28), up to a process without file descriptors.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::rig::Server;
use crate::rig::server::Start;

/// Runs the program under this limit of open files, soft or hard.
fn limited(limit: &str) -> Start {
    let words = ["sh", "-c", &format!("ulimit {limit} && exec \"$@\""), "sh"];
    Start { wrapper: words.map(str::to_owned).to_vec(), ..Start::default() }
}

fn crowd(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream
    };
    (0..count).map(connect).collect()
}

/// What a connection hears that asks nothing, or of its own `/healthz`.
fn status(stream: &mut TcpStream) -> String {
    // Who is turned away may hear it before.
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut bytes = [0; 12];
    stream.read_exact(&mut bytes).expect("an answer");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs").count()
}

#[test]
fn e33_the_soft_limit_of_open_files_is_raised() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &limited("-Sn 64"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_ascii_whitespace().filter(|word| !word.contains(char::is_alphabetic)).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
}

#[test]
fn e34_visitors_cannot_take_the_descriptors_of_the_process() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &limited("-n 256"));
    assert!(server.log().contains("limits.connections: 10000 do not fit into the 256 files"), "{}", server.log());
    // Heard before the others come: each worker accepts what the kernel gave to it, so who connects first may be second.
    let mut first = server.edge();
    assert_eq!(first.get("/healthz", &[]).status, 200);
    let inside = crowd(server.edge, 400);
    // Who says nothing comes in after a second (TCP_DEFER_ACCEPT).
    wait_until(|| status(&mut crowd(server.edge, 1)[0]) == "HTTP/1.1 503");
    assert_eq!(first.get("/healthz", &[]).status, 200);
    assert_eq!(server.admin().get("/readyz", &[]).status, 200);
    assert!(open_files(&server) < 200);
    drop((first, inside));
    wait_until(|| status(&mut crowd(server.edge, 1)[0]) == "HTTP/1.1 200");
    let begun = Instant::now();
    let held = crowd(server.edge, 400);
    assert_eq!(server.stop().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(held);
}

#[test]
fn p28_each_503_at_the_connection_limit_is_counted_once() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &limited("-n 256"));
    // The door has 56 places, 7 in which it is heard that there are no more, and all others are turned away unheard.
    let mut everybody = crowd(server.edge, 300);
    let refused = everybody.iter_mut().map(status).filter(|status| *status == "HTTP/1.1 503").count();
    assert_eq!(refused, 300 - 56);
    let page = || server.admin().get("/metrics", &[]).text();
    let counted = |outcome: &str, count: usize| {
        page().contains(&format!("afflux_edge_requests_total{{outcome=\"{outcome}\"}} {count}\n"))
    };
    wait_until(|| counted("overloaded", refused) && counted("health", 56));
}

#[test]
fn e34_p7_without_any_descriptor_left_a_connection_hears_503_and_a_stop_is_heard() {
    let home = tempfile::tempdir().unwrap();
    let start = Start { config: vec![("edge", "workers = 2".into())], ..Start::default() };
    let server = Server::start(home.path(), &start);
    let pid = Pid::from_raw(server.pid() as i32);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let allow = |files: Option<u64>| {
        prlimit(pid, Resource::Nofile, Rlimit { current: files, maximum }).expect("our child");
    };
    wait_until(|| server.admin().get("/readyz", &[]).status == 200);
    allow(Some(open_files(&server) as u64 + 3));
    let mut crowd_of_30 = crowd(server.edge, 30);
    let heard: Vec<String> = crowd_of_30.iter_mut().rev().map(status).collect();
    assert!(heard.iter().filter(|status| *status == "HTTP/1.1 503").count() >= 20, "{heard:?}");
    // Each listener says it once, not for each connection.
    let told = || server.log().matches("connections are turned away").count();
    // Said before the first 503, but the rig reads it on a thread of its own.
    wait_until(|| told() > 0);
    assert!(told() <= 2, "{}", server.log());
    // Whoever is inside goes on, and the next ones are served when there is room again.
    allow(maximum);
    wait_until(|| status(&mut crowd(server.edge, 1)[0]) == "HTTP/1.1 200");
    allow(Some(open_files(&server) as u64));
    let held = crowd(server.edge, 5);
    assert_eq!(server.stop().code(), Some(0));
    drop(held);
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 5 s in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}
