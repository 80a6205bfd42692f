//! Who was a bot a moment ago: most clicks come from few user agents, and looking at one costs more than remembering it.
//!
//! A worker's own, of fixed size. An entry is the keyed hash of an agent with the answer in its lowest bit; a newer one
//! takes its place. That two agents share 63 bits of a hash whose key nobody knows does not happen.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::lists::Lists;

const SLOTS_BITS: u32 = 13;
const SHIFT: u32 = u64::BITS - SLOTS_BITS;

pub struct Remembered {
    key: u64,
    slots: Box<[u64]>,
}

impl Remembered {
    /// `key` is random: with a known one agents could be made that look alike here.
    pub fn new(key: u64) -> Remembered {
        // Each slot holds what belongs into another one: nothing is found in it.
        Remembered { key, slots: (0..1u64 << SLOTS_BITS).map(|slot| !slot << SHIFT).collect() }
    }

    /// Whether `user_agent` is a bot's by these lists. Other lists have another number, so nothing of them is found.
    pub fn is_bot(&mut self, user_agent: &[u8], lists: &Lists) -> bool {
        let hash = xxh3_64_with_seed(user_agent, self.key ^ lists.number);
        let Some(slot) = self.slots.get_mut((hash >> SHIFT) as usize) else { return lists.bots.matches(user_agent) };
        if *slot | 1 != hash | 1 {
            *slot = hash & !1 | u64::from(lists.bots.matches(user_agent));
        }
        *slot & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::bots::Bots;
    use super::super::networks::Networks;
    use super::*;

    fn lists(number: u64, names: &str) -> Lists {
        Lists { bots: Bots::parse(names).unwrap(), datacenters: Networks::default(), number }
    }

    #[test]
    fn e27_what_is_remembered_is_what_would_be_found() {
        let (first, second) = (lists(1, "acme\n"), lists(2, "other\n"));
        let mut remembered = Remembered::new(0x1234_5678_9abc_def0);
        // More agents than slots, each asked twice, under two lists by turns.
        for round in 0..2 {
            for number in 0..20_000 {
                let name = ["acme", "other", "nobody"][number % 3];
                let agent = format!("Mozilla/5.0 (X11; Linux x86_64; rv:{number}.0) Gecko/20100101 Firefox/9 {name}/1");
                for lists in [&first, &second] {
                    for _ in 0..2 {
                        let found = lists.bots.matches(agent.as_bytes());
                        assert_eq!(remembered.is_bot(agent.as_bytes(), lists), found, "{round}: {agent}");
                    }
                }
            }
        }
        assert!(remembered.is_bot(b"", &first));
    }
}
