//! The spool on disks that fail again and again, hang whole, are full of what is consumed, and among many old spools.

use std::time::{Duration, Instant};

use afflux::clock::WallClock;
use afflux::spool::{Durability, Options, Spools, Topic};
use serde_json::json;

use crate::alone;
use crate::crowd::{Crowd, Ledger};
use crate::disk_faults::{metric, strace};
use crate::kill9::{assert_nothing_is_missing, assert_what_is_missing_was_counted};
use crate::mounts::{Mount, need_root};
use crate::rig::server::{Start, TOKEN};
use crate::rig::{Server, books};

fn start(wrapper: Vec<String>, spool: &str) -> Start {
    start_with_segments(1 << 20, wrapper, spool)
}

fn start_with_segments(bytes: u32, wrapper: Vec<String>, spool: &str) -> Start {
    Start { wrapper, config: vec![("spool", format!("segment_bytes = {bytes}\n{spool}"))], ..Start::default() }
}

pub fn undurable(server: &Server, kind: &str) -> u64 {
    let page = server.admin().get("/metrics", &[]).text();
    let label = format!("kind=\"{kind}\"");
    let lines = page.lines().filter(|line| line.starts_with("afflux_spool_undurable_total") && line.contains(&label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn c1_fdatasyncs_that_fail_again_and_again_lose_nothing() {
    let _alone = alone();
    for durability in ["process", "disk"] {
        let home = tempfile::tempdir().unwrap();
        let durability = format!("durability = \"{durability}\"");
        // Of segments as large as these enough are made in time, although their making fails now and then.
        let start = |wrapper| start_with_segments(8 << 20, wrapper, &durability);
        let server = Server::start(home.path(), &start(strace(&["fdatasync:error=EIO:when=20+25"])));
        let crowd = Crowd::start(&server, 0);
        crowd.wait_for(1_000, 20);
        std::thread::sleep(Duration::from_secs(4));
        let mut ledger = Ledger::default();
        ledger.add(crowd.go_home());
        let (rescued, unspooled) = (metric(&server, "afflux_spool_rescued_total"), undurable(&server, "unspooled"));
        assert!(rescued > 0, "nothing had to be rescued");
        assert_eq!(undurable(&server, "lost"), 0);
        drop(server);
        let server = Server::start(home.path(), &start(Vec::new()));
        assert_what_is_missing_was_counted(&server, &ledger, unspooled);
        println!(
            "EIO now and then, {durability}: {} clicks, {rescued} written again, {unspooled} without a record",
            ledger.clicks.len()
        );
    }
}

#[test]
fn c2_kill_9_while_the_disk_fails_for_good_loses_nothing() {
    let _alone = alone();
    for _ in 0..3 {
        let home = tempfile::tempdir().unwrap();
        let spool = "durability = \"process\"";
        // As large as these, so that there is room when none can be made any more.
        let start = |wrapper| start_with_segments(8 << 20, wrapper, spool);
        let server = Server::start(home.path(), &start(strace(&["fdatasync:error=EIO:when=40+"])));
        let crowd = Crowd::with(&server, 0, 32, 0);
        crowd.wait_for(2_000, 0);
        std::thread::sleep(crate::kill9::random_moment() * 50);
        let refused = undurable(&server, "unspooled");
        server.kill();
        let mut ledger = Ledger::default();
        ledger.add(crowd.go_home());
        assert_eq!(refused, 0);
        let server = Server::start(home.path(), &start(Vec::new()));
        assert_nothing_is_missing(&server, &ledger);
    }
}

#[test]
fn h1_a_device_that_hangs_whole_holds_up_no_redirect_and_no_admin() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    // Neither data nor names get on disk any more, from some moment on.
    let hang = strace(&["fdatasync:delay_enter=6000000:when=100+", "fsync:delay_enter=6000000:when=25+"]);
    let server = Server::start(home.path(), &start(hang, ""));
    let crowd = Crowd::with(&server, 0, 32, 2);
    let (mut edge, mut slowest, mut slowest_admin) = (server.edge(), Duration::ZERO, Duration::ZERO);
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let asked = Instant::now();
        assert_eq!(edge.get("/phone", &[("User-Agent", "probe")]).status, 302);
        slowest = slowest.max(asked.elapsed());
        let asked = Instant::now();
        assert_eq!(server.admin().get("/livez", &[]).status, 200);
        slowest_admin = slowest_admin.max(asked.elapsed());
    }
    let ready = server.admin().get("/readyz", &[]).status;
    let (late, unspooled) = (undurable(&server, "late"), undurable(&server, "unspooled"));
    server.kill();
    crowd.go_home();
    println!("device hangs: slowest redirect {slowest:?}, admin {slowest_admin:?}; {late} late, {unspooled} unspooled");
    assert!(slowest < Duration::from_millis(1_500) && slowest_admin < Duration::from_millis(1_500));
    assert!(ready == 503 && late + unspooled > 0);
}

#[test]
fn h2_a_disk_that_fails_for_good_is_not_filled() {
    need_root();
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(home.path(), 400);
    let environment = mount.spool_environment();
    let injected = strace(&["fdatasync:error=EIO:when=30+"]);
    let server = Server::start(home.path(), &Start { environment, ..start(injected, "max_bytes = 50_331_648") });
    let crowd = Crowd::with(&server, 0, 32, 0);
    let (until, mut most) = (Instant::now() + Duration::from_secs(8), 0);
    while Instant::now() < until {
        let bytes = std::process::Command::new("du").args(["-s", "-B1"]).arg(&mount.path).output().unwrap().stdout;
        let text = String::from_utf8(bytes).unwrap();
        most = most.max(text.split_ascii_whitespace().next().and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(100));
    }
    crowd.go_home();
    println!("a disk that fails for good: at most {} MiB where 48 are allowed", most >> 20);
    // A rescue holds what it replaces twice for a moment.
    assert!(most < 2 * 50_331_648, "{most} bytes");
    assert_eq!(server.admin().get("/readyz", &[]).status, 503);
}

#[test]
fn h5_a_disk_full_of_what_is_consumed_takes_clicks_and_orders() {
    need_root();
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(home.path(), 24);
    let environment = mount.spool_environment();
    let server = Server::start(home.path(), &Start { environment, ..Start::default() });
    let mut edge = server.edge();
    // The limit of 1 GiB is far; the disk of 24 MiB is written over several times.
    for number in 0..90_000 {
        let response = edge.get(&format!("/phone?sub1={number:0>200}"), &[("User-Agent", "filling")]);
        assert_eq!(response.status, 302);
    }
    let (deleted, refused) = (metric(&server, "afflux_spool_deleted_segments_total"), undurable(&server, "unspooled"));
    println!("a small disk: {deleted} consumed segments deleted before their time, {refused} clicks without a record");
    assert!(deleted > 30 && refused < 9_000);
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.admin().get("/readyz", &[]).status != 200 {
        assert!(Instant::now() < deadline, "{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let click_id = edge.get("/phone", &[]).click_id();
    let order = json!({"order_id": "after", "type": "sale", "click_id": click_id, "amount": 1_000});
    assert_eq!(server.api().post_json("/v1/conversions", TOKEN, &order).status, 202);
    books::assert_books_close(&server);
}

#[test]
fn h9_hundreds_of_old_spools_need_no_file_and_no_core_each() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        directory: home.path().join("data/spool"),
        segment_bytes: 65_536,
        durability: Durability::Process,
        sync_interval: Duration::from_millis(5),
        max_bytes: Some(1 << 30),
        keep: Duration::from_secs(86_400),
    };
    let count = 400;
    let spools = Spools::open(options, std::sync::Arc::new(WallClock::start())).unwrap();
    for _ in 0..count {
        let mut writer = spools.writer(Topic::Clicks, 0).unwrap();
        writer.append(br#"{"event":"another","schema":1}"#).unwrap();
    }
    assert_eq!(spools.close(), []);
    drop(spools);
    let limit = ["prlimit", "--nofile=256:256"].map(str::to_owned).to_vec();
    let server = Server::start(home.path(), &Start { wrapper: limit, ..Start::default() });
    let deadline = Instant::now() + Duration::from_secs(20);
    let applied = || String::from_utf8(server.run(&["reconcile"]).stdout).unwrap();
    while !applied().contains(&format!("{count} consumed + 0 lag")) {
        assert!(Instant::now() < deadline, "{}\n{}", applied(), server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(metric(&server, "afflux_attribution_source_errors_total"), 0);
    assert_eq!(server.edge().get("/phone", &[]).status, 302);
    let before = metric(&server, "process_cpu_seconds_total");
    std::thread::sleep(Duration::from_secs(5));
    let idle = metric(&server, "process_cpu_seconds_total") - before;
    assert!(idle <= 1, "{idle} s of CPU in 5 s without work");
}

#[test]
fn m6_a_stop_while_the_disk_fails_says_so() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let spool = "durability = \"process\"";
    // In segments as large as these there is room for what comes until everybody has gone home.
    let start = |wrapper| start_with_segments(16 << 20, wrapper, spool);
    let server = Server::start(home.path(), &start(strace(&["fdatasync:error=EIO:when=60+"])));
    let crowd = Crowd::with(&server, 0, 16, 0);
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.admin().get("/readyz", &[]).status != 503 {
        assert!(Instant::now() < deadline, "the disk never failed");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut ledger = Ledger::default();
    ledger.add(crowd.go_home());
    let unspooled = undurable(&server, "unspooled");
    println!("the disk fails for good: {} clicks, {unspooled} of them without a record", ledger.clicks.len());
    assert_eq!(server.stop().code(), Some(74));
    let server = Server::start(home.path(), &start(Vec::new()));
    assert_what_is_missing_was_counted(&server, &ledger, unspooled);
}
