//! Visitors whose next click may change a decided conversion (contract M50), remembered for the moment.
//!
//! Almost every click is of a visitor who has ordered nothing. Asking the store for each would cost as much as storing
//! it, so the recent ones are here; what is older than `floor` must be asked for.

use std::collections::HashMap;

use crate::click::VisitorKey;
use crate::time::TimeMs;

const MAX_WATCHED: usize = 262_144;

pub struct Watched {
    /// Up to when a click of the visitor is a fact of one of their conversions.
    until: HashMap<VisitorKey, TimeMs>,
    /// Every conversion that a click from here on may change is in `until`.
    floor: TimeMs,
    max_watched: usize,
}

impl Watched {
    /// `latest`: no conversion in the store is open to clicks after it.
    pub fn new(latest: TimeMs) -> Watched {
        Watched { until: HashMap::new(), floor: after(latest), max_watched: MAX_WATCHED }
    }

    pub fn watch(&mut self, visitor: VisitorKey, until: TimeMs) {
        let known = self.until.entry(visitor).or_insert(until);
        *known = until.max(*known);
        if self.until.len() > self.max_watched {
            let latest = self.until.values().max().copied().unwrap_or(until);
            self.floor = self.floor.max(after(latest));
            self.until.clear();
        }
    }

    /// False only when no decided conversion takes this click as a fact.
    pub fn may_concern(&self, visitor: VisitorKey, clicked_at: TimeMs) -> bool {
        clicked_at < self.floor || self.until.get(&visitor).is_some_and(|until| clicked_at <= *until)
    }

    /// Forgets those whom only clicks before `time` could concern.
    pub fn forget_before(&mut self, time: TimeMs) {
        if self.until.len() > self.max_watched / 2 && time > self.floor {
            self.until.retain(|_, until| *until >= time);
            self.floor = time;
        }
    }
}

fn after(time: TimeMs) -> TimeMs {
    TimeMs(time.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: VisitorKey = VisitorKey(1);
    const B: VisitorKey = VisitorKey(2);

    #[test]
    fn says_no_only_when_it_knows() {
        let mut watched = Watched::new(TimeMs(100));
        assert!(watched.may_concern(A, TimeMs(100)));
        assert!(!watched.may_concern(A, TimeMs(101)));
        watched.watch(A, TimeMs(200));
        watched.watch(A, TimeMs(150));
        assert!(watched.may_concern(A, TimeMs(200)));
        assert!(!watched.may_concern(A, TimeMs(201)));
        assert!(!watched.may_concern(B, TimeMs(150)));
    }

    #[test]
    fn at_the_bound_the_store_is_asked() {
        let mut watched = Watched { max_watched: 2, ..Watched::new(TimeMs(0)) };
        watched.watch(A, TimeMs(10));
        watched.watch(B, TimeMs(30));
        watched.watch(VisitorKey(3), TimeMs(20));
        assert!(watched.until.is_empty());
        assert!(watched.may_concern(VisitorKey(9), TimeMs(30)));
        assert!(!watched.may_concern(VisitorKey(9), TimeMs(31)));
    }

    #[test]
    fn what_is_forgotten_is_asked_for() {
        let mut watched = Watched { max_watched: 2, ..Watched::new(TimeMs(0)) };
        watched.watch(A, TimeMs(10));
        watched.watch(B, TimeMs(30));
        watched.forget_before(TimeMs(20));
        assert!(watched.may_concern(A, TimeMs(10)));
        assert!(!watched.may_concern(A, TimeMs(25)));
        assert!(watched.may_concern(B, TimeMs(25)));
    }
}
