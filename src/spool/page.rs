//! The words of a control file's page (see `docs/formats.md`). Pure.
//!
//! What never changes is covered by one checksum. A word that moves and must be right checks itself: 48 bits of value
//! and 16 of a checksum over spool, place and value, stored at once. So one flipped bit is seen, wherever it is.

use std::fmt;

use super::{SpoolId, Topic};

pub const BYTES: usize = 4_096;
/// The last byte is the version.
const MAGIC: [u8; 8] = *b"AFXCTL\0\x02";
const SET: u64 = 1 << 63;

/// Indices of 8 bytes each. Words that different threads store lie on cache lines of their own.
pub mod word {
    pub const MAGIC: usize = 0;
    pub const SPOOL: usize = 1;
    pub const TOPIC: usize = 2;
    pub const WORKER: usize = 3;
    pub const STARTED_MS: usize = 4;
    pub const BOOT: usize = 5;
    pub const CHECK: usize = 7;
    pub const WRITTEN: usize = 8;
    pub const SYNCED: usize = 16;
    pub const NEWEST_MS: usize = 17;
    /// 0 while it is written or not yet recovered, 1 + number of records once it is sealed.
    pub const SEALED: usize = 24;
    pub const SEALED_NEWEST_MS: usize = 25;
    pub const TAIL: usize = 26;
    /// The seal's own check: it decides what is a gap.
    pub const SEAL_CHECK: usize = 27;
    pub const UNSPOOLED: usize = 32;
    pub const LATE: usize = 33;
    pub const DELETED_BELOW: usize = 40;
}

/// What is said once, when the spool is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    pub spool: SpoolId,
    pub topic: Topic,
    pub worker: u16,
    pub started_ms: i64,
    /// The boot of the machine in which it was written, 0 where that is not known.
    pub boot: u128,
}

/// What a control file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub spool: SpoolId,
    pub topic: Topic,
    pub worker: u16,
    pub started_ms: i64,
    /// Number of the next record; at least `synced`. After a crash of the machine it is `synced`.
    pub written: u64,
    /// Records below this number are on disk.
    pub synced: u64,
    /// No record below `synced` is newer than this.
    pub newest_ms: i64,
    /// How many records there are, when there will be no more, and the time than which none is newer.
    pub sealed: Option<(u64, i64)>,
    /// Valid records behind a torn one, found when it was sealed; they are not used.
    pub tail: u64,
    /// Records below this number were deleted when they were consumed.
    pub deleted_below: u64,
    /// Answers without any record: there was no room, or the disk failed.
    pub unspooled: u64,
    /// Answers whose record was not known to be on disk, or not there at all.
    pub undurable: u64,
}

/// Why a page cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It is ours, and not of this version.
    Version(u8),
    NotOurs,
    /// Its constant words do not have their checksum.
    Damaged,
    /// How far it is synced is not known.
    Synced,
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Version(version) => write!(out, "the control file has version {version}"),
            Broken::NotOurs => out.write_str("the control file is none"),
            Broken::Damaged => out.write_str("the control file is damaged"),
            Broken::Synced => out.write_str("the control file's synced position is damaged"),
        }
    }
}

impl std::error::Error for Broken {}

impl Birth {
    /// The constant words with their checksum: index and value.
    pub fn words(&self) -> [(usize, u64); 8] {
        let boot = [(self.boot >> 64) as u64, self.boot as u64];
        let mut words = [
            (word::SPOOL, self.spool.0),
            (word::TOPIC, self.topic as u64),
            (word::WORKER, u64::from(self.worker)),
            (word::STARTED_MS, self.started_ms as u64),
            (word::BOOT, boot[0]),
            (word::BOOT + 1, boot[1]),
            (word::CHECK, 0),
            // Last: before it, this is no control file.
            (word::MAGIC, u64::from_le_bytes(MAGIC)),
        ];
        words[6].1 = birth_check(&words.map(|(_, value)| value)[..6]);
        words
    }
}

fn birth_check(words: &[u64]) -> u64 {
    let crc = words.iter().fold(crc32c::crc32c(&MAGIC), |crc, word| crc32c::crc32c_append(crc, &word.to_le_bytes()));
    u64::from(crc) | SET
}

/// A value that checks itself in the word at `index`.
pub fn guarded(spool: SpoolId, index: usize, value: u64) -> u64 {
    value << 16 | u64::from(guard(spool, index, value))
}

/// 0 was never stored and means 0.
pub fn unguarded(spool: SpoolId, index: usize, word: u64) -> Option<u64> {
    let value = word >> 16;
    (word == 0 || guard(spool, index, value) == word as u16).then_some(value)
}

fn guard(spool: SpoolId, index: usize, value: u64) -> u16 {
    let words = [spool.0, index as u64, value];
    let crc = words.iter().fold(0, |crc, word| crc32c::crc32c_append(crc, &word.to_le_bytes()));
    (crc ^ crc >> 16) as u16
}

pub fn seal_check(spool: SpoolId, records: u64, newest_ms: i64, tail: u64) -> u64 {
    let words = [spool.0, records, newest_ms as u64, tail];
    let crc = words.iter().fold(0, |crc, word| crc32c::crc32c_append(crc, &word.to_le_bytes()));
    u64::from(crc) | SET
}

