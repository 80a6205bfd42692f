//! The spool under faults: damage, torn tails, disks that fail, hang or are full, older copies.

mod damage;
mod disk;
mod life;
mod model;
mod rescue;
mod room;
mod shortage;
mod strangers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::faults::Faults;
use super::*;
use crate::clock::ManualClock;
use crate::time::TimeMs;

pub struct House {
    _home: tempfile::TempDir,
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
    House { _home: home, clock: Arc::new(ManualClock::at(TimeMs(1_000))), faults: Faults::default(), options }
}

impl House {
    pub fn open(&self) -> Spools {
        Spools::open_with(self.options.clone(), self.clock.clone(), self.faults.clone()).unwrap()
    }

    pub fn only(&self) -> Known {
        let mut known = shelf::list(&self.options.directory).unwrap();
        assert_eq!(known.len(), 1, "{known:?}");
        known.remove(0)
    }

    pub fn cat(&self) -> (bool, Vec<String>, String) {
        cat(&self.options.directory)
    }
}

pub fn cat(directory: &std::path::Path) -> (bool, Vec<String>, String) {
    let (mut out, mut complaints) = (Vec::new(), Vec::new());
    let place = inspect::Place::Configured(directory.to_owned());
    let whole = inspect::cat(&[place], &mut out, &mut complaints).unwrap();
    let lines = String::from_utf8_lossy(&out).lines().map(str::to_owned).collect();
    (whole, lines, String::from_utf8(complaints).unwrap())
}

/// The directory as it lies on disk now, without the locks of this process. The keeper's own thread may delete while it is
/// copied: such a copy is made anew.
pub fn copy_of(directory: &std::path::Path) -> tempfile::TempDir {
    for _ in 0..20 {
        let copy = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("cp").arg("-a").arg(directory).arg(copy.path().join("spool")).status();
        if status.unwrap().success() {
            return copy;
        }
    }
    panic!("{}: it changes whenever it is copied", directory.display());
}

pub fn numbered(count: u64) -> Vec<String> {
    (0..count).map(payload).collect()
}

pub fn payload(seq: u64) -> String {
    format!("{{\"seq\":{seq},\"filler\":\"{}\"}}", "x".repeat((seq * 37 % 200) as usize))
}

pub fn append(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        let seq = writer.next_seq();
        append_one(writer, payload(seq).as_bytes());
    }
}

/// Waits for a segment where none is ready yet: a test is faster than any crowd of visitors.
pub fn append_one(writer: &mut Writer, record: &[u8]) {
    let (seq, deadline) = (writer.next_seq(), Instant::now() + Duration::from_secs(10));
    loop {
        match writer.append(record) {
            Ok(taken) => return assert_eq!(taken, seq),
            Err(NotSpooled::Full | NotSpooled::Failing) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{seq}: {error}"),
        }
    }
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
