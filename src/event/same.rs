//! Whether two events tell one report (contract I12), also across versions.
//!
//! A report may come with its time and once more without: then we fill in the time of receipt, which nobody said. So the
//! time is compared apart from the rest, and only where both said one. Versions before hashed the time with the rest and
//! did not say whether they had filled it in.

use crate::time::TimeMs;

/// What of an event decides it.
pub struct Said<'e> {
    pub content_hash: &'e str,
    pub occurred_at: TimeMs,
    pub whole_seconds: bool,
    pub received_at: TimeMs,
    /// `None`: by a version that did not say.
    pub filled_in: Option<bool>,
}

impl Said<'_> {
    /// `equal_fields` compares what the hash is over. It decides where the two hashes are not made alike.
    pub fn is_same(&self, other: &Said<'_>, equal_fields: impl FnOnce() -> bool) -> bool {
        let equal_time = self.is_filled_in() || other.is_filled_in() || self.occurred_at == other.occurred_at;
        let alike = self.filled_in.is_some() && other.filled_in.is_some();
        equal_time && (self.content_hash == other.content_hash || (!alike && equal_fields()))
    }

    /// A version that did not say it wrote the time of receipt, to the millisecond.
    fn is_filled_in(&self) -> bool {
        self.filled_in.unwrap_or(self.occurred_at == self.received_at && !self.whole_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Option<bool> = None;
    const SENT: Option<bool> = Some(false);
    const FILLED_IN: Option<bool> = Some(true);

    fn said(content_hash: &str, occurred_at: i64, received_at: i64, filled_in: Option<bool>) -> Said<'_> {
        let (occurred_at, received_at) = (TimeMs(occurred_at), TimeMs(received_at));
        Said { content_hash, occurred_at, whole_seconds: false, received_at, filled_in }
    }

    fn same(a: &Said<'_>, b: &Said<'_>, equal_fields: bool) -> bool {
        assert_eq!(a.is_same(b, || equal_fields), b.is_same(a, || equal_fields));
        a.is_same(b, || equal_fields)
    }

    #[test]
    fn i12_a_time_that_was_filled_in_is_not_compared() {
        let sent = said("a", 5, 9, SENT);
        assert!(same(&sent, &said("a", 20, 20, FILLED_IN), false));
        assert!(same(&sent, &said("a", 5, 20, SENT), false));
        assert!(!same(&sent, &said("a", 6, 20, SENT), true));
        assert!(!same(&sent, &said("b", 5, 20, FILLED_IN), true), "both hashes are made alike");
        // Said to be of the very moment at which it was received.
        assert!(!same(&sent, &said("a", 20, 20, SENT), true));
    }

    #[test]
    fn i12_events_of_older_versions_are_compared_by_their_fields() {
        // Their hash is over the time too.
        let sent = said("old", 5, 9, OLD);
        for later in [said("new", 20, 20, FILLED_IN), said("new", 5, 20, SENT), said("other", 20, 20, OLD)] {
            assert!(same(&sent, &later, true));
            assert!(!same(&sent, &later, false));
        }
        assert!(!same(&sent, &said("new", 6, 20, SENT), true));
        assert!(same(&sent, &said("old", 5, 20, OLD), false));
        // A written second that happens to be that of receipt was not filled in.
        let whole = Said { whole_seconds: true, ..said("old", 9, 9, OLD) };
        assert!(!same(&whole, &said("new", 5, 20, SENT), true));
    }
}
