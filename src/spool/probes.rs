//! What a disk may give back, against what must always hold of it (see `crate::probes`).

use super::SpoolId;
use super::format::{self, Found, MAX_SEQ, SegmentHeader};

/// Of whatever bytes: every record that is read has its checksum at its own place, numbers only go up, and no step stands
/// still or leaves the segment. The header is 64 bytes here and not a page, so that mutations find the records.
pub fn segment(bytes: &[u8]) {
    let header = SegmentHeader::decode(bytes);
    if let Some(header) = header {
        assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
    }
    let (spool, mut next) = header.map_or((SpoolId(7), 0), |header| (header.spool, header.first_seq));
    let records = bytes.get(SegmentHeader::BYTES..).unwrap_or_default();
    let mut at = 0;
    while let Some(rest) = records.get(at..) {
        let Found::Record { seq, payload, bytes } = format::read(spool, next, rest) else { break };
        assert!(seq >= next && seq <= MAX_SEQ && !payload.is_empty());
        assert_eq!(rest.first_chunk().copied().map(u64::from_le_bytes), Some(format::commit_word(spool, seq, payload)));
        assert_eq!(rest.get(16..16 + payload.len()), Some(payload));
        assert!(bytes >= 16 + payload.len() && bytes % 8 == 0);
        // In no other place it is a record.
        assert_eq!(format::read(SpoolId(spool.0 ^ 1), next, rest), Found::Invalid);
        (next, at) = (seq + 1, at + bytes);
    }
}

/// A segment with these records, for the corpus.
#[cfg(test)]
pub fn sample(records: &[&[u8]]) -> Vec<u8> {
    let spool = SpoolId(7);
    let former = format::Tally::default();
    let header = SegmentHeader { spool, index: 0, first_seq: 0, former, former_newest_ms: 0 };
    let mut bytes = header.encode().to_vec();
    for (seq, record) in (0..).zip(records) {
        let end = bytes.len() + format::record_bytes(record.len());
        bytes.extend_from_slice(&format::commit_word(spool, seq, record).to_le_bytes());
        bytes.extend_from_slice(&u64::to_le_bytes(seq));
        bytes.extend_from_slice(record);
        bytes.resize(end, 0);
    }
    bytes.extend_from_slice(&format::end_word(spool, records.len() as u64).to_le_bytes());
    assert!(bytes.len() < format::HEADER_BYTES, "small enough to mutate");
    bytes
}
