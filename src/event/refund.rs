//! A refund as the merchant reported it and intake accepted it (contract I37).

use serde::{Deserialize, Serialize};

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
    pub received_at_ms: TimeMs,
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
    /// Neither items nor an amount: all that is left (contract M40).
    pub fn is_full(&self) -> bool {
        self.items.is_empty() && self.amount.is_none()
    }
}
