//! Copies of the records that are not known to be on disk, in memory of this process alone.
//!
//! After a failed fdatasync the mapped pages of what it covered cannot be trusted: the kernel has marked them clean and
//! may drop them. What is written again elsewhere comes from here. At the bound no copy is made (and that is counted):
//! such a record is read back from its file and counts only if its checksum does.

use std::collections::VecDeque;
use std::sync::Arc;

/// Small, so that while the disk keeps up a core's cache holds all that is in use.
const CHUNK_BYTES: usize = 32 * 1024;

/// Copies of one spool: seconds of a hanging disk under full load.
pub const MAX_BYTES: usize = 32 << 20;

/// Empty chunks kept at hand, so that the writer seldom asks for memory.
const MAX_KEPT: usize = 16;

const LENGTH_BYTES: usize = 4;

/// Records with numbers in a row.
pub struct Chunk {
    pub first_seq: u64,
    pub next_seq: u64,
    /// Length and payload of each.
    bytes: Vec<u8>,
}

pub struct Ring {
    /// Oldest first; nothing is added to them.
    full: VecDeque<Arc<Chunk>>,
    filling: Chunk,
    /// Capacity of `full` and `filling`.
    held: usize,
    kept: Vec<Vec<u8>>,
    max_bytes: usize,
}

impl Ring {
    pub fn new(max_bytes: usize) -> Ring {
        Ring { full: VecDeque::new(), filling: Chunk::new(0, Vec::new()), held: 0, kept: Vec::new(), max_bytes }
    }

    pub fn set_max(&mut self, bytes: usize) {
        self.max_bytes = bytes;
    }

    /// Copies a record; its number is above all others here. False at the bound.
    pub fn push(&mut self, seq: u64, payload: &[u8]) -> bool {
        let bytes = LENGTH_BYTES + payload.len();
        let filling = &self.filling;
        let fits = filling.bytes.len() + bytes <= filling.bytes.capacity() && filling.next_seq == seq;
        if !fits && !self.begin(seq, bytes) {
            return false;
        }
        self.filling.bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.filling.bytes.extend_from_slice(payload);
        self.filling.next_seq = seq + 1;
        true
    }

    /// Begins a chunk at `seq` with room for `bytes`; false at the bound.
    fn begin(&mut self, seq: u64, bytes: usize) -> bool {
        let capacity = bytes.max(CHUNK_BYTES);
        let reusable = self.filling.is_empty() && self.filling.bytes.capacity() >= capacity;
        if !reusable {
            if self.held + capacity > self.max_bytes {
                return false;
            }
            let ready = if capacity == CHUNK_BYTES { self.kept.pop() } else { None };
            let buffer = ready.unwrap_or_else(|| Vec::with_capacity(capacity));
            self.held += buffer.capacity();
            self.close(buffer);
        }
        (self.filling.first_seq, self.filling.next_seq) = (seq, seq);
        true
    }

    /// Adds nothing more to the chunk that was filled; goes on in `buffer`, which is counted already.
    fn close(&mut self, buffer: Vec<u8>) {
        let closed = std::mem::replace(&mut self.filling, Chunk::new(0, buffer));
        if closed.is_empty() {
            self.held -= closed.bytes.capacity();
        } else {
            self.full.push_back(Arc::new(closed));
        }
    }

    /// Records below `seq` are on disk.
    pub fn forget_below(&mut self, seq: u64) {
        while self.full.front().is_some_and(|chunk| chunk.next_seq <= seq) {
            let Some(chunk) = self.full.pop_front() else { break };
            self.held -= chunk.bytes.capacity();
            // Somebody who rescues may still hold it.
            if let Ok(mut chunk) = Arc::try_unwrap(chunk)
                && self.kept.len() < MAX_KEPT
                && chunk.bytes.capacity() == CHUNK_BYTES
            {
                chunk.bytes.clear();
                self.kept.push(chunk.bytes);
            }
        }
        if self.filling.next_seq <= seq {
            self.filling.bytes.clear();
            self.filling.first_seq = self.filling.next_seq;
        }
    }

    /// All copies from number `seq` on, to be looked at without holding up the writer.
    pub fn from(&mut self, seq: u64) -> Vec<Arc<Chunk>> {
        if !self.filling.is_empty() {
            self.close(Vec::new());
        }
        self.full.iter().filter(|chunk| chunk.next_seq > seq).cloned().collect()
    }
}

impl Chunk {
    fn new(first_seq: u64, bytes: Vec<u8>) -> Chunk {
        Chunk { first_seq, next_seq: first_seq, bytes }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Number and payload of each record.
    pub fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = &self.bytes[..];
        (self.first_seq..self.next_seq).map_while(move |seq| {
            let (length, tail) = rest.split_first_chunk::<LENGTH_BYTES>()?;
            let (payload, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = tail;
            Some((seq, payload))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(ring: &mut Ring, from: u64) -> Vec<u64> {
        let chunks = ring.from(from);
        let all = chunks.iter().flat_map(|chunk| chunk.records());
        all.filter(|(seq, _)| *seq >= from)
            .map(|(seq, payload)| {
                assert_eq!(payload, record(seq));
                seq
            })
            .collect()
    }

    fn record(seq: u64) -> Vec<u8> {
        vec![seq as u8; 1 + (seq as usize * 7_919) % 3_000]
    }

    #[test]
    fn copies_come_back_until_they_are_forgotten() {
        let mut ring = Ring::new(MAX_BYTES);
        for seq in 0..2_000 {
            assert!(ring.push(seq, &record(seq)));
            if seq % 100 == 0 {
                assert_eq!(numbers(&mut ring, seq / 2).len() as u64, seq - seq / 2 + 1);
            }
        }
        ring.forget_below(1_500);
        assert_eq!(numbers(&mut ring, 1_500), (1_500..2_000).collect::<Vec<_>>());
        ring.forget_below(2_000);
        assert_eq!((ring.full.len(), ring.filling.bytes.len()), (0, 0));
        assert!(ring.kept.len() <= MAX_KEPT && ring.held <= CHUNK_BYTES);
    }

    #[test]
    fn at_the_bound_nothing_is_copied_and_later_it_is_again() {
        let mut ring = Ring::new(2 * CHUNK_BYTES);
        let refused = (0..10_000).find(|seq| !ring.push(*seq, &record(*seq))).unwrap();
        assert!(!ring.push(refused + 1, &record(refused + 1)));
        assert!(ring.held <= 2 * CHUNK_BYTES);
        ring.forget_below(refused);
        for seq in refused + 2..refused + 10 {
            assert!(ring.push(seq, &record(seq)));
        }
        assert_eq!(numbers(&mut ring, 0), (refused + 2..refused + 10).collect::<Vec<_>>());
    }

    #[test]
    fn a_record_larger_than_a_chunk_is_copied() {
        let mut ring = Ring::new(MAX_BYTES);
        let large = vec![7; 3 * CHUNK_BYTES];
        assert!(ring.push(0, b"a") && ring.push(1, &large) && ring.push(2, b"c"));
        let chunks = ring.from(0);
        let lengths: Vec<usize> = chunks.iter().flat_map(|chunk| chunk.records()).map(|(_, p)| p.len()).collect();
        assert_eq!(lengths, [1, large.len(), 1]);
    }
}
