//! Records that Kafka will not take, as they were, in a file of their spool's directory (format: `docs/formats.md`). A
//! directory with such a file is kept until somebody has taken care of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::spool::{PARKED_FILE, SpoolId};

/// One entry: number, length, checksum over spool, number and record; then the record.
const HEAD_BYTES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    pub record: Vec<u8>,
}

/// Appends a record, unless it is there already. On disk when it returns.
pub fn park(directory: &Path, spool: SpoolId, seq: u64, record: &[u8]) -> io::Result<()> {
    let (entries, end) = scan(directory, spool)?;
    if entries.iter().any(|entry| entry.seq == seq) {
        return Ok(());
    }
    let path = directory.join(PARKED_FILE);
    let is_new = !path.exists();
    let mut file = File::options().create(true).append(true).open(path)?;
    // What a power cut left half done.
    file.set_len(end)?;
    let length = u32::try_from(record.len()).map_err(io::Error::other)?;
    let mut entry = Vec::with_capacity(HEAD_BYTES + record.len());
    entry.extend_from_slice(&seq.to_le_bytes());
    entry.extend_from_slice(&length.to_le_bytes());
    entry.extend_from_slice(&check(spool, seq, record).to_le_bytes());
    entry.extend_from_slice(record);
    file.write_all(&entry)?;
    file.sync_all()?;
    if is_new { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// All that is parked of a spool.
pub fn read(directory: &Path, spool: SpoolId) -> io::Result<Vec<Entry>> {
    scan(directory, spool).map(|(entries, _)| entries)
}

/// The whole entries, and where the last of them ends.
fn scan(directory: &Path, spool: SpoolId) -> io::Result<(Vec<Entry>, u64)> {
    let mut bytes = Vec::new();
    match File::open(directory.join(PARKED_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        file => file?.read_to_end(&mut bytes)?,
    };
    let (mut entries, mut at) = (Vec::new(), 0);
    while let Some(entry) = bytes.get(at..).and_then(|rest| entry(rest, spool)) {
        at += HEAD_BYTES + entry.record.len();
        entries.push(entry);
    }
    Ok((entries, at as u64))
}

fn entry(bytes: &[u8], spool: SpoolId) -> Option<Entry> {
    let seq = u64::from_le_bytes(*bytes.first_chunk()?);
    let length = u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?) as usize;
    let sum = u32::from_le_bytes(*bytes.get(12..)?.first_chunk()?);
    let record = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?;
    (check(spool, seq, record) == sum).then(|| Entry { seq, record: record.to_vec() })
}

fn check(spool: SpoolId, seq: u64, record: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(&spool.0.to_le_bytes()), &seq.to_le_bytes());
    crc32c::crc32c_append(head, record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parked_reads_back_once_and_a_torn_end_is_cut_off() {
        let home = tempfile::tempdir().unwrap();
        let spool = SpoolId(5);
        assert_eq!(read(home.path(), spool).unwrap(), []);
        park(home.path(), spool, 3, b"three").unwrap();
        park(home.path(), spool, 3, b"three").unwrap();
        let path = home.path().join(PARKED_FILE);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&[9; 20]).unwrap();
        park(home.path(), spool, 8, b"").unwrap();
        let entries = read(home.path(), spool).unwrap();
        let wanted = [(3, &b"three"[..]), (8, b"")].map(|(seq, record)| Entry { seq, record: record.to_vec() });
        assert_eq!(entries, wanted);
    }
}
