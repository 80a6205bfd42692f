//! Limits of HTTP/2: streams, sizes, times, memory (contract E33, E36, E37).

use std::time::{Duration, Instant};

use crate::http2::{answered, counted};
use crate::http2_floods::memory_kib;
use crate::rig::Server;
use crate::rig::books::spooled;
use crate::rig::http2::{
    END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, block, block_on, connect, frame, get, request, send,
};
use crate::tls::edge_with_certificate;

#[test]
fn e33_of_150_streams_at_once_100_are_answered_and_50_refused() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let mut client = Raw::connect(server.edge_tls.unwrap(), &[]);
    let all: Vec<u8> = (0..150).flat_map(|number| get(2 * number + 1, "/phone")).collect();
    assert!(all.len() < 16_384, "one record");
    client.write(&all).unwrap();
    let (mut answers, mut refused) = (0, 0);
    while answers + refused < 150 {
        let came = client.read().expect("an answer");
        match came.kind {
            HEADERS => answers += 1,
            // REFUSED_STREAM: may be tried again.
            RST_STREAM if came.error() == 7 => refused += 1,
            RST_STREAM => panic!("{came:?}"),
            _ => {}
        }
    }
    assert_eq!((answers, refused), (100, 50));
    client.write(&get(301, "/phone")).unwrap();
    assert_eq!(client.read_until(HEADERS).unwrap().stream, 301);
    assert_eq!((answered(&server, "redirected"), spooled(&server).len()), (101, 101));
    let metrics = ["afflux_http2_requests_total", "afflux_http2_streams_total"];
    assert_eq!(metrics.map(|metric| counted(&server, metric)), [101, 151]);
}

#[test]
fn e33_e37_long_paths_large_lists_and_many_fields_are_refused_and_counted() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    block_on(async {
        let requests = connect(server.edge_tls.unwrap()).await;
        let with_fields = |count: usize, length: usize| {
            let mut request = request("GET", "/phone");
            for number in 0..count {
                let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
                request.headers_mut().append(name, "v".repeat(length).parse().unwrap());
            }
            request
        };
        let long = |length: usize| request("GET", &format!("/{}", "p".repeat(length - 1)));
        for (sent, status) in [
            (long(8_000), 404),
            (long(8_001), 414),
            (long(15_000), 414),
            (with_fields(64, 1), 302),
            (with_fields(65, 1), 431),
            (with_fields(1, 16_000), 302),
            (with_fields(1, 16_400), 431),
            (with_fields(2, 12_000), 431),
            // h2 itself says so, to nobody of ours; the second time in one byte.
            (with_fields(4, 15_000), 431),
            (with_fields(1, 1), 302),
            (with_fields(4, 15_000), 431),
        ] {
            let (answer, _) = send(&requests, sent, b"").await.unwrap();
            assert_eq!(answer.status(), status);
        }
    });
    let outcomes = ["bad_request", "too_long", "not_found", "redirected"];
    assert_eq!(outcomes.map(|outcome| answered(&server, outcome)), [5, 2, 1, 3], "answered = counted");
    let metrics = ["afflux_http2_requests_total", "afflux_http2_streams_total", "afflux_http2_too_large_total"];
    assert_eq!(metrics.map(|metric| counted(&server, metric)), [9, 11, 2]);
}

