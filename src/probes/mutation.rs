//! Bytes near those of a corpus: what a fuzzer without a look at the code would try.

/// xorshift64*: the same seed gives the same bytes on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

const LONGEST: usize = 4_096;

/// What means something to one reader or another.
const WORDS: [&[u8]; 28] = [
    b"\r\n",
    b"\n",
    b"\0",
    b"%00",
    b"%",
    b"%2",
    b"+",
    b"&",
    b"=",
    b"#",
    b"?",
    b"@",
    b"\\",
    b"//",
    b":",
    b".",
    b"\x7f",
    b"\xff",
    b"\xc2\xa0",
    b"\"",
    b"{",
    b"}",
    b",",
    b"\\u0000",
    b"\\ud800",
    b"-1",
    b"18446744073709551616",
    b"1e999",
];

/// One to eight changes of one entry of the corpus.
pub fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 => flip(&mut bytes, random),
            1 => bytes.insert(at, random.below(256) as u8),
            2 => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()).max(at))),
            3 => splice(&mut bytes, at, WORDS[random.below(WORDS.len())]),
            4 => splice(&mut bytes, at, &part(&corpus[random.below(corpus.len())], random)),
            5 => {
                let again = part(&bytes, random);
                splice(&mut bytes, at, &again);
            }
            _ => bytes.truncate(at),
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    if let Some(byte) = bytes.get_mut(random.below(bytes.len())) {
        *byte ^= 1 << random.below(8);
    }
}

fn splice(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    bytes.splice(at..at, with.iter().copied());
}

fn part(of: &[u8], random: &mut Random) -> Vec<u8> {
    let from = random.below(of.len() + 1);
    of[from..from + random.below(of.len() - from + 1)].to_vec()
}
