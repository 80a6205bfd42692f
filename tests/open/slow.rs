//! Clients that are slow on purpose, in all four ways of slowhttptest, and what a visitor notices of them (contract E34).

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::rig::server::Start;
use crate::rig::{Client, Server, books};
use crate::{alone, is_long, tool};

/// Each with its letter of slowhttptest, behind none at all: what the machine makes of clicks anyway.
const WAYS: [(&str, &str); 5] =
    [("", "nobody"), ("-H", "headers"), ("-B", "bodies"), ("-R", "ranges"), ("-X", "reading")];

const BETWEEN_CLICKS: Duration = Duration::from_millis(50);

fn attack(server: &Server, way: &str, connections: usize, seconds: u64) -> Child {
    let count = connections.to_string();
    // All of them within two seconds.
    let rate = (connections / 2).to_string();
    if way.is_empty() {
        return tool("sleep").arg(seconds.to_string()).spawn().expect("sleep");
    }
    tool("slowhttptest")
        .args([way, "-c", &count, "-r", &rate, "-i", "1", "-p", "3", "-l", &seconds.to_string(), "-u"])
        .arg(format!("http://{}/phone?sub1=slow", server.edge))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("slowhttptest")
}

/// A click on a new connection; all that it takes, by a clock.
fn click(server: &Server) -> Duration {
    let begun = Instant::now();
    let answer = Client::new(server.edge).get("/phone?sub1=normal", &[]);
    assert_eq!(answer.status, 302, "{answer:?}");
    begun.elapsed()
}

/// How long clicks took while an attack went on, from the shortest; those who were cut off begin again until its time is
/// over.
fn clicks_during(server: &Server, way: &str, connections: usize, seconds: u64) -> (Vec<Duration>, u64) {
    let (begun, mut attacks) = (Instant::now(), 0);
    let (mut times, mut most) = (Vec::new(), 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let left = Duration::from_secs(seconds).saturating_sub(begun.elapsed()).as_secs().max(1);
        let mut child = attack(server, way, connections, left);
        attacks += 1;
        while child.try_wait().expect("our child").is_none() {
            let due = Instant::now() + BETWEEN_CLICKS;
            times.push(click(server));
            most = most.max(crate::counted(server, "afflux_http_connections"));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    times.sort_unstable();
    println!("slow {way}: {attacks} attacks of {connections}, at most {most} open at once");
    (times, most)
}

#[test]
fn e34_slow_clients_keep_nobody_waiting() {
    let _alone = alone();
    let (connections, seconds) = if is_long() { (2_000, 60) } else { (300, 5) };
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let mut clicks = 0;
    let mut slowest = Vec::new();
    for (way, what) in WAYS {
        let before = asked(&server);
        let (times, open) = clicks_during(&server, way, connections, seconds);
        clicks += times.len();
        let at = |of_a_thousand: usize| times[(times.len() - 1) * of_a_thousand / 1_000];
        let [half, most, worst] = [at(500), at(990), at(1_000)];
        println!("slow {what}: {} clicks, median {half:.1?}, p99 {most:.1?}, worst {worst:.1?}", times.len());
        assert!(half < Duration::from_millis(50), "{what}: {half:?}");
        slowest.push((what, most));
        // They were there: waiting, or asking what was answered at once.
        let slow = asked(&server) - before - times.len() as u64;
        let attacked = if way.is_empty() { connections as u64 } else { open.max(slow) };
        assert!(attacked >= connections as u64 * 9 / 10, "{what}: {open} open, {slow} answered");
    }
    let late: Vec<_> = slowest.iter().filter(|(_, most)| is_long() && *most >= Duration::from_millis(50)).collect();
    assert!(late.is_empty(), "p99: {late:?} of {slowest:?}");
    let events = books::spooled(&server);
    assert_eq!(events.iter().filter(|event| event["sub1"] == "normal").count(), clicks, "every click is kept, once");
    assert_eq!(server.admin().get("/readyz", &[]).status, 200);
}

/// Requests that were answered, whatever the answer.
fn asked(server: &Server) -> u64 {
    let page = server.admin().get("/metrics", &[]).text();
    let lines = page.lines().filter_map(|line| line.strip_prefix("afflux_edge_requests_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
