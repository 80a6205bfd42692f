//! A new process takes the ports of the one that runs, and nobody notices (contract P10, P11).

use std::collections::HashMap;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use afflux::handover::{self, Found};

use crate::rig::books::{assert_books_close, click_ids, missing_or_doubled, spooled, wait_for_report};
use crate::rig::server::{self, Start};
use crate::rig::{Client, Server};
use crate::tls::{edge_with_certificate, wait_until};
use crate::visitors::Visitors;

/// Longer than a drain may take that nothing holds up.
const END: Duration = Duration::from_secs(20);

fn taking_over(start: &Start) -> Start {
    Start { arguments: vec!["--takeover"], ..start.clone() }
}

/// The end of a process that nobody signalled.
fn end(mut server: Server) -> (ExitStatus, String) {
    let deadline = Instant::now() + END;
    while Path::new(&format!("/proc/{}/status", server.pid())).exists() && !is_zombie(server.pid()) {
        assert!(Instant::now() < deadline, "it does not end: {}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    (server.wait(), server.log())
}

fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

fn ports(server: &Server) -> Vec<Option<std::net::SocketAddr>> {
    vec![Some(server.edge), server.edge_tls, Some(server.api), server.api_tls, Some(server.admin)]
}

/// `AFFLUX_FAULTS=long` for as many as the contract asks for.
fn rounds() -> usize {
    if std::env::var("AFFLUX_FAULTS").as_deref() == Ok("long") { 100 } else { 5 }
}

#[test]
fn p10_upgrades_under_load_fail_no_request_and_lose_no_click() {
    let home = tempfile::tempdir().unwrap();
    let mut start = edge_with_certificate(home.path());
    start.config.push(("spool", "segment_bytes = 1_048_576".into()));
    let with_workers = |count: usize| {
        let mut start = start.clone();
        start.config.push(("edge", format!("workers = {count}")));
        start
    };
    let mut running = Server::start(home.path(), &with_workers(2));
    let visitors = Visitors::come(&running);
    for round in 0..rounds() {
        visitors.wait_for(200);
        // More workers than there are sockets, and fewer.
        let next = Server::start(home.path(), &taking_over(&with_workers([2, 3, 1][round % 3])));
        assert_eq!(ports(&next), ports(&running));
        wait_until(|| next.log().contains("took over; the process before drains"));
        let (status, log) = end(running);
        assert_eq!(status.code(), Some(0), "round {round}: {log}");
        assert!(log.contains("another process took over"), "{log}");
        running = next;
    }
    visitors.wait_for(200);
    let answers = visitors.go_home();
    assert_eq!(answers.failures, [""; 0]);
    let events = spooled(&running);
    assert_eq!(missing_or_doubled(&answers.clicks, &events), [""; 0]);
    let clicks = click_ids(&events).len() as u64;
    wait_for_report(&running, clicks, answers.orders, 60);
    assert_books_close(&running);
    println!(
        "{} upgrades: {} clicks ({} in the spool), {} orders answered, {} over idle connections sent again",
        rounds(),
        answers.clicks.len(),
        clicks,
        answers.orders,
        answers.again
    );
}

#[test]
fn p10_a_takeover_with_a_bad_config_leaves_the_old_process_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let old = Server::start(home.path(), &Start::default());
    let config = std::fs::read_to_string(home.path().join("afflux.toml")).unwrap();
    // Found out before anybody is asked, and after: a port that another has.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = format!("[edge]\nlisten = \"{}\"", taken.local_addr().unwrap());
    for bad in
        [config.replace("[edge]\n", "[edge]\ncolour = 1\n"), config.replace("[edge]\nlisten = \"127.0.0.1:0\"", &edge)]
    {
        assert_ne!(bad, config);
        std::fs::write(home.path().join("afflux.toml"), &bad).unwrap();
        let failed = server::run(home.path(), &["serve", "--takeover"]);
        assert_eq!(failed.status.code(), Some(64), "{}", String::from_utf8_lossy(&failed.stderr));
        assert_eq!(old.edge().get("/phone", &[]).status, 302);
        assert_eq!(old.admin().get("/readyz", &[]).status, 200);
    }
    wait_until(|| old.log().contains("began to take over and did not; this one goes on"));
    // And it can be taken over from as before.
    std::fs::write(home.path().join("afflux.toml"), &config).unwrap();
    let new = Server::start(home.path(), &taking_over(&Start::default()));
    assert_eq!(end(old).0.code(), Some(0));
    assert_eq!(new.edge().get("/phone", &[]).status, 302);
}

#[test]
fn p10_a_takeover_from_nobody_is_a_start_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let first = Server::start(home.path(), &taking_over(&Start::default()));
    assert!(first.log().contains("nobody to take over from"), "{}", first.log());
    first.kill();
    // What a killed process leaves is nobody, too.
    let second = Server::start(home.path(), &taking_over(&Start::default()));
    assert!(second.log().contains("nobody to take over from"), "{}", second.log());
    assert_eq!(second.edge().get("/phone", &[]).status, 302);
    assert_eq!(second.stop().code(), Some(0));
}

