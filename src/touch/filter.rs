//! A blocked Bloom filter over visitor keys: "not in this table" without asking the table.
//!
//! Visitor keys are SipHash outputs, already random, so their bits choose block and bits directly. One block is one
//! cache line. At 10 bits a key about one look-up in fifty is sent to a table in vain.

use crate::click::VisitorKey;

const BITS_PER_KEY: u64 = 10;
const BLOCK_WORDS: usize = 8;
const BLOCK_BITS: u64 = BLOCK_WORDS as u64 * 64;

type Block = [u64; BLOCK_WORDS];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    blocks: Vec<Block>,
}

impl Filter {
    /// Sized for this many keys; with more it only gets weaker.
    pub fn for_keys(keys: u64) -> Filter {
        let blocks = (keys.max(1) * BITS_PER_KEY).div_ceil(BLOCK_BITS);
        Filter { blocks: vec![[0; BLOCK_WORDS]; usize::try_from(blocks).unwrap_or(1)] }
    }

    pub fn insert(&mut self, visitor: VisitorKey) {
        let block = self.block(visitor);
        for (word, bit) in bits(visitor) {
            self.blocks[block][word] |= bit;
        }
    }

    pub fn may_contain(&self, visitor: VisitorKey) -> bool {
        let block = &self.blocks[self.block(visitor)];
        bits(visitor).all(|(word, bit)| block[word] & bit != 0)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// `None` when these are not the bytes of a filter.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Filter> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (blocks, more) = words.as_chunks::<BLOCK_WORDS>();
        let whole = rest.is_empty() && more.is_empty() && !blocks.is_empty();
        whole.then(|| Filter { blocks: blocks.to_vec() })
    }

    /// The upper half of the key, spread over the blocks.
    fn block(&self, visitor: VisitorKey) -> usize {
        let upper = u128::from(visitor.0 >> 32);
        ((upper * self.blocks.len() as u128) >> 32) as usize
    }
}

/// Word and mask of the four bits of a key, from its lower half.
fn bits(visitor: VisitorKey) -> impl Iterator<Item = (usize, u64)> {
    // 36 bits are needed; the multiplication spreads 32 over 64.
    let spread = (visitor.0 & 0xffff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..4).map(move |index| {
        let position = spread >> (64 - 9 * (index + 1)) & (BLOCK_BITS - 1);
        ((position / 64) as usize, 1 << (position % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random enough for keys: splitmix64.
    fn key(n: u64) -> VisitorKey {
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        VisitorKey(z ^ (z >> 31))
    }

    #[test]
    fn never_denies_what_is_in_it_and_seldom_affirms_what_is_not() {
        let mut filter = Filter::for_keys(100_000);
        (0..100_000).for_each(|n| filter.insert(key(n)));
        let filter = Filter::from_bytes(filter.to_bytes()).unwrap();
        assert!((0..100_000).all(|n| filter.may_contain(key(n))));
        let wrong = (100_000..200_000).filter(|n| filter.may_contain(key(*n))).count();
        assert!(wrong < 3_000, "{wrong} of 100,000");
    }

    #[test]
    fn other_bytes_are_no_filter() {
        assert_eq!(Filter::from_bytes(vec![]), None);
        assert_eq!(Filter::from_bytes(vec![0; 65]), None);
        assert!(Filter::from_bytes(vec![0; 128]).is_some());
    }
}
