//! Certificates, versions, sessions and reloads, with a client that tells what it was given (contract E32, E39, P8, P9,
//! P12).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SignatureScheme};

use crate::rig::books::{assert_books_close, spooled, wait_for_report};
use crate::rig::server::{self, Start, TOKEN};
use crate::rig::tls::{TlsClient, able, certificate, make_certificate, of_schemes, of_version};
use crate::rig::{Client, Server};

/// A pair for the edge in `home`, and what makes a server use it.
pub fn edge_with_certificate(home: &Path) -> Start {
    make_certificate(home, "edge", "DNS:afflux.test", "ecdsa");
    let edge = "tls_listen = \"127.0.0.1:0\"\ntls_certificate_file = \"edge.crt\"\ntls_key_file = \"edge.key\"";
    Start { config: vec![("edge", edge.into())], ..Start::default() }
}

fn more(mut start: Start, section: &'static str, line: &str) -> Start {
    start.config.push((section, line.to_owned()));
    start
}

pub fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 20 s in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn p12_a_client_gets_the_certificate_that_it_asks_for_and_can_verify() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("certificates");
    std::fs::create_dir(&directory).unwrap();
    make_certificate(&directory, "first", "DNS:first.test", "ecdsa");
    make_certificate(&directory, "shop-ecdsa", "DNS:shop.test,DNS:*.shop.test", "ecdsa");
    make_certificate(&directory, "shop-rsa", "DNS:shop.test", "rsa");
    let edge = "tls_listen = \"127.0.0.1:0\"\ntls_directory = \"certificates\"";
    let start = Start { config: vec![("edge", edge.into())], ..Start::default() };
    let server = Server::start(home.path(), &start);
    let address = server.edge_tls.unwrap();
    let shown = |name: &str, able| TlsClient::connect(address, name, &able).unwrap().certificate();
    let only_rsa = of_schemes(&[SignatureScheme::RSA_PSS_SHA256]);
    for (name, abilities, expected) in [
        ("first.test", able(), "first"),
        ("shop.test", able(), "shop-ecdsa"),
        ("shop.test", only_rsa, "shop-rsa"),
        ("shop.test", of_version(&TLS12), "shop-ecdsa"),
        ("www.shop.test", able(), "shop-ecdsa"),
        ("unknown.test", able(), "first"),
        ("127.0.0.1", able(), "first"),
    ] {
        assert!(shown(name, abilities) == certificate(&directory, expected), "{name}: not {expected}");
    }
    let checked = server.run(&["check"]);
    let plan = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(plan.contains(": shop.test *.shop.test (ecdsa, until 20") && plan.contains(": shop.test (rsa, "), "{plan}");
}

#[test]
fn e39_tls_1_2_and_1_3_alone_and_a_browser_and_curl_are_served() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let address = server.edge_tls.unwrap();
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut client = TlsClient::connect(address, "afflux.test", &of_version(version)).unwrap();
        assert_eq!(client.session().protocol_version(), Some(expected));
        assert_eq!(client.session().alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(client.get("/phone").unwrap().status, 302);
    }
    // A ClientHello of TLS 1.1, and of 1.0: a fatal alert, handshake_failure or protocol_version (RFC 8446 6.2).
    for minor in [2_u8, 1] {
        let body: Vec<u8> = [&[3, minor][..], &[7; 32], &[0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0, 0, 0]].concat();
        let handshake = [&[1, 0, 0, body.len() as u8][..], &body].concat();
        let record = [&[0x16, 3, 1, 0, handshake.len() as u8][..], &handshake].concat();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&record).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(matches!(answer[..], [0x15, 3, _, 0, 2, 2, 40 | 70]), "{answer:?}");
    }
    let url = format!("https://afflux.test:{}/phone", address.port());
    let resolve = format!("afflux.test:{}:127.0.0.1", address.port());
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "--resolve", &resolve, "--cacert"]);
    let output = curl.arg(home.path().join("edge.crt")).arg(&url).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("302 https://"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let page = server.admin().get("/metrics", &[]).text();
    let line = "afflux_tls_handshakes_total{door=\"edge\",version=\"1.2\",resumed=\"false\"} 1\n";
    assert!(page.contains(line) && page.contains("door=\"edge\",kind=\"incompatible\"} 2\n"), "{page}");
}

