//! What connections that stay open without asking for anything cost the edge.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::rig::Server;
use crate::rig::client::read_response;
use crate::rig::http2::{HEADERS, Raw, get};
use crate::rig::tls::{TlsClient, able};
use crate::{alone, counted, is_long, start_with_certificates};

/// Connections of each kind; in the long form as many as files may be open where 20,000 may not.
fn wanted() -> usize {
    if !is_long() {
        return 2_000;
    }
    let wide = Some(131_072);
    if setrlimit(Resource::Nofile, Rlimit { current: wide, maximum: wide }).is_err() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the soft limit can be raised");
    }
    // The edge shares what it may open among its two doors.
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(131_072);
    let room = usize::try_from(allowed).expect("a count").saturating_sub(2_000) / 2;
    room.min(20_000)
}

/// From one of many addresses, as visitors come: one alone has too few ports.
fn dial(address: SocketAddr, number: usize) -> TcpStream {
    let own = SocketAddr::from(([127, 0, 0, (2 + number % 100) as u8], 0));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&own.into()).expect("an address of 127.0.0.0/8");
    socket.connect_timeout(&address.into(), Duration::from_secs(20)).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// Asked once, answered, and open as long as somebody has it.
type Idle = Box<dyn Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Tls,
    Http2,
}

impl Kind {
    /// A page that is not there: everything but the spool has been used, whose memory is not the connection's.
    fn open(self, server: &Server, number: usize) -> Idle {
        let tls = || dial(server.edge_tls.expect("a certificate"), number);
        match self {
            Kind::Plain => {
                let mut stream = BufReader::new(dial(server.edge, number));
                stream.get_mut().write_all(b"GET /nobody HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
                assert_eq!(read_response(&mut stream, false).expect("an answer").status, 404);
                Box::new(stream)
            }
            Kind::Tls => {
                let mut client = TlsClient::over(tls(), "afflux.test", &able()).expect("a handshake");
                assert_eq!(client.get("/nobody").expect("an answer").status, 404);
                Box::new(client)
            }
            Kind::Http2 => {
                let mut client = Raw::over(tls(), &[]);
                client.write(&get(1, "/nobody")).expect("sent");
                assert!(client.read_until(HEADERS).is_some());
                Box::new(client)
            }
        }
    }

    fn crowd(self, server: &Server, count: usize) -> Vec<Idle> {
        const THREADS: usize = 4;
        std::thread::scope(|scope| {
            let open = |first: usize| (first..count).step_by(THREADS).map(|number| self.open(server, number));
            let threads: Vec<_> =
                (0..THREADS).map(|first| scope.spawn(move || open(first).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("they are answered")).collect()
        })
    }
}

/// Of the process, but for pages of files: the spool makes its segments ahead and touches them all, whoever is connected.
pub fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// KiB of each connection, by what the edge grew between a first crowd, whose going leaves its own traces, and a full one.
fn measured(kind: Kind, count: usize) -> f64 {
    let home = tempfile::tempdir().unwrap();
    let mut start = start_with_certificates(home.path());
    start.config.push(("limits", format!("connections = {}", count + 100)));
    let server = Server::start(home.path(), &start);
    drop(kind.crowd(&server, 50));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while counted(&server, "afflux_http_connections") > 0 {
        assert!(std::time::Instant::now() < deadline, "they do not go");
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = resident_kib(&server);
    let begun = std::time::Instant::now();
    let crowd = kind.crowd(&server, count);
    let opened = begun.elapsed();
    let after = resident_kib(&server);
    // All of them, also by the edge's own count: none had gone when it was measured.
    assert_eq!(counted(&server, "afflux_http_connections"), count as u64, "of {}", crowd.len());
    let each = after.saturating_sub(before) as f64 / count as f64;
    println!("{count} idle connections, {kind:?}: {each:.1} KiB each, opened in {opened:.1?}");
    each
}

#[test]
fn an_idle_connection_costs_at_most_16_kib_40_with_tls_64_with_http2() {
    let _alone = alone();
    let count = wanted();
    assert!(count >= 2_000, "too few files may be open: {count}");
    let figures = [(Kind::Plain, 16.0), (Kind::Tls, 40.0), (Kind::Http2, 64.0)]
        .map(|(kind, most)| (kind, measured(kind, count), most));
    for (kind, each, most) in figures {
        // An edge that keeps nothing of a connection does not exist: then the measure is wrong.
        assert!(each > 1.0 && each <= most, "{kind:?}: {each:.1} KiB of {most}");
    }
}
