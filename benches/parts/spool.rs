//! A record into the spool, and what a start finds there after a kill.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use afflux::clock::WallClock;
use afflux::spool::{Durability, Options, Spools, Topic, Writer};

use crate::Size;

/// As long as a click's event.
const RECORD: [u8; 600] = [b'a'; 600];
const SEGMENT_BYTES: u64 = 8 << 20;
const FULL: u64 = SEGMENT_BYTES / 624 - 16;

pub fn append(size: Size) -> Box<dyn FnMut()> {
    let home = tempfile::tempdir().expect("a directory");
    let (spools, mut writer) = writer(home.path());
    // What is consumed is deleted: timing it appends without end.
    let consumes = size == Size::Full;
    Box::new(move || {
        let _ = &home;
        let seq = writer.append(&RECORD).expect("room");
        if consumes && seq % 4_096 == 0 {
            spools.consumed(writer.id(), seq);
        }
    })
}

/// Opening a directory with one full segment of a process that was killed.
pub fn recovery(_: Size) -> Box<dyn FnMut()> {
    let home = tempfile::tempdir().expect("a directory");
    let killed = home.path().join("killed");
    let program = std::env::current_exe().expect("this program");
    Command::new(program).arg("--fill").arg(&killed).status().expect("this program");
    let mut number = 0;
    Box::new(move || {
        number += 1;
        let copy = home.path().join(number.to_string());
        let copied = Command::new("cp").arg("-r").arg(&killed).arg(&copy).status();
        assert!(copied.is_ok_and(|status| status.success()));
        let spools = open(&copy, SEGMENT_BYTES);
        assert_eq!(spools.list().expect("a list").len(), 1);
        drop(spools);
        std::fs::remove_dir_all(copy).expect("it is ours");
    })
}

/// Of the process that dies.
pub fn fill(directory: &str) {
    let spools = open(Path::new(directory), SEGMENT_BYTES);
    let mut writer = spools.writer(Topic::Clicks, 0).expect("a spool");
    (0..FULL).for_each(|_| assert!(writer.append(&RECORD).is_ok()));
    std::process::abort();
}

pub fn writer(below: &Path) -> (Spools, Writer) {
    let spools = open(&below.join("spool"), 64 << 20);
    let writer = spools.writer(Topic::Clicks, 0).expect("a spool");
    (spools, writer)
}

fn open(directory: &Path, segment_bytes: u64) -> Spools {
    let options = Options {
        directory: directory.to_owned(),
        segment_bytes,
        durability: Durability::Process,
        // Seldom, so that counted instructions are the writer's.
        sync_interval: Duration::from_secs(1),
        max_bytes: Some(4 << 30),
        keep: Duration::ZERO,
    };
    Spools::open(options, Arc::new(WallClock::start())).expect("a directory of ours")
}
