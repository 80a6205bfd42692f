//! Everything a decision may know. A decision is a function of these and of a rulebook, of nothing else.

use serde::{Deserialize, Serialize};

use crate::catalog::{OfferId, PublisherId};
use crate::click::ClickId;
use crate::event::{Conversion, MerchantStatus, Refund};
use crate::time::TimeMs;

/// The facts of one conversion: the report that won, the visitor's touches at the merchant, and what came after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub report: Conversion,
    pub own_click: OwnClick,
    /// Raw clicks of the visitor at the reporting merchant, as far as the touch index knows them, in any order, each
    /// once: merging and caps (M3, M4) are the decision's. Empty for a late report (M6).
    pub touches: Vec<Touch>,
    /// In order of receipt; capped and applied by the decision.
    pub refunds: Vec<Refund>,
    /// The latest received (M44).
    pub merchant_status: Option<MerchantStatus>,
    /// A click that would have been a candidate came after approval (M50): shown, never counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late_click_ignored: bool,
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

/// A click as attribution sees it: the ID says it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Touch(pub ClickId);

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