#[test]
fn p10_other_addresses_are_bound_anew_and_those_of_before_are_closed() {
    let home = tempfile::tempdir().unwrap();
    let old = Server::start(home.path(), &edge_with_certificate(home.path()));
    let (edge, tls, api) = (old.edge, old.edge_tls.unwrap(), old.api);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let environment = vec![("AFFLUX__API__LISTEN".to_owned(), free.to_string())];
    let new = Server::start(home.path(), &taking_over(&Start { environment, ..Start::default() }));
    assert_eq!((new.edge, new.edge_tls, new.api), (edge, None, free));
    assert_eq!(end(old).0.code(), Some(0));
    assert_eq!(new.edge().get("/phone", &[]).status, 302);
    for closed in [tls, api] {
        let refused = TcpStream::connect(closed).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(std::io::ErrorKind::ConnectionRefused));
    }
}

#[test]
fn p10_a_new_process_that_is_killed_with_the_sockets_in_its_hands_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let old = Server::start(home.path(), &Start::default());
    let path = handover::socket_path(&home.path().join("data"), "serve");
    for _ in 0..5 {
        // All that the kernel does for a killed process is to close what it has.
        let Found::Running(predecessor, sockets) = handover::ask(&path, "serve").unwrap() else { panic!("nobody") };
        assert!(sockets.len() >= 3);
        drop((predecessor, sockets));
        let mut client = Client::new(old.edge);
        assert_eq!(client.get("/phone", &[]).status, 302);
    }
    assert_eq!(old.admin().get("/readyz", &[]).status, 200);
    assert_eq!(old.stop().code(), Some(0));
}

#[test]
fn p10_a_new_process_that_is_killed_before_it_is_ready_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut old = Server::start(home.path(), &Start::default());
    let mut left_alone = 0;
    // Now and then it is ready before the kill: then that was another test, and there has to be a new old one.
    for round in 0..20 {
        let asked = old.log().matches("another process is about to take over").count();
        let mut new = Command::new(server::binary());
        new.args(["serve", "--takeover", "--config"]).arg(home.path().join("afflux.toml")).stderr(Stdio::null());
        let mut new = new.spawn().unwrap();
        let deadline = Instant::now() + END;
        while old.log().matches("another process is about to take over").count() == asked {
            assert!(Instant::now() < deadline, "round {round}: it does not ask");
            std::thread::sleep(Duration::from_micros(200));
        }
        new.kill().unwrap();
        new.wait().unwrap();
        wait_until(|| {
            let log = old.log();
            log.matches("began to take over and did not; this one goes on").count() > left_alone
                || log.contains("\"draining\"")
        });
        if old.log().contains("\"draining\"") {
            assert_eq!(end(old).0.code(), Some(0));
            old = Server::start(home.path(), &Start::default());
            left_alone = 0;
            continue;
        }
        left_alone += 1;
        for _ in 0..20 {
            assert_eq!(Client::new(old.edge).get("/phone", &[]).status, 302);
        }
        assert_eq!(old.admin().get("/readyz", &[]).status, 200);
        if left_alone == 2 {
            let next = Server::start(home.path(), &taking_over(&Start::default()));
            assert_eq!(next.edge, old.edge);
            assert_eq!(end(old).0.code(), Some(0));
            assert_eq!(next.edge().get("/phone", &[]).status, 302);
            return;
        }
    }
    panic!("none was killed before it was ready");
}

