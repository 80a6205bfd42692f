//! How many different labels a publisher may have in an hour before the rest becomes `other`.

use std::collections::{HashMap, HashSet};

use super::OTHER;
use crate::catalog::PublisherId;
use crate::time::TimeMs;

/// Different values of one kind of label per publisher and hour.
pub const MAX_LABELS: usize = 1_000;

/// Labels remembered over all publishers and hours; past it all is forgotten, and read again from the store as needed.
const MAX_REMEMBERED: usize = 400_000;

/// Hours for which unknown publishers are remembered.
const MAX_HOURS: usize = 48;

/// The hour and publisher that a set of labels belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub hour: TimeMs,
    pub publisher_id: PublisherId,
}

/// Source and sub1 of one row.
pub type SourceAndSub = (Box<str>, Box<str>);

#[derive(Debug, Default)]
struct Seen {
    source: HashSet<Box<str>>,
    sub1: HashSet<Box<str>>,
}

/// The labels that have a row of their own. Which ones get it depends on who comes first: labels in reports are a hint.
#[derive(Debug, Default)]
pub struct Labels {
    seen: HashMap<Scope, Seen>,
    unknown_publishers: HashMap<TimeMs, HashSet<PublisherId>>,
    remembered: usize,
    /// Labels counted as `other` since the start.
    pub folded: u64,
}

impl Labels {
    /// Whether the labels of this scope are known here; if not, `learn` them from the store first.
    pub fn knows(&self, scope: Scope) -> bool {
        self.seen.contains_key(&scope)
    }

    /// Takes in what the store has for a scope: pairs of source and sub1.
    pub fn learn(&mut self, scope: Scope, stored: impl IntoIterator<Item = SourceAndSub>) {
        if self.remembered > MAX_REMEMBERED {
            *self = Labels { folded: self.folded, ..Labels::default() };
        }
        let seen = self.seen.entry(scope).or_default();
        for (source, sub1) in stored {
            self.remembered += usize::from(seen.source.insert(source)) + usize::from(seen.sub1.insert(sub1));
        }
        self.remembered += 1;
    }

    /// The source and sub1 to count a click under.
    pub fn admit<'l>(&mut self, scope: Scope, source: &'l str, sub1: &'l str) -> (&'l str, &'l str) {
        let seen = self.seen.entry(scope).or_default();
        let mut admit_one = |labels: &mut HashSet<Box<str>>, label: &'l str| {
            if label.is_empty() || labels.contains(label) {
                return label;
            }
            if labels.len() >= MAX_LABELS {
                self.folded += 1;
                return OTHER;
            }
            labels.insert(label.into());
            self.remembered += 1;
            label
        };
        (admit_one(&mut seen.source, source), admit_one(&mut seen.sub1, sub1))
    }

    /// Anybody can write any publisher into a link. Those that do not exist have rows of their own up to a bound in an
    /// hour; the rest is publisher 0, which nobody can be.
    pub fn admit_unknown_publisher(&mut self, hour: TimeMs, publisher_id: PublisherId) -> PublisherId {
        if self.unknown_publishers.len() > MAX_HOURS {
            self.unknown_publishers.clear();
        }
        let known = self.unknown_publishers.entry(hour).or_default();
        if known.contains(&publisher_id) || known.len() < MAX_LABELS {
            known.insert(publisher_id);
            return publisher_id;
        }
        self.folded += 1;
        PublisherId(0)
    }

    /// After a transaction that did not happen: what is remembered may not be in the store.
    pub fn forget(&mut self) {
        *self = Labels { folded: self.folded, ..Labels::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = Scope { hour: TimeMs(0), publisher_id: PublisherId(1) };

    #[test]
    fn the_label_after_the_thousandth_is_other() {
        let mut labels = Labels::default();
        for n in 0..MAX_LABELS {
            let label = n.to_string();
            assert_eq!(labels.admit(SCOPE, "s", &label), ("s", label.as_str()));
        }
        assert_eq!(labels.admit(SCOPE, "s", "new"), ("s", OTHER));
        assert_eq!(labels.admit(SCOPE, "s", "7"), ("s", "7"));
        assert_eq!(labels.admit(SCOPE, "", ""), ("", ""));
        assert_eq!(labels.folded, 1);
        let next_hour = Scope { hour: TimeMs(3_600_000), ..SCOPE };
        assert_eq!(labels.admit(next_hour, "s", "new"), ("s", "new"));
    }

    #[test]
    fn what_the_store_has_counts() {
        let mut labels = Labels::default();
        assert!(!labels.knows(SCOPE));
        labels.learn(SCOPE, (0..MAX_LABELS).map(|n| ("s".into(), n.to_string().into())));
        assert!(labels.knows(SCOPE));
        assert_eq!(labels.admit(SCOPE, "s", "new"), ("s", OTHER));
        labels.forget();
        assert!(!labels.knows(SCOPE));
    }
}
