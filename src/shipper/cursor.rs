//! How far a spool is shipped, in a file of its directory: two slots that are written in turn, each with a generation and
//! a checksum, so that a write that was cut off leaves the other one (format: `docs/formats.md`).
//!
//! The home partition stands in it before the first record is sent, and never changes: Kafka's order is the spool's order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::spool::SpoolId;
use crate::time::TimeMs;

const FILE_NAME: &str = "cursor";
/// The last byte is the version.
const MAGIC: [u8; 8] = *b"AFXCUR\0\x01";
/// Slots lie in blocks of their own, so that one write touches one of them.
const SLOT_STRIDE: u64 = 4_096;
const BYTES: usize = 80;

/// What is known of a spool's way to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub spool: SpoolId,
    /// Where all of its records go.
    pub partition: i32,
    /// How many partitions the topic had when that was decided.
    pub partitions: u32,
    /// All records below this number are delivered.
    pub next: u64,
    /// The same ten minutes before, or earlier.
    pub earlier: u64,
    /// Offset of the last delivered record; `None` when none is known.
    pub offset: Option<i64>,
    pub saved_at: TimeMs,
    /// The seal is delivered: nothing is left to be sent.
    pub sealed: bool,
    /// Grows with every write.
    pub generation: u64,
}

/// What a directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing of the spool was ever sent.
    None,
    Cursor(Cursor),
    /// There is a file, and neither slot can be used.
    Damaged,
}

impl Cursor {
    /// A spool of which nothing was sent, at home.
    pub fn pinned(spool: SpoolId, partition: i32, partitions: u32) -> Cursor {
        let (next, earlier, saved_at) = (0, 0, TimeMs(0));
        Cursor { spool, partition, partitions, next, earlier, offset: None, saved_at, sealed: false, generation: 0 }
    }

    /// On disk when it returns, as the next generation. After an error the same slot is tried again: the other one may be
    /// the only whole one.
    pub fn save(&mut self, directory: &Path) -> io::Result<()> {
        let next = Cursor { generation: self.generation + 1, ..*self };
        let file = File::options().write(true).create(true).truncate(false).open(directory.join(FILE_NAME))?;
        file.write_all_at(&next.encode(), next.generation % 2 * SLOT_STRIDE)?;
        if next.generation == 1 {
            file.sync_all()?;
            File::open(directory)?.sync_all()?;
        } else {
            file.sync_data()?;
        }
        *self = next;
        Ok(())
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut slot = [0; BYTES];
        slot[..8].copy_from_slice(&MAGIC);
        let words = [
            self.spool.0,
            self.generation,
            self.next,
            self.earlier,
            self.offset.unwrap_or(-1) as u64,
            self.saved_at.0 as u64,
            self.partition as u64,
            u64::from(self.partitions) << 1 | u64::from(self.sealed),
        ];
        for (word, bytes) in words.iter().zip(slot[8..72].chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let check = u64::from(crc32c::crc32c(&slot[..72]));
        slot[72..].copy_from_slice(&check.to_le_bytes());
        slot
    }

    fn decode(slot: &[u8]) -> Option<Cursor> {
        let word =
            |index: usize| slot.get(index * 8..).and_then(|rest| rest.first_chunk()).copied().map(u64::from_le_bytes);
        if slot.get(..8)? != MAGIC || word(9)? != u64::from(crc32c::crc32c(slot.get(..72)?)) {
            return None;
        }
        let flags = word(8)?;
        Some(Cursor {
            spool: SpoolId(word(1)?),
            generation: word(2)?,
            next: word(3)?,
            earlier: word(4)?,
            offset: Some(word(5)? as i64).filter(|offset| *offset >= 0),
            saved_at: TimeMs(word(6)? as i64),
            partition: word(7)? as i32,
            partitions: (flags >> 1) as u32,
            sealed: flags & 1 == 1,
        })
    }
}

/// The cursor of a spool's directory; of another spool, as in a directory that was copied, it is none.
pub fn read(directory: &Path, spool: SpoolId) -> io::Result<Found> {
    let file = match File::open(directory.join(FILE_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::None),
        file => file?,
    };
    let slots = [slot(&file, 0)?, slot(&file, 1)?];
    let valid = slots.iter().filter_map(|slot| Cursor::decode(slot)).filter(|cursor| cursor.spool == spool);
    Ok(match valid.max_by_key(|cursor| cursor.generation) {
        Some(cursor) => Found::Cursor(cursor),
        // Made, and the power went before anything stood in it: nothing was sent either.
        None if slots.iter().all(|slot| slot.iter().all(|byte| *byte == 0)) => Found::None,
        None => Found::Damaged,
    })
}

fn slot(file: &File, number: u64) -> io::Result<[u8; BYTES]> {
    let mut slot = [0; BYTES];
    match file.read_exact_at(&mut slot, number * SLOT_STRIDE) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; BYTES]),
        read => read.map(|()| slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOOL: SpoolId = SpoolId(0xabc);

    fn found(directory: &Path) -> Found {
        read(directory, SPOOL).unwrap()
    }

    #[test]
    fn a_cursor_reads_back_and_the_latest_counts() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(found(home.path()), Found::None);
        let mut cursor = Cursor::pinned(SPOOL, 7, 12);
        for next in [0, 5, 9] {
            cursor.next = next;
            cursor.offset = Some(next as i64 * 10);
            cursor.sealed = next == 9;
            cursor.save(home.path()).unwrap();
            assert_eq!(found(home.path()), Found::Cursor(cursor));
        }
        assert_eq!((cursor.generation, cursor.partition, cursor.partitions), (3, 7, 12));
        assert_eq!(read(home.path(), SpoolId(1)).unwrap(), Found::Damaged, "of another spool");
    }

    #[test]
    fn h7_a_torn_write_leaves_the_one_before_and_no_flipped_bit_goes_unseen() {
        let home = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::pinned(SPOOL, 7, 12);
        cursor.save(home.path()).unwrap();
        let first = cursor;
        cursor.next = 100;
        cursor.save(home.path()).unwrap();
        let path = home.path().join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        // The second generation lies in the first slot.
        for bit in 0..BYTES * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(found(home.path()), Found::Cursor(first), "bit {bit}");
        }
        std::fs::write(&path, vec![1; 5_000]).unwrap();
        assert_eq!(found(home.path()), Found::Damaged);
        std::fs::write(&path, []).unwrap();
        assert_eq!(found(home.path()), Found::None);
    }
}
