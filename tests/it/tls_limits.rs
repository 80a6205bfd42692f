//! What strangers do to a TLS listener: silence, garbage, plain HTTP, crowds (contract E33, E34).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::rig::Server;
use crate::rig::tls::{TlsClient, able};
use crate::tls::{edge_with_certificate, wait_until};

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// What still comes until the other side closes; a reset is a close too.
pub fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("not closed in 20 s"),
        _ => all,
    }
}

fn counts(server: &Server, kind: &str, count: u32) -> bool {
    let page = server.admin().get("/metrics", &[]).text();
    page.contains(&format!("afflux_tls_handshake_failures_total{{door=\"edge\",kind=\"{kind}\"}} {count}\n"))
}

#[test]
fn e33_a_handshake_has_5_seconds_from_the_accept_also_without_a_byte() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let address = server.edge_tls.unwrap();
    let mut agreed = TlsClient::connect(address, "afflux.test", &able()).unwrap();
    let begun = Instant::now();
    let mut silent = connect(address);
    let mut begins = connect(address);
    begins.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    let mut dribbles = connect(address);
    let dribbling = std::thread::spawn(move || {
        // The beginning of a ClientHello that would go on for 512 bytes.
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".iter().chain(std::iter::repeat(&7));
        for byte in hello.take(200) {
            if dribbles.write_all(&[*byte]).is_err() {
                return begun.elapsed();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        begun.elapsed()
    });
    for stream in [&mut silent, &mut begins] {
        assert_eq!(read_to_close(stream), b"");
        let took = begun.elapsed();
        // The contract allows 4.5 to 5.5 s; a machine that runs all tests at once gets a second more.
        assert!((Duration::from_millis(4_400)..Duration::from_millis(6_500)).contains(&took), "{took:?}");
    }
    let took = dribbling.join().unwrap();
    assert!((Duration::from_millis(4_400)..Duration::from_millis(7_000)).contains(&took), "{took:?}");
    wait_until(|| counts(&server, "timed_out", 3));
    // Who has agreed may be silent for longer.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agreed.get("/phone").unwrap().status, 302);
}

#[test]
fn e34_garbage_and_plain_http_are_closed_at_once_and_counted() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let begun = Instant::now();
    let all: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: afflux.test\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 100],
        b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff",
    ];
    for bytes in all {
        let mut stream = connect(server.edge_tls.unwrap());
        stream.write_all(bytes).unwrap();
        let said = read_to_close(&mut stream);
        assert!(said.is_empty() || said[0] == 0x15, "{said:?}");
    }
    drop(connect(server.edge_tls.unwrap()));
    assert!(begun.elapsed() < Duration::from_secs(4));
    wait_until(|| counts(&server, "malformed", 4) && counts(&server, "closed", 1));
    assert!(server.admin().get("/metrics", &[]).text().contains("afflux_http_connections{door=\"edge\"} 0\n"));
}

/// As limits.rs has it, for each listener.
const HANDSHAKES: usize = 1_024;

#[test]
fn e34_of_too_many_handshakes_the_oldest_make_room_for_new_ones() {
    let allowed = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: allowed.maximum, ..allowed }).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut start = edge_with_certificate(home.path());
    start.config.push(("edge", "workers = 1".into()));
    let server = Server::start(home.path(), &start);
    let address = server.edge_tls.unwrap();
    let mut silent: Vec<TcpStream> = (0..HANDSHAKES + 10).map(|_| connect(address)).collect();
    // Whoever comes now is served at once, between all those who say nothing.
    let mut client = TlsClient::connect(address, "afflux.test", &able()).unwrap();
    assert_eq!(client.get("/phone").unwrap().status, 302);
    assert_eq!(read_to_close(&mut silent[0]), b"");
    wait_until(|| counts(&server, "crowded_out", 11) || counts(&server, "timed_out", HANDSHAKES as u32));
    assert!(!counts(&server, "crowded_out", 0));
}

#[test]
fn e34_at_the_limit_of_connections_tls_clients_hear_503_and_beyond_it_an_alert() {
    let home = tempfile::tempdir().unwrap();
    let mut start = edge_with_certificate(home.path());
    start.config.extend([("edge", "workers = 1".into()), ("limits", "connections = 1".into())]);
    let server = Server::start(home.path(), &start);
    let address = server.edge_tls.unwrap();
    let mut inside = TlsClient::connect(address, "afflux.test", &able()).unwrap();
    assert_eq!(inside.get("/phone").unwrap().status, 302);
    let mut surplus = TlsClient::connect(address, "afflux.test", &able()).unwrap();
    let answer = surplus.read().unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
    // There are 256 places to hear that in.
    let mut crowd: Vec<TcpStream> = (0..300).map(|_| connect(address)).collect();
    // Each begins a handshake: who says nothing is accepted later.
    crowd.iter_mut().for_each(|stream| stream.write_all(&[0x16]).unwrap());
    let alert = read_to_close(crowd.last_mut().unwrap());
    assert_eq!((alert.first(), alert.last()), (Some(&0x15), Some(&80)), "{alert:?}");
    assert!(!counts(&server, "no_room", 0));
    assert_eq!(inside.get("/phone").unwrap().status, 302);
}
