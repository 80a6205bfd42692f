//! One live spool: its open segments, where the next record goes, and what is on disk already.
//!
//! Three threads meet here. The writer's appends under `active` (uncontended but for a rescue). The spool's syncer
//! captures the end under the same lock, syncs without it, publishes. The keeper makes the next segment ahead of need.
//!
//! A failed fdatasync is never repeated on the same pages: Linux has marked them clean. The records that were not on
//! disk yet are written again to a new segment (`rescue`) while their pages are still mapped; the new segment's header
//! says from which number on the old one no longer counts.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::control::Control;
use super::faults::Faults;
use super::format::{self, Found, HEADER_BYTES, SegmentHeader, record_bytes};
use super::segment::Segment;
use super::watch::Watch;
use super::{NotDurable, NotSpooled, SpoolId, Topic};
use crate::clock::Clock;
use crate::metrics::{Counter, Histogram};

pub struct Chain {
    pub id: SpoolId,
    pub topic: Topic,
    pub directory: PathBuf,
    pub segment_bytes: u64,
    pub control: Control,
    active: Mutex<Active>,
    spare: Mutex<Option<Segment>>,
    /// Names of files; the place in the chain is given when a segment is used.
    next_file: AtomicU64,
    pub clock: Arc<dyn Clock>,
    pub faults: Faults,
    syncer: OnceLock<Thread>,
    /// The syncer waits for something to do.
    idle: AtomicBool,
    /// When the fdatasync under way began, nanoseconds since `started`, 0 for none.
    syncing_since: AtomicU64,
    started: Instant,
    notify: Notify,
    watch: Arc<Watch>,
    /// Records that were not on disk when a sync failed wait for a segment that works.
    poisoned: AtomicBool,
    /// There was no room for a record.
    full: AtomicBool,
    pub closing: AtomicBool,
    pub numbers: Numbers,
}

/// What the chain counts; each has one writer.
#[derive(Default)]
pub struct Numbers {
    pub records: Counter,
    pub bytes: Counter,
    pub synced_bytes: Counter,
    pub syncs: Histogram,
    pub sync_errors: Counter,
    pub rescued: Counter,
    pub unprepared: Counter,
}

struct Active {
    open: Open,
    offset: usize,
    next_seq: u64,
    next_index: u64,
    /// Full segments that are not known to be on disk to their end.
    older: Vec<(Open, usize)>,
}

#[derive(Clone)]
struct Open {
    segment: Arc<Segment>,
    first_seq: u64,
}

pub struct Place {
    pub id: SpoolId,
    pub topic: Topic,
    pub directory: PathBuf,
    pub segment_bytes: u64,
}

impl Chain {
    pub fn create(
        place: Place,
        control: Control,
        clock: Arc<dyn Clock>,
        watch: Arc<Watch>,
        faults: Faults,
    ) -> io::Result<Chain> {
        let Place { id, topic, directory, segment_bytes } = place;
        let first = Segment::create(&directory, 0, segment_bytes, true, &faults)?;
        watch.room.make(segment_bytes);
        let first_seq = 0;
        first.write_header(&SegmentHeader { spool: id, index: 0, first_seq, former_newest_ms: clock.now().0 });
        let open = Open { segment: Arc::new(first), first_seq };
        let active = Active { open, offset: HEADER_BYTES, next_seq: 0, next_index: 1, older: Vec::new() };
        Ok(Chain {
            id,
            topic,
            directory,
            segment_bytes,
            control,
            active: Mutex::new(active),
            spare: Mutex::new(None),
            next_file: AtomicU64::new(1),
            clock,
            faults,
            syncer: OnceLock::new(),
            idle: AtomicBool::new(false),
            syncing_since: AtomicU64::new(0),
            started: Instant::now(),
            notify: Notify::new(),
            watch,
            poisoned: AtomicBool::new(false),
            full: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            numbers: Numbers::default(),
        })
    }

    pub fn next_seq(&self) -> u64 {
        self.control.written()
    }

