//! Certificates and catalog are read again each second, under load: nobody loses a connection, every click is answered, and
//! none of them waits for it (contract P9).

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::rig::books::spooled;
use crate::rig::http2::{block_on, connect, request, send};
use crate::rig::server::{CATALOG, Start};
use crate::rig::tls::{Abilities, TlsClient, able, make_certificate};
use crate::rig::{Client, Server};
use crate::{alone, is_long, redirected, wait_until};

/// Between two clicks of a visitor.
const PAUSE: Duration = Duration::from_millis(2);

/// Links beside those of the catalog, so that reading it is some work.
fn links() -> usize {
    if is_long() { 20_000 } else { 500 }
}

fn catalog(version: u32) -> String {
    let link = |number: usize| format!("\n[[links]]\ncode = \"more{number}\"\noffer_id = 12\npublisher_id = 34\n");
    format!("# {version}\n{CATALOG}{}", (0..links()).map(link).collect::<String>())
}

/// Puts another catalog and another certificate there, and says so.
fn replace(server: &Server, others: &Path, version: u32) {
    let put = |text: &[u8], name: &str| {
        let unfinished = server.home.join("unfinished");
        fs::write(&unfinished, text).expect("a file");
        fs::rename(unfinished, server.home.join(name)).expect("the same directory");
    };
    put(catalog(version).as_bytes(), "catalog.toml");
    for kind in ["key", "crt"] {
        let other = others.join(format!("{}.{kind}", version % 2));
        put(&fs::read(other).expect("made before"), &format!("edge.{kind}"));
    }
    server.signal("HUP");
}

/// How often both were taken.
fn taken(server: &Server) -> [u64; 2] {
    let page = server.admin().get("/metrics", &[]).text();
    let of = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.trim().parse().expect("a number")
    };
    ["afflux_catalog_reloads_total{result=\"success\"}", "afflux_tls_reloads_total{door=\"edge\",result=\"success\"}"]
        .map(of)
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Tls,
    /// A connection for each click.
    NewTls,
    Http2,
}

const KINDS: [Kind; 6] = [Kind::Plain, Kind::Plain, Kind::Tls, Kind::Tls, Kind::NewTls, Kind::Http2];

/// A visitor's clicks until `stop`, and how long each took. A connection that ends is a failure.
fn visit(kind: Kind, server: &Server, able: &Abilities, stop: &AtomicBool) -> Vec<Duration> {
    let (plain, tls): (SocketAddr, SocketAddr) = (server.edge, server.edge_tls.expect("a certificate"));
    let mut times = Vec::new();
    let mut each = |click: &mut dyn FnMut() -> u16| {
        while !stop.load(SeqCst) {
            let begun = Instant::now();
            assert_eq!(click(), 302, "{kind:?}, click {}", times.len());
            times.push(begun.elapsed());
            std::thread::sleep(PAUSE);
        }
    };
    let dial = || TlsClient::connect(tls, "afflux.test", able).expect("a handshake");
    match kind {
        Kind::Plain => {
            let mut client = Client::new(plain);
            each(&mut || {
                let status = client.get("/phone", &[]).status;
                assert!(client.is_connected(), "the connection was closed");
                status
            });
        }
        Kind::Tls => {
            let mut client = dial();
            each(&mut || client.get("/phone").expect("the connection stays").status);
        }
        Kind::NewTls => each(&mut || dial().get("/phone").expect("an answer").status),
        Kind::Http2 => block_on(async {
            let requests = connect(tls).await;
            while !stop.load(SeqCst) {
                let begun = Instant::now();
                let (answer, _) = send(&requests, request("GET", "/phone"), b"").await.expect("the connection stays");
                assert_eq!(answer.status(), 302);
                times.push(begun.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
        }),
    }
    times
}

/// Whatever goes wrong, nobody is waited for who waits for this.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Clicks of all visitors for a while, in which what is served is replaced each second or not.
fn round(server: &Server, others: &Path, seconds: u64, version: &mut u32, replaces: bool) -> Vec<Duration> {
    let (stop, able) = (AtomicBool::new(false), able());
    std::thread::scope(|scope| {
        let _stops = Stops(&stop);
        let (stop, able) = (&stop, &able);
        let visitors: Vec<_> = KINDS.map(|kind| scope.spawn(move || visit(kind, server, able, stop))).into();
        for _ in 0..seconds {
            let next = Instant::now() + Duration::from_secs(1);
            if replaces {
                let before = taken(server);
                *version += 1;
                replace(server, others, *version);
                wait_until("both are read again", || {
                    taken(server).iter().zip(before).all(|(now, before)| *now > before)
                });
            }
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        stop.store(true, SeqCst);
        visitors.into_iter().flat_map(|visitor| visitor.join().expect("every click is answered")).collect()
    })
}

/// Of a sorted list.
fn share(times: &[Duration], of_a_thousand: usize) -> Duration {
    times[(times.len() - 1) * of_a_thousand / 1_000]
}

#[test]
fn p9_while_all_is_read_again_each_second_no_connection_is_lost_and_no_click_waits() {
    let _alone = alone();
    let (home, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["0", "1"] {
        make_certificate(others.path(), name, "DNS:afflux.test", "ecdsa");
    }
    make_certificate(home.path(), "edge", "DNS:afflux.test", "ecdsa");
    let edge = "tls_listen = \"127.0.0.1:0\"\ntls_certificate_file = \"edge.crt\"\ntls_key_file = \"edge.key\"";
    // Both are read when we say so, and at no other time.
    let config = vec![("edge", edge.into()), ("catalog", "watch_interval_ms = 0".into())];
    let server = Server::start(home.path(), &Start { config, catalog: Some(catalog(0)), ..Start::default() });
    // In turn, so that whatever else the machine does befalls both.
    let (rounds, seconds) = if is_long() { (12, 5) } else { (2, 3) };
    let (mut calm, mut replaced, mut version) = (Vec::new(), Vec::new(), 0);
    for number in 0..rounds {
        let replaces = number % 2 == 1;
        let times =
            round(&server, others.path(), if is_long() || replaces { seconds } else { 1 }, &mut version, replaces);
        if replaces { &mut replaced } else { &mut calm }.extend(times);
    }
    let clicks = calm.len() + replaced.len();
    for (name, times) in [("with", &mut replaced), ("without", &mut calm)] {
        times.sort_unstable();
        println!(
            "{name} reloads of {} links and a certificate each second: {} clicks, median {:.1?}, p99 {:.1?}, p99.9 {:.1?}, \
             worst {:.1?}",
            links(),
            times.len(),
            share(times, 500),
            share(times, 990),
            share(times, 999),
            share(times, 1_000)
        );
    }
    let reloads = server.log().matches("the certificates were reloaded").count();
    assert_eq!(reloads as u32, version, "{}", server.log());
    assert!(!server.log().contains("not reloaded"), "{}", server.log());
    assert_eq!((redirected(&server), spooled(&server).len()), (clicks, clicks), "answered = counted = spooled");
    if is_long() {
        let (with, without) = (share(&replaced, 999), share(&calm, 999));
        assert!(with <= 2 * without + Duration::from_millis(5), "p99.9 {with:?} with reloads, {without:?} without");
    }
}
