//! Raw sockets against a door in this process.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use tokio::sync::watch;

use super::*;

/// A door whose service answers 200 with what it understood, or with the refusal's status.
pub struct TestDoor {
    pub address: SocketAddr,
    pub door: Arc<Door>,
    answered: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

fn open(bodies: Bodies, limits: Limits) -> TestDoor {
    open_at(bodies, limits, Listener::plain)
}

pub fn open_at(bodies: Bodies, limits: Limits, at: impl FnOnce(std::net::TcpListener) -> Listener) -> TestDoor {
    let socket = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = at(socket);
    let answered = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = watch::channel(false);
    let (end, ended) = mpsc::channel();
    let counted = answered.clone();
    let door = Door::new(limits, bodies, |name| !name.eq_ignore_ascii_case(b"host"));
    let of_thread = door.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let service_for = move |_| {
            let (counted, of_connection) = (counted.clone(), Cell::new(0));
            service_fn(move |request| {
                of_connection.set(of_connection.get() + 1);
                echo(request, of_connection.get(), counted.clone())
            })
        };
        let here = tokio::task::LocalSet::new();
        here.block_on(&runtime, serve(listener, of_thread, service_for, OnThread, stopped)).unwrap();
        end.send(()).unwrap();
    });
    TestDoor { address, door, answered, stop, ended }
}

async fn echo(
    request: Request<Incoming>,
    number: u32,
    counted: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let refusal = Refusal::of(request.method(), request.uri());
    let (head, body) = request.into_parts();
    if head.uri.path() == "/slow" {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    if head.uri.path() == "/busy" {
        // The thread computes: nobody else has a turn.
        std::thread::sleep(Duration::from_millis(2));
    }
    let body = body.collect().await.map(|body| body.to_bytes());
    let text =
        format!("<{number} {} {} {}>", head.method, head.uri, String::from_utf8_lossy(&body.unwrap_or_default()));
    let mut response =
        Response::new(Full::from(if head.uri.path() == "/huge" { "x".repeat(20_000_000) } else { text }));
    if let Some(refusal) = refusal {
        *response.status_mut() = refusal.status();
    }
    counted.fetch_add(1, SeqCst);
    Ok(response)
}

impl TestDoor {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Sends it and reads until the door closes.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_all(&mut stream)
    }

    fn answered(&self) -> u64 {
        self.answered.load(SeqCst)
    }
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset after the answer is not expected either.
    stream.read_to_end(&mut all).unwrap();
    String::from_utf8(all).unwrap()
}

/// Reads up to and with `end`.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let (mut all, mut byte) = (String::new(), [0]);
    while !all.ends_with(end) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after {all:?}");
        all.push(char::from(byte[0]));
    }
    all
}

fn statuses(answers: &str) -> Vec<u16> {
    answers.split("HTTP/1.").skip(1).map(|answer| answer[2..5].parse().unwrap()).collect()
}

const LAST: &str = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

pub fn brief() -> Limits {
    let ms = Duration::from_millis;
    Limits { head: ms(200), idle: ms(300), write: ms(300), farewell: ms(500), ..Limits::new(100) }
}

#[test]
fn e38_malformed_requests_are_answered_in_their_turn_counted_and_closed() {
    let door = open(Bodies::Forgotten, Limits::new(100));
    let good = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut expected = 0;
    for (bad, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello".to_owned(), 400),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(), 501),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9_000)), 414),
        ("a".repeat(100_000), 414),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "b".repeat(17_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "b".repeat(100_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(64)), 431),
    ] {
        // Nothing behind it is answered.
        assert_eq!(statuses(&door.exchange(format!("{bad}{good}").as_bytes())), [status], "{bad:.80?}");
        assert_eq!(statuses(&door.exchange(format!("{good}{good}{bad}{good}").as_bytes())), [200, 200, status]);
        expected += 4;
        assert_eq!(door.answered(), expected);
    }
}

