//! The partitions that spools have as homes: what was delivered there, and what waits for them.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::ship::BACK_MS;
use crate::event;
use crate::spool::{SpoolId, Topic};
use crate::time::TimeMs;

pub type Place = (Topic, i32);

#[derive(Default)]
pub struct Home {
    /// The highest offset that was delivered.
    pub delivered: Option<i64>,
    /// Records that were delivered, by time, oldest first.
    history: VecDeque<(TimeMs, Witness)>,
    /// Records that wait in the client, and their bytes.
    pub waiting: usize,
    pub waiting_bytes: usize,
    /// What has to stand in it, where the topic may have been made anew.
    pub witness: Option<Witness>,
    /// Its end was seen below what was delivered: asked once more before it is believed.
    pub suspicious: bool,
}

/// A record that was delivered, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    pub offset: i64,
    pub spool: SpoolId,
    pub seq: u64,
}

impl Witness {
    /// Whether something else stands there: then the topic is another. What says nothing of its place proves nothing.
    pub fn is_contradicted_by(&self, record: &[u8]) -> bool {
        event::address(record).is_some_and(|found| {
            let is_told = matches!(found.event, "heartbeat" | "seal");
            is_told || found.spool != self.spool.0 || found.seq.is_none_or(|seq| seq > self.seq)
        })
    }
}

/// Between entries of the history.
const REMEMBER_EVERY_MS: i64 = 60_000;

impl Home {
    /// So much does not wait any more.
    pub fn end_waiting(&mut self, records: usize, bytes: usize) {
        self.waiting = self.waiting.saturating_sub(records);
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
    }
}

#[derive(Default)]
pub struct Homes {
    pub homes: HashMap<Place, Home>,
}

impl Homes {
    pub fn at(&mut self, place: Place) -> &mut Home {
        self.homes.entry(place).or_default()
    }

    /// Records that wait for a partition, and their bytes.
    pub fn waiting(&self, place: Place) -> (usize, usize) {
        self.homes.get(&place).map_or((0, 0), |home| (home.waiting, home.waiting_bytes))
    }

    pub fn nothing_waits(&mut self) {
        self.homes.values_mut().for_each(|home| home.end_waiting(usize::MAX, usize::MAX));
    }

    /// The topic may have been made anew: what was delivered last is looked for.
    pub fn doubt(&mut self, place: Place, witness: Witness) {
        let known = &mut self.at(place).witness;
        if known.is_none_or(|known| known.offset < witness.offset) {
            *known = Some(witness);
        }
    }

    /// The same of all partitions of a topic, by what was delivered there longest ago as far as is remembered: what came
    /// last may have come after the topic was made anew, and prove nothing.
    pub fn doubt_all(&mut self, topic: Topic) {
        for (_, home) in self.homes.iter_mut().filter(|(place, _)| place.0 == topic) {
            home.witness = home.history.front().map(|(_, witness)| *witness).or(home.witness);
        }
    }

    /// What an earlier lifetime delivered.
    pub fn remember(&mut self, place: Place, witness: Witness, at: TimeMs) {
        let home = self.at(place);
        if home.delivered.is_none_or(|delivered| delivered < witness.offset) {
            home.delivered = Some(witness.offset);
            home.history = VecDeque::from([(at, witness)]);
        }
    }

    /// False: an offset that is not above an earlier one. Kafka has lost what it had, or is another. `record`: which it is,
    /// unless it is a heartbeat or a seal.
    #[must_use]
    pub fn deliver(&mut self, place: Place, offset: i64, record: Option<(SpoolId, u64)>, now: TimeMs) -> bool {
        let home = self.at(place);
        if home.delivered.is_some_and(|delivered| offset <= delivered) {
            return false;
        }
        home.delivered = Some(offset);
        home.suspicious = false;
        let is_due = home.history.back().is_none_or(|(at, _)| now.0 - at.0 >= REMEMBER_EVERY_MS);
        if let Some((spool, seq)) = record.filter(|_| is_due) {
            home.history.push_back((now, Witness { offset, spool, seq }));
        }
        while home.history.get(1).is_some_and(|(at, _)| now.0 - at.0 >= BACK_MS) {
            home.history.pop_front();
        }
        true
    }

