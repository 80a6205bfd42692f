//! Clients that are slow on purpose, in all four ways of slowhttptest, and what a visitor notices of them (contract E34).

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::rig::server::Start;
use crate::rig::{Client, Server, books};
use crate::{alone, counted, is_long, tool};

/// Each with its letter of slowhttptest.
const WAYS: [(&str, &str); 4] = [("-H", "headers"), ("-B", "bodies"), ("-R", "ranges"), ("-X", "reading")];

const BETWEEN_CLICKS: Duration = Duration::from_millis(50);

fn attack(server: &Server, way: &str, connections: usize, seconds: u64) -> Child {
    let count = connections.to_string();
    // All of them within two seconds.
    let rate = (connections / 2).to_string();
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

/// How long clicks took while an attack went on, from the shortest, at the server under attack and at its twin.
struct Clicks {
    attacked: Vec<Duration>,
    calm: Vec<Duration>,
    /// Connections of the one under attack, at most.
    open: u64,
}

/// An attack whose connections are all cut off begins again until its time is over.
fn clicks_during(server: &Server, twin: &Server, way: &str, connections: usize, seconds: u64) -> Clicks {
    let (begun, whole) = (Instant::now(), Duration::from_secs(seconds));
    let mut clicks = Clicks { attacked: Vec::new(), calm: Vec::new(), open: 0 };
    while begun.elapsed() < whole {
        let mut child = attack(server, way, connections, (whole - begun.elapsed()).as_secs().max(1));
        while child.try_wait().expect("our child").is_none() {
            let due = Instant::now() + BETWEEN_CLICKS;
            clicks.attacked.push(click(server));
            clicks.calm.push(click(twin));
            clicks.open = clicks.open.max(counted(server, "afflux_http_connections"));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    clicks.attacked.sort_unstable();
    clicks.calm.sort_unstable();
    clicks
}

/// Median, p99 and the worst.
fn shares(times: &[Duration]) -> [Duration; 3] {
    [500, 990, 1_000].map(|of_a_thousand| times[(times.len() - 1) * of_a_thousand / 1_000])
}

#[test]
fn e34_slow_clients_keep_nobody_waiting() {
    let _alone = alone();
    let (connections, seconds) = if is_long() { (2_000, 60) } else { (300, 5) };
    let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
    // Nobody attacks the twin: its clicks tell what the machine makes of clicks at the same moments.
    let [server, twin] = homes.each_ref().map(|home| Server::start(home.path(), &Start::default()));
    let (mut count, mut all) = (0, Vec::new());
    for (way, what) in WAYS {
        let before = asked(&server);
        let Clicks { attacked, calm, open } = clicks_during(&server, &twin, way, connections, seconds);
        count += attacked.len();
        let (here, there) = (shares(&attacked), shares(&calm));
        println!(
            "{connections} slow {what}: {} clicks, median, p99, worst {here:.1?}, at the twin {there:.1?}",
            attacked.len()
        );
        // They were there: waiting, or asking what was answered at once.
        let slow = asked(&server) - before - attacked.len() as u64;
        assert!(open.max(slow) >= connections as u64 * 9 / 10, "{what}: {open} open, {slow} answered");
        all.push((what, here, there));
    }
    let events = books::spooled(&server);
    assert_eq!(events.iter().filter(|event| event["sub1"] == "normal").count(), count, "every click is kept, once");
    assert_eq!(server.admin().get("/readyz", &[]).status, 200);
    let most = Duration::from_millis(50);
    let late = all.iter().any(|(_, [median, p99, _], _)| *median >= most || is_long() && *p99 >= most);
    assert!(!late, "clicks beside slow clients, and at the twin: {all:.1?}");
}

/// Requests that were answered, whatever the answer.
fn asked(server: &Server) -> u64 {
    let page = server.admin().get("/metrics", &[]).text();
    let lines = page.lines().filter_map(|line| line.strip_prefix("afflux_edge_requests_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
