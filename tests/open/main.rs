//! What must hold on the open internet, shown by programs that others wrote: a browser, a cache, proxies, slow clients, a
//! scanner of TLS; and crowds that stay.
//!
//! Real programs of Debian packages; one that is missing fails its test, `scripts/install open` installs them.
//! `AFFLUX_FAULTS=long` runs the long forms.

#[path = "../rig/mod.rs"]
mod rig;

mod chromium;
mod idle;
mod page;
mod peak;
mod proxies;
mod reloads;
mod scan;
mod slow;
mod varnish;

use std::path::Path;
use std::process::Command;

use crate::rig::Server;
use crate::rig::server::Start;
use crate::rig::tls::make_certificate;

/// A program of somebody else, ended with the test.
struct Program(std::process::Child);

impl Program {
    fn start(command: &mut Command) -> Program {
        let name = command.get_program().to_string_lossy().into_owned();
        Program(command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}; scripts/install open")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited 60 s in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// A program that a test cannot do without.
fn tool(name: &str) -> Command {
    let mut find = Command::new("sh");
    let found = find.args(["-c", &format!("PATH=$PATH:/usr/sbin command -v {name}")]).output().expect("sh");
    assert!(found.status.success(), "{name} is missing: scripts/install open");
    Command::new(String::from_utf8(found.stdout).expect("a path").trim())
}

fn is_long() -> bool {
    std::env::var("AFFLUX_FAULTS").as_deref() == Ok("long")
}

/// One proof at a time: each measures, or loads both cores.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A server whose edge has certificates of both kinds.
fn start_with_certificates(home: &Path) -> Start {
    let directory = home.join("certificates");
    std::fs::create_dir_all(&directory).expect("a directory");
    for algorithm in ["ecdsa", "rsa"] {
        make_certificate(&directory, algorithm, "DNS:afflux.test,DNS:localhost", algorithm);
    }
    let edge = "tls_listen = \"127.0.0.1:0\"\ntls_directory = \"certificates\"";
    Start { config: vec![("edge", edge.into())], ..Start::default() }
}

/// A number of the edge's metrics.
fn counted(server: &Server, name: &str) -> u64 {
    let page = server.admin().get("/metrics", &[]).text();
    let start = format!("{name}{{door=\"edge\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&start));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
}

/// Clicks that were redirected, by the edge's own count.
fn redirected(server: &Server) -> usize {
    let page = server.admin().get("/metrics", &[]).text();
    let name = "afflux_edge_requests_total{outcome=\"redirected\"} ";
    page.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}
