//! The control file of a spool: how far it is written and synced, for readers in this and other processes; and the lock
//! on its directory that the writer's process holds.
//!
//! One page, mapped. What stands here after a crash is a hint: recovery looks at the segments. `synced` on disk is never
//! ahead of the truth, since it is stored after the fdatasync that it speaks of.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SpoolId;
use super::map::Map;
use super::page::{self, BYTES, Birth, Broken, Position, word};
use super::shortage::is_shortage;

pub const FILE_NAME: &str = "control";

/// Says, while it lives, that this process writes or recovers the spool.
pub struct Lock {
    _directory: File,
}

/// The writer's side, also for one word of somebody else's spool.
pub struct Control {
    map: Map,
    file: File,
    spool: SpoolId,
}

impl Lock {
    /// `None` while somebody else holds it. The lock lies on the directory: a control file may be damaged or gone.
    pub fn take(directory: &Path) -> io::Result<Option<Lock>> {
        let file = File::open(directory)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _directory: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// True while a process writes the spool, or recovers it.
pub fn is_live(directory: &Path) -> bool {
    let file = match File::open(directory) {
        Ok(file) => file,
        // Not known: nobody else touches what may be written to.
        Err(error) => return is_shortage(&error),
    };
    // A shared lock is refused while the writer holds its own.
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => false,
        Err(error) => error == rustix::io::Errno::WOULDBLOCK,
    }
}

impl Control {
    /// Makes the file, on disk when this returns. In place of another one: whoever calls it holds the lock.
    pub fn create(directory: &Path, birth: &Birth) -> io::Result<Control> {
        let path = directory.join(FILE_NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BYTES as u64)?;
        let control = Control { map: Map::shared(&file, BYTES)?, file, spool: birth.spool };
        for (index, value) in birth.words() {
            control.word(index).store(value, Ordering::Release);
        }
        control.file.sync_all()?;
        File::open(directory)?.sync_all()?;
        Ok(control)
    }

    /// Opens a file that is whole, without any lock.
    pub fn open(directory: &Path) -> io::Result<Control> {
        let file = File::options().read(true).write(true).open(directory.join(FILE_NAME))?;
        let spool = read_page(&file).and_then(|page| page::birth(&page).map_err(broken))?.spool;
        Ok(Control { map: Map::shared(&file, BYTES)?, file, spool })
    }

    pub fn position(&self) -> io::Result<Position> {
        let mut page = [0; BYTES];
        for (index, bytes) in page.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&self.word(index).load(Ordering::Acquire).to_le_bytes());
        }
        page::decode(&page, boot()).map_err(broken)
    }

    pub fn written(&self) -> u64 {
        self.word(word::WRITTEN).load(Ordering::Acquire)
    }

    pub fn set_written(&self, next_seq: u64) {
        self.word(word::WRITTEN).store(next_seq, Ordering::Release);
    }

    pub fn synced(&self) -> u64 {
        // What this process stored is whole.
        self.word(word::SYNCED).load(Ordering::Acquire) >> 16
    }

    /// Records below `next_seq` are on disk, and none of them is newer than `newest_ms`.
    pub fn set_synced(&self, next_seq: u64, newest_ms: i64) {
        self.store(word::NEWEST_MS, newest_ms.max(0) as u64);
        self.store(word::SYNCED, next_seq);
    }

    pub fn is_sealed(&self) -> bool {
        self.word(word::SEALED).load(Ordering::Acquire) > 0
    }

    /// No record will come: there are `records`, all on disk, none newer than `newest_ms`; `tail` are not used.
    pub fn seal(&self, records: u64, newest_ms: i64, tail: u64) -> io::Result<()> {
        self.set_written(records);
        self.set_synced(records, newest_ms);
        let check = page::seal_check(self.spool, records, newest_ms, tail);
        for (index, value) in [
            (word::SEALED_NEWEST_MS, newest_ms as u64),
            (word::TAIL, tail),
            (word::SEAL_CHECK, check),
            (word::SEALED, records + 1),
        ] {
            self.word(index).store(value, Ordering::Release);
        }
        self.file.sync_data()
    }

    /// On disk when it returns: what is missing below `seq` was deleted, not lost. Any process may say so.
    pub fn set_deleted_below(&self, seq: u64) -> io::Result<()> {
        let word = self.word(word::DELETED_BELOW);
        let forward = |old: u64| {
            let old = page::unguarded(self.spool, word::DELETED_BELOW, old).unwrap_or(0);
            (old < seq).then(|| page::guarded(self.spool, word::DELETED_BELOW, seq))
        };
        // Already further on: somebody else has said more.
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, forward);
        self.file.sync_data()
    }

    /// An answer without a record.
    pub fn add_unspooled(&self) {
        self.word(word::UNSPOOLED).fetch_add(1, Ordering::Relaxed);
    }

    /// An answer whose record was not on disk in time.
    pub fn add_late(&self) {
        self.word(word::LATE).fetch_add(1, Ordering::Relaxed);
    }

    pub fn unspooled(&self) -> u64 {
        self.word(word::UNSPOOLED).load(Ordering::Relaxed)
    }

    pub fn late(&self) -> u64 {
        self.word(word::LATE).load(Ordering::Relaxed)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn store(&self, index: usize, value: u64) {
        self.word(index).store(page::guarded(self.spool, index, value), Ordering::Release);
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.map.word(index * 8)
    }
}

/// Reads a control file from any process. `InvalidData` holds a `Broken`.
pub fn read(directory: &Path) -> io::Result<Position> {
    let page = read_page(&File::open(directory.join(FILE_NAME))?)?;
    page::decode(&page, boot()).map_err(broken)
}

/// The constant words alone, where the others are damaged.
pub fn read_birth(directory: &Path) -> io::Result<Birth> {
    let page = read_page(&File::open(directory.join(FILE_NAME))?)?;
    page::birth(&page).map_err(broken)
}

fn read_page(file: &File) -> io::Result<[u8; BYTES]> {
    let mut page = [0; BYTES];
    match file.read_exact_at(&mut page, 0) {
        // Cut short: what is missing reads as zeros, which is no control file.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; BYTES]),
        Err(error) => Err(error),
        Ok(()) => Ok(page),
    }
}

fn broken(broken: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, broken)
}

/// This boot of the machine; 0 where the kernel does not say.
pub fn boot() -> u128 {
    static BOOT: OnceLock<u128> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0)
    })
}
