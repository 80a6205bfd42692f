//! A real HAProxy in front of an edge, as docs/operations.md has it (contract E32, E40, E41).

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::proxies::{addresses, headers, start};
use crate::rig::books::spooled;
use crate::rig::client::read_response;
use crate::rig::{Response, Server};
use crate::tls::wait_until;

/// HAProxy, until it is dropped.
struct Balancer {
    address: SocketAddr,
    child: Child,
}

impl Balancer {
    /// Listens for `edge` with the lines of a section `listen`, in which `EDGE` stands for its address.
    fn start(home: &Path, edge: SocketAddr, lines: &str) -> Balancer {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let lines = lines.replace("EDGE", &edge.to_string());
        let config = format!(
            "defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen clicks\n bind {address}\n{lines}\n"
        );
        let file = home.join("haproxy.cfg");
        std::fs::write(&file, config).expect("the config file");
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args(["-db", "-f"]).arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("HAProxy: scripts/install test installs it");
        let balancer = Balancer { address, child };
        wait_until(|| TcpStream::connect(address).is_ok());
        balancer
    }

    /// Asks it from an address that is nobody else's.
    fn get(&self) -> Response {
        self.ask("GET", "/phone")
    }

    fn ask(&self, method: &str, target: &str) -> Response {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 7], 0)).into()).expect("an address of this machine");
        socket.connect(&self.address.into()).expect("a connection");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(format!("{method} {target} HTTP/1.1\r\nHost: afflux.test\r\n\r\n").as_bytes()).expect("taken");
        read_response(&mut BufReader::new(stream), false).expect("an answer")
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for what is answered in all ways. Each answer is counted once, as what it is, and nothing else is.
fn answered_is_counted(balancer: &Balancer, server: &Server) {
    let outcomes = [
        ("GET", "/phone", 302, "redirected", 20),
        ("GET", "/click?offer_id=12&aff_id=35", 302, "rejected", 4),
        ("GET", "/nobody", 404, "not_found", 5),
        ("POST", "/phone", 405, "method_not_allowed", 3),
        ("GET", "/healthz", 200, "health", 2),
    ];
    let counts = || {
        let page = server.admin().get("/metrics", &[]).text();
        let of = |line: &str| {
            let (name, value) = line.strip_prefix("afflux_edge_requests_total{outcome=\"")?.split_once("\"} ")?;
            Some((name.to_owned(), value.parse::<u64>().expect("a count")))
        };
        page.lines().filter_map(of).collect::<HashMap<String, u64>>()
    };
    let before = counts();
    for (method, target, status, _, times) in outcomes {
        for _ in 0..times {
            assert_eq!(balancer.ask(method, target).status, status, "{method} {target}");
        }
    }
    for (outcome, count) in counts() {
        let expected = outcomes.iter().find(|(.., name, _)| *name == outcome).map_or(0, |(.., times)| *times);
        assert_eq!(count - before[&outcome], expected, "{outcome}");
    }
}

#[test]
fn e41_haproxy_names_the_visitor_by_proxy_protocol() {
    let home = tempfile::tempdir().unwrap();
    let lines = "proxy_protocol = [\"listen\"]\ntrusted_proxies = [\"127.0.0.1\"]";
    let server = Server::start(home.path(), &start(&[("edge", lines)]));
    let check =
        " mode tcp\n server edge EDGE send-proxy-v2 proxy-v2-options unique-id,crc32c check check-send-proxy inter 100";
    let balancer = Balancer::start(home.path(), server.edge, check);
    assert_eq!(balancer.get().status, 302);
    assert_eq!(addresses(&server), ["127.0.0.7"]);
    answered_is_counted(&balancer, &server);
    assert_eq!(spooled(&server).len(), 1 + 24, "answered = counted = spooled");
    // Its checks come as LOCAL.
    wait_until(|| !headers(&server, "local", 0));
    assert!(headers(&server, "malformed", 0) && headers(&server, "untrusted", 0));
}

#[test]
fn e40_e32_haproxy_names_the_visitor_by_x_forwarded_for() {
    let home = tempfile::tempdir().unwrap();
    let lines = "trusted_proxies = [\"127.0.0.1\"]\nredirect_to_https = 443";
    let server = Server::start(home.path(), &start(&[("edge", lines)]));
    let forwards =
        " mode http\n option forwardfor\n http-request set-header X-Forwarded-Proto https\n server edge EDGE";
    let balancer = Balancer::start(home.path(), server.edge, forwards);
    let answer = balancer.get();
    assert_eq!(answer.status, 302, "{answer:?}");
    assert!(answer.header("set-cookie").unwrap().contains("; Secure"));
    assert_eq!(addresses(&server), ["127.0.0.7"]);
    answered_is_counted(&balancer, &server);
    assert_eq!(spooled(&server).len(), 1 + 24, "answered = counted = spooled");
}
