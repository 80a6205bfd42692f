//! The control file of a spool: how far it is written and synced, for readers in this and other processes, and the lock
//! that its writer's process holds.
//!
//! One page, mapped. Three words move, each on a cache line of its own: `written`, `synced`, `undurable`. What stands here after a
//! crash is a hint: recovery looks at the segments. `synced` on disk is never ahead of the truth, since it is stored
//! after the fdatasync that it speaks of.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::map::Map;
use super::{SpoolId, Topic};

pub const FILE_NAME: &str = "control";
const BYTES: usize = 4_096;
const MAGIC: u64 = u64::from_le_bytes(*b"AFXCTL\0\x01");

/// Words of the page, by index of 8 bytes.
mod word {
    pub const MAGIC: usize = 0;
    pub const SPOOL: usize = 1;
    pub const TOPIC: usize = 2;
    pub const WORKER: usize = 3;
    pub const STARTED_MS: usize = 4;
    pub const WRITTEN: usize = 8;
    pub const SYNCED: usize = 16;
    /// 0 while it is written or not yet recovered, 1 + number of records once it is sealed.
    pub const SEALED: usize = 24;
    pub const SEALED_AT_MS: usize = 25;
    pub const UNDURABLE: usize = 32;
    /// Of these, those for which there is no record.
    pub const UNSPOOLED: usize = 33;
    /// The seal's own check: it decides what is a gap.
    pub const SEAL_CHECK: usize = 26;
}

/// What a control file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub spool: SpoolId,
    pub topic: Topic,
    pub worker: u16,
    pub started_ms: i64,
    /// Number of the next record; at least `synced`.
    pub written: u64,
    /// Records below this number are on disk.
    pub synced: u64,
    /// How many records there are, when there will be no more, and when that was found out.
    pub sealed: Option<(u64, i64)>,
    /// Answers whose record was not known to be on disk, or had no room at all.
    pub undurable: u64,
    /// Those that had no room: no record has their number.
    pub unspooled: u64,
}

/// The writer's side.
pub struct Control {
    map: Map,
    file: File,
}

impl Control {
    /// Makes the file and takes its lock for as long as this lives.
    pub fn create(directory: &Path, spool: SpoolId, topic: Topic, worker: u16, started_ms: i64) -> io::Result<Control> {
        let path = directory.join(FILE_NAME);
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        lock(&file)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BYTES as u64)?;
        let control = Control { map: Map::shared(&file, BYTES)?, file };
        for (index, value) in [
            (word::SPOOL, spool.0),
            (word::TOPIC, topic as u64),
            (word::WORKER, u64::from(worker)),
            (word::STARTED_MS, started_ms as u64),
            (word::MAGIC, MAGIC),
        ] {
            control.word(index).store(value, Ordering::Release);
        }
        control.file.sync_all()?;
        Ok(control)
    }

    /// Opens the file of a spool whose process is gone. `None` while that process lives.
    pub fn adopt(directory: &Path) -> io::Result<Option<Control>> {
        let file = File::options().read(true).write(true).open(directory.join(FILE_NAME))?;
        match lock(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        if file.metadata()?.len() < BYTES as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the control file is cut short"));
        }
        Ok(Some(Control { map: Map::shared(&file, BYTES)?, file }))
    }

    pub fn position(&self) -> io::Result<Position> {
        let mut page = [0; BYTES];
        for (index, bytes) in page.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&self.word(index).load(Ordering::Acquire).to_le_bytes());
        }
        decode(&page)
    }

    pub fn written(&self) -> u64 {
        self.word(word::WRITTEN).load(Ordering::Acquire)
    }

    pub fn set_written(&self, next_seq: u64) {
        self.word(word::WRITTEN).store(next_seq, Ordering::Release);
    }

    pub fn synced(&self) -> u64 {
        self.word(word::SYNCED).load(Ordering::Acquire)
    }

    pub fn set_synced(&self, next_seq: u64) {
        self.word(word::SYNCED).store(next_seq, Ordering::Release);
    }

    /// No record will come: there are `records`, all on disk.
    pub fn seal(&self, records: u64, at_ms: i64) -> io::Result<()> {
        self.set_written(records);
        self.set_synced(records);
        self.word(word::SEALED_AT_MS).store(at_ms as u64, Ordering::Release);
        let spool = SpoolId(self.word(word::SPOOL).load(Ordering::Acquire));
        self.word(word::SEAL_CHECK).store(seal_check(spool, records, at_ms), Ordering::Release);
        self.word(word::SEALED).store(records + 1, Ordering::Release);
        self.file.sync_data()
    }

    pub fn add_unspooled(&self) {
        self.word(word::UNSPOOLED).fetch_add(1, Ordering::Relaxed);
        self.add_undurable();
    }

    pub fn add_undurable(&self) {
        self.word(word::UNDURABLE).fetch_add(1, Ordering::Relaxed);
    }

    pub fn undurable(&self) -> u64 {
        self.word(word::UNDURABLE).load(Ordering::Relaxed)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.map.word(index * 8)
    }
}

/// Reads a control file from any process.
pub fn read(directory: &Path) -> io::Result<Position> {
    let mut page = [0; BYTES];
    File::open(directory.join(FILE_NAME))?.read_exact_at(&mut page, 0)?;
    decode(&page)
}

/// True while the process that writes the spool lives.
pub fn is_live(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join(FILE_NAME)) else { return false };
    // A shared lock is refused while the writer holds its own.
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => false,
        Err(error) => error == rustix::io::Errno::WOULDBLOCK,
    }
}

fn lock(file: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?)
}

fn decode(page: &[u8; BYTES]) -> io::Result<Position> {
    let word = |index: usize| u64::from_le_bytes(page[index * 8..index * 8 + 8].try_into().unwrap_or_default());
    let topic = Topic::from_number(word(word::TOPIC));
    let (Some(topic), MAGIC) = (topic, word(word::MAGIC)) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a control file, or a damaged one"));
    };
    let spool = SpoolId(word(word::SPOOL));
    let (sealed, sealed_at_ms) = (word(word::SEALED), word(word::SEALED_AT_MS) as i64);
    let is_sealed = sealed > 0 && word(word::SEAL_CHECK) == seal_check(spool, sealed - 1, sealed_at_ms);
    Ok(Position {
        spool,
        topic,
        worker: word(word::WORKER) as u16,
        started_ms: word(word::STARTED_MS) as i64,
        written: word(word::WRITTEN).max(word(word::SYNCED)),
        synced: word(word::SYNCED),
        sealed: is_sealed.then(|| (sealed - 1, sealed_at_ms)),
        undurable: word(word::UNDURABLE),
        unspooled: word(word::UNSPOOLED),
    })
}

fn seal_check(spool: SpoolId, records: u64, at_ms: i64) -> u64 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&spool.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&records.to_le_bytes());
    bytes[16..].copy_from_slice(&at_ms.to_le_bytes());
    u64::from(crc32c::crc32c(&bytes)) | 1 << 63
}
