//! Records that Kafka will not take, as they were, in a file of their spool's directory (format: `docs/formats.md`). A
//! directory with such a file is kept until somebody has taken care of it: `unpark`.
//!
//! What is parked once stays so: an event stands in its place for ever, also when the spool is sent again. So a record
//! takes effect either under its number or where it is fed again, and never under both: one that took effect, was sent
//! again and only then refused is known to readers by the number, which a fed click names; orders have IDs.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::unpark;
use crate::event::NUMBERS;
use crate::spool::{PARKED_FILE, SpoolId};

/// One entry: number, length, checksum over spool, number and record; then the record.
const HEAD_BYTES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    pub record: Vec<u8>,
}

/// Appends a record, unless it is there already or was fed again. On disk when it returns. `WouldBlock` while somebody
/// feeds what is there.
pub fn park(directory: &Path, spool: SpoolId, seq: u64, record: &[u8]) -> io::Result<()> {
    let path = directory.join(PARKED_FILE);
    let is_new = !path.try_exists()?;
    let mut file = lock(&path, File::options().create(true).append(true))?;
    let (entries, end) = scan(directory, spool)?;
    let is_known = entries.iter().any(|entry| entry.seq == seq) || unpark::fed(directory)?.contains(&seq);
    if is_known {
        return Ok(());
    }
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

/// The numbers that an event stands in for: what is parked, and what was and is fed again.
pub fn numbers(directory: &Path, spool: SpoolId) -> io::Result<BTreeSet<u64>> {
    numbers_with(directory, spool, || {})
}

/// `between`: what others do meanwhile, in tests. What is parked is read first: a number that is fed at this moment stands
/// in `fed` before it leaves the other file, so in this order it is seen in one of them.
fn numbers_with(directory: &Path, spool: SpoolId, between: impl FnOnce()) -> io::Result<BTreeSet<u64>> {
    let mut numbers: BTreeSet<u64> = read(directory, spool)?.into_iter().map(|entry| entry.seq).collect();
    between();
    numbers.extend(unpark::fed(directory)?);
    Ok(numbers)
}

/// Nobody else changes the file while it is held.
pub fn lock(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let file = options.open(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => return Err(error),
        Ok(()) => {}
    }
    // Whoever held it before may have taken it away: then it is nobody's.
    let (held, named) = (file.metadata()?, std::fs::metadata(path)?);
    if (held.dev(), held.ino()) == (named.dev(), named.ino()) { Ok(file) } else { Err(ErrorKind::WouldBlock.into()) }
}

/// All that is parked of a spool.
pub fn read(directory: &Path, spool: SpoolId) -> io::Result<Vec<Entry>> {
    scan(directory, spool).map(|(entries, _)| entries)
}

/// The whole entries, and where the last of them ends. Damage costs the entries that it is in, and none behind them.
fn scan(directory: &Path, spool: SpoolId) -> io::Result<(Vec<Entry>, u64)> {
    let mut bytes = Vec::new();
    match File::open(directory.join(PARKED_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        file => file?.read_to_end(&mut bytes)?,
    };
    let (mut entries, mut at, mut end) = (Vec::new(), 0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEAD_BYTES) {
        let Some(entry) = entry(rest, spool) else {
            at += 1;
            continue;
        };
        at += HEAD_BYTES + entry.record.len();
        end = at;
        entries.push(entry);
    }
    Ok((entries, end as u64))
}

fn entry(bytes: &[u8], spool: SpoolId) -> Option<Entry> {
    let seq = Some(u64::from_le_bytes(*bytes.first_chunk()?)).filter(|seq| *seq < NUMBERS)?;
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
    use crate::shipper::tests::world::NOW;

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

    #[test]
    fn v10_a_number_that_is_fed_while_a_shipper_starts_is_known_to_it() {
        let home = tempfile::tempdir().unwrap();
        let known = unpark::tests::parked(home.path(), 2);
        let root = known.directory.parent().unwrap();
        let feed = || assert_eq!(unpark::feed(root, known.id(), NOW).unwrap().left, 0);
        assert_eq!(numbers_with(&known.directory, known.id(), feed).unwrap(), [0, 1].into());
    }

    #[test]
    fn a_damaged_entry_costs_none_behind_it() {
        let home = tempfile::tempdir().unwrap();
        let spool = SpoolId(5);
        for (seq, record) in [(3, b"three"), (4, b"four!"), (5, b"five!")] {
            park(home.path(), spool, seq, record).unwrap();
        }
        let path = home.path().join(PARKED_FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() - HEAD_BYTES - 5 {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            std::fs::write(&path, bytes).unwrap();
            park(home.path(), spool, 6, b"six").unwrap();
            let seqs: Vec<u64> = read(home.path(), spool).unwrap().iter().map(|entry| entry.seq).collect();
            assert!(seqs.len() == 3 && seqs.ends_with(&[5, 6]), "byte {at}: {seqs:?}");
        }
    }
}