    /// Appends without a system call, unless the syncer sleeps or no segment was made ahead.
    pub fn append(&self, record: &[u8]) -> Result<u64, NotSpooled> {
        if HEADER_BYTES + record_bytes(record.len()) + 8 > self.segment_bytes as usize || record.is_empty() {
            return Err(NotSpooled::TooLarge(record.len()));
        }
        let mut active = self.active();
        if !active.open.segment.has_room(active.offset, record.len()) {
            self.roll(&mut active)?;
        }
        let seq = active.next_seq;
        active.offset = active.open.segment.write(active.offset, self.id, seq, record);
        active.next_seq = seq + 1;
        self.control.set_written(seq + 1);
        self.numbers.records.add(1);
        self.numbers.bytes.add(record_bytes(record.len()) as u64);
        drop(active);
        // Either the syncer sees `written` before it sleeps, or we see that it sleeps.
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) {
            self.wake_syncer();
        }
        Ok(seq)
    }

    pub fn wake_syncer(&self) {
        if let Some(syncer) = self.syncer.get() {
            self.idle.store(false, Ordering::Relaxed);
            syncer.unpark();
        }
    }

    pub fn set_syncer(&self, thread: Thread) {
        // Set once, by the thread that starts it.
        let _ = self.syncer.set(thread);
    }

    /// Sleeps until there is something to sync, or it is time to look again.
    pub fn rest(&self) {
        self.idle.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.control.written() == self.control.synced() && !self.closing.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(250));
        }
        self.idle.store(false, Ordering::Relaxed);
    }

    /// Brings on disk what is written now, and says so. Called by the syncer alone.
    pub fn sync(&self) {
        if self.poisoned.load(Ordering::Relaxed) && self.rescue().is_err() {
            return;
        }
        let (captured, bytes, segments) = {
            let active = self.active();
            let mut segments: Vec<Open> = active.older.iter().map(|(open, _)| open.clone()).collect();
            segments.push(active.open.clone());
            (active.next_seq, self.numbers.bytes.value(), segments)
        };
        let began = Instant::now();
        self.syncing_since.store(self.elapsed_ns(), Ordering::Relaxed);
        let result = segments.iter().try_for_each(|open| open.segment.sync());
        self.syncing_since.store(0, Ordering::Relaxed);
        self.numbers.syncs.record(began.elapsed());
        match result {
            Ok(()) => self.publish(captured, bytes, &segments),
            Err(error) => {
                self.numbers.sync_errors.add(1);
                self.poisoned.store(true, Ordering::Relaxed);
                tracing::error!(spool = %self.id, %error, "fdatasync failed; what it covered is written again elsewhere");
            }
        }
    }

    fn publish(&self, captured: u64, bytes: u64, segments: &[Open]) {
        let rolled = {
            let mut active = self.active();
            let before = active.older.len();
            // The last of `segments` was the one being written then; the others are full, and on disk to their ends.
            let full = &segments[..segments.len() - 1];
            active.older.retain(|(open, _)| !full.iter().any(|done| Arc::ptr_eq(&done.segment, &open.segment)));
            before != active.older.len()
        };
        self.numbers.synced_bytes.add(bytes.saturating_sub(self.numbers.synced_bytes.value()));
        self.control.set_synced(captured);
        self.poisoned.store(false, Ordering::Relaxed);
        self.notify.notify_waiters();
        self.watch.moved();
        if rolled {
            // Recovery after a power cut then has less to look at. Not being able to is no loss.
            let _ = self.control.sync();
        }
    }

    /// Writes everything that is not on disk to new segments and goes on there.
    fn rescue(&self) -> io::Result<()> {
        let mut active = self.active();
        let synced = self.control.synced();
        let mut records: Vec<(u64, Vec<u8>)> = Vec::new();
        for (open, end) in &active.older {
            collect(self.id, open, *end, synced, &mut records);
        }
        collect(self.id, &active.open, active.offset, synced, &mut records);
        debug_assert_eq!(records.len() as u64, active.next_seq - synced);
        let mut opened: Vec<(Open, usize)> = Vec::new();
        let mut index = active.next_index;
        for (seq, payload) in &records {
            let fits = opened.last().is_some_and(|(open, offset)| open.segment.has_room(*offset, payload.len()));
            if !fits {
                if let Some((open, offset)) = opened.last() {
                    open.segment.end(*offset, self.id, *seq);
                }
                opened.push((self.open(index, *seq, true)?, HEADER_BYTES));
                index += 1;
            }
            if let Some((open, offset)) = opened.last_mut() {
                *offset = open.segment.write(*offset, self.id, *seq, payload);
            }
        }
        if opened.is_empty() {
            opened.push((self.open(index, active.next_seq, true)?, HEADER_BYTES));
            index += 1;
        }
        self.numbers.rescued.add(records.len() as u64);
        if let Some((open, offset)) = opened.pop() {
            active.open = open;
            active.offset = offset;
            active.older = opened;
            active.next_index = index;
        }
        Ok(())
    }

    /// Takes the segment made ahead, or makes one. `beyond_limit`: also where there is no room for it.
    fn open(&self, index: u64, first_seq: u64, beyond_limit: bool) -> io::Result<Open> {
        let segment = match self.take_spare() {
            Some(segment) => segment,
            None => {
                self.numbers.unprepared.add(1);
                self.create_segment(false, beyond_limit)?
            }
        };
        let former_newest_ms = self.clock.now().0;
        segment.write_header(&SegmentHeader { spool: self.id, index, first_seq, former_newest_ms });
        Ok(Open { segment: Arc::new(segment), first_seq })
    }

    fn roll(&self, active: &mut MutexGuard<'_, Active>) -> Result<(), NotSpooled> {
        let next = match self.open(active.next_index, active.next_seq, false) {
            Ok(next) => next,
            Err(_) => return Err(self.note_full()),
        };
        active.open.segment.end(active.offset, self.id, active.next_seq);
        let former = std::mem::replace(&mut active.open, next);
        let end = active.offset;
        active.older.push((former, end));
        active.offset = HEADER_BYTES;
        active.next_index += 1;
        self.full.store(false, Ordering::Relaxed);
        self.watch.wake_keeper();
        Ok(())
    }

    fn note_full(&self) -> NotSpooled {
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::error!(spool = %self.id, "the spool is full: clicks are redirected and counted as undurable");
            self.watch.wake_keeper();
        }
        if self.poisoned.load(Ordering::Relaxed) { NotSpooled::Failing } else { NotSpooled::Full }
    }

    fn create_segment(&self, touched: bool, beyond_limit: bool) -> io::Result<Segment> {
        let room = &self.watch.room;
        if !room.make_within(self.segment_bytes) {
            if !beyond_limit {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "the spools take what they may"));
            }
            room.make(self.segment_bytes);
        }
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        let segment = Segment::create(&self.directory, number, self.segment_bytes, touched, &self.faults);
        segment.inspect_err(|_| room.delete(self.segment_bytes))
    }

    /// Makes the next segment ahead of need. Called by the keeper alone, when there is none. True when there is one now.
    pub fn prepare_spare(&self, beyond_limit: bool) -> bool {
        match self.create_segment(true, beyond_limit) {
            Ok(segment) => {
                *self.spare() = Some(segment);
                if self.full.swap(false, Ordering::Relaxed) {
                    tracing::info!(spool = %self.id, "the spool has room again");
                }
                true
            }
            Err(error) => {
                tracing::warn!(spool = %self.id, %error, "no segment can be made ahead");
                false
            }
        }
    }

    pub fn has_spare(&self) -> bool {
        self.spare().is_some()
    }

    /// The number of the first record in the segment that is written now.
    pub fn open_from(&self) -> u64 {
        self.active().open.first_seq
    }

    fn take_spare(&self) -> Option<Segment> {
        self.spare().take()
    }

    fn spare(&self) -> MutexGuard<'_, Option<Segment>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        // Nothing in here leaves it half changed: a record counts by its last store.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why clicks are not durable now, if they are not.
    pub fn trouble(&self) -> Option<&'static str> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Some("fdatasync fails");
        }
        self.full.load(Ordering::Relaxed).then_some("no room")
    }

    fn elapsed_ns(&self) -> u64 {
        (self.started.elapsed().as_nanos() as u64).max(1)
    }

    fn hangs_longer_than(&self, limit: Duration) -> bool {
        let since = self.syncing_since.load(Ordering::Relaxed);
        since > 0 && self.elapsed_ns().saturating_sub(since) > limit.as_nanos() as u64
    }

    /// Returns when `seq` is on disk. With a limit nobody waits longer, nor at all while one fdatasync is older than
    /// that; without one only a disk that is known to fail and has no way out is an error.
    pub async fn wait(&self, seq: u64, max_wait: Option<Duration>) -> Result<(), NotDurable> {
        if self.control.synced() > seq {
            return Ok(());
        }
        let Some(limit) = max_wait else { return self.wait_without_limit(seq).await };
        if self.hangs_longer_than(limit) {
            return Err(NotDurable);
        }
        tokio::time::timeout(limit, self.synced(seq)).await.map_err(|_| NotDurable)
    }

    async fn wait_without_limit(&self, seq: u64) -> Result<(), NotDurable> {
        // A rescue takes milliseconds. Where it fails for seconds, the disk does.
        const PATIENCE: Duration = Duration::from_secs(2);
        loop {
            let failing = self.poisoned.load(Ordering::Relaxed);
            if tokio::time::timeout(PATIENCE, self.synced(seq)).await.is_ok() {
                return Ok(());
            }
            if failing && self.poisoned.load(Ordering::Relaxed) {
                return Err(NotDurable);
            }
        }
    }

    async fn synced(&self, seq: u64) {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            // Registered before the look, so that no move between both is missed.
            notified.as_mut().enable();
            if self.control.synced() > seq {
                return;
            }
            notified.await;
        }
    }
}

/// Records of an open segment from number `from` on.
fn collect(id: SpoolId, open: &Open, end: usize, from: u64, into: &mut Vec<(u64, Vec<u8>)>) {
    let bytes = open.segment.written_bytes(end);
    let (mut at, mut seq) = (0, open.first_seq);
    while let Found::Record { seq: found, payload, bytes: length } = format::read(id, seq, &bytes[at..]) {
        if found >= from {
            into.push((found, payload.to_vec()));
        }
        (at, seq) = (at + length, found + 1);
        if at >= bytes.len() {
            break;
        }
    }
}
