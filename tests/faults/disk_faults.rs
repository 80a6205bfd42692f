//! Disks that are full, read-only, slow, that fail once or hang; clocks that jump; damage in a file.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::alone;
use crate::crowd::{Crowd, Ledger};
use crate::kill9::{assert_nothing_is_missing, assert_what_is_missing_was_counted};
use crate::mounts::{Mount, need_root};
use crate::rig::server::{Start, TOKEN};
use crate::rig::{Client, Server, books};
use crate::spool_faults::undurable;

/// strace as a grandchild: the program stays our child, and every thread of it is traced.
pub fn strace(injections: &[&str]) -> Vec<String> {
    let fixed = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"];
    let injected = injections.iter().flat_map(|injection| ["-e".to_owned(), format!("inject={injection}")]);
    fixed.iter().map(|word| (*word).to_owned()).chain(injected).collect()
}

fn crowd_under(injection: &str, segment_bytes: u64, clicks: u64, orders: u64) -> Duration {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let spool = ("spool", format!("segment_bytes = {segment_bytes}"));
    let injection = format!("fdatasync:{injection}");
    let start = Start { wrapper: strace(&[&injection]), config: vec![spool.clone()], ..Start::default() };
    let server = Server::start(home.path(), &start);
    let crowd = Crowd::start(&server, 0);
    let mut probe = server.edge();
    let (mut slowest, mut ledger) = (Duration::ZERO, Ledger::default());
    let deadline = Instant::now() + Duration::from_secs(6);
    while Instant::now() < deadline {
        let asked = Instant::now();
        let response = probe.get("/phone", &[("User-Agent", "probe")]);
        assert_eq!(response.status, 302);
        slowest = slowest.max(asked.elapsed());
        ledger.clicks.insert(response.click_id());
    }
    crowd.wait_for(clicks, orders);
    ledger.add(crowd.go_home());
    let unspooled = undurable(&server, "unspooled");
    println!("{} clicks, {unspooled} of them without a record", ledger.clicks.len());
    assert_eq!(undurable(&server, "lost"), 0);
    assert_eq!(server.stop().code(), Some(0));
    let server = Server::start(home.path(), &Start { config: vec![spool], ..Start::default() });
    assert_what_is_missing_was_counted(&server, &ledger, unspooled);
    slowest
}

#[test]
fn a_slow_fdatasync_delays_and_loses_nothing() {
    // Of segments as large as these a thread that makes them so slowly still makes enough for the crowd.
    let slowest = crowd_under("delay_enter=50000", 8 << 20, 100, 5);
    println!("fdatasync of 50 ms: slowest redirect {slowest:?}");
}

#[test]
fn a_fdatasync_that_fails_once_loses_nothing() {
    // Once for each thread that syncs: every spool, the store and the order index meet it.
    let slowest = crowd_under("error=EIO:when=40", 1 << 20, 500, 20);
    println!("fdatasync failing once in every thread: slowest redirect {slowest:?}");
}

#[test]
fn a_hanging_fdatasync_holds_up_no_redirect() {
    // Three seconds, once in every thread that syncs; an answer waits for at most disk_wait_max_ms (50). In segments as
    // large as these there is room for what comes meanwhile.
    let slowest = crowd_under("delay_enter=3000000:when=40", 16 << 20, 500, 5);
    println!("fdatasync hanging for 3 s: slowest redirect {slowest:?}");
    assert!(slowest < Duration::from_millis(1_500), "a redirect took {slowest:?}");
}

