//! Time to ready with a small catalog, and with a spool of 1 GiB that nobody closed.

use std::time::Instant;

use super::process;
use crate::rig::Server;
use crate::rig::server::Start;

pub fn run() {
    println!("\n## Start ({})", process::machine());
    let home = tempfile::tempdir().expect("a directory");
    let start = Start { config: vec![("spool", "durability = \"process\"".into())], ..Start::default() };
    for _ in 0..5 {
        let started = Instant::now();
        let server = Server::start(home.path(), &start);
        let ready = started.elapsed();
        println!("empty: ready after {ready:.0?}, {:.1} MiB of memory", process::resident_mib(server.pid()));
        server.kill();
    }
    let server = Server::start(home.path(), &start);
    let url = format!("http://{}/phone?sub1=bench", server.edge);
    while spool_bytes(home.path()) < 1 << 30 {
        let wrk = std::process::Command::new("wrk").args(["-t1", "-c64", "-d3s"]).arg(&url).output();
        assert!(wrk.expect("wrk").status.success());
    }
    server.kill();
    for _ in 0..3 {
        let bytes = spool_bytes(home.path());
        let started = Instant::now();
        let server = Server::start(home.path(), &start);
        println!(
            "spool of {:.2} GiB after kill -9: ready after {:.0?}",
            bytes as f64 / f64::from(1 << 30),
            started.elapsed()
        );
        server.kill();
    }
}

/// Bytes of the segments on disk.
fn spool_bytes(home: &std::path::Path) -> u64 {
    let output = std::process::Command::new("du").args(["-sb"]).arg(home.join("data/spool")).output().expect("du");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split('\t').next().and_then(|field| field.parse().ok()).unwrap_or(0)
}
