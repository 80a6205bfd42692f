//! What a supervisor does and hears: sockets that it keeps over a restart, readiness, reloads, the watchdog; and the end as
//! a load balancer sees it (contract P7-P9).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::client::read_response;
use crate::rig::server::{self, Start};
use crate::rig::{Client, Server};
use crate::tls::wait_until;

/// Gives two sockets as systemd does: from descriptor 3 on, and to this very process.
const GIVE: &str = "exec 3<&0 4>&1 </dev/null >/dev/null; LISTEN_FDS=2 LISTEN_FDNAMES=$1 LISTEN_PID=${3:-$$} \
                    exec \"$0\" serve --config \"$2\"";

struct Given {
    child: Child,
    edge: SocketAddr,
    api: SocketAddr,
    log: Vec<String>,
}

impl Given {
    fn command(home: &Path, names: &str, sockets: [&TcpListener; 2]) -> Command {
        let [first, second] = sockets.map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
        let mut command = Command::new("sh");
        command.args(["-c", GIVE, server::binary(), names]).arg(home.join("afflux.toml"));
        command.stdin(first).stdout(second).stderr(Stdio::piped());
        command
    }

    fn start(home: &Path, sockets: [&TcpListener; 2]) -> Given {
        let mut child = Given::command(home, "edge:api", sockets).spawn().unwrap();
        let mut log = Vec::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        for line in lines.by_ref().map_while(Result::ok) {
            let is_listening = line.contains("\"listening\"");
            log.push(line);
            if is_listening {
                let fields: serde_json::Value = serde_json::from_str(log.last().unwrap()).unwrap();
                let address = |name: &str| fields["fields"][name].as_str().unwrap().parse().unwrap();
                let (edge, api) = (address("edge"), address("api"));
                // Nobody reads the rest; it must not be held up by that.
                std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
                return Given { child, edge, api, log };
            }
        }
        let _ = child.wait();
        panic!("it ended: {log:#?}");
    }

    fn stop(mut self) -> Option<i32> {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

#[test]
fn p10_with_sockets_of_a_supervisor_a_restart_refuses_and_resets_nobody() {
    let home = tempfile::tempdir().unwrap();
    let workers = ("edge", "workers = 3".to_owned());
    server::write_config(home.path(), &Start { config: vec![workers], ..Start::default() });
    let (edge, api) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = (edge.local_addr().unwrap(), api.local_addr().unwrap());
    for _ in 0..3 {
        // It comes while nobody runs, and waits.
        let mut early = TcpStream::connect(addresses.0).unwrap();
        early.write_all(b"GET /phone HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let given = Given::start(home.path(), [&edge, &api]);
        assert_eq!((given.edge, given.api), addresses, "{:#?}", given.log);
        early.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(read_response(&mut BufReader::new(early), false).unwrap().status, 302);
        for _ in 0..20 {
            assert_eq!(Client::new(given.edge).get("/phone", &[]).status, 302);
        }
        assert_eq!(Client::new(given.api).get("/openapi.json", &[]).status, 200);
        assert_eq!(given.stop(), Some(0));
    }
}

#[test]
fn p3_a_socket_with_a_name_that_is_no_door_is_refused() {
    let home = tempfile::tempdir().unwrap();
    server::write_config(home.path(), &Start::default());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = Given::command(home.path(), "edge:door", [&socket, &socket]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(64), "{said}");
    assert!(said.contains("LISTEN_FDNAMES: \"door\" is no door; edge, edge-tls, api, api-tls"), "{said}");
}

fn heard(by: &UnixDatagram) -> String {
    let mut bytes = [0; 512];
    let length = by.recv(&mut bytes).expect("a word in 20 s");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// The next word but those for the watchdog.
fn heard_of_state(by: &UnixDatagram) -> String {
    std::iter::repeat_with(|| heard(by)).find(|said| said != "WATCHDOG=1").expect("endless")
}

#[test]
fn p7_a_supervisor_hears_of_the_start_of_reloads_and_of_the_end() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let by = UnixDatagram::bind(&path).unwrap();
    by.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let environment = vec![
        ("NOTIFY_SOCKET".to_owned(), path.display().to_string()),
        ("WATCHDOG_USEC".to_owned(), "400000".to_owned()),
    ];
    let mut server = Server::start(home.path(), &Start { environment, ..Start::default() });
    assert_eq!(heard(&by), "READY=1\nSTATUS=serving");
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(heard(&by), "WATCHDOG=1");
    }
    assert!(begun.elapsed() >= Duration::from_millis(600), "more often than it asked for");
    let reloads = |server: &Server| {
        let page = server.admin().get("/metrics", &[]).text();
        let line = page.lines().find_map(|line| line.strip_prefix("afflux_catalog_reloads_total{result=\"success\"} "));
        line.unwrap().parse::<u64>().unwrap()
    };
    for round in 1..4 {
        server.signal("HUP");
        let said = heard_of_state(&by);
        assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC=") && said.ends_with("\nSTATUS=reloading"), "{said}");
        assert_eq!(heard_of_state(&by), "READY=1\nSTATUS=serving");
        assert_eq!(reloads(&server), round, "ready was said before it was");
    }
    server.signal("TERM");
    assert_eq!(heard_of_state(&by), "STOPPING=1\nSTATUS=draining");
    assert_eq!(server.wait().code(), Some(0));
}

fn delayed(home: &Path) -> Server {
    let delay = "readiness_delay_ms = 2000".to_owned();
    Server::start(home, &Start { config: vec![("shutdown", delay)], ..Start::default() })
}

#[test]
fn p8_doors_stay_open_for_the_delay_after_readiness_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let mut server = delayed(home.path());
    let signalled = Instant::now();
    server.signal("TERM");
    wait_until(|| server.admin().get("/readyz", &[]).status == 503);
    assert!(signalled.elapsed() < Duration::from_secs(1), "not at once");
    let mut answered = 0;
    let until_closed = loop {
        match TcpStream::connect(server.edge) {
            Ok(_) if signalled.elapsed() < Duration::from_millis(1_800) => {
                let answer = Client::new(server.edge).get("/phone", &[]);
                assert_eq!((answer.status, answer.header("connection")), (302, None));
                answered += 1;
            }
            Ok(_) => {}
            Err(_) => break signalled.elapsed(),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(answered > 0 && until_closed >= Duration::from_secs(2), "{answered} {until_closed:?}");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn p7_a_second_signal_ends_the_delay_too() {
    let home = tempfile::tempdir().unwrap();
    let mut server = delayed(home.path());
    server.signal("TERM");
    wait_until(|| server.admin().get("/readyz", &[]).status == 503);
    let signalled = Instant::now();
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(70));
    assert!(signalled.elapsed() < Duration::from_secs(1));
}