#[test]
fn e36_e38_garbage_without_an_end_is_answered_at_once() {
    let door = open(Bodies::Forgotten, Limits::new(100));
    let begun = Instant::now();
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[b'z'; 500]].concat();
    for garbage in [&hello[..], b"PRI * HTTP/2.0\r\n", b"\0", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\xff"] {
        let mut stream = door.connect();
        stream.write_all(garbage).unwrap();
        assert_eq!(statuses(&read_all(&mut stream)).last(), Some(&400), "{garbage:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn requests_in_order_are_served_however_they_come() {
    let door = open(Bodies::Forgotten, Limits::new(100));
    let all = format!(
        "\r\nGET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\nHost: x\n\nGET http://h/3?a=\"b\" HTTP/1.1\r\nHost:\r\n\r\n\
         HEAD /4 HTTP/1.1\r\nHost: x\r\n\r\nPOST /5 HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n{{\"GET / HTTP/1.1\":\r\n\r\n\"\"}}\
         FOO bar HTTP/1.1\r\nHost: x\r\n\r\n{LAST}"
    );
    let whole = door.exchange(all.as_bytes());
    for part in ["<1 GET /1 >", "<2 GET /2 >", "<3 GET /3?a=%22b%22 >", "<5 POST /5 >", "<6 FOO * >", "<7 GET /last >"]
    {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    assert_eq!(statuses(&whole), [200; 7]);
    let without_date =
        |text: &str| text.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n");
    for size in [1, 2, 3, 7, 60] {
        let mut stream = door.connect();
        stream.set_nodelay(true).unwrap();
        for piece in all.as_bytes().chunks(size) {
            stream.write_all(piece).unwrap();
            std::thread::yield_now();
        }
        assert_eq!(without_date(&read_all(&mut stream)), without_date(&whole), "pieces of {size}");
    }
    assert_eq!(door.answered(), 6 * 7);
}

#[test]
fn e36_http_1_0_is_served_and_closed_unless_asked_to_stay() {
    let door = open(Bodies::Forgotten, Limits::new(100));
    assert_eq!(statuses(&door.exchange(b"GET / HTTP/1.0\r\n\r\n")), [200]);
    let stays = format!("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n{LAST}");
    assert_eq!(statuses(&door.exchange(stays.as_bytes())), [200, 200]);
}

#[test]
fn e35_an_answer_never_waits_for_a_body() {
    let door = open(Bodies::Forgotten, Limits::new(100));
    let post = |fields: &str| format!("POST /p HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    for length in [1, 5_000, 8_192] {
        let mut stream = door.connect();
        stream.write_all(post(&format!("Content-Length: {length}\r\n")).as_bytes()).unwrap();
        assert!(read_until(&mut stream, "<1 POST /p >").contains("200 OK"));
        stream.write_all(format!("{}{LAST}", "x".repeat(length)).as_bytes()).unwrap();
        assert!(read_all(&mut stream).ends_with("<2 GET /last >"), "{length}");
    }
    for fields in ["Content-Length: 8193\r\n", "Content-Length: 99999999\r\n", "Transfer-Encoding: chunked\r\n"] {
        let answer = door.exchange(format!("{}5\r\nhello\r\n0\r\n\r\n{LAST}", post(fields)).as_bytes());
        assert_eq!(statuses(&answer), [200], "{fields}");
        assert!(answer.contains("connection: close"));
    }
    let answer = door.exchange(post("Content-Length: 5\r\nExpect: 100-continue\r\n").as_bytes());
    assert_eq!(statuses(&answer), [200]);
    // A megabyte of body does not turn the answer into a reset.
    let mut flood = post("Content-Length: 200000\r\n").into_bytes();
    flood.resize(flood.len() + 200_000, b'x');
    assert_eq!(statuses(&door.exchange(&flood)), [200]);
    assert_eq!(door.answered(), 11);
}

#[test]
fn a_door_with_bodies_passes_them_and_knows_where_they_end() {
    let door = open(Bodies::Passed, Limits::new(100));
    let two = format!("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nGET / H\r\n{LAST}");
    let answer = door.exchange(two.as_bytes());
    assert!(answer.contains("<1 POST /a GET / H\r\n>") && answer.ends_with("<2 GET /last >"), "{answer}");
    // Behind a chunked body nothing is answered.
    let chunked = "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let answer = door.exchange(format!("{chunked}{LAST}").as_bytes());
    assert!(answer.ends_with("<1 POST /c hello>") && answer.contains("connection: close"), "{answer}");
    let mut stream = door.connect();
    let head = "POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").unwrap();
    assert!(read_all(&mut stream).ends_with("<1 POST /e body>"));
    let mut large = format!("POST /l HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", 700_000);
    large.push_str(&"y".repeat(700_000));
    assert!(door.exchange(large.as_bytes()).contains(&"y".repeat(700_000)));
    assert_eq!(door.answered(), 5);
}

#[test]
fn e33_slow_and_idle_clients_are_closed_on_time_and_free_their_places() {
    let door = open(Bodies::Forgotten, brief());
    let begun = Instant::now();
    let mut idle = door.connect();
    let mut slow = door.connect();
    slow.write_all(b"GET / HT").unwrap();
    let mut dribbles = door.connect();
    let mut kept = door.connect();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut greedy = door.connect();
    greedy.write_all(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    while begun.elapsed() < Duration::from_millis(2_600) {
        let _ = dribbles.write(b"\r");
        std::thread::sleep(Duration::from_millis(50));
    }
    for stream in [&mut idle, &mut slow] {
        assert_eq!(read_all(stream), "");
    }
    assert_eq!(statuses(&read_all(&mut kept)), [200]);
    assert!(dribbles.write(b"GET").and_then(|_| dribbles.read(&mut [0])).unwrap_or(0) == 0);
    // The greedy one asked for more than socket buffers hold, and read nothing in time.
    let mut all = Vec::new();
    assert!(greedy.read_to_end(&mut all).is_err() || all.len() < 20_000_000);
    assert_eq!(door.answered(), 2);
}

#[test]
fn e33_e34_a_connection_too_many_hears_503_and_the_next_one_is_served() {
    let door = open(Bodies::Forgotten, Limits { connections: 3, ..brief() });
    let mut inside: Vec<TcpStream> = (0..3).map(|_| door.connect()).collect();
    for stream in &mut inside {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        read_until(stream, ">");
    }
    for _ in 0..5 {
        assert_eq!(statuses(&door.exchange(LAST.as_bytes())), [503]);
    }
    assert_eq!(statuses(&read_all(&mut door.connect())), [503], "without asking, too");
    inside.pop();
    let served = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        statuses(&door.exchange(LAST.as_bytes())) == [200]
    });
    assert!(served);
}

