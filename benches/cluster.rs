//! Figures of a cluster: what shipping and attribution cost, how fast they are, how long a click and an order take, what
//! each role holds in memory.
//!
//! `scripts/bench cluster` runs it beside real servers. All of them share the machine: rates are low bounds, CPU is each
//! process's own. The books are checked: what was answered is what is applied.

#![allow(dead_code, reason = "the harness is that of tests/live; a bench uses a part of it")]

#[path = "../tests/rig/mod.rs"]
mod rig;

#[path = "../tests/live/books.rs"]
mod books;
#[path = "../tests/live/cluster.rs"]
mod cluster;
#[path = "../tests/live/crowd.rs"]
mod crowd;
#[path = "../tests/live/oracle.rs"]
mod oracle;
#[path = "../tests/live/process.rs"]
mod process;
#[path = "../tests/live/random.rs"]
mod random;
#[path = "../tests/live/servers.rs"]
mod servers;
#[path = "../tests/live/twin.rs"]
mod twin;

mod figures {
    pub mod cluster;
    pub mod process;
}

fn main() {
    figures::cluster::run();
}

fn by_form(short: u64, _long: u64) -> u64 {
    short
}

fn sleep_ms(ms: u64) {
    std::thread::sleep(std::time::Duration::from_millis(ms));
}
