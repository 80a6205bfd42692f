//! Clicks counted in quarter hours by what reports group them by.
//!
//! Pure. Quarter hours, because every offset of a time zone in use is a multiple of one: days and hours of any zone are
//! sums of them. What visitors write into a link is bounded: labels are cut, and beyond a number of different ones per
//! publisher and hour they are counted together as `other`.

mod labels;

pub use labels::{Labels, MAX_LABELS, Scope, SourceAndSub};

use crate::catalog::{MerchantId, OfferId, PublisherId};
use crate::time::TimeMs;

pub const QUARTER_MS: i64 = 900_000;

/// Labels in reports are cut here (contract I46).
pub const MAX_LABEL_BYTES: usize = 64;

/// What labels beyond the bound are counted as.
pub const OTHER: &str = "other";

/// One row of clicks. An empty label is none: an empty parameter is absent (contract E8).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClickKey {
    pub quarter: TimeMs,
    pub publisher_id: PublisherId,
    pub merchant_id: MerchantId,
    pub offer_id: OfferId,
    pub link: Box<str>,
    pub source: Box<str>,
    pub sub1: Box<str>,
}

/// Signed: a click that arrives late may take `billable` back from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub clicks: i64,
    pub billable: i64,
    pub rejected: i64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.clicks += other.clicks;
        self.billable += other.billable;
        self.rejected += other.rejected;
    }
}

/// The start of the quarter hour, UTC.
pub fn quarter(at: TimeMs) -> TimeMs {
    TimeMs(at.0.div_euclid(QUARTER_MS) * QUARTER_MS)
}

/// The label as reports show it: at most 64 bytes, cut at a character.
pub fn cut(label: &str) -> &str {
    &label[..label.floor_char_boundary(MAX_LABEL_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i46_labels_are_cut_at_a_character() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"a".repeat(65)), "a".repeat(64));
        assert_eq!(cut(&"é".repeat(33)), "é".repeat(32));
        assert_eq!(cut(&format!("a{}", "é".repeat(32))), format!("a{}", "é".repeat(31)));
    }

    #[test]
    fn quarters_also_before_1970() {
        assert_eq!(quarter(TimeMs(QUARTER_MS + 1)), TimeMs(QUARTER_MS));
        assert_eq!(quarter(TimeMs(-1)), TimeMs(-QUARTER_MS));
    }
}
