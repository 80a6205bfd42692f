//! All spools of a directory: those that this process writes, and those that others wrote or write.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::census::{Census, Which};
use super::chain::{Chain, Place};
use super::control::{self, Control, Lock};
use super::faults::{self, Faults};
use super::keeper::Keeper;
use super::metrics::Found;
use super::page::Birth;
use super::shelf::{self, Known};
use super::shortage::is_shortage;
use super::sync::Syncer;
use super::watch::Watch;
use super::{Durability, Options, SpoolId, Topic, Writer, keeper, maker, network, recovery};
use crate::clock::Clock;

/// Between looks of the background sync in `disk`, where answers ask for it: what nobody waits for is not forgotten.
const DISK_PACE: Duration = Duration::ZERO;

/// A directory that is being made; it gets its name when its control file is whole.
const UNFINISHED: &str = "new";

pub struct Spools {
    inner: Arc<Inner>,
    threads: Mutex<Vec<Working>>,
}

/// A thread of ours.
struct Working {
    thread: JoinHandle<()>,
    /// The spool that it syncs, until that is closed; the others work until the end.
    syncs: Option<Arc<Chain>>,
}

/// What threads share.
pub struct Inner {
    pub options: Options,
    pub clock: Arc<dyn Clock>,
    pub watch: Arc<Watch>,
    chains: Mutex<Vec<Arc<Chain>>>,
    /// Next number that is not applied for good, by spool; what is below may be deleted.
    pub consumed: Mutex<HashMap<SpoolId, u64>>,
    pub census: Census,
    pub found: Found,
    pub stopping: AtomicBool,
    pub faults: Faults,
}

/// A spool that could not be brought on disk and sealed at the end. The next start seals what it finds of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsealed {
    pub spool: SpoolId,
    pub topic: Topic,
    /// Records that are not known to be on disk.
    pub unsynced: u64,
}

