//! The partitions that spools have as homes: what was delivered there, and what waits for them.

use std::collections::{HashMap, VecDeque};

use super::ship::BACK_MS;
use crate::spool::Topic;
use crate::time::TimeMs;

pub type Place = (Topic, i32);

#[derive(Default)]
pub struct Home {
    /// The highest offset that was delivered.
    pub delivered: Option<i64>,
    /// The same by time, oldest first.
    history: VecDeque<(TimeMs, i64)>,
    /// Records that wait in the client.
    pub waiting: usize,
    /// Its end was seen below what was delivered: asked once more before it is believed.
    pub suspicious: bool,
}

/// Between entries of the history.
const REMEMBER_EVERY_MS: i64 = 60_000;

#[derive(Default)]
pub struct Homes {
    pub homes: HashMap<Place, Home>,
}

impl Homes {
    pub fn at(&mut self, place: Place) -> &mut Home {
        self.homes.entry(place).or_default()
    }

    pub fn waiting(&self, place: Place) -> usize {
        self.homes.get(&place).map_or(0, |home| home.waiting)
    }

    pub fn nothing_waits(&mut self) {
        self.homes.values_mut().for_each(|home| home.waiting = 0);
    }

    /// What an earlier lifetime delivered.
    pub fn remember(&mut self, place: Place, offset: i64, at: TimeMs) {
        let home = self.at(place);
        if home.delivered.is_none_or(|delivered| delivered < offset) {
            home.delivered = Some(offset);
            home.history = VecDeque::from([(at, offset)]);
        }
    }

    /// False: an offset that is not above an earlier one. Kafka has lost what it had, or is another.
    #[must_use]
    pub fn deliver(&mut self, place: Place, offset: i64, now: TimeMs) -> bool {
        let home = self.at(place);
        if home.delivered.is_some_and(|delivered| offset <= delivered) {
            return false;
        }
        home.delivered = Some(offset);
        home.suspicious = false;
        if home.history.back().is_none_or(|(at, _)| now.0 - at.0 >= REMEMBER_EVERY_MS) {
            home.history.push_back((now, offset));
        }
        while home.history.get(1).is_some_and(|(at, _)| now.0 - at.0 >= BACK_MS) {
            home.history.pop_front();
        }
        true
    }

    /// Forgets what was delivered to a partition that ends at `end`. True when even what was there ten minutes before is
    /// not, as far as is known.
    pub fn forget(&mut self, place: Place, end: i64, now: TimeMs) -> bool {
        let home = self.at(place);
        let old = home.history.iter().rev().find(|(at, _)| now.0 - at.0 >= BACK_MS);
        let all = old.is_none_or(|(_, offset)| end <= *offset);
        home.delivered = None;
        home.suspicious = false;
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

    /// Half an hour in which a hundred records a minute were delivered.
    fn half_an_hour() -> Homes {
        let mut homes = Homes::default();
        assert!((0..30).all(|minute| homes.deliver(HOME, minute * 100, at(minute))));
        homes
    }

    #[test]
    fn r1_an_offset_that_was_there_before_is_a_loss_once() {
        let mut homes = half_an_hour();
        assert!(!homes.deliver(HOME, 2_900, at(30)) && !homes.deliver(HOME, 7, at(30)));
        homes.forget(HOME, 7, at(30));
        assert!(homes.deliver(HOME, 7, at(30)));
    }

    #[test]
    fn r1_what_is_gone_for_longer_than_ten_minutes_asks_for_all_that_is_kept() {
        // Ten minutes before the thirtieth stood 2,000.
        for (end, all) in [(2_950, false), (2_001, false), (2_000, true), (0, true)] {
            assert_eq!(half_an_hour().forget(HOME, end, at(30)), all, "{end}");
        }
        // Nobody knows what stood there ten minutes ago.
        let mut homes = Homes::default();
        assert!(homes.deliver(HOME, 5, at(0)));
        assert!(homes.forget(HOME, 3, at(1)));
        // An earlier lifetime delivered it an hour ago: it must be there.
        homes.remember(HOME, 500, at(0));
        assert!(!homes.forget(HOME, 501, at(60)));
        homes.remember(HOME, 500, at(0));
        assert!(homes.forget(HOME, 400, at(60)));
    }
}
