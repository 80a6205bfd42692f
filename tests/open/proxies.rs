//! nginx and HAProxy before the edge: where two of them might read the same bytes as other requests, nobody gets what
//! is not theirs, and what is answered is what is counted (contract E38).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::books::spooled;
use crate::rig::client::raw;
use crate::rig::server::Start;
use crate::rig::{Client, Server};
use crate::{Program, redirected, wait_until};

const SMUGGLED: &str = "GET /phone?sub1=smuggled HTTP/1.1\r\nHost: afflux.test\r\n\r\n";

/// Requests that programs have read in more than one way. What hides in a body is a request `smuggled`.
fn ambiguous() -> Vec<(&'static str, String)> {
    let get =
        |fields: &str, body: &str| format!("GET /phone?sub1=open HTTP/1.1\r\nHost: afflux.test\r\n{fields}\r\n{body}");
    let length = format!("Content-Length: {}\r\n", SMUGGLED.len());
    let chunk_then = format!("0\r\n\r\n{SMUGGLED}");
    let coded = format!("Content-Length: {}\r\nTransfer-Encoding", chunk_then.len());
    let extension = format!("{:x};{}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len(), "x".repeat(100_000));
    vec![
        ("two lengths", get(&format!("Content-Length: 0\r\n{length}"), SMUGGLED)),
        ("two lengths, the other way", get(&format!("{length}Content-Length: 0\r\n"), SMUGGLED)),
        ("a length with a sign", get(&length.replace(": ", ": +"), SMUGGLED)),
        ("length and chunked", get(&format!("{coded}: chunked\r\n"), &chunk_then)),
        ("length and space before chunked's colon", get(&format!("{coded} : chunked\r\n"), &chunk_then)),
        ("length and folded chunked", get(&format!("{coded}:\r\n chunked\r\n"), &chunk_then)),
        ("length and a coding unknown", get(&format!("{coded}: xchunked\r\n"), &chunk_then)),
        ("length and chunked with a tab", get(&format!("{coded}:\tchunked\r\n"), &chunk_then)),
        ("a bare LF before chunked", get(&format!("{length}X: y\nTransfer-Encoding: chunked\r\n"), &chunk_then)),
        ("a huge chunk extension", get("Transfer-Encoding: chunked\r\n", &extension)),
        ("a request in a body", get(&length, SMUGGLED)),
    ]
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn nginx(home: &Path, edge: SocketAddr) -> (Program, SocketAddr) {
    let (address, at) = (free(), home.display());
    let text = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.log;\nevents {{}}\nhttp {{\n\
         log_format of_edge \"$upstream_status\"; access_log {at}/answers of_edge; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
         upstream edge {{ server {edge}; keepalive 4; }}\nserver {{ listen {address}; location / {{\n\
         proxy_pass http://edge; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $host; }} }}\n}}\n"
    );
    std::fs::write(home.join("nginx.conf"), text).unwrap();
    let mut command = program("nginx");
    command.arg("-c").arg(home.join("nginx.conf"));
    (ready(&mut command, address), address)
}

fn haproxy(home: &Path, edge: SocketAddr) -> (Program, SocketAddr) {
    let (address, at) = (free(), home.display());
    let text = format!(
        "global\n stats socket {at}/haproxy.sock\ndefaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n http-reuse always\n\
         frontend door\n bind {address}\n default_backend edge\nbackend edge\n server edge {edge}\n"
    );
    std::fs::write(home.join("haproxy.cfg"), text).unwrap();
    let mut command = program("haproxy");
    command.arg("-db").arg("-f").arg(home.join("haproxy.cfg"));
    (ready(&mut command, address), address)
}

/// Debian keeps servers where only root looks.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

fn ready(command: &mut Command, address: SocketAddr) -> Program {
    let program = Program::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_until("a proxy", || Client::new(address).try_request("GET", "/healthz", &[], b"").is_ok());
    program
}

/// Answers of the edge that nginx has had: of a request several, where it asked again.
fn had_by_nginx(home: &Path) -> u64 {
    let log = std::fs::read_to_string(home.join("answers")).unwrap();
    log.split([' ', ',', ':', '\n']).filter(|status| status.parse::<u16>().is_ok_and(|status| status != 502)).count()
        as u64
}

/// The same of HAProxy, by its own statistics.
fn had_by_haproxy(home: &Path) -> u64 {
    let mut socket = UnixStream::connect(home.join("haproxy.sock")).unwrap();
    socket.write_all(b"show stat\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = rows.next().unwrap();
    let row = rows.find(|row| row[..2] == ["edge", "edge"]).unwrap();
    let answers = names.iter().zip(row).filter(|(name, _)| name.starts_with("hrsp_"));
    answers.map(|(_, count)| count.parse::<u64>().unwrap_or(0)).sum()
}

/// By the edge's own count, whatever the answers were.
fn answered(server: &Server) -> u64 {
    let page = server.admin().get("/metrics", &[]).text();
    let lines = page.lines().filter(|line| line.starts_with("afflux_edge_requests_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// `had`: how many answers of the edge came where it is asked from, when so many came back to us, and of so many clicks
/// none did.
fn nobody_gets_what_is_not_theirs(server: &Server, proxy: SocketAddr, had: impl Fn(u64, u64) -> RangeInclusive<u64>) {
    let (mut answers, mut unseen) = (0, 0);
    for (name, request) in ambiguous() {
        let before = spooled(server).len();
        let text = raw(proxy, request.as_bytes());
        let seen = text.matches("HTTP/1.1 302").count();
        answers += text.matches("HTTP/1.1 ").count() as u64 + 4;
        for number in 0..4 {
            let label = format!("visitor{number}");
            let answer = Client::new(proxy).get(&format!("/phone?sub1={label}"), &[]);
            assert_eq!(answer.location_parameter("aff_sub"), Some(label), "{name}: {answer:?}");
        }
        let events = spooled(server);
        let added = events.len() - before - 4;
        // A proxy may refuse in the middle what it has begun to send; never does one request make two clicks.
        assert!(seen <= added && added <= 1, "{name}: {seen} answers seen, {added} clicks");
        assert!(events.iter().all(|event| event["sub1"] != "smuggled"), "{name}: smuggled");
        assert_eq!(redirected(server), events.len(), "{name}: counted, and in the spool");
        unseen += (added - seen) as u64;
        let (counted, had) = (answered(server), had(answers, unseen));
        assert!(had.contains(&counted), "{name}: {counted} counted, {had:?} came to whoever asked");
    }
    // The absolute form is one request like any other.
    let absolute = "GET http://afflux.test/phone?sub1=open HTTP/1.1\r\nHost: afflux.test\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(proxy, absolute.as_bytes()).matches("HTTP/1.1 302").count(), 1);
}

#[test]
fn e38_nothing_is_smuggled_through_nginx() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let (_nginx, address) = nginx(home.path(), server.edge);
    nobody_gets_what_is_not_theirs(&server, address, |_, _| had_by_nginx(home.path())..=had_by_nginx(home.path()));
}

#[test]
fn e38_nothing_is_smuggled_through_haproxy() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let (_haproxy, address) = haproxy(home.path(), server.edge);
    // What it gives up in the middle it may not have counted, though the edge has answered.
    nobody_gets_what_is_not_theirs(&server, address, |_, unseen| {
        let had = had_by_haproxy(home.path());
        had..=had + unseen
    });
}

#[test]
fn e38_nothing_is_smuggled_directly() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    nobody_gets_what_is_not_theirs(&server, server.edge, |answers, _| answers..=answers);
}
