//! A segment file: made ahead of need, mapped, filled by the writer, fdatasynced through one descriptor.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::SpoolId;
use super::faults::Faults;
use super::format::{self, RECORD_HEAD_BYTES, SegmentHeader, record_bytes};
use super::map::Map;

pub const SUFFIX: &str = "seg";

/// Numbers only tell files apart; the place in the chain stands in the header.
pub fn file_name(number: u64) -> String {
    format!("{number:010}.{SUFFIX}")
}

/// An open segment. The descriptor is the one that made the file: an error of its writeback is reported here.
pub struct Segment {
    file: File,
    map: Map,
    path: PathBuf,
    faults: Faults,
}

impl Segment {
    /// Makes a segment of `bytes`, its blocks reserved. `touched` also writes a zero into every page and syncs, so that
    /// neither the writer nor the first sync pays for it. After an error there is no file.
    pub fn create(directory: &Path, number: u64, bytes: u64, touched: bool, faults: &Faults) -> io::Result<Segment> {
        faults.before_create()?;
        let path = directory.join(file_name(number));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let made = Segment::prepare(&file, bytes, touched).and_then(|map| {
            // The name must survive a power cut before a record of it is called synced.
            faults.before_directory_sync()?;
            File::open(directory)?.sync_all()?;
            Ok(map)
        });
        match made {
            Ok(map) => Ok(Segment { file, map, path, faults: faults.clone() }),
            Err(error) => {
                // That it stays where it cannot be removed harms nobody: its header is empty.
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn prepare(file: &File, bytes: u64, touched: bool) -> io::Result<Map> {
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        let map = Map::shared(file, bytes as usize)?;
        map.advise_random()?;
        if touched {
            for page in (0..map.len()).step_by(4_096) {
                map.word(page).store(0, Ordering::Relaxed);
            }
            file.sync_data()?;
        }
        Ok(map)
    }

    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    pub fn write_header(&self, header: &SegmentHeader) {
        self.map.copy(0, &header.encode());
    }

    /// Room for a record of `payload` bytes at `offset`, and for the end mark behind it.
    pub fn has_room(&self, offset: usize, payload: usize) -> bool {
        offset + record_bytes(payload) + 8 <= self.map.len()
    }

    /// Writes a record at `offset`; it is there when it is committed. There is room, says `has_room`.
    pub fn write(&self, offset: usize, seq: u64, payload: &[u8]) {
        self.map.copy(offset + 8, &seq.to_le_bytes());
        self.map.copy(offset + RECORD_HEAD_BYTES, payload);
    }

    pub fn commit(&self, offset: usize, commit_word: u64) {
        self.map.word(offset).store(commit_word.to_le(), Ordering::Release);
    }

    /// No more records here: the next has number `seq` and stands in the next segment.
    pub fn end(&self, offset: usize, spool: SpoolId, seq: u64) {
        self.map.word(offset).store(format::end_word(spool, seq).to_le(), Ordering::Release);
    }

    pub fn sync(&self) -> io::Result<()> {
        self.faults.before_sync()?;
        self.file.sync_data()
    }

    /// Takes the name away; who has it open may still read it.
    pub fn unlink(&self) {
        // Where that fails it is found again as unused or replaced, and counted until then.
        let _ = std::fs::remove_file(&self.path);
    }
}
