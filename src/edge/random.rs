//! Random numbers of a worker: fast ones for click IDs and macros, unguessable ones for visitors.

/// xoshiro256++ (Blackman and Vigna, 2021), seeded from the system. Not for secrets.
pub struct Random([u64; 4]);

impl Random {
    pub fn seeded() -> std::io::Result<Random> {
        let mut seed = [0; 32];
        fill(&mut seed)?;
        let word = |at: usize| u64::from_le_bytes(seed[at * 8..at * 8 + 8].try_into().unwrap_or_default());
        // A state of zeros would stay zero; it does not happen in the age of the universe.
        Ok(Random([word(0) | 1, word(1), word(2), word(3)]))
    }

    pub fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }
}

/// Unguessable bytes, fetched by the hundred: a visitor's cookie is what knows them.
pub struct Unguessable {
    pool: [u8; 4_096],
    used: usize,
}

impl Unguessable {
    pub fn new() -> Unguessable {
        Unguessable { pool: [0; 4_096], used: 4_096 }
    }

    pub fn sixteen(&mut self) -> std::io::Result<[u8; 16]> {
        if self.used + 16 > self.pool.len() {
            fill(&mut self.pool)?;
            self.used = 0;
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.pool[self.used..self.used + 16]);
        self.used += 16;
        Ok(bytes)
    }
}

fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| std::io::Error::other("no randomness from the system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_repeats() {
        let (mut random, mut unguessable) = (Random::seeded().unwrap(), Unguessable::new());
        let numbers: std::collections::HashSet<u64> = (0..10_000).map(|_| random.next()).collect();
        let visitors: std::collections::HashSet<[u8; 16]> =
            (0..10_000).map(|_| unguessable.sixteen().unwrap()).collect();
        assert_eq!((numbers.len(), visitors.len()), (10_000, 10_000));
    }
}