impl Spools {
    /// Opens the directory, making it if needed; syncs, scans and seals what earlier lifetimes left there.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> io::Result<Spools> {
        Spools::open_with(options, clock, Faults::default())
    }

    pub(super) fn open_with(options: Options, clock: Arc<dyn Clock>, faults: Faults) -> io::Result<Spools> {
        std::fs::create_dir_all(&options.directory)?;
        network::refuse(&options.directory)?;
        let inner = Arc::new(Inner {
            options,
            clock,
            watch: Arc::default(),
            chains: Mutex::default(),
            consumed: Mutex::default(),
            census: Census::default(),
            found: Found::default(),
            stopping: AtomicBool::new(false),
            faults,
        });
        inner.remove_unfinished().or_else(later)?;
        inner.recover_all().or_else(later)?;
        // What lies there is counted before anything is made.
        Keeper::default().clean_or_warn(&inner);
        let (keeping, making) = (inner.clone(), inner.clone());
        let keeper = std::thread::Builder::new().name("spool-keeper".into()).spawn(move || keeper::run(&keeping))?;
        let maker = std::thread::Builder::new().name("spool-maker".into()).spawn(move || maker::run(&making))?;
        let threads = [keeper, maker].map(|thread| Working { thread, syncs: None });
        Ok(Spools { inner, threads: Mutex::new(threads.into()) })
    }

    #[cfg(test)]
    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Where they lie.
    pub fn directory(&self) -> &Path {
        &self.inner.options.directory
    }

    /// Makes a new spool. `worker` only tells apart the spools of one start.
    pub fn writer(&self, topic: Topic, worker: u16) -> io::Result<Writer> {
        let inner = &self.inner;
        let (id, held) = inner.make_directory(topic, worker)?;
        let directory = inner.options.directory.join(shelf::name(topic, id));
        let place = Place { id, topic, directory: directory.clone(), segment_bytes: inner.options.segment_bytes };
        let chain = Chain::create(place, held, inner.clock.clone(), inner.watch.clone(), inner.faults.clone());
        let chain = Arc::new(chain.inspect_err(|_| {
            // Never used; what cannot be removed now is sealed with no record by the next start.
            let _ = std::fs::remove_dir_all(&directory);
        })?);
        let pace = match inner.options.durability {
            Durability::Disk => DISK_PACE,
            // A merchant's answer always waits for the disk.
            Durability::Process if topic == Topic::Conversions => DISK_PACE,
            Durability::Process => inner.options.sync_interval,
        };
        let syncer = Syncer::new(chain.clone(), pace);
        let name = format!("sync-{}-{worker}", topic.name());
        let syncing = std::thread::Builder::new().name(name).spawn(move || syncer.run())?;
        chain.set_syncer(syncing.thread().clone());
        lock(&self.threads).push(Working { thread: syncing, syncs: Some(chain.clone()) });
        lock(&inner.chains).push(chain.clone());
        inner.watch.maker.ring();
        Ok(Writer { chain })
    }

    /// Every spool of the directory, also of other processes, as far as it may be read now. New ones of other processes
    /// are seen within half a second. A directory that is not readable as a spool is left out, told once and counted.
    pub fn list(&self) -> io::Result<Vec<Known>> {
        self.inner.all()
    }

    /// The same without those that are sealed and consumed to their end.
    pub fn list_unconsumed(&self) -> io::Result<Vec<Known>> {
        self.inner.census.list(&self.inner, Which::Unconsumed)
    }

    /// Waits until everything that is written now is on disk, at most `at_most`. Returns the positions then, of spools that
    /// are not consumed, and whether `synced` of each is at least what `written` was before.
    pub fn list_synced(&self, at_most: Duration) -> io::Result<(Vec<Known>, bool)> {
        let deadline = Instant::now() + at_most;
        let targets: HashMap<SpoolId, u64> =
            self.list_unconsumed()?.iter().map(|known| (known.id(), known.position.written)).collect();
        loop {
            let moves = self.inner.watch.moves();
            let known = self.list_unconsumed()?;
            let behind = |known: &Known| {
                let target = targets.get(&known.id()).copied().unwrap_or(0);
                known.position.synced < target && is_written(known)
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let caught_up = !known.iter().any(behind);
            if caught_up || left.is_zero() {
                return Ok((known, caught_up));
            }
            for chain in self.inner.chains() {
                chain.wake_syncer();
            }
            // Another process' sync moves nothing here: look again soon.
            self.inner.watch.wait(moves, left.min(Duration::from_millis(5)));
        }
    }

    /// For `wait_for_move`: take it before looking at what there is.
    pub fn moves(&self) -> u64 {
        self.inner.watch.moves()
    }

    /// Returns when something was synced after `moves` was taken, at the latest after `at_most`.
    pub fn wait_for_move(&self, moves: u64, at_most: Duration) {
        self.inner.watch.wait(moves, at_most);
    }

    /// All records of the spool below `next` are applied for good: they may be deleted when their time comes.
    pub fn consumed(&self, spool: SpoolId, next: u64) {
        lock(&self.inner.consumed).insert(spool, next);
    }

    /// Seals spools of processes that died since. Returns how many.
    pub fn recover(&self) -> io::Result<usize> {
        self.inner.recover_all()
    }

    /// Why clicks cannot be answered durably now, if they cannot (contract P26).
    pub fn trouble(&self) -> Option<String> {
        self.inner.chains().iter().find_map(|chain| chain.trouble().map(|why| format!("spool {}: {why}", chain.id)))
    }

    /// A thread that has ended by itself: nothing is synced, made or deleted any more, and only a new start helps.
    pub fn lost_thread(&self) -> Option<String> {
        let threads = lock(&self.threads);
        let lost = threads.iter().find(|working| working.thread.is_finished() && !working.is_told(&self.inner))?;
        Some(lost.thread.thread().name().unwrap_or("spool").to_owned())
    }

    pub fn write_metrics(&self, page: &mut crate::metrics::Page) {
        super::metrics::write(&self.inner, page);
    }

    /// The end: brings the last records on disk and seals every spool. What is appended after it is not covered. Returns
    /// the spools with which that did not succeed.
    #[must_use = "what is not sealed is told and is no clean end"]
    pub fn close(&self) -> Vec<Unsealed> {
        for chain in self.inner.chains() {
            chain.closing.store(true, Relaxed);
            chain.wake_syncer();
        }
        self.inner.stop();
        for working in std::mem::take(&mut *lock(&self.threads)) {
            // A thread that panicked has said so; nothing is lost by it that was answered.
            let _ = working.thread.join();
        }
        let unsealed = |chain: &Arc<Chain>| {
            let unsynced = chain.control.written().saturating_sub(chain.control.synced());
            (!chain.control.is_sealed()).then_some(Unsealed { spool: chain.id, topic: chain.topic, unsynced })
        };
        self.inner.chains().iter().filter_map(unsealed).collect()
    }
}

impl Working {
    fn is_told(&self, inner: &Inner) -> bool {
        match &self.syncs {
            Some(chain) => chain.closing.load(Relaxed),
            None => inner.stopping.load(Relaxed),
        }
    }
}

impl Drop for Spools {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

impl Inner {
    pub fn chains(&self) -> Vec<Arc<Chain>> {
        lock(&self.chains).clone()
    }

    pub fn all(&self) -> io::Result<Vec<Known>> {
        self.census.list(self, Which::All)
    }

    pub fn consumed_of(&self, spool: SpoolId) -> u64 {
        lock(&self.consumed).get(&spool).copied().unwrap_or(0)
    }

    fn stop(&self) {
        self.stopping.store(true, Relaxed);
        self.watch.keeper.ring();
        self.watch.maker.ring();
    }