#[test]
fn p10_an_old_process_that_is_killed_on_the_way_leaves_its_ports_to_the_new_one() {
    let home = tempfile::tempdir().unwrap();
    let mut old = Server::start(home.path(), &Start::default());
    let mut outcomes = HashMap::<&str, u32>::new();
    for round in 0..4 {
        let (edge, stop) = (old.edge, AtomicBool::new(false));
        let new = std::thread::scope(|scope| {
            let knocking = scope.spawn(|| {
                // Whoever is accepted by the killed one is reset; but the port is somebody's all the time.
                while !stop.load(SeqCst) {
                    let knocked = TcpStream::connect(edge);
                    assert!(knocked.is_ok(), "round {round}: {knocked:?}");
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let starting = scope.spawn(|| Server::start(home.path(), &taking_over(&Start::default())));
            wait_until(|| old.log().contains("another process is about to take over"));
            // Some before it is told, some after.
            std::thread::sleep(Duration::from_millis([0, 1, 5, 20][round]));
            old.signal("KILL");
            let new = starting.join().unwrap();
            stop.store(true, SeqCst);
            knocking.join().unwrap();
            new
        });
        let log = new.log();
        let found = ["the process before does not say that it drains", "the process before drains"];
        let outcome = found.into_iter().find(|said| log.contains(said)).unwrap_or("not yet told");
        *outcomes.entry(outcome).or_default() += 1;
        assert_eq!(new.edge, edge);
        assert_eq!(Client::new(edge).get("/phone", &[]).status, 302);
        old = new;
    }
    println!("{outcomes:?}");
}

#[test]
fn p11_the_new_process_consumes_when_the_old_one_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let old = Server::start(home.path(), &Start::default());
    // It holds the drain up: half a request.
    let mut slow = TcpStream::connect(old.edge).unwrap();
    std::io::Write::write_all(&mut slow, b"GET /phone HTTP/1.1\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let new = Server::start(home.path(), &taking_over(&Start::default()));
    wait_until(|| new.log().contains("waiting for its end"));
    let order = serde_json::json!({"order_id": "U-1", "type": "sale", "amount": 5});
    assert_eq!(new.edge().get("/phone", &[]).status, 302);
    assert_eq!(new.api().post_json("/v1/conversions", server::TOKEN, &order).status, 202);
    // Asked again of the other process it is the same order.
    std::io::Write::write_all(&mut slow, b"Host: x\r\n\r\n").unwrap();
    let answer = crate::rig::client::read_response(&mut std::io::BufReader::new(slow), false).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (302, Some("close")));
    assert_eq!(end(old).0.code(), Some(0));
    wait_for_report(&new, 2, 1, 20);
    assert_books_close(&new);
}

#[test]
fn p10_an_edge_is_taken_over_from_and_another_role_is_not() {
    let home = tempfile::tempdir().unwrap();
    let key = "5".repeat(64);
    std::fs::write(home.path().join("click.keys"), format!("1:{key}\nvisitor:{key}\n")).unwrap();
    let config = vec![
        ("click", "keys_file = \"click.keys\"".to_owned()),
        // Nobody is there: an edge does without.
        ("kafka", "bootstrap_servers = \"127.0.0.1:9\"".to_owned()),
        ("redis", "url = \"redis://127.0.0.1:9/0\"".to_owned()),
    ];
    let start = Start { role: Some("edge"), config, ..Start::default() };
    let old = Server::start(home.path(), &start);
    let new = Server::start(home.path(), &taking_over(&start));
    assert_eq!(ports(&new), ports(&old));
    assert_eq!(end(old).0.code(), Some(0));
    assert_eq!(new.edge().get("/phone", &[]).status, 302);
    // Another role asks at another place, finds nobody, and the ports are taken.
    let mut serve = Command::new(server::binary());
    serve.args(["serve", "--takeover", "--config"]).arg(home.path().join("afflux.toml"));
    serve.env("AFFLUX__EDGE__LISTEN", new.edge.to_string()).stderr(Stdio::piped());
    let failed = serve.output().unwrap();
    assert_eq!(failed.status.code(), Some(64), "{}", String::from_utf8_lossy(&failed.stderr));
    assert_eq!(new.stop().code(), Some(0));
}
