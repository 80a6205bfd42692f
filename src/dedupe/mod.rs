//! Double clicks: which of a visitor's clicks on one page is billable (contract E28-E30).
//!
//! The clicks' times decide, not the order in which they come in: a click that arrives late may take `billable` from
//! one that came before it, and the corrections say so. A hint, outside of all promises about money: what is remembered
//! is in memory, bounded, and lost at a restart.

mod group;
pub mod shared;

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3;

use crate::catalog::{OfferId, PublisherId};
use crate::click::VisitorKey;
use crate::rollup::ClickKey;
use crate::time::TimeMs;
use group::Group;

/// Clicks remembered; past it the one that came in first goes, even if its window is still open.
const MAX_REMEMBERED: usize = 300_000;

/// How long a click is remembered beyond its window, on the clock of the clicks that come in: as late as one may be.
const LATE_MS: i64 = 5_000;

/// Clicks that a late one may make us look at again. Past it the late one is billable and nothing else changes.
const MAX_LOOKED_AT_AGAIN: usize = 512;

/// A click that is otherwise billable: others take no part (contract E29).
#[derive(Clone, Copy, Debug)]
pub struct Billable<'c> {
    pub clicked_at: TimeMs,
    /// Orders clicks of the same millisecond: taken from the click ID.
    pub tie: u64,
    pub visitor: VisitorKey,
    /// Whether the visitor came with a cookie. Without one address and user agent tell who it is (contract E30).
    pub had_cookie: bool,
    pub ip_key: &'c str,
    pub user_agent: &'c str,
    pub offer_id: OfferId,
    pub publisher_id: PublisherId,
    pub page: &'c str,
}

/// What a click changes: rows whose count of billable clicks goes up or down by one.
pub type Corrections = Vec<(Rc<ClickKey>, i64)>;

pub struct Dedupe {
    window_ms: i64,
    max_remembered: usize,
    /// In order of arrival; the first one has the number `forgotten`.
    clicks: VecDeque<Remembered>,
    forgotten: u64,
    groups: HashMap<u64, Group>,
    /// The latest click's time.
    newest_ms: i64,
}

struct Remembered {
    at: At,
    names: Names,
    row: Rc<ClickKey>,
    /// When its window began; its own time if it is the first.
    began_ms: i64,
    first: bool,
    /// `newest_ms` when it came in.
    came_ms: i64,
}

/// When a click was made; the tie makes it a total order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    ms: i64,
    tie: u64,
}

/// Hashes under which a click is looked up, and remembered: the visitor's, and without a cookie the address's.
#[derive(Clone, Copy, Debug)]
struct Names {
    lookup: u64,
    visitor: u64,
}

impl Names {
    fn of(click: &Billable<'_>) -> Names {
        let name = |kind: &[u8], who: &[u8], browser: &str| {
            let mut hasher = Xxh3::new();
            for part in [kind, who, browser.as_bytes(), click.page.as_bytes()] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
            hasher.update(&click.offer_id.0.to_le_bytes());
            hasher.update(&click.publisher_id.0.to_le_bytes());
            hasher.digest()
        };
        let visitor = name(b"visitor", &click.visitor.0.to_le_bytes(), "");
        let lookup =
            if click.had_cookie { visitor } else { name(b"address", click.ip_key.as_bytes(), click.user_agent) };
        Names { lookup, visitor }
    }

    fn all(self) -> impl Iterator<Item = u64> {
        [Some(self.lookup), (self.visitor != self.lookup).then_some(self.visitor)].into_iter().flatten()
    }
}

impl Dedupe {
    pub fn new(window_ms: i64) -> Dedupe {
        Dedupe::with_bound(window_ms, MAX_REMEMBERED)
    }

    fn with_bound(window_ms: i64, max_remembered: usize) -> Dedupe {
        let (clicks, groups) = (VecDeque::new(), HashMap::new());
        Dedupe { window_ms, max_remembered, clicks, forgotten: 0, groups, newest_ms: i64::MIN }
    }

    /// Takes a click in and returns what changes: `row`, the click's own, goes up if the click is billable.
    pub fn take(&mut self, click: &Billable<'_>, row: Rc<ClickKey>) -> Corrections {
        let at = At { ms: click.clicked_at.0, tie: click.tie };
        let names = Names::of(click);
        let latest = names.all().all(|name| self.groups.get(&name).is_none_or(|group| group.ends_before(at)));
        let number = self.remember(at, names, Rc::clone(&row));
        let corrections = if latest {
            let first = self.judge(number, at, names);
            if first { vec![(row, 1)] } else { Vec::new() }
        } else {
            self.judge_again(number, row)
        };
        self.forget_oldest();
        corrections
    }