#[test]
fn a_full_disk_redirects_clicks_refuses_orders_and_shows_both() {
    need_root();
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(home.path(), 24);
    let environment = mount.spool_environment();
    let start = Start { environment, ..Start::default() };
    // Nobody consumes: what is consumed would be deleted to make room.
    std::fs::create_dir_all(home.path().join("data")).unwrap();
    let lock = std::fs::File::create(home.path().join("data/afflux.sqlite.lock")).unwrap();
    lock.lock().unwrap();
    let server = Server::start(home.path(), &start);
    let (mut edge, mut api) = (server.edge(), server.api());
    let click_id = edge.get("/phone", &[]).click_id();
    let filler = mount.path.join("filler");
    let filled = std::fs::write(&filler, vec![1; 24 << 20]);
    assert!(filled.is_err(), "the disk is full now");
    // Segments that were made ahead are still used; then every click is answered all the same.
    let mut undurable = 0;
    for number in 0..60_000 {
        let response = edge.get(&format!("/phone?sub1={number:0>200}"), &[("User-Agent", "filling")]);
        assert_eq!(response.status, 302);
        assert_eq!(server.run_click(&response.click_id()), Some(()));
        if number % 500 == 0 {
            undurable = metric(&server, "afflux_spool_undurable_total");
            if undurable > 1_000 {
                break;
            }
        }
    }
    assert!(undurable > 0, "the spool never filled");
    assert_eq!(server.admin().get("/readyz", &[]).status, 503);
    let mut refused = 0;
    for number in 0..30_000 {
        let order = json!({"order_id": format!("F-{number}"), "type": "sale", "click_id": click_id, "amount": 1_000,
            "filler": "x".repeat(3_000)});
        let response = api.post_json("/v1/conversions", TOKEN, &order);
        if response.status == 503 {
            assert!(response.header("retry-after").is_some());
            refused += 1;
            break;
        }
        assert_eq!(response.status, 202);
    }
    assert_eq!(refused, 1, "an order that is not on disk is refused");
    std::fs::remove_file(&filler).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.admin().get("/readyz", &[]).status != 200 {
        assert!(Instant::now() < deadline, "not ready again although there is room:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let order = json!({"order_id": "after", "type": "sale", "click_id": click_id, "amount": 1_000});
    assert_eq!(api.post_json("/v1/conversions", TOKEN, &order).status, 202);
    println!("full disk: {undurable} clicks redirected and counted as undurable, orders refused with 503");
}

pub fn metric(server: &Server, name: &str) -> u64 {
    let page = server.admin().get("/metrics", &[]).text();
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

impl Server {
    /// A redirect's click ID has the right form, whether spooled or not.
    fn run_click(&self, id: &str) -> Option<()> {
        afflux::click::ClickId::decode(id).map(|_| ())
    }
}

#[test]
fn a_read_only_data_directory_is_named_and_nothing_listens() {
    need_root();
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(home.path(), 8);
    let status = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&mount.path).status();
    assert!(status.unwrap().success());
    let start = Start { data: Some(mount.path.join("data")), ..Start::default() };
    let log = Server::try_start(home.path(), &start).err().expect("it cannot start");
    assert!(log.contains("data"), "{log}");
    assert!(log.to_lowercase().contains("read-only"), "{log}");
}

#[test]
fn two_processes_share_a_data_directory_and_one_consumes() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let first = Server::start(home.path(), &Start::default());
    let second = Server::start(home.path(), &Start::default());
    let mut ledger = Ledger::default();
    for server in [&first, &second] {
        let mut client = Client::new(server.edge);
        for _ in 0..200 {
            ledger.clicks.insert(
                client
                    .get(
                        "/phone",
                        &[("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 two")],
                    )
                    .click_id(),
            );
        }
        let click_id = client.get("/phone", &[]).click_id();
        ledger.clicks.insert(click_id.clone());
        let order_id = format!("two-{}", server.pid());
        let order = json!({"order_id": order_id, "type": "sale", "click_id": click_id, "amount": 1_000});
        let response = server.api().post_json("/v1/conversions", TOKEN, &order);
        assert_eq!(response.status, 202);
        ledger.orders.insert(order_id, response.json()["conversion_id"].as_str().unwrap().to_owned());
    }
    books::wait_for_report(&second, 402, 2, 30);
    first.kill();
    // The survivor takes over the consuming, and what the dead one left.
    let mut client = Client::new(second.edge);
    ledger.clicks.insert(client.get("/phone", &[]).click_id());
    books::wait_for_report(&second, 403, 2, 30);
    assert_nothing_is_missing(&second, &ledger);
}

#[test]
fn a_clock_that_jumps_an_hour_leaves_ids_and_windows_whole() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let control = home.path().join("faketime");
    std::fs::write(&control, "+0").unwrap();
    let library = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|kind| format!("/usr/lib/{kind}/faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .expect("libfaketime (package faketime)");
    let environment = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", &control.to_string_lossy()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let server = Server::start(home.path(), &Start { environment, ..Start::default() });
    let mut edge = server.edge();
    let mut latest = 0;
    for jump in ["+0", "+3600", "+0", "-3600", "+0"] {
        std::fs::write(&control, jump).unwrap();
        std::thread::sleep(Duration::from_millis(1_200));
        for _ in 0..20 {
            let id = edge.get("/phone", &[]).click_id();
            let clicked_at = afflux::click::ClickId::decode(&id).expect("it decodes").clicked_at().0;
            // One worker's times never go back; two workers share one anchored clock.
            assert!(clicked_at >= latest - 50, "{clicked_at} after {latest} at {jump}");
            latest = latest.max(clicked_at);
        }
        let id = edge.get("/phone", &[]).click_id();
        let order_id = format!("jump{jump}-{latest}");
        let order = json!({"order_id": order_id, "type": "sale", "click_id": id, "amount": 1_000});
        let response = server.api().post_json("/v1/conversions", TOKEN, &order);
        assert_eq!(response.status, 202, "{}", response.text());
        let conversion = response.json()["conversion_id"].as_str().unwrap().to_owned();
        let authorization = format!("Bearer {TOKEN}");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let headers = [("Authorization", authorization.as_str())];
            let seen = server.api().get(&format!("/v1/conversions/{conversion}"), &headers).json();
            if seen["outcome"] != "pending" {
                assert_eq!(seen["outcome"], "attributed", "{jump}: {seen}");
                break;
            }
            assert!(Instant::now() < deadline, "{seen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    assert!((latest - now).abs() < 60_000, "an ID {} ms off", latest - now);
}

#[test]
fn bytes_written_to_the_device_stay_below_15_times_the_payload() {
    need_root();
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mount = Mount::ext4(home.path(), 1_024);
    // The spool alone lies on the measured device.
    let environment =
        vec![("AFFLUX__SPOOL__DIRECTORY".into(), mount.path.join("spool").to_string_lossy().into_owned())];
    let server = Server::start(home.path(), &Start { environment, ..Start::default() });
    std::thread::sleep(Duration::from_secs(1));
    let before = mount.device_bytes_written();
    let started = Instant::now();
    let seconds = 5;
    let paced: Vec<_> = (0..32)
        .map(|number| {
            let edge = server.edge;
            std::thread::spawn(move || click_at(edge, number, 10_000 / 32, seconds))
        })
        .collect();
    let clicks: u64 = paced.into_iter().map(|thread| thread.join().unwrap()).sum();
    let rate = clicks as f64 / started.elapsed().as_secs_f64();
    let written = mount.device_bytes_written() - before;
    let events = server.run(&["spool", "cat", &mount.path.join("spool").to_string_lossy()]);
    let payload = events.stdout.len() as u64;
    let ratio = written as f64 / payload as f64;
    println!(
        "device bytes in disk: {clicks} clicks at {rate:.0}/s, {payload} bytes of records, {written} written: {ratio:.1} times"
    );
    assert!(ratio < 15.0, "{ratio}");
}

fn click_at(edge: std::net::SocketAddr, number: u32, per_second: u32, seconds: u64) -> u64 {
    let mut client = Client::new(edge);
    let agent = format!("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 paced/{number}");
    let (started, interval) = (Instant::now(), Duration::from_secs(1) / per_second);
    let mut clicks = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        client.get("/phone?sub1=paced", &[("User-Agent", &agent)]);
        clicks += 1;
        let due = started + interval * clicks;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    u64::from(clicks)
}
