//! HTTP/2 as browsers, curl and h2load speak it: the same answers as HTTP/1, and the same books (contract E31-E39, P8).

use std::process::Command;

use crate::rig::Server;
use crate::rig::books::{assert_books_close, spooled, wait_for_report};
use crate::rig::http2::{
    CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Raw, block_on, connect, frame, get, get_block,
    request, send,
};
use crate::rig::server::{Start, TOKEN};
use crate::rig::tls::make_certificate;
use crate::tls::{edge_with_certificate, wait_until};

/// The value of a metric of the door of visitors.
pub fn counted(server: &Server, name: &str) -> u64 {
    let page = server.admin().get("/metrics", &[]).text();
    let start = format!("{name}{{door=\"edge\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&start));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
}

/// Requests that the edge says it answered, by outcome.
pub fn answered(server: &Server, outcome: &str) -> u64 {
    let page = server.admin().get("/metrics", &[]).text();
    let start = format!("afflux_edge_requests_total{{outcome=\"{outcome}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).expect("an outcome")
}

#[test]
fn e31_e32_e35_curl_is_redirected_gets_a_secure_cookie_and_no_answer_waits_for_a_body() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let port = server.edge_tls.unwrap().port();
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        let resolve = format!("afflux.test:{port}:127.0.0.1");
        curl.args(["-sS", "-i", "--http2", "--max-time", "20", "--resolve", &resolve, "--cacert"]);
        let target = format!("https://afflux.test:{port}/phone");
        let output = curl.arg(home.path().join("edge.crt")).args(arguments).arg(target).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let got = curl(&[]);
    assert!(got.starts_with("HTTP/2 302") && got.contains("location: https://"), "{got}");
    let cookie = got.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    let head = curl(&["--head"]);
    assert!(head.starts_with("HTTP/2 302") && !head.contains("set-cookie"), "{head}");
    std::fs::write(home.path().join("body"), "b".repeat(8_000)).unwrap();
    let body = format!("@{}", home.path().join("body").display());
    for sent in ["x", &body] {
        let posted = curl(&["--data-binary", sent]);
        assert!(posted.starts_with("HTTP/2 405") && posted.contains("allow: GET, HEAD"), "{posted}");
    }
    assert_eq!((spooled(&server).len(), counted(&server, "afflux_http2_requests_total")), (1, 4));
    assert_eq!((answered(&server, "redirected"), answered(&server, "method_not_allowed")), (2, 2));
}

#[test]
fn e26_h2load_what_was_answered_is_spooled_and_counted_once() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let url = format!("https://127.0.0.1:{}/phone", server.edge_tls.unwrap().port());
    let mut clicks = 0;
    // Many at once, and 10,000 one after the other in one connection.
    for (requests, clients, streams) in [("20000", "20", "100"), ("10000", "1", "1")] {
        let output = Command::new("h2load").args(["-n", requests, "-c", clients, "-m", streams, &url]).output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        let expected = format!("{requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed");
        assert!(said.contains(&expected) && said.contains("Application protocol: h2"), "{said}");
        clicks += requests.parse::<u64>().unwrap();
    }
    assert_eq!(spooled(&server).len() as u64, clicks);
    assert_eq!(answered(&server, "redirected"), clicks);
    for metric in ["afflux_http2_requests_total", "afflux_http2_streams_total"] {
        assert_eq!(counted(&server, metric), clicks, "{metric}");
    }
    assert_eq!(counted(&server, "afflux_http2_floods_total"), 0);
    wait_for_report(&server, clicks, 0, 120);
    assert_books_close(&server);
    let documented = include_str!("../../docs/metrics.md");
    let page = server.admin().get("/metrics", &[]).text();
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<&str> = names.filter(|name| !documented.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn e2_e5_e31_methods_pages_and_cookies_are_those_of_http1() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    block_on(async {
        let requests = connect(server.edge_tls.unwrap()).await;
        for (method, target, status) in [
            ("GET", "/phone?sub1=a", 302),
            ("HEAD", "/phone", 302),
            ("GET", "/nobody", 404),
            ("HEAD", "/nobody", 404),
            ("GET", "/healthz", 200),
            ("POST", "/phone", 405),
            ("REFUSED", "/431", 405),
            ("CONVERSE", "/phone", 405),
        ] {
            let (answer, body) = send(&requests, request(method, target), b"").await.unwrap();
            assert_eq!(answer.status(), status, "{method} {target}");
            assert_eq!(
                body.is_empty(),
                !matches!((method, target), ("GET", "/nobody" | "/healthz")),
                "{method} {target}"
            );
            assert!(answer.headers().get("connection").is_none());
        }
        // More than the windows hold: answered all the same, and the rest is not wanted.
        let (posted, _) = send(&requests, request("POST", "/phone"), &[b'b'; 1_000_000]).await.unwrap();
        assert_eq!(posted.status(), 405);
        let (head, _) = send(&requests, request("HEAD", "/nobody"), b"").await.unwrap();
        let (page, body) = send(&requests, request("GET", "/nobody"), b"").await.unwrap();
        assert_eq!(page.headers()["content-length"], body.len().to_string().as_str());
        assert_eq!(head.headers()["content-length"], page.headers()["content-length"]);
        // A cookie field for each cookie (RFC 9113 8.2.3).
        let (first, _) = send(&requests, request("GET", "/phone"), b"").await.unwrap();
        let set = first.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let mut again = request("GET", "/phone");
        for cookie in ["a=b", &set, "c=d"] {
            again.headers_mut().append("cookie", cookie.parse().unwrap());
        }
        let (known, _) = send(&requests, again, b"").await.unwrap();
        assert_eq!((known.status().as_u16(), known.headers().get("set-cookie")), (302, None));
    });
    assert_eq!(counted(&server, "afflux_http2_requests_total"), 13);
}

#[test]
fn the_api_reads_bodies_over_http2_and_answers_202() {
    let home = tempfile::tempdir().unwrap();
    make_certificate(home.path(), "api", "DNS:api.test", "ecdsa");
    let api = "tls_listen = \"127.0.0.1:0\"\ntls_certificate_file = \"api.crt\"\ntls_key_file = \"api.key\"";
    let server = Server::start(home.path(), &Start { config: vec![("api", api.into())], ..Start::default() });
    block_on(async {
        let requests = connect(server.api_tls.unwrap()).await;
        let post = |body: String| {
            let mut post = request("POST", "/v1/conversions");
            post.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
            post.headers_mut().insert("content-type", "application/json".parse().unwrap());
            let requests = requests.clone();
            async move { send(&requests, post, body.as_bytes()).await.unwrap() }
        };
        for number in 0..5 {
            let body = format!(r#"{{"order_id":"H-{number}","type":"sale","amount":1}}"#);
            let (answer, said) = post(body).await;
            assert_eq!(answer.status(), 202, "{}", String::from_utf8_lossy(&said));
        }
        // Refused before its body is looked at: what the client still says of it makes no error of that.
        let stranger = request("POST", "/v1/conversions");
        assert_eq!(send(&requests, stranger, &[b' '; 5_000]).await.unwrap().0.status().as_u16() / 100, 4);
        // Longer than the windows: read as it comes, and refused for its size.
        let (answer, _) = post(" ".repeat(2_000_000)).await;
        assert_eq!(answer.status(), 413);
    });
    let url = format!("https://{}/v1/conversions", server.api_tls.unwrap());
    let curl = ["-sSk", "--http2", "-o", "/dev/null", "-w", "%{http_code}", "--data", "order", &url];
    let output = Command::new("curl").args(curl).output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"4"), "{output:?}");
}

