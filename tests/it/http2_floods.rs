//! What is said in HTTP/2 to cost work and memory and to ask for nothing: told to calm down, closed and counted, while
//! others are served (RFC 9113 10.5; CVE-2023-44487, CVE-2024-27316).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::http2::{answered, counted};
use crate::rig::Server;
use crate::rig::books::spooled;
use crate::rig::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE,
    frame, get, get_block,
};
use crate::tls::{edge_with_certificate, wait_until};

const ENHANCE_YOUR_CALM: u32 = 11;

/// Memory of the program, KiB; without the spool's mapped segments.
pub fn memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Writes `first`, then what `each` makes of 0, 1, ... in large pieces until the other side has enough of it. Returns
/// whether it was told to calm down, and how long it took to be closed after that.
fn flood(address: SocketAddr, first: &[u8], each: impl Fn(u32) -> Vec<u8>) -> (bool, Duration) {
    let mut client = Raw::connect(address, &[]);
    let mut sent = 0;
    let mut closed = client.write(first).is_err();
    while !closed && sent < 20_000 {
        let piece: Vec<u8> = (sent..sent + 100).flat_map(&each).collect();
        closed = client.write(&piece).is_err();
        sent += 100;
    }
    let (frames, took) = client.read_to_close();
    let calm = frames.iter().any(|frame| frame.kind == GOAWAY && frame.error() == ENHANCE_YOUR_CALM);
    (calm, took)
}

/// The frames that come again and again, each made of its number.
type Repeated<'a> = &'a dyn Fn(u32) -> Vec<u8>;

#[test]
fn e33_floods_are_told_to_calm_down_closed_and_counted_while_others_are_served() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let address = server.edge_tls.unwrap();
    let clicks = AtomicU64::new(0);
    let click = || {
        clicks.fetch_add(1, SeqCst);
        let begun = Instant::now();
        assert_eq!(server.edge().get("/phone", &[]).status, 302);
        begun.elapsed()
    };
    click();
    let before = memory_kib(&server);
    let open = frame(HEADERS, END_HEADERS, 1, &get_block("/phone"));
    let begins = frame(HEADERS, END_STREAM, 1, &get_block("/phone")[..5]);
    let reset = |number: u32| {
        let id = 2 * number + 1;
        [get(id, "/phone"), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    };
    // A window update for a stream that is idle is an error of its own: these are for the connection.
    let floods: [(&str, &[u8], Repeated); 7] = [
        ("rapid reset", b"", &reset),
        ("continuations", &begins, &|_| frame(CONTINUATION, 0, 1, b"")),
        ("pings", b"", &|_| frame(PING, 0, 0, &[7; 8])),
        ("settings", b"", &|_| frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0])),
        ("empty data", &open, &|_| frame(DATA, 0, 1, b"")),
        ("priorities", b"", &|_| frame(2, 0, 7, &[0, 0, 0, 0, 9])),
        ("windows", b"", &|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
    ];
    for (name, first, each) in floods {
        let counted_before = counted(&server, "afflux_http2_floods_total");
        let click = &click;
        let (took, (calm, closed)) = std::thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            let clicks = scope.spawn(move || {
                let mut took = Vec::new();
                while is_done.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    took.push(click());
                }
                took.sort();
                // Of all but one in ten: the machine has other things to do, too.
                took.get(took.len() * 9 / 10).copied().unwrap_or_default()
            });
            let flooded = flood(address, first, each);
            drop(done);
            (clicks.join().unwrap(), flooded)
        });
        assert!(calm, "{name}: not told to calm down");
        assert!(closed < Duration::from_secs(5), "{name}: closed after {closed:?}");
        assert!(took < Duration::from_millis(100), "{name}: a click took {took:?}");
        wait_until(|| counted(&server, "afflux_http2_floods_total") == counted_before + 1);
    }
    let grown = memory_kib(&server).saturating_sub(before);
    assert!(grown < 16 * 1_024, "{grown} KiB more");
    // Every request is spooled, whoever reset it; it is counted as answered unless it was reset before the disk had it.
    let (requests, resets) =
        (counted(&server, "afflux_http2_requests_total"), counted(&server, "afflux_http2_resets_total"));
    let spooled = spooled(&server).len() as u64;
    assert_eq!(spooled, requests + clicks.load(SeqCst));
    let redirected = answered(&server, "redirected");
    assert!(redirected <= spooled && spooled - redirected <= resets, "{redirected} of {spooled}, {resets} resets");
}

#[test]
fn e26_clients_that_reset_each_request_leave_nothing_behind_but_clicks() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &edge_with_certificate(home.path()));
    let address = server.edge_tls.unwrap();
    let mut before = 0;
    for round in 0..20 {
        // Fewer than would be too many.
        let mut client = Raw::connect(address, &[]);
        for number in 0..100 {
            let id = 2 * number + 1;
            let both = [get(id, "/phone"), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat();
            // Many that come together are a flood.
            if client.write(&both).is_err() {
                break;
            }
        }
        if round == 3 {
            before = memory_kib(&server);
        }
    }
    wait_until(|| server.admin().get("/metrics", &[]).text().contains("afflux_http_connections{door=\"edge\"} 0\n"));
    let grown = memory_kib(&server).saturating_sub(before);
    assert!(grown < 8 * 1_024, "{grown} KiB more");
    assert_eq!(spooled(&server).len() as u64, counted(&server, "afflux_http2_requests_total"));
}
