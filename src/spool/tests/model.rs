//! What threads and processes tell each other, in every order that the memory model allows (loom). The words and orderings
//! are those of `segment`, `chain` and `control`; loom has its own types for them, so the steps are written down again.

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU64, fence};
use loom::thread;

/// A segment with one record, and the words of the control file.
struct Shared {
    payload: AtomicU64,
    commit_word: AtomicU64,
    written: AtomicU64,
    synced: AtomicU64,
    disk: AtomicU64,
    idle: AtomicBool,
    woken: AtomicBool,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            payload: AtomicU64::new(0),
            commit_word: AtomicU64::new(0),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            disk: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            woken: AtomicBool::new(false),
        })
    }

    /// `Segment::write`, then `Control::set_written`.
    fn append(&self) {
        self.payload.store(7, Relaxed);
        self.commit_word.store(1, Release);
        self.written.store(1, Release);
    }
}

#[test]
fn who_sees_the_commit_word_sees_the_record() {
    loom::model(|| {
        let shared = Shared::new();
        let writer = thread::spawn({
            let shared = shared.clone();
            move || shared.append()
        });
        if shared.commit_word.load(Acquire) == 1 {
            assert_eq!(shared.payload.load(Relaxed), 7);
        }
        if shared.written.load(Acquire) == 1 {
            assert_eq!(shared.commit_word.load(Relaxed), 1);
        }
        writer.join().unwrap();
    });
}

#[test]
fn who_sees_the_synced_position_sees_what_was_on_disk_by_then() {
    loom::model(|| {
        let shared = Shared::new();
        let syncer = thread::spawn({
            let shared = shared.clone();
            move || {
                // Captured before the fdatasync that covers it, published after.
                let captured = shared.written.load(Acquire);
                shared.disk.store(shared.payload.load(Relaxed), Relaxed);
                shared.synced.store(captured, Release);
            }
        });
        let reader = thread::spawn({
            let shared = shared.clone();
            move || {
                if shared.synced.load(Acquire) == 1 {
                    assert_eq!(shared.disk.load(Relaxed), 7);
                }
            }
        });
        shared.append();
        syncer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn a_record_never_waits_for_a_syncer_that_sleeps() {
    loom::model(|| {
        let shared = Shared::new();
        let syncer = thread::spawn({
            let shared = shared.clone();
            move || {
                // `Chain::rest`: false where it would sleep.
                shared.idle.store(true, Relaxed);
                fence(SeqCst);
                shared.written.load(Acquire) != 0
            }
        });
        // The end of `Chain::append`.
        shared.append();
        fence(SeqCst);
        if shared.idle.load(Relaxed) {
            shared.woken.store(true, Relaxed);
        }
        let stays_awake = syncer.join().unwrap();
        assert!(stays_awake || shared.woken.load(Relaxed));
    });
}
