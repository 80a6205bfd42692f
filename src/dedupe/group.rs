//! The clicks of one name in order of time, and where its current window began.

use std::collections::VecDeque;

use super::At;

#[derive(Debug, Default)]
pub struct Group {
    /// Sorted; seldom more than a few.
    members: VecDeque<(At, u64)>,
    /// When the window began that the last judged member is in.
    first: Option<i64>,
    /// The latest of the forgotten members, and when its window began.
    base: Option<(At, i64)>,
}

impl Group {
    /// Whether all members are earlier.
    pub fn ends_before(&self, at: At) -> bool {
        self.members.back().is_none_or(|(last, _)| *last < at)
    }

    pub fn insert(&mut self, at: At, number: u64) {
        let place = self.members.partition_point(|member| *member < (at, number));
        self.members.insert(place, (at, number));
    }

    /// Forgets a member whose window began at `began_ms`.
    pub fn remove(&mut self, at: At, number: u64, began_ms: i64) {
        // Members leave in order of arrival, which is that of time but for the late ones.
        if let Ok(place) = self.members.binary_search(&(at, number)) {
            self.members.remove(place);
        }
        if self.base.is_none_or(|(base, _)| base < at) {
            self.base = Some((at, began_ms));
        }
    }

    pub fn members(&self) -> &VecDeque<(At, u64)> {
        &self.members
    }

    pub fn first(&self) -> Option<i64> {
        self.first
    }

    pub fn begin(&mut self, first: i64) {
        self.first = Some(first);
    }

    /// Back to before the earliest member, to judge them all again.
    pub fn rewind(&mut self) {
        self.first = self.base.map(|(_, began_ms)| began_ms);
    }
}
