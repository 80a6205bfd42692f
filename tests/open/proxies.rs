//! nginx and HAProxy before the edge: where two of them might read the same bytes as other requests, nobody gets what
//! is not theirs, and what is answered is what is counted (contract E38).

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::books::spooled;
use crate::rig::client::raw;
use crate::rig::server::Start;
use crate::rig::{Client, Server};
use crate::{Program, wait_until};

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
         access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
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
    let address = free();
    let text = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n http-reuse always\n\
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

fn redirected(server: &Server) -> usize {
    let page = server.admin().get("/metrics", &[]).text();
    let name = "afflux_edge_requests_total{outcome=\"redirected\"} ";
    page.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}

fn nobody_gets_what_is_not_theirs(server: &Server, proxy: SocketAddr) {
    for (name, request) in ambiguous() {
        let before = spooled(server).len();
        let seen = raw(proxy, request.as_bytes()).matches("HTTP/1.1 302").count();
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
    nobody_gets_what_is_not_theirs(&server, address);
}

#[test]
fn e38_nothing_is_smuggled_through_haproxy() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let (_haproxy, address) = haproxy(home.path(), server.edge);
    nobody_gets_what_is_not_theirs(&server, address);
}

#[test]
fn e38_nothing_is_smuggled_directly() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    nobody_gets_what_is_not_theirs(&server, server.edge);
}
