//! A conversion as the merchant reported it and intake accepted it (contract I2, V8). Amounts are in minor units:
//! tomans are already rials here.

use serde::{Deserialize, Serialize};

use super::Extra;
use super::same::Said;
use crate::catalog::MerchantId;
use crate::money::{Currency, MinorUnits};
use crate::time::TimeMs;

/// The event is also the stored fact: what is kept is what was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    pub conversion_id: String,
    pub merchant_id: MerchantId,
    pub order_id: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// As sent: it may be anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub click_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon_code: Option<String>,
    /// As sent: a malformed one is recorded and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visitor_id: Option<String>,
    /// The sum of the items where items were sent.
    pub amount: MinorUnits,
    pub currency: Currency,
    pub occurred_at_ms: TimeMs,
    /// `occurred_at` was written without a fraction of a second: the true moment lies anywhere in that second
    /// (contract M10). False for a written `.000` and for a time that we filled in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub occurred_at_whole_seconds: bool,
    /// `occurred_at` was not sent: it is the time of receipt. `None`: written by a version that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at_filled_in: Option<bool>,
    pub received_at_ms: TimeMs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_customer: Option<bool>,
    /// Information only (contract I3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount: Option<MinorUnits>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "checkout_started_at_ms")]
    pub checkout_started_at: Option<TimeMs>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
    /// True only for what a browser said (pixel): no money until the merchant confirms it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unverified: bool,
    /// The merchant's own word for the order's state, and what it is mapped to (contract I32, M44).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant_status: Option<MerchantStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Extra>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<String>,
    /// Hash over the validated fields as sent (contract I12) but `occurred_at`, 16 hex digits.
    pub content_hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    pub quantity: u32,
    pub unit_amount: MinorUnits,
    /// Of the whole line.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub discount: MinorUnits,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_stock: bool,
}

/// The merchant's status of an order: a fact that may change; the latest received counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MerchantStatus {
    Approved,
    Pending,
    Rejected,
}

impl Conversion {
    /// Whether two reports of one order say the same (contract I12): a time that we filled in is not compared.
    pub fn is_same_report(&self, other: &Conversion) -> bool {
        self.said().is_same(&other.said(), || self.says_what(other))
    }

    /// Takes out what says who bought: no money and no reason rests on it, and `content_hash` still tells the same report
    /// from another. Returns whether there was any of it.
    pub fn strip(&mut self) -> bool {
        let texts = [self.visitor_id.take(), self.customer_id.take(), self.source_ip.take()];
        let extra = self.extra.take();
        extra.is_some() || texts.iter().any(Option::is_some)
    }

    fn said(&self) -> Said<'_> {
        Said {
            content_hash: &self.content_hash,
            occurred_at: self.occurred_at_ms,
            whole_seconds: self.occurred_at_whole_seconds,
            received_at: self.received_at_ms,
            filled_in: self.occurred_at_filled_in,
        }
    }

    /// The fields that the hash is over.
    fn says_what(&self, other: &Conversion) -> bool {
        let texts = |report: &Conversion| {
            let Conversion { click_id, coupon_code, visitor_id, customer_id, .. } = report;
            [click_id, coupon_code, visitor_id, customer_id].map(Clone::clone)
        };
        let numbers =
            |report: &Conversion| (report.amount, report.discount, report.checkout_started_at, report.new_customer);
        texts(self) == texts(other)
            && numbers(self) == numbers(other)
            && self.items == other.items
            && self.extra == other.extra
    }
}

impl Item {
    /// Quantity x unit amount - discount, in minor units; `None` on overflow or below 0.
    pub fn amount(&self) -> Option<MinorUnits> {
        let gross = self.unit_amount.checked_mul(MinorUnits::from(self.quantity))?;
        gross.checked_sub(self.discount).filter(|amount| *amount >= 0)
    }
}

fn is_zero(amount: &MinorUnits) -> bool {
    *amount == 0
}