#[test]
fn e36_e37_malformed_requests_are_400_or_reset_and_the_connection_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let mut client = Raw::connect(server.edge_tls.unwrap(), &[]);
    let method = (":method", "GET");
    let (scheme, authority) = ((":scheme", "https"), (":authority", "afflux.test"));
    let mut id = 1;
    for (fields, is_redirected) in [
        (vec![method, scheme, authority, (":path", "/phone")], true),
        (vec![method, scheme, (":path", "/phone"), ("host", "any")], true),
        (vec![method, scheme, authority, (":path", "/phone"), ("host", "AFFLUX.test")], true),
        (vec![method, scheme, authority, (":path", "/phone"), ("te", "trailers")], true),
        (vec![method, scheme, (":path", "/phone")], false),
        (vec![method, scheme, authority, (":path", "/phone"), ("host", "other")], false),
        (vec![method, scheme, (":path", "/phone"), ("host", "a"), ("host", "a")], false),
        (vec![method, scheme, authority, (":path", "/pho ne")], false),
        (vec![method, scheme, authority, (":path", "/phone\u{1}")], false),
        (vec![method, scheme, authority, (":path", "/phone\u{e9}")], false),
        (vec![method, scheme, authority, (":path", "")], false),
        (vec![method, authority, scheme], false),
        (vec![method, scheme, authority, (":path", "/phone"), ("connection", "close")], false),
        (vec![method, scheme, authority, (":path", "/phone"), ("transfer-encoding", "chunked")], false),
        (vec![method, scheme, authority, (":path", "/phone"), ("te", "gzip")], false),
        (vec![(":method", "CONNECT"), authority], false),
    ] {
        client.write(&frame(HEADERS, END_STREAM | END_HEADERS, id, &block(&fields))).unwrap();
        let came = std::iter::from_fn(|| client.read()).find(|came| matches!(came.kind, HEADERS | RST_STREAM));
        let came = came.unwrap_or_else(|| panic!("closed after {fields:?}"));
        assert_eq!(came.stream, id, "{fields:?}");
        if is_redirected {
            assert_eq!(came.kind, HEADERS, "{fields:?}");
        }
        id += 2;
    }
    assert_eq!((answered(&server, "redirected"), spooled(&server).len()), (4, 4));
    client.write(&get(id, "/phone")).unwrap();
    assert_eq!(client.read_until(HEADERS).unwrap().stream, id);
    // What is no name of a field at all ends the connection.
    let upper = block(&[method, scheme, authority, (":path", "/phone"), ("Upper", "case")]);
    client.write(&frame(HEADERS, END_STREAM | END_HEADERS, id + 2, &upper)).unwrap();
    assert_ne!(client.read_until(GOAWAY).unwrap().error(), 0);
}

#[test]
fn e33_slow_heads_and_answers_that_are_not_taken_are_closed_on_time() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let address = server.edge_tls.unwrap();
    let head = get(1, "/phone");
    // Among other tests connecting may take its time: no time ends before it counts from here, and none later than from there.
    let first = Instant::now();
    let mut slow = Raw::connect(address, &[]);
    slow.write(&head[..head.len() - 1]).unwrap();
    let mut dribbles = Raw::connect(address, &[]);
    let bytes = head.clone();
    // SETTINGS_INITIAL_WINDOW_SIZE 0: the page of a 404 stays where it is.
    let mut greedy = Raw::connect(address, &[0, 4, 0, 0, 0, 0]);
    greedy.write(&get(1, "/nobody")).unwrap();
    let mut kept = Raw::connect(address, &[]);
    let last = Instant::now();
    let dribbling = std::thread::spawn(move || {
        for byte in &bytes {
            if dribbles.write(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Instant::now()
    });
    slow.read_to_close();
    let closed = [Instant::now(), dribbling.join().unwrap()];
    greedy.read_to_close();
    for closed in [closed[0], closed[1], Instant::now()] {
        let took = [closed - first, closed - last];
        assert!(took[0] >= Duration::from_millis(9_500) && took[1] < Duration::from_millis(16_500), "{took:?}");
    }
    kept.write(&head).unwrap();
    assert_eq!(kept.read_until(HEADERS).unwrap().stream, 1, "who only waits may");
}

#[test]
fn e33_an_idle_connection_takes_at_most_64_kib() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let address = server.edge_tls.unwrap();
    let open = || {
        let mut client = Raw::connect(address, &[]);
        client.write(&get(1, "/phone")).unwrap();
        assert_eq!(client.read_until(HEADERS).unwrap().stream, 1);
        client
    };
    let first: Vec<Raw> = (0..20).map(|_| open()).collect();
    let before = memory_kib(&server);
    let all: Vec<Raw> = (0..300).map(|_| open()).collect();
    let each = memory_kib(&server).saturating_sub(before) / 300;
    println!("{each} KiB for each of {} idle connections", all.len());
    assert!(each <= 64 && first.len() == 20, "{each} KiB");
}
