//! What was decided, and why: enough to post it, to show it and to explain it.

use serde::{Deserialize, Serialize};

use crate::catalog::{OfferId, PublisherId};
use crate::click::ClickId;
use crate::money::{Millionths, MinorUnits};
use crate::time::TimeMs;

/// The target of the ledger for one conversion. All money is net of refunds unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The offer whose terms counted: that of the latest counting candidate, or the coupon's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer_id: Option<OfferId>,
    /// Rounded commission before refunds, all shares together.
    pub earned: MinorUnits,
    /// What is left of it after refunds and the merchant's status.
    pub commission: MinorUnits,
    /// Unrounded commission of each line before refunds, in millionths (M35); the fixed part is apart. 128 bit: one
    /// line of 2^53 at 100 % is 9 x 10^21. Empty when unattributed.
    pub line_millionths: Vec<Millionths>,
    /// Fixed rates earned (M29, M30), in minor units.
    pub fixed: MinorUnits,
    pub shares: Vec<Share>,
    /// Amount of the conversion that is not refunded.
    pub kept_amount: MinorUnits,
    /// When the hold ends (M43).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_until_ms: Option<TimeMs>,
    /// The trace, in the order in which the rules were applied.
    pub explanation: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Attributed,
    Unattributed,
}

/// Why a conversion earned nobody anything; the first that applies (M47).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Unverified,
    Conflict,
    InvalidClickId,
    WrongMerchant,
    PublisherInactive,
    WindowExpired,
    CheckoutRule,
    CouponRule,
    NoTouch,
    OutOfStock,
    ZeroRate,
}

/// What has spoken against the candidates so far. Several causes: the first of the list above is the reason (M47).
#[derive(Clone, Copy, Debug, Default)]
pub struct Causes(Option<Reason>);

impl Causes {
    pub fn add(&mut self, cause: Reason) {
        self.0 = Some(self.0.map_or(cause, |first| first.min(cause)));
    }

    /// Why there is no candidate at all.
    pub fn reason(&self) -> Reason {
        self.0.map_or(Reason::NoTouch, |first| first.min(Reason::NoTouch))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Pending,
    Approved,
    Payable,
    Paid,
    Reversed,
    Rejected,
}

/// One publisher's part (M20: parts of one publisher are added up).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub publisher_id: PublisherId,
    /// Parts per million; all shares together 1,000,000.
    pub parts: u32,
    /// Net of refunds.
    pub commission: MinorUnits,
    /// What refunds or a rejection took back. All shares' add up to earned - commission; a single one may be -1, as the
    /// smaller sum is split anew by largest remainders (M38, M33).
    pub reversed: MinorUnits,
    /// True when the share is the coupon's, or marked by it (M22).
    pub coupon: bool,
    /// The publisher's latest touch that has a part of it (by coupon: that counts): where reports look up link, source
    /// and sub1. None by coupon alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub click_id: Option<ClickId>,
}

/// One sentence of the explanation: the rule, what it looked at, what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `window`, `checkout`, `label`, `model`, `coupon`, `terms`, `commission`, `refund`, `status`, ...
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub click_id: Option<ClickId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher_id: Option<PublisherId>,
    /// Whether the candidate stayed, where the rule judges one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<bool>,
    /// Plain English, with the numbers.
    pub why: String,
}