    fn recover_all(&self) -> io::Result<usize> {
        let mut sealed = 0;
        for directory in self.census.unsealed(self)? {
            match recovery::recover(&directory) {
                Ok(None) => {}
                Ok(Some(recovered)) => {
                    sealed += 1;
                    self.found.tail.add_shared(recovered.tail);
                    self.found.recovered.add_shared(1);
                    if let Some(why) = &recovered.rebuilt {
                        let why = format!("{why}; it was made anew from its name and segments");
                        self.census.tell(self, &directory, &why);
                    }
                    let (spool, records, tail) = (recovered.spool, recovered.records, recovered.tail);
                    tracing::info!(%spool, records, tail, "sealed");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && shelf::is_gone(&directory) => {}
                // One bad spool must not keep the others from being read, nor the doors shut.
                Err(error) => self.census.tell(self, &directory, &shelf::unread(&error)),
            }
        }
        Ok(sealed)
    }

    /// A new directory, locked and with its control file. Others see it whole or not at all.
    fn make_directory(&self, topic: Topic, worker: u16) -> io::Result<(SpoolId, (Control, Lock))> {
        let root = &self.options.directory;
        let spool = SpoolId::random()?;
        let name = shelf::name(topic, spool);
        let unfinished = root.join(unfinished_name(topic, spool));
        std::fs::create_dir(&unfinished)?;
        let birth = Birth { spool, topic, worker, started_ms: self.clock.now().0, boot: control::boot() };
        let made = Lock::take(&unfinished).and_then(|lock| {
            // Somebody who tidies up has it; that is over soon, and then so is the directory.
            let lock = lock.ok_or(io::ErrorKind::ResourceBusy)?;
            let control = Control::create(&unfinished, &birth)?;
            std::fs::rename(&unfinished, root.join(&name))?;
            std::fs::File::open(root)?.sync_all()?;
            Ok((spool, (control, lock)))
        });
        made.inspect_err(|_| {
            let _ = std::fs::remove_dir_all(&unfinished);
        })
    }

    /// What a start that was killed while it made a spool left behind.
    fn remove_unfinished(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.options.directory)? {
            let path = entry?.path();
            if is_unfinished(&path) {
                self.remove_unlocked(&path);
            }
        }
        Ok(())
    }

    /// Unless somebody is at work in it. What cannot be removed is in nobody's way: no start stops for it.
    fn remove_unlocked(&self, path: &Path) {
        // Held to the end: whoever makes a spool there would find its files gone otherwise.
        let removed = match Lock::take(path) {
            Ok(Some(_lock)) => {
                self.faults.at(faults::Place::Untidy);
                std::fs::remove_dir_all(path)
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            // It has its name by now, or somebody else has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(directory = %path.display(), %error, "a half-made spool cannot be removed"),
            Ok(()) => {}
        }
    }
}

/// For want of descriptors or memory a start does not keep its doors shut: what was not looked at now is looked at while it
/// runs, and until then nothing of it is lost.
fn later<T: Default>(error: io::Error) -> io::Result<T> {
    if !is_shortage(&error) {
        return Err(error);
    }
    tracing::warn!(%error, "spools of earlier starts cannot be looked at now; that is done later");
    Ok(T::default())
}

/// What a spool's directory is called until it is whole.
pub fn unfinished_name(topic: Topic, spool: SpoolId) -> String {
    format!(".{}.{UNFINISHED}", shelf::name(topic, spool))
}

fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('.'));
    let name = name.and_then(|name| name.strip_suffix(UNFINISHED)?.strip_suffix('.'));
    name.is_some_and(|name| shelf::parse_name(&PathBuf::from(name)).is_some())
}

/// A dead process' spool is not synced by anybody: it is sealed when it is recovered.
fn is_written(known: &Known) -> bool {
    known.position.sealed.is_none() && control::is_live(&known.directory)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::time::TimeMs;

    #[test]
    fn p2_a_thread_that_panics_is_named_and_one_that_is_told_to_end_is_not() {
        let home = tempfile::tempdir().unwrap();
        let options = Options {
            directory: home.path().join("spool"),
            segment_bytes: 64 << 10,
            durability: Durability::Process,
            sync_interval: Duration::from_millis(1),
            max_bytes: None,
            keep: Duration::from_secs(3_600),
        };
        let spools = Spools::open(options, Arc::new(ManualClock::at(TimeMs(1_700_000_000_000)))).unwrap();
        let writer = spools.writer(Topic::Clicks, 0).unwrap();
        assert_eq!(spools.lost_thread(), None);
        // Its spool is sealed then.
        drop(writer);
        while !lock(&spools.threads).iter().any(|working| working.thread.is_finished()) {
            std::thread::yield_now();
        }
        assert_eq!(spools.lost_thread(), None);

        let bad = std::thread::Builder::new().name("spool-bad".into()).spawn(|| panic!("on purpose")).unwrap();
        lock(&spools.threads).push(Working { thread: bad, syncs: None });
        while spools.lost_thread().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(spools.lost_thread().as_deref(), Some("spool-bad"));
        assert_eq!(spools.close(), []);
        assert_eq!(spools.lost_thread(), None, "all have ended");
    }
}
