//! One live spool: its open segments, where the next record goes, and what is on disk already.
//!
//! Three threads meet here. The writer appends under `active` and never waits for a disk: where no segment was made ahead,
//! the record is refused. The syncer (`sync`) captures the end under the same lock, syncs without it, publishes. The maker
//! puts segments into `stock` ahead of need.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::control::{Control, Lock};
use super::faults::Faults;
use super::format::{self, HEADER_BYTES, SegmentHeader, Tally, record_bytes};
use super::ring::{self, Ring};
use super::segment::Segment;
use super::stock::Stock;
use super::watch::Watch;
use super::{NotDurable, NotSpooled, SpoolId, Topic};
use crate::clock::Clock;
use crate::metrics::{Counter, Histogram};

/// A disk that needs longer for one fdatasync than this hangs: nothing is answered durably meanwhile.
const HANGS: Duration = Duration::from_secs(2);

/// How long a writer waits for a segment that is not ready: as long as an answer waits for its fdatasync by default.
const MADE_WITHIN: Duration = Duration::from_millis(50);

pub struct Chain {
    pub id: SpoolId,
    pub topic: Topic,
    pub directory: PathBuf,
    pub segment_bytes: u64,
    pub control: Control,
    /// Held as long as this process may write here.
    _lock: Lock,
    active: Mutex<Active>,
    pub stock: Stock,
    /// Names of files; the place in the chain is given when a segment is used.
    next_file: AtomicU64,
    pub clock: Arc<dyn Clock>,
    pub faults: Faults,
    syncer: OnceLock<Thread>,
    /// The syncer waits for something to do.
    idle: AtomicBool,
    /// Since when something is being brought on disk and is not there yet, nanoseconds since `started`, 0 for never.
    busy_since: AtomicU64,
    started: Instant,
    notify: Notify,
    pub watch: Arc<Watch>,
    /// Records that were not on disk when a sync failed wait for a segment that works.
    poisoned: AtomicBool,
    /// There was no room for a record.
    full: AtomicBool,
    /// Numbers below the synced position whose records no disk took.
    lost: Mutex<Vec<Range<u64>>>,
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
    pub lost: Counter,
    pub uncopied: Counter,
    pub unprepared: Counter,
}

/// Where the next record goes, and everything that is not known to be on disk.
pub struct Active {
    pub open: Open,
    pub next_seq: u64,
    /// Full segments that are not known to be on disk to their end.
    pub older: Vec<Open>,
    pub ring: Ring,
}

/// A segment that is written, or was.
#[derive(Clone)]
pub struct Open {
    pub segment: Arc<Segment>,
    pub header: SegmentHeader,
    /// Where the next record would go.
    pub offset: usize,
    pub tally: Tally,
}

