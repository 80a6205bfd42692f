//! Frames against a door in this process, over the TLS of openssl.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::tests::{TestDoor, brief, open_at};
use super::{Bodies, Listener};
use crate::tls::tests::{made, server};

const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// Over it frames go as bytes.
struct Client {
    openssl: Child,
    into: ChildStdin,
    out: ChildStdout,
}

/// A frame as it came: kind, stream, payload.
type Came = (u8, u32, Vec<u8>);

impl Client {
    /// Has said the preface and empty settings.
    fn connect(door: &TestDoor) -> Client {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-quiet", "-alpn", "h2", "-connect", &door.address.to_string()]);
        let mut openssl =
            openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl");
        let (into, out) = (openssl.stdin.take().unwrap(), openssl.stdout.take().unwrap());
        let mut client = Client { openssl, into, out };
        client.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        client
    }

    fn say(&mut self, bytes: &[u8]) {
        self.into.write_all(bytes).unwrap();
        self.into.flush().unwrap();
    }

    fn read(&mut self) -> Option<Came> {
        let mut head = [0; 9];
        self.out.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.out.read_exact(&mut payload).ok()?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    fn read_until(&mut self, kind: u8) -> Came {
        std::iter::from_fn(|| self.read()).find(|came| came.0 == kind).expect("not closed before")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.openssl.kill();
        let _ = self.openssl.wait();
    }
}

#[test]
fn e33_an_idle_client_of_http2_hears_goaway_and_what_it_asks_before_that_is_answered() {
    let certificate = made("DNS:a.example", "ecdsa", 9);
    let door = open_at(Bodies::Forgotten, brief(), |socket| Listener::tls(socket, server(&certificate)));
    let begun = Instant::now();
    let mut client = Client::connect(&door);
    let (_, _, goodbye) = client.read_until(GOAWAY);
    assert_eq!(goodbye, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], "whatever it has asked is answered");
    assert!(begun.elapsed() > Duration::from_millis(300));
    // On its way when we said so: GET https://x/.
    client.say(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x87\x84\x41\x01x");
    let (_, _, question) = client.read_until(PING);
    client.say(&[b"\0\0\x08\x06\x01\0\0\0\0", &question[..]].concat());
    let rest: Vec<Came> = std::iter::from_fn(|| client.read()).collect();
    assert!(rest.iter().any(|(kind, stream, _)| (*kind, *stream) == (HEADERS, 1)), "{rest:?}");
    let last = rest.iter().rfind(|came| came.0 == GOAWAY).unwrap();
    assert_eq!(last.2, [0, 0, 0, 1, 0, 0, 0, 0], "{rest:?}");
}

#[test]
fn e33_an_idle_client_of_http2_that_hears_nothing_is_closed_all_the_same() {
    let certificate = made("DNS:a.example", "ecdsa", 9);
    let door = open_at(Bodies::Forgotten, brief(), |socket| Listener::tls(socket, server(&certificate)));
    let begun = Instant::now();
    let mut client = Client::connect(&door);
    let frames: Vec<Came> = std::iter::from_fn(|| client.read()).collect();
    assert!(frames.iter().any(|came| came.0 == GOAWAY), "{frames:?}");
    // 300 ms idle and 500 ms of goodbye, each up to a sweep later, and a busy machine.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    while door.door.open() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "its place is not free");
        std::thread::yield_now();
    }
}
