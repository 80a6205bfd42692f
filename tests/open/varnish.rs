//! Varnish before the edge: nothing that the edge says is ever given to somebody else (contract E4).

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::page::Site;
use crate::rig::server::Start;
use crate::rig::{Client, Server};
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
