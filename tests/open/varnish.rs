//! Varnish before the edge: nothing that the edge says is ever given to somebody else (contract E4).

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::page::Site;
use crate::rig::server::{CATALOG, Start};
use crate::rig::{Client, Response, Server};
use crate::{Program, wait_until};

/// What an operator may write who wants to cache as much as the built-in rules allow.
const EAGER: &str = "sub vcl_recv { unset req.http.Cookie; }";

fn cache(home: &Path, behind: SocketAddr, rules: &str) -> (Program, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (host, port) = (behind.ip(), behind.port());
    let text = format!("vcl 4.1;\nbackend default {{ .host = \"{host}\"; .port = \"{port}\"; }}\n{rules}\n");
    std::fs::create_dir_all(home).unwrap();
    std::fs::write(home.join("rules.vcl"), text).unwrap();
    let mut varnish = Command::new("varnishd");
    varnish.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    varnish.args(["-F", "-j", "none", "-s", "malloc,16m", "-p", "http_req_hdr_len=16k", "-a", &address.to_string()]);
    varnish.arg("-n").arg(home.join("work")).arg("-f").arg(home.join("rules.vcl"));
    let program = Program::start(varnish.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_until("varnish", || Client::new(address).try_request("HEAD", "/healthz", &[], b"").is_ok());
    (program, address)
}

#[test]
fn e4_a_cache_gives_no_answer_to_two_visitors() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let long = format!("/phone?sub1={}", "a".repeat(9_000));
    for (name, rules) in [("built-in", ""), ("eager", EAGER)] {
        let (_varnish, address) = cache(&home.path().join(name), server.edge, rules);
        let (mut clicks, mut cookies) = (HashSet::new(), HashSet::new());
        for _ in 0..20 {
            let answer = Client::new(address).get("/phone", &[]);
            assert_eq!(answer.status, 302, "{name}: {answer:?}");
            assert!(clicks.insert(answer.click_id()), "{name}: a click ID twice: {answer:?}");
            let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
            assert!(cookies.insert(cookie), "{name}: a cookie twice: {answer:?}");
        }
        for (method, target, status) in
            [("GET", "/phone", 302), ("GET", "/nobody", 404), ("POST", "/phone", 405), ("GET", &long, 414)]
        {
            for _ in 0..2 {
                let answer = Client::new(address).try_request(method, target, &[], b"").unwrap();
                assert_eq!((answer.status, answer.header("cache-control")), (status, Some("no-store")), "{answer:?}");
                // A hit names the request that brought the answer as well.
                assert!(!answer.header("x-varnish").unwrap().contains(' '), "{name}: cached: {answer:?}");
            }
        }
    }
}

/// Offers that are over: one that has a page still, one that has none.
const OVER: &str = r#"
[[offers]]
id = 13
merchant_id = 1
name = "Over"
status = "ended"
landing_url = "https://shop.example/over"
[[offers.terms]]
from = 2020-01-01T00:00:00Z
window_days = 10
model = "last_click"
default_rate = "1%"

[[offers]]
id = 14
merchant_id = 1
name = "Over, and nothing is left of it"
status = "ended"
deep_link_hosts = ["shop.example"]
[[offers.terms]]
from = 2020-01-01T00:00:00Z
window_days = 10
model = "last_click"
default_rate = "1%"
"#;

#[test]
fn e4_a_cache_gives_what_is_over_and_what_is_refused_to_nobody_else() {
    let home = tempfile::tempdir().unwrap();
    let start = Start {
        catalog: Some(format!("{OVER}\n{CATALOG}")),
        config: vec![("edge", "workers = 1".into()), ("limits", "connections = 4".into())],
        ..Start::default()
    };
    let server = Server::start(home.path(), &start);
    // The cache that gives one answer to many, and asks on a connection of its own each time.
    let rules = format!("{EAGER}\nsub vcl_backend_fetch {{ set bereq.http.Connection = \"close\"; }}");
    let (_varnish, address) = cache(home.path(), server.edge, &rules);
    let mut cookies = HashSet::new();
    let ask = |target: &str, status: u16| {
        let answer = Client::new(address).get(target, &[]);
        assert_eq!((answer.status, answer.header("cache-control")), (status, Some("no-store")), "{target}: {answer:?}");
        // A hit names the request that brought the answer as well.
        assert!(!answer.header("x-varnish").unwrap().contains(' '), "{target}: cached: {answer:?}");
        answer
    };
    for (target, status) in [("/click?offer_id=13&aff_id=34", 302), ("/click?offer_id=14&aff_id=34", 404)] {
        for _ in 0..5 {
            let answer = ask(target, status);
            let cookie = answer.header("set-cookie").expect("a click, and so a cookie").to_owned();
            assert!(cookies.insert(cookie), "{target}: a cookie twice: {answer:?}");
            assert_eq!(answer.location_parameter("click_id"), None, "{target}: {answer:?}");
        }
    }
    // No room: nobody hears that longer than it lasts, and then everybody gets a click of their own.
    let held: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(server.edge).unwrap()).collect();
    let status = |answer: &Response| (answer.status, answer.header("retry-after").map(str::to_owned));
    wait_until("no room", || status(&Client::new(address).get("/phone", &[])).0 == 503);
    for _ in 0..5 {
        let answer = ask("/phone", 503);
        assert_eq!((status(&answer).1.as_deref(), answer.header("set-cookie")), (Some("2"), None), "{answer:?}");
    }
    drop(held);
    wait_until("room", || Client::new(address).get("/phone", &[]).status == 302);
    let mut clicks = HashSet::new();
    for _ in 0..5 {
        let answer = ask("/phone", 302);
        assert!(clicks.insert(answer.click_id()), "a click ID twice: {answer:?}");
        assert!(
            cookies.insert(answer.header("set-cookie").expect("a cookie").to_owned()),
            "a cookie twice: {answer:?}"
        );
    }
}

/// The same cache keeps what does not say `no-store`: without this the test above could not fail.
#[test]
fn the_eager_cache_keeps_what_it_may() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::start(|_| "a page".to_owned());
    let (_varnish, address) = cache(home.path(), site.address, EAGER);
    for _ in 0..5 {
        assert_eq!(Client::new(address).get("/kept", &[]).status, 200);
    }
    assert_eq!(site.asked("/kept"), 1);
}