/// What a sync covers.
pub struct Captured {
    pub next_seq: u64,
    pub bytes: u64,
    pub newest_ms: i64,
    /// Oldest first; the last is the one that was being written.
    pub segments: Vec<Open>,
    /// Seal of the last one then.
    pub tally: Tally,
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
        (control, lock): (Control, Lock),
        clock: Arc<dyn Clock>,
        watch: Arc<Watch>,
        faults: Faults,
    ) -> io::Result<Chain> {
        let Place { id, topic, directory, segment_bytes } = place;
        let first = Segment::create(&directory, 0, segment_bytes, true, &faults)?;
        watch.room.make(segment_bytes);
        let former_newest_ms = clock.now().0;
        let header = SegmentHeader { spool: id, index: 0, first_seq: 0, former: Tally::default(), former_newest_ms };
        let open = Open::new(first, header);
        open.segment.write_header(&header);
        let ring = Ring::new(faults.most_copies(ring::MAX_BYTES));
        let active = Active { open, next_seq: 0, older: Vec::new(), ring };
        Ok(Chain {
            id,
            topic,
            directory,
            segment_bytes,
            control,
            _lock: lock,
            active: Mutex::new(active),
            stock: Stock::default(),
            next_file: AtomicU64::new(1),
            clock,
            faults,
            syncer: OnceLock::new(),
            idle: AtomicBool::new(false),
            busy_since: AtomicU64::new(0),
            started: Instant::now(),
            notify: Notify::new(),
            watch,
            poisoned: AtomicBool::new(false),
            full: AtomicBool::new(false),
            lost: Mutex::default(),
            closing: AtomicBool::new(false),
            numbers: Numbers::default(),
        })
    }

    pub fn next_seq(&self) -> u64 {
        self.control.written()
    }

    /// Appends without a system call, unless the syncer sleeps.
    pub fn append(&self, record: &[u8]) -> Result<u64, NotSpooled> {
        if HEADER_BYTES + record_bytes(record.len()) + 8 > self.segment_bytes as usize || record.is_empty() {
            return Err(NotSpooled::TooLarge(record.len()));
        }
        let mut active = self.active();
        if !active.open.has_room(record) && self.stock.len() == 0 {
            drop(active);
            self.wait_for_segment();
            active = self.active();
        }
        if !active.open.has_room(record) {
            self.roll(&mut active)?;
        }
        let seq = active.next_seq;
        // Both copies first: while the checksum is computed they find their way out of the core.
        active.open.segment.write(active.open.offset, seq, record);
        if !active.ring.push(seq, record) {
            self.numbers.uncopied.add(1);
        }
        active.open.commit(self.id, seq, record);
        active.next_seq = seq + 1;
        self.control.set_written(seq + 1);
        self.numbers.records.add(1);
        self.numbers.bytes.add(record_bytes(record.len()) as u64);
        drop(active);
        // Either the syncer sees `written` before it sleeps, or we see that it sleeps (modelled in `tests/model.rs`).
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

    /// A crowd may be faster than the maker for a moment, and that is no full disk. Once a segment did not come in time
    /// nobody waits until one is there: a disk that hangs costs a writer one such wait.
    fn wait_for_segment(&self) {
        if !self.full.load(Ordering::Relaxed) {
            self.watch.maker.ring();
            self.stock.wait(MADE_WITHIN);
        }
    }

    /// Goes on in a segment made ahead. Making one here would be a wait for the disk.
    fn roll(&self, active: &mut Active) -> Result<(), NotSpooled> {
        let Some(segment) = self.stock.take() else { return Err(self.note_full()) };
        let former = &active.open;
        let header = SegmentHeader {
            spool: self.id,
            index: former.header.index + 1,
            first_seq: active.next_seq,
            former: former.tally,
            former_newest_ms: self.clock.now().0,
        };
        segment.write_header(&header);
        former.segment.end(former.offset, self.id, active.next_seq);
        let former = std::mem::replace(&mut active.open, Open::new(segment, header));
        active.older.push(former);
        self.full.store(false, Ordering::Relaxed);
        self.watch.maker.ring();
        Ok(())
    }

    fn note_full(&self) -> NotSpooled {
        if !self.full.swap(true, Ordering::Relaxed) {
            self.numbers.unprepared.add(1);
            tracing::error!(spool = %self.id, "no segment is ready: clicks are redirected and counted as undurable");
            self.watch.maker.ring();
            self.watch.keeper.ring();
        }
        if self.is_poisoned() { NotSpooled::Failing } else { NotSpooled::Full }
    }

    /// A new segment of this spool. `beyond_limit`: also where the spools take what they may.
    pub fn make_segment(&self, touched: bool, beyond_limit: bool) -> io::Result<Segment> {
        let room = &self.watch.room;
        if !room.make_within(self.segment_bytes) {
            if !beyond_limit {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the spools take what they may"));
            }
            room.make(self.segment_bytes);
        }
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        let segment = Segment::create(&self.directory, number, self.segment_bytes, touched, &self.faults);
        segment.inspect_err(|_| room.delete(self.segment_bytes))
    }

    /// Removes a segment that holds nothing that counts.
    pub fn discard(&self, segment: &Segment) {
        segment.unlink();
        self.watch.room.delete(segment.bytes());
    }

    /// A segment made ahead. It goes again where the spool gets no more records.
    pub fn stock_up(&self, segment: Segment) {
        if let Some(unwanted) = self.stock.add(segment) {
            return self.discard(&unwanted);
        }
        if self.full.swap(false, Ordering::Relaxed) {
            tracing::info!(spool = %self.id, "the spool has room again");
        }
    }

    pub fn active(&self) -> MutexGuard<'_, Active> {
        // Nothing in here leaves it half changed: a record counts by its last store.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the first record in the segment that is written now.
    pub fn open_from(&self) -> u64 {
        self.active().open.header.first_seq
    }

    pub fn capture(&self) -> Captured {
        let active = self.active();
        Captured {
            next_seq: active.next_seq,
            bytes: self.numbers.bytes.value(),
            newest_ms: self.clock.now().0,
            segments: active.older.iter().chain([&active.open]).cloned().collect(),
            tally: active.open.tally,
        }
    }

    /// Records below `next_seq` are on disk, and the first `full` segments of what was captured to their ends. Returns
    /// whether there were any.
    pub fn publish(&self, next_seq: u64, captured: &Captured, full: usize) -> bool {
        let full = &captured.segments[..full];
        {
            let mut active = self.active();
            active.ring.forget_below(next_seq);
            let is_done = |open: &Open| full.iter().any(|done| Arc::ptr_eq(&done.segment, &open.segment));
            active.older.retain(|open| !is_done(open));
        }
        self.control.set_synced(next_seq, captured.newest_ms);
        self.notify.notify_waiters();
        self.watch.moved();
        !full.is_empty()
    }

    /// All of the first `bytes` are on disk.
    pub fn healed(&self, bytes: u64) {
        self.numbers.synced_bytes.add(bytes.saturating_sub(self.numbers.synced_bytes.value()));
        self.poisoned.store(false, Ordering::Relaxed);
    }

    /// What is not on disk now must be written again.
    pub fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }

    /// Why clicks are not durable now, if they are not.
    pub fn trouble(&self) -> Option<&'static str> {
        if self.is_poisoned() {
            return Some("fdatasync fails");
        }
        if self.hangs_longer_than(HANGS) {
            return Some("fdatasync hangs");
        }
        self.full.load(Ordering::Relaxed).then_some("no room")
    }

    /// Something is on its way to the disk from now on, or since before.
    pub fn begin_busy(&self) {
        if self.busy_since.load(Ordering::Relaxed) == 0 {
            self.busy_since.store(self.elapsed_ns(), Ordering::Relaxed);
        }
    }

    pub fn end_busy(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    fn elapsed_ns(&self) -> u64 {
        (self.started.elapsed().as_nanos() as u64).max(1)
    }

    fn hangs_longer_than(&self, limit: Duration) -> bool {
        let since = self.busy_since.load(Ordering::Relaxed);
        since > 0 && self.elapsed_ns().saturating_sub(since) > limit.as_nanos() as u64
    }

    /// Before the synced position passes them.
    pub fn lose(&self, numbers: Range<u64>) {
        tracing::error!(spool = %self.id, first = numbers.start, last = numbers.end - 1, "records are lost: no disk took them");
        self.numbers.lost.add(numbers.end - numbers.start);
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(numbers);
    }

    /// For a number below the synced position.
    pub fn unless_lost(&self, seq: u64) -> Result<(), NotDurable> {
        if self.numbers.lost.value() == 0 {
            return Ok(());
        }
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.iter().any(|numbers| numbers.contains(&seq)) { Err(NotDurable) } else { Ok(()) }
    }

    /// Returns when `seq` is on disk. With a limit nobody waits longer, nor at all while the disk has been busy, or
    /// failing, for longer than that; without one only a disk that is known to fail and has no way out is an error.
    pub async fn wait(&self, seq: u64, max_wait: Option<Duration>) -> Result<(), NotDurable> {
        if self.control.synced() > seq {
            return self.unless_lost(seq);
        }
        let Some(limit) = max_wait else { return self.wait_without_limit(seq).await };
        if self.hangs_longer_than(limit) {
            return Err(NotDurable);
        }
        tokio::time::timeout(limit, self.synced(seq)).await.map_err(|_| NotDurable)?;
        self.unless_lost(seq)
    }

    async fn wait_without_limit(&self, seq: u64) -> Result<(), NotDurable> {
        // A rescue takes milliseconds. Where it fails for seconds, the disk does.
        const PATIENCE: Duration = Duration::from_secs(2);
        loop {
            let failing = self.is_poisoned();
            if tokio::time::timeout(PATIENCE, self.synced(seq)).await.is_ok() {
                return self.unless_lost(seq);
            }
            if failing && self.is_poisoned() {
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

impl Open {
    pub fn new(segment: Segment, header: SegmentHeader) -> Open {
        Open { segment: Arc::new(segment), header, offset: HEADER_BYTES, tally: Tally::default() }
    }

    /// The number that the next record here would have.
    pub fn next_seq(&self) -> u64 {
        self.header.first_seq + self.tally.records
    }

    pub fn has_room(&self, record: &[u8]) -> bool {
        self.segment.has_room(self.offset, record.len())
    }

    /// There is room, says `has_room`.
    pub fn write(&mut self, spool: SpoolId, seq: u64, record: &[u8]) {
        self.segment.write(self.offset, seq, record);
        self.commit(spool, seq, record);
    }

    /// What was written at the end is a record from now on.
    fn commit(&mut self, spool: SpoolId, seq: u64, record: &[u8]) {
        let commit_word = format::commit_word(spool, seq, record);
        self.segment.commit(self.offset, commit_word);
        self.offset += record_bytes(record.len());
        self.tally.add(commit_word);
    }
}
