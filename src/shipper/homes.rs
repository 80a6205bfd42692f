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