    /// After a transaction that did not happen.
    pub fn forget(&mut self) {
        *self = Dedupe::with_bound(self.window_ms, self.max_remembered);
    }

    fn remember(&mut self, at: At, names: Names, row: Rc<ClickKey>) -> u64 {
        let number = self.forgotten + self.clicks.len() as u64;
        self.newest_ms = self.newest_ms.max(at.ms);
        let (came_ms, began_ms) = (self.newest_ms, at.ms);
        self.clicks.push_back(Remembered { at, names, row, began_ms, first: false, came_ms });
        for name in names.all() {
            self.groups.entry(name).or_default().insert(at, number);
        }
        number
    }

    /// Decides a click by what its names say just before it. True: it is the first of its window.
    fn judge(&mut self, number: u64, at: At, names: Names) -> bool {
        let window = self.window_ms;
        let covers = |first: &i64| (0..window).contains(&(at.ms - first));
        let first_of = |groups: &HashMap<u64, Group>, name| groups.get(&name).and_then(Group::first).filter(covers);
        let found = first_of(&self.groups, names.lookup);
        for name in names.all() {
            // A name that is in a window of its own keeps it.
            let keeps = found.is_some() && first_of(&self.groups, name).is_some();
            if let (Some(group), false) = (self.groups.get_mut(&name), keeps) {
                group.begin(found.unwrap_or(at.ms));
            }
        }
        if let Some(click) = self.click_mut(number) {
            click.first = found.is_none();
            click.began_ms = found.unwrap_or(at.ms);
        }
        found.is_none()
    }

    /// A click came in behind later ones: judges all clicks that share a name with it, in order of time.
    fn judge_again(&mut self, number: u64, row: Rc<ClickKey>) -> Corrections {
        let Some(connected) = self.connected(number) else { return vec![(row, 1)] };
        for name in connected.iter().flat_map(|(_, _, names)| names.all()) {
            if let Some(group) = self.groups.get_mut(&name) {
                group.rewind();
            }
        }
        let mut corrections = Vec::new();
        for (at, other, names) in connected {
            let before = self.click(other).is_some_and(|click| click.first);
            let after = self.judge(other, at, names);
            if let (true, Some(click)) = (before != after, self.click(other)) {
                corrections.push((Rc::clone(&click.row), if after { 1 } else { -1 }));
            }
        }
        corrections
    }

    /// All clicks that are connected with this one by names, in order of time; `None` when they are too many.
    fn connected(&self, number: u64) -> Option<Vec<(At, u64, Names)>> {
        let mut found = vec![number];
        let mut seen = HashSet::from([number]);
        let mut names_seen = HashSet::new();
        let mut next = 0;
        while let Some(click) = found.get(next).and_then(|number| self.click(*number)) {
            next += 1;
            for group in
                click.names.all().filter(|name| names_seen.insert(*name)).filter_map(|name| self.groups.get(&name))
            {
                if group.members().len() > MAX_LOOKED_AT_AGAIN {
                    return None;
                }
                found.extend(group.members().iter().map(|(_, number)| *number).filter(|number| seen.insert(*number)));
            }
            if found.len() > MAX_LOOKED_AT_AGAIN {
                return None;
            }
        }
        let click = |number: u64| self.click(number).map(|click| (click.at, number, click.names));
        let mut connected: Vec<_> = found.into_iter().filter_map(click).collect();
        connected.sort_unstable_by_key(|(at, number, _)| (*at, *number));
        Some(connected)
    }

    fn click(&self, number: u64) -> Option<&Remembered> {
        self.clicks.get(usize::try_from(number.checked_sub(self.forgotten)?).ok()?)
    }

    fn click_mut(&mut self, number: u64) -> Option<&mut Remembered> {
        self.clicks.get_mut(usize::try_from(number.checked_sub(self.forgotten)?).ok()?)
    }

    fn forget_oldest(&mut self) {
        let stale = self.newest_ms.saturating_sub(self.window_ms.saturating_add(LATE_MS));
        let over = |clicks: &VecDeque<Remembered>| {
            clicks.len() > self.max_remembered || clicks.front().is_some_and(|click| click.came_ms < stale)
        };
        while over(&self.clicks) {
            let Some(click) = self.clicks.pop_front() else { return };
            for name in click.names.all() {
                let Some(group) = self.groups.get_mut(&name) else { continue };
                group.remove(click.at, self.forgotten, click.began_ms);
                if group.members().is_empty() {
                    self.groups.remove(&name);
                }
            }
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests;