/// What a page says to somebody in `boot`.
pub fn decode(page: &[u8], boot: u128) -> Result<Position, Broken> {
    let birth = birth(page)?;
    let word = |index: usize| word_at(page, index);
    let guarded = |index: usize| unguarded(birth.spool, index, word(index));
    let synced = guarded(word::SYNCED).ok_or(Broken::Synced)?;
    // A page of another boot may have reached the disk before the records that it counts did.
    let written = if birth.boot == boot { word(word::WRITTEN) } else { 0 };
    let (sealed, newest_ms, tail) = (word(word::SEALED), word(word::SEALED_NEWEST_MS) as i64, word(word::TAIL));
    let check = sealed.checked_sub(1).map(|records| seal_check(birth.spool, records, newest_ms, tail));
    let is_sealed = check == Some(word(word::SEAL_CHECK));
    let unspooled = word(word::UNSPOOLED);
    Ok(Position {
        spool: birth.spool,
        topic: birth.topic,
        worker: birth.worker,
        started_ms: birth.started_ms,
        written: written.max(synced),
        synced,
        newest_ms: guarded(word::NEWEST_MS).map_or(birth.started_ms, |ms| (ms as i64).max(birth.started_ms)),
        sealed: is_sealed.then(|| (sealed - 1, newest_ms)),
        tail: if is_sealed { tail } else { 0 },
        deleted_below: guarded(word::DELETED_BELOW).unwrap_or(0),
        unspooled,
        undurable: unspooled.saturating_add(word(word::LATE)),
    })
}

/// The constant words alone.
pub fn birth(page: &[u8]) -> Result<Birth, Broken> {
    let word = |index: usize| word_at(page, index);
    let magic = word(word::MAGIC).to_le_bytes();
    if magic != MAGIC {
        return Err(if magic[..7] == MAGIC[..7] { Broken::Version(magic[7]) } else { Broken::NotOurs });
    }
    let checked: [u64; 6] = std::array::from_fn(|index| word(word::SPOOL + index));
    let topic = Topic::from_number(word(word::TOPIC));
    match topic {
        Some(topic) if word(word::CHECK) == birth_check(&checked) => Ok(Birth {
            spool: SpoolId(word(word::SPOOL)),
            topic,
            worker: word(word::WORKER) as u16,
            started_ms: word(word::STARTED_MS) as i64,
            boot: u128::from(word(word::BOOT)) << 64 | u128::from(word(word::BOOT + 1)),
        }),
        _ => Err(Broken::Damaged),
    }
}

fn word_at(page: &[u8], index: usize) -> u64 {
    let bytes = page.get(index * 8..).and_then(|rest| rest.first_chunk::<8>());
    u64::from_le_bytes(bytes.copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOOL: SpoolId = SpoolId(0xabc);

    fn page() -> [u8; BYTES] {
        let birth = Birth { spool: SPOOL, topic: Topic::Conversions, worker: 3, started_ms: 1_000, boot: 77 << 64 | 5 };
        let mut page = [0; BYTES];
        let moving = [
            (word::WRITTEN, 30),
            (word::SYNCED, guarded(SPOOL, word::SYNCED, 20)),
            (word::NEWEST_MS, guarded(SPOOL, word::NEWEST_MS, 5_000)),
            (word::DELETED_BELOW, guarded(SPOOL, word::DELETED_BELOW, 10)),
            (word::UNSPOOLED, 2),
            (word::LATE, 3),
        ];
        for (index, value) in birth.words().into_iter().chain(moving) {
            page[index * 8..index * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        page
    }

    #[test]
    fn a_page_reads_back_and_written_counts_in_its_own_boot_alone() {
        let position = decode(&page(), 77 << 64 | 5).unwrap();
        assert_eq!((position.spool, position.topic, position.worker), (SPOOL, Topic::Conversions, 3));
        assert_eq!((position.written, position.synced, position.newest_ms), (30, 20, 5_000));
        assert_eq!((position.deleted_below, position.unspooled, position.undurable), (10, 2, 5));
        assert_eq!(position.sealed, None);
        assert_eq!(decode(&page(), 1).unwrap().written, 20);
    }

    #[test]
    fn h7_no_flipped_bit_of_what_must_be_right_goes_unseen() {
        let whole = decode(&page(), 77 << 64 | 5).unwrap();
        for bit in (0..8 * 64).chain(word::SYNCED * 64..word::SYNCED * 64 + 64) {
            let mut page = page();
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&page, 77 << 64 | 5).is_err(), "bit {bit}");
        }
        for bit in word::DELETED_BELOW * 64..word::DELETED_BELOW * 64 + 64 {
            let mut page = page();
            page[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&page, 77 << 64 | 5), Ok(Position { deleted_below: 0, ..whole }), "bit {bit}");
        }
    }

    #[test]
    fn another_version_and_other_files_are_told_apart() {
        let mut old = page();
        old[7] = 1;
        assert_eq!(decode(&old, 0), Err(Broken::Version(1)));
        assert_eq!(decode(&[0; BYTES], 0), Err(Broken::NotOurs));
        assert_eq!(decode(b"short", 0), Err(Broken::NotOurs));
    }
}
