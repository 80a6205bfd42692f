//! Everything a decision may know. A decision is a function of these and of a rulebook, of nothing else.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::Extent;
use crate::catalog::{OfferId, PublisherId};
use crate::click::ClickId;
use crate::commission::RefundSum;
use crate::event::{Conversion, MerchantStatus, Refund};
use crate::time::{DAY_MS, TimeMs};

/// An order may have any number of refunds. As many are told one by one, the first stored; the others are added up.
pub const MAX_TOLD_REFUNDS: usize = 100;

/// The facts of one conversion: the report that won, the visitor's touches at the merchant, and what came after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub report: Conversion,
    pub own_click: OwnClick,
    /// Raw clicks of the visitor at the reporting merchant, as far as the touch index knows them, in any order: merging
    /// and caps (M3, M4) are the decision's, and a late report leaves them out (M6). `reduce` may have left out some.
    pub touches: Vec<Touch>,
    #[serde(default, skip_serializing_if = "Extent::is_whole")]
    pub extent: Extent,
    /// In any order; the decision takes them by receipt, each `refund_id` once.
    pub refunds: Vec<Refund>,
    /// The refunds beyond `MAX_TOLD_REFUNDS`, none of which is in `refunds`.
    #[serde(default, skip_serializing_if = "RefundSum::is_empty")]
    pub more_refunds: RefundSum,
    /// The latest received (M44); `None`: the report's own, if it has one.
    pub merchant_status: Option<MerchantStatus>,
    /// A click that would have been a candidate came after approval (M50): shown, never counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late_click_ignored: bool,
}

impl Facts {
    /// Received so long after it happened that only its own click counts (M6).
    pub fn is_late_report(&self, settings: &Settings) -> bool {
        self.report.received_at_ms - self.report.occurred_at_ms > i64::from(settings.max_report_delay_days) * DAY_MS
    }

    /// The latest time that a click may have and still count: the lower end of the window as contract M10 reads it, and
    /// the skew of M11. A later one never changes the money.
    pub fn latest_clicked_at(&self, settings: &Settings) -> TimeMs {
        settings.latest_clicked_at(&self.report)
    }

    /// The latest moment that the report may mean: the last millisecond of its second, if it was written in whole
    /// seconds (M10).
    pub fn occurred_at_most(&self) -> TimeMs {
        occurred_at_most(&self.report)
    }

    /// What the merchant says of the order now.
    pub fn status(&self) -> Option<MerchantStatus> {
        self.merchant_status.or(self.report.merchant_status)
    }
}

/// What the conversion's own `click_id` is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnClick {
    None,
    /// Malformed, wrong tag, or (in one process) a key number that is not listed.
    Invalid,
    Verified(ClickId),
}

/// A click as attribution sees it: the ID says it all. Ordered by time, then by the ID's bytes (M5); the bytes alone
/// begin with the key number, which is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Touch(pub ClickId);

impl Ord for Touch {
    fn cmp(&self, other: &Touch) -> Ordering {
        (self.clicked_at(), self.0).cmp(&(other.clicked_at(), other.0))
    }
}

impl PartialOrd for Touch {
    fn partial_cmp(&self, other: &Touch) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Touch {
    pub fn clicked_at(&self) -> TimeMs {
        self.0.clicked_at()
    }
    pub fn offer_id(&self) -> OfferId {
        self.0.offer_id()
    }
    pub fn publisher_id(&self) -> PublisherId {
        self.0.publisher_id()
    }
}

/// The configured numbers that money depends on; stored with each decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `dedupe.window_ms`: clicks of one visitor, offer and publisher within it are one touch (M3).
    pub dedupe_window_ms: i64,
    /// `attribution.clock_skew_ms` (M11).
    pub clock_skew_ms: i64,
    /// `attribution.max_report_delay_days` (M6).
    pub max_report_delay_days: u32,
}

impl Settings {
    /// See `Facts::latest_clicked_at`.
    pub fn latest_clicked_at(&self, report: &Conversion) -> TimeMs {
        occurred_at_most(report) + self.clock_skew_ms.max(0)
    }
}

fn occurred_at_most(report: &Conversion) -> TimeMs {
    let occurred_at = report.occurred_at_ms;
    let whole = report.occurred_at_whole_seconds && occurred_at.0.rem_euclid(1_000) == 0;
    if whole { occurred_at + 999 } else { occurred_at }
}
