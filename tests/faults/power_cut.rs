//! The power goes while a crowd clicks: an ext4 on a loop device is shut down under the frozen process, then comes back.

use std::time::{Duration, Instant};

use crate::crowd::{Crowd, Ledger};
use crate::kill9::{assert_nothing_is_missing, random_moment};
use crate::mounts::{Mount, need_root};
use crate::rig::server::Start;
use crate::rig::{Client, Server, books};
use crate::{alone, rounds};

fn start_on(mount: &Mount, spool: &str) -> Start {
    let spool = format!("segment_bytes = 1_048_576\nmax_bytes = 134_217_728\n{spool}");
    Start { config: vec![("spool", spool)], data: Some(mount.path.join("data")), ..Start::default() }
}

/// No thread may be inside a system call when the power goes: an fdatasync that overlaps the ioctl can return 0 with
/// nothing on disk.
fn freeze(server: &Server) {
    server.signal("STOP");
    let deadline = Instant::now() + Duration::from_secs(10);
    let tasks = format!("/proc/{}/task", server.pid());
    loop {
        let threads = std::fs::read_dir(&tasks).expect("threads").flatten();
        let running = threads
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok())
            .filter(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
            .count();
        if running == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{running} threads do not freeze");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_power_cut_loses_nothing_that_disk_durability_answered() {
    need_root();
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mount = Mount::ext4(home.path(), 512);
    let start = start_on(&mount, "durability = \"disk\"\ndisk_wait_max_ms = 0");
    let mut ledger = Ledger::default();
    let rounds = rounds(2, 20);
    for round in 0..rounds {
        let server = Server::start(home.path(), &start);
        let crowd = Crowd::start(&server, round);
        crowd.wait_for(1_000, 50);
        std::thread::sleep(random_moment());
        freeze(&server);
        mount.cut_power();
        server.kill();
        ledger.add(crowd.go_home());
        mount.power_up();
        let server = Server::start(home.path(), &start);
        click_and_remember(&server, &mut ledger, 1_000);
        assert_nothing_is_missing(&server, &ledger);
        assert_eq!(server.stop().code(), Some(0));
    }
    println!(
        "power cut, disk: {rounds} rounds, {} clicks and {} orders answered, 0 lost",
        ledger.clicks.len(),
        ledger.orders.len()
    );
}

/// In `process` what a power cut takes was answered within the last interval between syncs.
#[test]
fn a_power_cut_under_process_durability_takes_only_the_last_interval() {
    need_root();
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let mount = Mount::ext4(home.path(), 512);
    let start = start_on(&mount, "durability = \"process\"\nsync_interval_ms = 5");
    let (mut lost_clicks, mut answered, mut oldest) = (0, 0, Duration::ZERO);
    let rounds = rounds(2, 20);
    for round in 0..rounds {
        let server = Server::start(home.path(), &start);
        let crowd = Crowd::with(&server, round, 64, 0);
        crowd.wait_for(1_000, 0);
        std::thread::sleep(random_moment());
        freeze(&server);
        let cut = Instant::now();
        mount.cut_power();
        server.kill();
        let answers = crowd.go_home();
        mount.power_up();
        let server = Server::start(home.path(), &start);
        let mut later = Ledger::default();
        click_and_remember(&server, &mut later, 1_000);
        let events = books::spooled(&server);
        books::assert_chains_have_no_gap(&events);
        let spooled = books::click_ids(&events);
        assert!(books::missing_or_doubled(&later.clicks, &events).is_empty(), "new clicks must all arrive");
        answered += answers.clicks.len();
        for (id, at) in &answers.clicks {
            match spooled.get(id) {
                Some(1) => {}
                Some(times) => panic!("{id} stands {times} times"),
                None => {
                    lost_clicks += 1;
                    oldest = oldest.max(cut.saturating_duration_since(*at));
                }
            }
        }
        assert!(server.run(&["reconcile"]).status.success());
        assert!(server.run(&["ledger", "check"]).status.success());
        server.kill();
    }
    println!(
        "power cut, process: {rounds} rounds, {answered} answered, {lost_clicks} lost, the oldest {oldest:?} before the cut"
    );
    // 5 ms between syncs, the sync itself on a loop device under load, and the freezing.
    assert!(oldest < Duration::from_millis(250), "lost a click answered {oldest:?} before the cut");
}

fn click_and_remember(server: &Server, ledger: &mut Ledger, clicks: usize) {
    let mut client = Client::new(server.edge);
    for _ in 0..clicks {
        let response = client.get(
            "/phone?sub1=after",
            &[("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 after")],
        );
        ledger.clicks.insert(response.click_id());
    }
}

/// An older copy of the spool directory under a running history: its numbers were applied long ago, and nothing new may
/// be mistaken for them.
#[test]
fn a_restored_older_spool_hides_no_new_click() {
    let _alone = alone();
    let home = tempfile::tempdir().unwrap();
    let start = Start::default();
    let server = Server::start(home.path(), &start);
    let mut ledger = Ledger::default();
    click_and_remember(&server, &mut ledger, 500);
    server.kill();
    let spool = home.path().join("data/spool");
    let copy = home.path().join("older");
    copy_folder(&spool, &copy);
    let server = Server::start(home.path(), &start);
    click_and_remember(&server, &mut ledger, 500);
    assert_nothing_is_missing(&server, &ledger);
    assert_eq!(server.stop().code(), Some(0));
    let seen_before_restore = ledger.clicks.len() as u64;

    std::fs::remove_dir_all(&spool).unwrap();
    copy_folder(&copy, &spool);
    let server = Server::start(home.path(), &start);
    let mut later = Ledger::default();
    click_and_remember(&server, &mut later, 1_000);
    let events = books::spooled(&server);
    assert!(books::missing_or_doubled(&later.clicks, &events).is_empty());
    books::wait_for_report(&server, seen_before_restore + 1_000, 0, 30);
    assert!(server.run(&["ledger", "check"]).status.success());
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp").success());
}
