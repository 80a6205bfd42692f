//! Bytes on disk: segment headers and records (see `docs/formats.md`). Pure.
//!
//! A record is 8-byte aligned: commit word, sequence number, payload, zeros up to the next multiple of 8. The commit
//! word holds length and CRC-32C; it is stored last, so a record is either there as a whole or not at all.

use super::SpoolId;

/// The header's page; records begin behind it.
pub const HEADER_BYTES: usize = 4_096;
pub const RECORD_HEAD_BYTES: usize = 16;
/// No spool ever comes so far; what claims to is damage.
pub const MAX_SEQ: u64 = (1 << 48) - 1;
const MAGIC: [u8; 8] = *b"AFXSEG\0\x02";

/// In place of a length: the segment ends here, the next one goes on with the same number.
const END: u32 = u32::MAX;

/// Where a segment stands in its chain; written when its first record is about to be, or when all records that it takes
/// over are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub spool: SpoolId,
    pub index: u64,
    /// Number of its first record. Records of former segments from this number on do not count: they were written again
    /// here.
    pub first_seq: u64,
    /// What counts of the former segment, which gets no more. It is on disk before a record of this one is called synced.
    pub former: Tally,
    /// No record of the former segment is newer than this, milliseconds since 1970.
    pub former_newest_ms: i64,
}

/// The seal of a segment: how many records it has, and a checksum over their commit words, which hold those of the
/// records. Each appended click pays for it, so it is a multiplication and not a CRC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub records: u64,
    pub sum: u64,
}

impl Tally {
    /// Odd, so that no bit is lost; 2^64 divided by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    pub fn add(&mut self, commit_word: u64) {
        self.records += 1;
        self.sum = (self.sum.rotate_left(23) ^ commit_word).wrapping_mul(Self::FACTOR);
    }
}

impl SegmentHeader {
    pub const BYTES: usize = 64;
    const CHECKED: usize = 56;

    pub fn encode(&self) -> [u8; SegmentHeader::BYTES] {
        let mut bytes = [0; SegmentHeader::BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.spool.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.former_newest_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.former.records.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.former.sum.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..Self::CHECKED]);
        bytes[56..60].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` for anything else, also for a segment that was made ahead and never used.
    pub fn decode(bytes: &[u8]) -> Option<SegmentHeader> {
        let bytes = bytes.get(..Self::BYTES)?;
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let crc = u32::from_le_bytes(bytes[56..60].try_into().unwrap_or_default());
        let whole = bytes[..8] == MAGIC && crc32c::crc32c(&bytes[..Self::CHECKED]) == crc;
        whole.then(|| SegmentHeader {
            spool: SpoolId(word(8)),
            index: word(16),
            first_seq: word(24),
            former_newest_ms: word(32) as i64,
            former: Tally { records: word(40), sum: word(48) },
        })
    }
}

/// Bytes that a record of `payload` bytes takes.
pub fn record_bytes(payload: usize) -> usize {
    (RECORD_HEAD_BYTES + payload).next_multiple_of(8)
}

/// Length and checksum in one word. The checksum is seeded with spool and number, so that a record can stand nowhere but
/// in its place.
pub fn commit_word(spool: SpoolId, seq: u64, payload: &[u8]) -> u64 {
    u64::from(checksum(spool, seq, payload)) << 32 | payload.len() as u64
}

pub fn end_word(spool: SpoolId, seq: u64) -> u64 {
    u64::from(checksum(spool, seq, b"end")) << 32 | u64::from(END)
}

fn checksum(spool: SpoolId, seq: u64, payload: &[u8]) -> u32 {
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&spool.0.to_le_bytes());
    seed[8..].copy_from_slice(&seq.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), payload)
}

/// What stands at an aligned place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'b> {
    /// A whole record with the number that was expected or a later one, and the bytes it takes.
    Record { seq: u64, payload: &'b [u8], bytes: usize },
    /// The segment ends; the next number stands in the next one.
    End,
    /// Zeros: nothing was written here.
    Nothing,
    /// Neither: damage, or a record that was never finished.
    Invalid,
    /// The record may go on behind the bytes at hand.
    More,
}

/// Reads what stands at the start of `bytes`, which is aligned in its segment.
pub fn read(spool: SpoolId, expected_seq: u64, bytes: &[u8]) -> Found<'_> {
    let Some(head) = bytes.first_chunk::<8>() else { return Found::More };
    let word = u64::from_le_bytes(*head);
    let (length, crc) = (word as u32, (word >> 32) as u32);
    if word == 0 {
        return Found::Nothing;
    }
    if length == END {
        return if crc == checksum(spool, expected_seq, b"end") { Found::End } else { Found::Invalid };
    }
    let length = length as usize;
    let Some(seq) = bytes.get(8..16) else { return Found::More };
    let seq = u64::from_le_bytes(seq.try_into().unwrap_or_default());
    if seq < expected_seq || seq > MAX_SEQ || length == 0 {
        return Found::Invalid;
    }
    let Some(payload) = bytes.get(RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + length) else { return Found::More };
    if checksum(spool, seq, payload) != crc {
        return Found::Invalid;
    }
    Found::Record { seq, payload, bytes: record_bytes(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOOL: SpoolId = SpoolId(0x1234);

    fn record(seq: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = commit_word(SPOOL, seq, payload).to_le_bytes().to_vec();
        bytes.extend_from_slice(&seq.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(record_bytes(payload.len()), 0);
        bytes
    }

    #[test]
    fn what_is_written_reads_back_in_its_place_only() {
        let bytes = record(7, b"hello");
        assert_eq!(read(SPOOL, 7, &bytes), Found::Record { seq: 7, payload: b"hello", bytes: 24 });
        assert_eq!(read(SPOOL, 8, &bytes), Found::Invalid);
        assert_eq!(read(SpoolId(1), 7, &bytes), Found::Invalid);
        assert_eq!(read(SPOOL, 7, &bytes[..18]), Found::More);
        assert_eq!(read(SPOOL, 7, &[0; 16]), Found::Nothing);
        assert_eq!(read(SPOOL, 9, &end_word(SPOOL, 9).to_le_bytes()), Found::End);
        assert_eq!(read(SPOOL, 8, &end_word(SPOOL, 9).to_le_bytes()), Found::Invalid);
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_seen() {
        let whole = record(7, b"some payload");
        // Padding is not part of the record.
        for bit in 0..(RECORD_HEAD_BYTES + 12) * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes.resize(4_096, 0);
            assert!(!matches!(read(SPOOL, 7, &bytes), Found::Record { .. }), "bit {bit}");
        }
    }

    #[test]
    fn headers_read_back_and_damage_is_seen() {
        let former = Tally { records: 33, sum: u64::MAX - 7 };
        let header = SegmentHeader { spool: SPOOL, index: 3, first_seq: 99, former, former_newest_ms: 5 };
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Some(header));
        bytes[25] ^= 1;
        assert_eq!(SegmentHeader::decode(&bytes), None);
        assert_eq!(SegmentHeader::decode(&[0; 4096]), None);
    }
}
