//! An edge behind load balancers, and many who come from one address (contract E32, E33, E40, E41).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::rig::books::spooled;
use crate::rig::client::{Client, raw};
use crate::rig::server::Start;
use crate::rig::tls::{Abilities, TlsClient, able, able_http2};
use crate::rig::{Response, Server};
use crate::tls::{edge_with_certificate, wait_until};
use crate::tls_limits::{connect, read_to_close};

const GET: &[u8] = b"GET /phone HTTP/1.1\r\nHost: afflux.test\r\nUser-Agent: x\r\n\r\n";

/// A server for plain visitors with these lines; addresses are written down whole.
pub fn start(lines: &[(&'static str, &str)]) -> Start {
    let mut start = Start::default();
    start.config.push(("privacy", "ip = \"full\"".into()));
    start.config.extend(lines.iter().map(|(section, line)| (*section, (*line).to_owned())));
    start
}

fn with_tls(home: &Path, lines: &[(&'static str, &str)]) -> Start {
    let mut both = edge_with_certificate(home);
    both.config.extend(start(lines).config);
    both
}

/// A header of PROXY protocol v2: PROXY over TCP/IPv4 from `source`, with `fields` behind the addresses.
fn proxied(source: [u8; 4], fields: &[u8]) -> Vec<u8> {
    let addresses = [&source[..], &[10, 0, 0, 1], &[0x30, 0x39], &[0, 80]].concat();
    let length = ((addresses.len() + fields.len()) as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &addresses, fields].concat()
}

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";

/// The addresses of the clicks that were made, sorted.
pub fn addresses(server: &Server) -> Vec<String> {
    let events = spooled(server);
    let of = events.iter().filter(|event| event["event"] == "click");
    let mut found: Vec<String> = of.filter_map(|event| event["ip"].as_str().map(str::to_owned)).collect();
    found.sort();
    found
}

fn counts(server: &Server, line: &str) -> bool {
    server.admin().get("/metrics", &[]).text().contains(&format!("{line}\n"))
}

pub fn headers(server: &Server, kind: &str, count: usize) -> bool {
    counts(server, &format!("afflux_http_proxy_headers_total{{door=\"edge\",header=\"{kind}\"}} {count}"))
}

#[test]
fn e41_a_listener_of_proxy_protocol_takes_the_address_that_the_header_names() {
    let home = tempfile::tempdir().unwrap();
    let both = "proxy_protocol = [\"listen\", \"tls_listen\"]\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let server = Server::start(home.path(), &with_tls(home.path(), &[("edge", both)]));
    let said = raw(server.edge, &[&proxied([192, 0, 2, 1], b"")[..], GET].concat());
    assert!(said.starts_with("HTTP/1.1 302"), "{said}");
    // In parts, with fields that nobody reads.
    let header = proxied([192, 0, 2, 2], &[4, 0, 200].into_iter().chain([0; 200]).collect::<Vec<u8>>());
    let mut slow = connect(server.edge);
    for part in [&header[..5], &header[5..16], &header[16..40], &header[40..], GET] {
        slow.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(status(&mut slow), "HTTP/1.1 302");
    assert!(raw(server.edge, &[LOCAL, GET].concat()).starts_with("HTTP/1.1 302"));
    let tls = server.edge_tls.unwrap();
    let connect =
        |source, able: &Abilities| TlsClient::connect_after(&proxied(source, b""), tls, "afflux.test", able).unwrap();
    assert_eq!(connect([192, 0, 2, 3], &able()).get("/phone").unwrap().status, 302);
    // And HTTP/2 behind it.
    assert_eq!(connect([192, 0, 2, 4], &able_http2()).session().alpn_protocol(), Some(&b"h2"[..]));
    wait_until(|| headers(&server, "source", 4) && headers(&server, "local", 1));
    assert_eq!(addresses(&server), ["127.0.0.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn e41_without_a_header_in_order_the_connection_is_closed_without_an_answer() {
    let home = tempfile::tempdir().unwrap();
    let both = "proxy_protocol = [\"listen\", \"tls_listen\"]\nworkers = 1";
    let server = Server::start(home.path(), &with_tls(home.path(), &[("edge", both)]));
    let begun = Instant::now();
    let bad: [&[u8]; 5] = [
        GET,
        b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01\0",
    ];
    for address in [server.edge, server.edge_tls.unwrap()] {
        for bytes in bad {
            let mut stream = connect(address);
            stream.write_all(bytes).unwrap();
            assert_eq!(read_to_close(&mut stream), b"", "{bytes:?}");
        }
        let mut long = connect(address);
        long.write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff").unwrap();
        assert_eq!(read_to_close(&mut long), b"");
        drop(connect(address));
    }
    assert!(begun.elapsed() < Duration::from_secs(4));
    wait_until(|| {
        headers(&server, "malformed", 10) && headers(&server, "too_long", 2) && headers(&server, "closed", 2)
    });
    // As long as a head, or a handshake, may take and no longer.
    let begun = Instant::now();
    let (mut plain, mut tls) = (connect(server.edge), connect(server.edge_tls.unwrap()));
    plain.write_all(&proxied([192, 0, 2, 1], b"")[..20]).unwrap();
    assert_eq!(read_to_close(&mut tls), b"");
    assert!((4_000..7_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(read_to_close(&mut plain), b"");
    assert!((9_500..13_500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    wait_until(|| headers(&server, "timed_out", 2) && counts(&server, "afflux_http_connections{door=\"edge\"} 0"));
    assert!(addresses(&server).is_empty());
}

#[test]
fn e41_a_header_from_elsewhere_than_the_trusted_networks_is_closed() {
    let home = tempfile::tempdir().unwrap();
    let lines = "proxy_protocol = [\"listen\"]\ntrusted_proxies = [\"10.0.0.0/8\"]";
    let server = Server::start(home.path(), &start(&[("edge", lines)]));
    assert_eq!(raw(server.edge, &[&proxied([192, 0, 2, 1], b"")[..], GET].concat()), "");
    wait_until(|| headers(&server, "untrusted", 1));
}

#[test]
fn e41_a_normal_listener_refuses_the_header() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &with_tls(home.path(), &[]));
    let bytes = [&proxied([192, 0, 2, 1], b"")[..], GET].concat();
    let said = raw(server.edge, &bytes);
    assert!(said.starts_with("HTTP/1.1 400") && said.matches("HTTP/1.1").count() == 1, "{said}");
    let header = proxied([192, 0, 2, 1], b"");
    assert!(TlsClient::connect_after(&header, server.edge_tls.unwrap(), "afflux.test", &able()).is_err());
    assert!(addresses(&server).is_empty());
}

fn get(server: &Server, headers: &[(&str, &str)]) -> Response {
    server.edge().get("/phone", headers)
}

#[test]
fn e40_e32_what_a_trusted_proxy_says_counts() {
    let home = tempfile::tempdir().unwrap();
    let lines = "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\nredirect_to_https = 443\nhsts = \"max-age=1\"";
    let server = Server::start(home.path(), &start(&[("edge", lines)]));
    let https = ("X-Forwarded-Proto", "https");
    let answer = get(&server, &[https, ("X-Forwarded-For", "198.51.100.9, 192.0.2.1:567, 10.0.0.7")]);
    assert_eq!(answer.status, 302, "no loop: {answer:?}");
    assert!(answer.header("set-cookie").unwrap().contains("; Secure"), "{answer:?}");
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=1"));
    get(&server, &[https, ("X-Forwarded-For", "192.0.2.2"), ("X-Forwarded-For", "10.0.0.7")]);
    get(&server, &[https, ("X-Forwarded-For", "192.0.2.3, unknown")]);
    get(&server, &[https]);
    get(&server, &[https, ("X-Forwarded-For", &["10.0.0.7"; 40].join(", "))]);
    assert_eq!(addresses(&server), ["127.0.0.1", "127.0.0.1", "127.0.0.1", "192.0.2.1", "192.0.2.2"]);
    for plain in [&[][..], &[("X-Forwarded-Proto", "http")]] {
        let answer = get(&server, plain);
        assert_eq!((answer.status, answer.header("location")), (301, Some("https://afflux.test/phone")));
    }
    for (found, count) in [("named", 2), ("malformed", 1), ("absent", 3), ("too_many_hops", 1)] {
        let line = format!("afflux_edge_forwarded_total{{address=\"{found}\"}} {count}");
        wait_until(|| counts(&server, &line));
    }
}

#[test]
fn e40_nobody_else_is_believed_loopback_neither() {
    let said = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https")];
    for lines in ["", "trusted_proxies = [\"10.0.0.0/8\"]"] {
        let home = tempfile::tempdir().unwrap();
        let server = Server::start(home.path(), &start(&[("edge", lines)]));
        let answer = get(&server, &said);
        assert!(!answer.header("set-cookie").unwrap().contains("Secure"), "{answer:?}");
        assert_eq!(addresses(&server), ["127.0.0.1"]);
        let untrusted = format!("afflux_edge_forwarded_total{{address=\"untrusted\"}} {}", u8::from(!lines.is_empty()));
        wait_until(|| counts(&server, &untrusted));
    }
}

#[test]
fn e40_the_source_of_a_proxy_header_is_the_peer_that_is_trusted_or_not() {
    let home = tempfile::tempdir().unwrap();
    let lines = "proxy_protocol = [\"listen\"]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
    let server = Server::start(home.path(), &start(&[("edge", lines)]));
    let request = b"GET /phone HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    for source in [[10, 0, 0, 9], [198, 51, 100, 1]] {
        assert!(raw(server.edge, &[&proxied(source, b"")[..], request].concat()).starts_with("HTTP/1.1 302"));
    }
    assert_eq!(addresses(&server), ["192.0.2.1", "198.51.100.1"]);
}

fn status(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 12];
    stream.read_exact(&mut bytes).expect("an answer");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn without_room(server: &Server, limit: &str, count: usize) -> bool {
    counts(server, &format!("afflux_http_without_room_total{{door=\"edge\",limit=\"{limit}\"}} {count}"))
}

#[test]
fn e33_an_address_has_so_many_connections_at_all_workers_and_listeners() {
    let home = tempfile::tempdir().unwrap();
    let lines = [("edge", "workers = 2"), ("limits", "connections_per_address = 3")];
    let server = Server::start(home.path(), &with_tls(home.path(), &lines));
    let (mut first, mut second) = (server.edge(), server.edge());
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("/phone", &[]).status, 302);
    }
    let mut third = TlsClient::connect(server.edge_tls.unwrap(), "afflux.test", &able()).unwrap();
    assert_eq!(third.get("/phone").unwrap().status, 302);
    let answer = Client::new(server.edge).get("/phone", &[]);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "{answer:?}");
    let mut over_tls = TlsClient::connect(server.edge_tls.unwrap(), "afflux.test", &able()).unwrap();
    let answer = over_tls.read().unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
    wait_until(|| without_room(&server, "connections_per_address", 2) && without_room(&server, "connections", 0));
    // Whoever is inside goes on, and who leaves makes room.
    assert_eq!(first.get("/phone", &[]).status, 302);
    drop((first, over_tls));
    wait_until(|| server.edge().get("/healthz", &[]).status == 200);
}

#[test]
fn e33_one_address_cannot_take_the_places_of_all_others() {
    let home = tempfile::tempdir().unwrap();
    let lines = [
        ("edge", "workers = 1\nproxy_protocol = [\"listen\"]"),
        ("limits", "connections = 20\nconnections_per_address = 5"),
    ];
    let server = Server::start(home.path(), &start(&lines));
    let from = |source: [u8; 4]| {
        let mut stream = connect(server.edge);
        stream.write_all(&proxied(source, b"")).unwrap();
        stream
    };
    let mut inside: Vec<TcpStream> = (0..5).map(|_| from([192, 0, 2, 1])).collect();
    for stream in &mut inside {
        stream.write_all(GET).unwrap();
        assert_eq!(status(stream), "HTTP/1.1 302");
    }
    // They stay for as long as we let them, and some are told unheard.
    let mut greedy = Vec::new();
    for _ in 0..195 {
        let mut stream = from([192, 0, 2, 1]);
        assert_eq!(status(&mut stream), "HTTP/1.1 503");
        greedy.push(stream);
    }
    for number in 0..15 {
        let mut other = from([192, 0, 2, 10 + number]);
        other.write_all(GET).unwrap();
        assert_eq!(status(&mut other), "HTTP/1.1 302", "{number}");
    }
    wait_until(|| without_room(&server, "connections_per_address", 195));
}

#[test]
fn e33_connections_of_trusted_proxies_are_not_counted() {
    let home = tempfile::tempdir().unwrap();
    let lines = [("edge", "trusted_proxies = [\"127.0.0.1\"]"), ("limits", "connections_per_address = 1")];
    let server = Server::start(home.path(), &start(&lines));
    let mut clients: Vec<Client> = (0..10).map(|_| server.edge()).collect();
    assert!(clients.iter_mut().all(|client| client.get("/phone", &[]).status == 302));
    assert!(without_room(&server, "connections_per_address", 0));
}
