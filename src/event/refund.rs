//! A refund as the merchant reported it and intake accepted it (contract I37).

use serde::{Deserialize, Serialize};

use super::same::Said;
use crate::catalog::MerchantId;
use crate::money::MinorUnits;
use crate::time::TimeMs;

/// Of items, of an amount, or (neither) of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    pub refund_id: String,
    pub conversion_id: String,
    pub merchant_id: MerchantId,
    pub order_id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub reason: RefundReason,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<RefundItem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<MinorUnits>,
    pub occurred_at_ms: TimeMs,
    /// `occurred_at` was not sent: it is the time of receipt. `None`: written by a version that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at_filled_in: Option<bool>,
    pub received_at_ms: TimeMs,
    /// As of a conversion.
    pub content_hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundItem {
    pub sku: String,
    pub quantity: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundReason {
    Return,
    Cancellation,
    Adjustment,
    Fraud,
    OutOfStock,
    Duplicate,
}

impl Refund {
    /// Whether two refunds of one number say the same (contract I38).
    pub fn is_same_report(&self, other: &Refund) -> bool {
        let what = |refund: &Refund| {
            let Refund { order_id, kind, reason, items, amount, .. } = refund.clone();
            (order_id, kind, reason, items, amount)
        };
        self.said().is_same(&other.said(), || what(self) == what(other))
    }

    fn said(&self) -> Said<'_> {
        Said {
            content_hash: &self.content_hash,
            occurred_at: self.occurred_at_ms,
            // Not known; only a time that was sent could be of whole seconds.
            whole_seconds: false,
            received_at: self.received_at_ms,
            filled_in: self.occurred_at_filled_in,
        }
    }

    /// Neither items nor an amount: all that is left (contract M40).
    pub fn is_full(&self) -> bool {
        self.items.is_empty() && self.amount.is_none()
    }
}
