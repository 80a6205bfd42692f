//! The spool under faults: damage, torn tails, disks that fail, hang or are full, older copies.

mod damage;
mod disk;
mod life;

use std::sync::Arc;
use std::time::Duration;

use super::faults::Faults;
use super::*;
use crate::clock::ManualClock;
use crate::time::TimeMs;

pub struct House {
    pub home: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
    pub faults: Faults,
    pub options: Options,
}

pub fn house(durability: Durability) -> House {
    let home = tempfile::tempdir().unwrap();
    let options = Options {
        directory: home.path().join("spool"),
        segment_bytes: 16_384,
        durability,
        sync_interval: Duration::from_millis(2),
        max_bytes: Some(1 << 30),
        keep: Duration::from_secs(3_600),
    };
    House { home, clock: Arc::new(ManualClock::at(TimeMs(1_000))), faults: Faults::default(), options }
}

impl House {
    pub fn open(&self) -> Spools {
        Spools::open_with(self.options.clone(), self.clock.clone(), self.faults.clone()).unwrap()
    }

    pub fn only(&self) -> Known {
        let mut known = spools::list(&self.options.directory).unwrap();
        assert_eq!(known.len(), 1, "{known:?}");
        known.remove(0)
    }

    pub fn cat(&self) -> (bool, Vec<String>, String) {
        let (mut out, mut complaints) = (Vec::new(), Vec::new());
        let whole = inspect::cat(std::slice::from_ref(&self.options.directory), &mut out, &mut complaints).unwrap();
        let lines = String::from_utf8_lossy(&out).lines().map(str::to_owned).collect();
        (whole, lines, String::from_utf8(complaints).unwrap())
    }
}

pub fn payload(seq: u64) -> String {
    format!("{{\"seq\":{seq},\"filler\":\"{}\"}}", "x".repeat((seq * 37 % 200) as usize))
}

pub fn append(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        let seq = writer.next_seq();
        assert_eq!(writer.append(payload(seq).as_bytes()), Ok(seq));
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
