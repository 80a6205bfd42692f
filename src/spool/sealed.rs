//! A spool that is whole from the start: made, filled, sealed and only then given its name, so that others see all of it or
//! nothing. For records that were kept elsewhere; a spool that is written to is made by `Spools`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::control::{self, Control, Lock};
use super::format::{self, HEADER_BYTES, SegmentHeader, Tally, record_bytes};
use super::page::Birth;
use super::segment::file_name;
use super::spools::unfinished_name;
use super::{SpoolId, Topic, shelf};
use crate::time::TimeMs;

/// On disk when it returns. One that has its name already was made by a call that was killed later, and stays as it is:
/// its `records` are not asked for.
pub fn write_sealed(
    directory: &Path,
    (topic, spool): (Topic, SpoolId),
    records: impl FnOnce() -> io::Result<Vec<Vec<u8>>>,
    now: TimeMs,
) -> io::Result<()> {
    let place = directory.join(shelf::name(topic, spool));
    if !place.try_exists()? {
        let unfinished = directory.join(unfinished_name(topic, spool));
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&unfinished)?,
        }
        // While it is held nobody takes the directory for what a killed process left behind.
        let _lock = Lock::take(&unfinished)?.ok_or(io::ErrorKind::ResourceBusy)?;
        fill(&unfinished, (topic, spool), &records()?, now)?;
        fs::rename(&unfinished, &place)?;
    }
    File::open(directory)?.sync_all()
}

fn fill(directory: &Path, (topic, spool): (Topic, SpoolId), records: &[Vec<u8>], now: TimeMs) -> io::Result<()> {
    let birth = Birth { spool, topic, worker: 0, started_ms: now.0, boot: control::boot() };
    let control = Control::create(directory, &birth)?;
    let mut file = File::options().write(true).create_new(true).open(directory.join(file_name(0)))?;
    file.write_all(&segment(spool, records, now))?;
    file.sync_all()?;
    control.seal(records.len() as u64, now.0, 0)?;
    File::open(directory)?.sync_all()
}

/// One segment with all of them.
fn segment(spool: SpoolId, records: &[Vec<u8>], now: TimeMs) -> Vec<u8> {
    let header = SegmentHeader { spool, index: 0, first_seq: 0, former: Tally::default(), former_newest_ms: now.0 };
    let mut bytes = header.encode().to_vec();
    bytes.resize(HEADER_BYTES, 0);
    for (seq, record) in (0..).zip(records) {
        let end = bytes.len() + record_bytes(record.len());
        bytes.extend_from_slice(&format::commit_word(spool, seq, record).to_le_bytes());
        bytes.extend_from_slice(&u64::to_le_bytes(seq));
        bytes.extend_from_slice(record);
        bytes.resize(end, 0);
    }
    // Room for an end mark, as every segment has.
    bytes.extend_from_slice(&[0; 8]);
    bytes
}