#[test]
fn p8_a_drain_says_goaway_answers_what_is_open_and_closes() {
    let home = tempfile::tempdir().unwrap();
    let mut server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let address = server.edge_tls.unwrap();
    let (mut idle, mut late) = (Raw::connect(address, &[]), Raw::connect(address, &[]));
    for client in [&mut idle, &mut late] {
        client.write(&get(1, "/phone")).unwrap();
        assert_eq!(client.read_until(HEADERS).unwrap().stream, 1);
    }
    // A request that has begun when the drain does.
    let block = get_block("/phone");
    late.write(&frame(HEADERS, END_STREAM, 3, &block[..10])).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    server.signal("TERM");
    wait_until(|| std::net::TcpStream::connect(address).is_err());
    late.write(&frame(CONTINUATION, END_HEADERS, 3, &block[10..])).unwrap();
    for (client, expected) in [(&mut late, 3), (&mut idle, 1)] {
        let mut answered = 1;
        let mut last = None;
        while let Some(came) = client.read() {
            match came.kind {
                HEADERS => answered = came.stream,
                // Whoever answers it has heard that this is the end (RFC 9113 6.8).
                PING => client.write(&frame(PING, 1, 0, &came.payload)).unwrap(),
                GOAWAY => last = Some((u32::from_be_bytes(came.payload[..4].try_into().unwrap()), came.error())),
                _ => {}
            }
        }
        assert_eq!((answered, last), (expected, Some((expected, 0))));
    }
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(spooled(&server).len(), 3);
}

#[test]
fn e34_at_the_limit_of_connections_http2_hears_503_too() {
    let home = tempfile::tempdir().unwrap();
    let mut start = edge_with_certificate(home.path());
    start.config.extend([("edge", "workers = 1".into()), ("limits", "connections = 1".into())]);
    let server = Server::start(home.path(), &start);
    let address = server.edge_tls.unwrap();
    block_on(async {
        let inside = connect(address).await;
        assert_eq!(send(&inside, request("GET", "/phone"), b"").await.unwrap().0.status(), 302);
        for _ in 0..5 {
            let surplus = connect(address).await;
            let (answer, _) = send(&surplus, request("GET", "/phone"), b"").await.unwrap();
            assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"2".parse().unwrap()));
        }
        assert_eq!(send(&inside, request("GET", "/phone"), b"").await.unwrap().0.status(), 302);
        // Who asks for nothing does not keep the place either.
        let (frames, took) = Raw::connect(address, &[]).read_to_close();
        assert!(frames.iter().any(|frame| frame.kind == GOAWAY) && took.as_secs() < 6, "{took:?}: {frames:?}");
    });
    assert_eq!((answered(&server, "overloaded"), spooled(&server).len()), (5, 2));
}