#[test]
fn e32_p27_over_tls_the_cookie_is_secure_hsts_is_said_and_all_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let start = more(edge_with_certificate(home.path()), "edge", "hsts = \"max-age=600; includeSubDomains\"");
    let server = Server::start(home.path(), &start);
    let mut client = TlsClient::connect(server.edge_tls.unwrap(), "afflux.test", &able()).unwrap();
    let answer = client.get("/phone").unwrap();
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"), "{answer:?}");
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=600; includeSubDomains"));
    assert_eq!(client.get("/nobody").unwrap().header("strict-transport-security").map(str::len), Some(30));
    let plain = server.edge().get("/phone", &[]);
    assert!(plain.header("strict-transport-security").is_none(), "{plain:?}");
    assert!(!plain.header("set-cookie").unwrap().contains("Secure"), "{plain:?}");
    for _ in 0..200 {
        assert_eq!(client.get("/phone").unwrap().status, 302);
    }
    wait_for_report(&server, 202, 0, 60);
    assert_eq!(spooled(&server).iter().filter(|event| event["event"] == "click").count(), 202);
    assert_books_close(&server);
    let documented = include_str!("../../docs/metrics.md");
    let page = server.admin().get("/metrics", &[]).text();
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<&str> = names.filter(|name| !documented.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty() && page.contains("afflux_tls_certificate_expires_timestamp_seconds{"), "{missing:?}");
}

#[test]
fn a_session_is_resumed_at_any_worker() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &more(edge_with_certificate(home.path()), "edge", "workers = 4"));
    for version in [&TLS12, &TLS13] {
        let abilities = of_version(version);
        for number in 0..20 {
            let mut client = TlsClient::connect(server.edge_tls.unwrap(), "afflux.test", &abilities).unwrap();
            assert_eq!(client.get("/phone").unwrap().status, 302);
            assert_eq!(client.is_resumed(), number > 0, "{version:?}: connection {number}");
            if version.version == ProtocolVersion::TLSv1_3 {
                assert_eq!(client.session().tls13_tickets_received(), 1);
            }
        }
    }
    // Each worker has a spool of its own.
    let events = spooled(&server);
    let workers: std::collections::HashSet<&str> = events.iter().filter_map(|event| event["spool"].as_str()).collect();
    assert!(workers.len() > 1, "one worker served them all");
    let page = server.admin().get("/metrics", &[]).text();
    assert!(
        page.contains("afflux_tls_handshakes_total{door=\"edge\",version=\"1.3\",resumed=\"true\"} 19\n"),
        "{page}"
    );
}

/// Whatever goes wrong, nobody is waited for who waits for this.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn p9_certificates_are_replaced_without_a_request_that_fails() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let address = server.edge_tls.unwrap();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let reloaded = |result: &str, count: u32| {
        let page = server.admin().get("/metrics", &[]).text();
        page.contains(&format!("afflux_tls_reloads_total{{door=\"edge\",result=\"{result}\"}} {count}\n"))
    };
    std::thread::scope(|scope| {
        let _stops = Stops(&stop);
        for stays in [true, true, false] {
            let (stop, answered) = (&stop, &answered);
            scope.spawn(move || {
                let connect = || TlsClient::connect(address, "afflux.test", &able()).expect("a handshake");
                let mut client = connect();
                while !stop.load(SeqCst) {
                    assert_eq!(client.get("/phone").expect("an answer").status, 302);
                    answered.fetch_add(1, SeqCst);
                    if !stays {
                        client = connect();
                    }
                }
            });
        }
        for round in 1..=3 {
            make_certificate(home.path(), "edge", "DNS:afflux.test", "ecdsa");
            if round == 2 {
                server.signal("HUP");
            }
            let new = certificate(home.path(), "edge");
            let shown = || TlsClient::connect(address, "afflux.test", &able()).expect("a handshake").certificate();
            wait_until(|| shown() == new);
        }
        // The key of another certificate: what is served stays, told once.
        let good = certificate(home.path(), "edge");
        let elsewhere = tempfile::tempdir().unwrap();
        make_certificate(elsewhere.path(), "other", "DNS:afflux.test", "ecdsa");
        std::fs::copy(elsewhere.path().join("other.key"), home.path().join("edge.key")).unwrap();
        wait_until(|| server.log().contains("the certificates were not reloaded, the old ones stay"));
        std::thread::sleep(Duration::from_millis(2_500));
        assert!(server.log().matches("edge.key:1: edge.tls_certificate_file: not the key of").count() <= 2);
        assert!(TlsClient::connect(address, "afflux.test", &able()).unwrap().certificate() == good);
        let page = server.admin().get("/metrics", &[]).text();
        assert!(page.contains("afflux_tls_last_reload_successful{door=\"edge\"} 0\n"), "{page}");
    });
    assert!(answered.load(SeqCst) > 0 && !reloaded("success", 0) && !reloaded("failure", 0));
    assert_eq!(spooled(&server).len() as u64, answered.load(SeqCst), "answered = spooled");
}