    /// Forgets what was delivered to a partition that ends at `end`. True when something may be gone that was delivered
    /// longer than ten minutes before: all of that lies below the first offset remembered since then.
    pub fn forget(&mut self, place: Place, end: i64, now: TimeMs) -> bool {
        let home = self.at(place);
        let is_old = |at: &TimeMs| now.0 - at.0 >= BACK_MS;
        let is_known = home.history.iter().any(|(at, _)| is_old(at));
        let first_young = home.history.iter().find(|(at, _)| !is_old(at)).map(|(_, witness)| witness.offset);
        let all = !is_known || first_young.or(home.delivered).is_none_or(|offset| end <= offset);
        home.delivered = None;
        home.suspicious = false;
        home.witness = None;
        home.history.clear();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Place = (Topic::Clicks, 3);
    const MINUTE: i64 = 60_000;

    fn at(minutes: i64) -> TimeMs {
        TimeMs(1_700_000_000_000 + minutes * MINUTE)
    }

    fn record(number: i64) -> Option<(SpoolId, u64)> {
        Some((SpoolId(7), number.unsigned_abs()))
    }

    /// Half an hour in which a hundred records a minute were delivered.
    fn half_an_hour() -> Homes {
        let mut homes = Homes::default();
        assert!((0..30).all(|minute| homes.deliver(HOME, minute * 100, record(minute), at(minute))));
        homes
    }

    #[test]
    fn r1_only_another_record_in_its_place_speaks_against_a_witness() {
        let witness = Witness { offset: 5, spool: SpoolId(7), seq: 9 };
        let record = |event: &str, spool: u64, seq: u64| {
            format!(r#"{{"event":"{event}","schema":1,"spool":"{spool:016x}","seq":{seq},"x":1}}"#).into_bytes()
        };
        assert!(!witness.is_contradicted_by(&record("click", 7, 9)));
        assert!(!witness.is_contradicted_by(b"no event, shipped as it is"));
        for other in [record("click", 8, 9), record("click", 7, 10), record("heartbeat", 7, 9)] {
            assert!(witness.is_contradicted_by(&other));
        }
    }

    #[test]
    fn r1_what_was_delivered_before_a_topic_was_made_anew_is_the_witness() {
        let mut homes = Homes::default();
        assert!(homes.deliver(HOME, 4, record(9), at(0)));
        // A heartbeat stands for nothing, and what came later may stand in another topic.
        assert!(homes.deliver(HOME, 5, None, at(2)) && homes.deliver(HOME, 70, record(80), at(2)));
        homes.doubt_all(Topic::Conversions);
        assert_eq!(homes.at(HOME).witness, None);
        homes.doubt_all(Topic::Clicks);
        assert_eq!(homes.at(HOME).witness, Some(Witness { offset: 4, spool: SpoolId(7), seq: 9 }));
    }

    #[test]
    fn r1_an_offset_that_was_there_before_is_a_loss_once() {
        let mut homes = half_an_hour();
        assert!(!homes.deliver(HOME, 2_900, record(30), at(30)) && !homes.deliver(HOME, 7, record(31), at(30)));
        homes.forget(HOME, 7, at(30));
        assert!(homes.deliver(HOME, 7, record(32), at(30)));
    }

    #[test]
    fn r1_what_is_gone_for_longer_than_ten_minutes_asks_for_all_that_is_kept() {
        // At the twentieth minute stood 2,000; what was delivered until the twenty-first was is not known better.
        for (end, all) in [(2_950, false), (2_101, false), (2_100, true), (2_001, true), (2_000, true), (0, true)] {
            assert_eq!(half_an_hour().forget(HOME, end, at(30)), all, "{end}");
        }
        // Nobody knows what stood there ten minutes ago.
        let mut homes = Homes::default();
        assert!(homes.deliver(HOME, 5, record(0), at(0)));
        assert!(homes.forget(HOME, 3, at(1)));
        // An earlier lifetime delivered it an hour ago: it must be there.
        let witness = Witness { offset: 500, spool: SpoolId(7), seq: 400 };
        homes.remember(HOME, witness, at(0));
        assert!(!homes.forget(HOME, 501, at(60)));
        homes.remember(HOME, witness, at(0));
        assert!(homes.forget(HOME, 400, at(60)));
    }
}
