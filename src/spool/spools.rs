//! All spools of a directory: those that this process writes, and those that others wrote or write.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::chain::{Chain, Place};
use super::control::{self, Control, Position};
use super::faults::Faults;
use super::metrics::Found;
use super::recovery;
use super::watch::Watch;
use super::{Durability, Options, Reader, SpoolId, Topic, Writer, keeper};
use crate::clock::Clock;

/// Between looks of the background sync in `disk`, where answers ask for it: what nobody waits for is not forgotten.
const DISK_PACE: Duration = Duration::ZERO;

pub struct Spools {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What threads share.
pub struct Inner {
    pub options: Options,
    pub clock: Arc<dyn Clock>,
    pub watch: Arc<Watch>,
    pub chains: Mutex<Vec<Arc<Chain>>>,
    /// Next number that is not applied for good, by spool; what is below may be deleted.
    pub consumed: Mutex<HashMap<SpoolId, u64>>,
    pub found: Found,
    pub stopping: AtomicBool,
    pub faults: Faults,
}

/// A spool of the directory and how far it may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub directory: PathBuf,
    pub position: Position,
}

impl Known {
    pub fn id(&self) -> SpoolId {
        self.position.spool
    }

    pub fn topic(&self) -> Topic {
        self.position.topic
    }

    pub fn read_from(&self, seq: u64) -> io::Result<Reader> {
        Reader::open(&self.directory, self.id(), seq)
    }
}

impl Spools {
    /// Opens the directory, making it if needed; syncs, scans and seals what earlier lifetimes left there.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> io::Result<Spools> {
        Spools::open_with(options, clock, Faults::default())
    }

    pub(super) fn open_with(options: Options, clock: Arc<dyn Clock>, faults: Faults) -> io::Result<Spools> {
        std::fs::create_dir_all(&options.directory)?;
        refuse_network_file_system(&options.directory)?;
        let inner = Arc::new(Inner {
            options,
            clock,
            watch: Arc::default(),
            chains: Mutex::default(),
            consumed: Mutex::default(),
            found: Found::default(),
            stopping: AtomicBool::new(false),
            faults,
        });
        inner.recover_all()?;
        keeper::clean_or_warn(&inner);
        let shared = inner.clone();
        let keeper = std::thread::Builder::new().name("spool-keeper".into()).spawn(move || keeper::run(&shared))?;
        Ok(Spools { inner, threads: Mutex::new(vec![keeper]) })
    }

    #[cfg(test)]
    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Makes a new spool. `worker` only tells apart the spools of one start.
    pub fn writer(&self, topic: Topic, worker: u16) -> io::Result<Writer> {
        let inner = &self.inner;
        let id = SpoolId(random()?);
        let directory = inner.options.directory.join(format!("{}-{id}", topic.name()));
        std::fs::create_dir(&directory)?;
        let control = Control::create(&directory, id, topic, worker, inner.clock.now().0)?;
        let segment_bytes = inner.options.segment_bytes;
        let place = Place { id, topic, directory, segment_bytes };
        let chain = Chain::create(place, control, inner.clock.clone(), inner.watch.clone(), inner.faults.clone())?;
        std::fs::File::open(&inner.options.directory)?.sync_all()?;
        let chain = Arc::new(chain);
        let syncing = chain.clone();
        let pace = match inner.options.durability {
            Durability::Disk => DISK_PACE,
            // A merchant's answer always waits for the disk.
            Durability::Process if topic == Topic::Conversions => DISK_PACE,
            Durability::Process => inner.options.sync_interval,
        };
        let name = format!("sync-{}-{worker}", topic.name());
        let syncer = std::thread::Builder::new().name(name).spawn(move || sync_until_closed(&syncing, pace))?;
        chain.set_syncer(syncer.thread().clone());
        lock(&self.threads).push(syncer);
        lock(&inner.chains).push(chain.clone());
        inner.watch.wake_keeper();
        Ok(Writer { chain })
    }

    /// Every spool of the directory, also of other processes, as far as it may be read now.
    pub fn list(&self) -> io::Result<Vec<Known>> {
        list(&self.inner.options.directory)
    }

    /// Waits until everything that is written now is on disk, at most `at_most`. Returns the positions then, and whether
    /// `synced` of each spool is at least what `written` was before.
    pub fn list_synced(&self, at_most: Duration) -> io::Result<(Vec<Known>, bool)> {
        let deadline = std::time::Instant::now() + at_most;
        let targets: Vec<(SpoolId, u64)> =
            self.list()?.iter().map(|known| (known.id(), known.position.written)).collect();
        loop {
            let moves = self.inner.watch.moves();
            let known = self.list()?;
            let behind = |(id, target): &(SpoolId, u64)| {
                known.iter().any(|known| known.id() == *id && known.position.synced < *target && is_written(known))
            };
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let caught_up = !targets.iter().any(behind);
            if caught_up || left.is_zero() {
                return Ok((known, caught_up));
            }
            for chain in lock(&self.inner.chains).iter() {
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
        let chains = lock(&self.inner.chains);
        chains.iter().find_map(|chain| chain.trouble().map(|why| format!("spool {}: {why}", chain.id)))
    }

    pub fn write_metrics(&self, page: &mut crate::metrics::Page) {
        super::metrics::write(&self.inner, page);
    }

    /// The end: brings the last records on disk and seals every spool. What is appended after it is not covered.
    pub fn close(&self) {
        for chain in lock(&self.inner.chains).iter() {
            chain.closing.store(true, Relaxed);
            chain.wake_syncer();
        }
        self.inner.stopping.store(true, Relaxed);
        self.inner.watch.wake_keeper();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // A thread that panicked has said so; nothing is lost by it that was answered.
            let _ = thread.join();
        }
    }
}