#[test]
fn p2_p3_bad_certificates_end_the_start_with_64_and_name_the_file() {
    let home = tempfile::tempdir().unwrap();
    let start = edge_with_certificate(home.path());
    std::fs::write(home.path().join("edge.key"), "nothing").unwrap();
    server::write_config(home.path(), &start);
    for command in ["serve", "check"] {
        let output = server::run(home.path(), &[command]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("edge.key:1: edge.tls_certificate_file: holds none"), "{said}");
    }
    for (line, expected) in [
        ("tls_key_file = \"edge.key\"", "edge.tls_key_file: set without edge.tls_certificate_file"),
        ("redirect_to_https = true", "edge.redirect_to_https: set without a certificate"),
    ] {
        server::write_config(home.path(), &Start { config: vec![("edge", line.into())], ..Start::default() });
        let output = server::run(home.path(), &["check"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(64) && said.contains(expected), "{said}");
    }
}

#[test]
fn p12_the_api_speaks_tls_by_a_certificate_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    make_certificate(home.path(), "api", "DNS:api.test", "rsa");
    let api = "tls_listen = \"127.0.0.1:0\"\ntls_certificate_file = \"api.crt\"\ntls_key_file = \"api.key\"";
    let server = Server::start(home.path(), &Start { config: vec![("api", api.into())], ..Start::default() });
    assert_eq!(server.edge_tls, None);
    let mut client = TlsClient::connect(server.api_tls.unwrap(), "api.test", &able()).unwrap();
    let body = r#"{"order_id":"T-1","type":"sale","amount":1}"#;
    let head = format!(
        "POST /v1/conversions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(&format!("{head}{body}")).unwrap();
    assert_eq!(client.read().unwrap().status, 202);
    assert_eq!(server.api().get("/v1/reports/performance", &[]).status, 401, "and plain as before");
}

#[test]
fn p8_a_drain_says_goodbye_in_http_and_in_tls() {
    let home = tempfile::tempdir().unwrap();
    let mut server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let address = server.edge_tls.unwrap();
    let connect = || TlsClient::connect(address, "afflux.test", &able()).unwrap();
    let (mut kept, mut late) = (connect(), connect());
    assert_eq!(kept.get("/phone").unwrap().status, 302);
    assert_eq!(late.get("/phone").unwrap().status, 302);
    // A request that has begun when the drain does.
    late.send("GET /phone HTTP/1.1\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    server.signal("TERM");
    wait_until(|| TcpStream::connect(address).is_err());
    late.send("Host: x\r\n\r\n").unwrap();
    let answer = late.read().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (302, Some("close")));
    // An end without close_notify would be an error.
    assert_eq!(late.read_to_end().unwrap(), "");
    assert_eq!(kept.read_to_end().unwrap(), "");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn plain_requests_are_sent_to_https_and_are_no_clicks() {
    let home = tempfile::tempdir().unwrap();
    let start = more(edge_with_certificate(home.path()), "edge", "redirect_to_https = true");
    let server = Server::start(home.path(), &start);
    let port = server.edge_tls.unwrap().port();
    let answer = server.edge().get("/phone?sub1=a", &[]);
    assert_eq!((answer.status, answer.header("set-cookie")), (301, None));
    let expected = format!("https://afflux.test:{port}/phone?sub1=a");
    assert_eq!((answer.header("location"), answer.header("cache-control")), (Some(&*expected), Some("no-store")));
    assert_eq!(server.edge().get("/healthz", &[]).status, 200);
    assert_eq!(server.edge().try_request("POST", "/phone", &[], b"").unwrap().status, 405);
    let evil = crate::rig::client::raw(server.edge, b"GET / HTTP/1.1\r\nHost: a.test@evil.test\r\n\r\n");
    assert!(evil.starts_with("HTTP/1.1 400 ") && !evil.to_ascii_lowercase().contains("location"), "{evil}");
    assert_eq!(Client::new(server.edge).try_request("HEAD", "/phone", &[], b"").unwrap().status, 301);
    assert_eq!(spooled(&server).len(), 0);
    let page = server.admin().get("/metrics", &[]).text();
    assert!(page.contains("afflux_edge_requests_total{outcome=\"to_https\"} 2\n"), "{page}");
    let mut client = TlsClient::connect(server.edge_tls.unwrap(), "afflux.test", &able()).unwrap();
    assert_eq!(client.get("/phone").unwrap().status, 302);
}