#[test]
fn e34_who_is_turned_away_unheard_reads_why_and_is_counted_once() {
    let door = open(Bodies::Forgotten, Limits { connections: 1, surplus: 0, leaving: 2, ..Limits::new(1) });
    let mut inside = door.connect();
    inside.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_until(&mut inside, ">");
    let mut first = door.connect();
    read_until(&mut first, "connection: close\r\n\r\n");
    // It says what it wants when it has long been answered: no reset takes the answer back.
    first.write_all(LAST.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(read_all(&mut first), "");
    for _ in 0..20 {
        assert_eq!(statuses(&door.exchange(LAST.as_bytes())), [503]);
    }
    assert_eq!((door.door.turned_away(), door.answered()), (21, 1));
    assert_eq!(door.door.open(), 1);
}

/// 400 at once of whom each takes two milliseconds: the most that were inside, and what they heard.
fn in_a_rush(door: &TestDoor) -> (usize, Vec<u16>) {
    let speaks = |_| {
        let mut stream = door.connect();
        stream.write_all(b"GET /busy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        stream
    };
    let mut rush: Vec<TcpStream> = (0..400).map(speaks).collect();
    let mut inside = 0;
    while door.answered() + door.door.turned_away() < 400 {
        inside = inside.max(door.door.open());
        std::thread::sleep(Duration::from_millis(1));
    }
    let heard: Vec<u16> = rush.iter_mut().flat_map(|stream| statuses(&read_all(stream))).collect();
    let told = heard.iter().filter(|status| **status == 503).count() as u64;
    assert_eq!((heard.len(), told), (400, door.door.turned_away()));
    assert_eq!(door.answered(), 400 - told);
    (inside, heard)
}

#[test]
fn e34_in_a_rush_no_more_are_let_in_than_get_their_turn() {
    let door = open(Bodies::Forgotten, Limits::new(1_000));
    let (inside, _) = in_a_rush(&door);
    // 64 of them new; the others wait in the kernel's queue and not in our memory.
    assert!((1..=100).contains(&inside), "{inside} were inside at once");
}

#[test]
fn e34_in_a_rush_at_a_socket_of_a_supervisor_those_are_told_for_whom_there_is_no_time() {
    let door = open_at(Bodies::Forgotten, Limits::new(1_000), |socket| {
        rustix::net::sockopt::set_socket_reuseport(&socket, false).unwrap();
        Listener::plain(socket)
    });
    let (inside, heard) = in_a_rush(&door);
    assert!((1..=100).contains(&inside), "{inside} were inside at once");
    let told = heard.iter().filter(|status| **status == 503).count();
    assert!((50..350).contains(&told), "{told} of 400");
    assert_eq!(door.door.shut(), 0, "it is not ours to shut");
    assert!(statuses(&door.exchange(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == [200]);
}

#[test]
fn p7_p8_a_drain_finishes_what_is_in_flight_and_says_close() {
    let door = open(Bodies::Forgotten, Limits::new(100));
    let mut kept = door.connect();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_until(&mut kept, ">");
    let mut slow = door.connect();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut fresh = door.connect();
    std::thread::sleep(Duration::from_millis(100));
    door.stop.send(true).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    fresh.write_all(b"GET /fresh HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = read_all(&mut fresh);
    assert!(answer.ends_with("<1 GET /fresh >") && answer.contains("connection: close"), "{answer}");
    assert!(read_all(&mut slow).ends_with("<1 GET /slow >"));
    assert_eq!(read_all(&mut kept), "");
    door.ended.recv_timeout(Duration::from_secs(3)).unwrap();
    assert!(TcpStream::connect(door.address).is_err());
}

#[test]
fn p7_a_body_that_never_comes_does_not_hold_up_a_drain() {
    let door = open(Bodies::Forgotten, Limits::new(100));
    let mut owing = door.connect();
    owing.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n").unwrap();
    read_until(&mut owing, ">");
    door.stop.send(true).unwrap();
    door.ended.recv_timeout(Duration::from_secs(3)).unwrap();
}

#[test]
fn a_client_that_has_said_all_still_hears_the_answer() {
    let door = open(Bodies::Forgotten, Limits::new(100));
    let mut stream = door.connect();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(read_all(&mut stream).ends_with("<1 GET /slow >"));
}