impl Drop for Spools {
    fn drop(&mut self) {
        self.inner.stopping.store(true, Relaxed);
        self.inner.watch.wake_keeper();
    }
}

impl Inner {
    pub fn recover_all(&self) -> io::Result<usize> {
        let mut sealed = 0;
        for directory in spool_directories(&self.options.directory)? {
            match self.recover_one(&directory) {
                Ok(true) => sealed += 1,
                Ok(false) => {}
                Err(error) => {
                    // One bad spool must not keep the others from being read, nor the doors shut.
                    self.found.unreadable.add_shared(1);
                    tracing::error!(directory = %directory.display(), %error, "a spool cannot be recovered");
                }
            }
        }
        Ok(sealed)
    }

    fn recover_one(&self, directory: &Path) -> io::Result<bool> {
        if control::read(directory).is_ok_and(|position| position.sealed.is_some()) {
            return Ok(false);
        }
        let Some(control) = Control::adopt(directory)? else { return Ok(false) };
        let position = control.position()?;
        if position.sealed.is_some() {
            return Ok(false);
        }
        let recovered = recovery::seal(directory, &control, &position, self.clock.now().0)?;
        self.found.tail.add_shared(recovered.tail);
        self.found.recovered.add_shared(1);
        tracing::info!(spool = %position.spool, records = recovered.records, tail = recovered.tail, "sealed");
        Ok(true)
    }
}

/// Spools below a directory, in no order; the directory itself if it is one.
pub fn spool_directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    if directory.join(control::FILE_NAME).exists() {
        return Ok(vec![directory.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.join(control::FILE_NAME).exists() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub fn list(directory: &Path) -> io::Result<Vec<Known>> {
    let mut known = Vec::new();
    for directory in spool_directories(directory)? {
        match control::read(&directory) {
            Ok(position) => known.push(Known { directory, position }),
            // Being made, or deleted between two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(directory = %directory.display(), %error, "not readable as a spool"),
        }
    }
    Ok(known)
}

/// A dead process' spool is not synced by anybody: it is sealed when it is recovered.
fn is_written(known: &Known) -> bool {
    known.position.sealed.is_none() && control::is_live(&known.directory)
}

fn sync_until_closed(chain: &Chain, pace: Duration) {
    loop {
        if chain.control.written() > chain.control.synced() {
            let before = chain.control.synced();
            chain.sync();
            let failing = chain.control.synced() == before;
            // After an error not at once again; in `process` not before the interval is over.
            std::thread::sleep(if failing { Duration::from_millis(100) } else { pace });
            if failing && chain.closing.load(Relaxed) {
                return;
            }
        } else if chain.closing.load(Relaxed) {
            let records = chain.control.written();
            if let Err(error) = chain.control.seal(records, chain.clock.now().0) {
                tracing::warn!(spool = %chain.id, %error, "could not be sealed; the next start will");
            }
            return;
        } else {
            chain.rest();
        }
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness from the system"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Mapped files on them are not what we promise (statfs(2), magic.h).
fn refuse_network_file_system(directory: &Path) -> io::Result<()> {
    const NETWORK: [(u64, &str); 7] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x5346_414f, "AFS"),
        (0x00c3_6400, "Ceph"),
        (0x0102_1997, "9P"),
    ];
    let kind = rustix::fs::statfs(directory)?.f_type as u64 & 0xffff_ffff;
    match NETWORK.iter().find(|(magic, _)| *magic == kind) {
        None => Ok(()),
        Some((_, name)) => {
            let message = format!("{}: on {name}; a spool needs a local disk", directory.display());
            Err(io::Error::new(io::ErrorKind::Unsupported, message))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
