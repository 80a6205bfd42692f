//! Many machines on one: real Kafka, Redis and PostgreSQL, edges, attributions and a console as real processes, load, and
//! faults. At the end of each test the books are checked: answered = spooled = in Kafka = applied, the ledger equal to
//! an oracle and to the same events in one process.
//!
//! The servers come from `scripts/servers/with`; `AFFLUX_FAULTS=long` runs as many rounds as the promises ask for.
//! `AFFLUX_TEST_PATIENCE=3` waits three times as long for what must come, on a slow machine.

#[path = "../rig/mod.rs"]
mod rig;

mod books;
mod brokers;
mod cluster;
mod consumers;
mod crowd;
mod edges;
mod kills;
mod network;
mod oracle;
mod postgresql;
mod process;
mod proxy;
mod random;
mod redis;
mod rights;
mod servers;
mod steady;
mod topics;
mod twin;
mod upgrades;
mod whole;

/// Rounds, seconds or thousands of a test: few in the short form, `long` in the long one.
fn by_form(short: u64, long: u64) -> u64 {
    if std::env::var("AFFLUX_FAULTS").as_deref() == Ok("long") { long } else { short }
}

/// The servers are shared, and faults befall them: one test at a time, however the tests are started.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn sleep_ms(ms: u64) {
    std::thread::sleep(std::time::Duration::from_millis(ms));
}
