//! The part of the catalog that money depends on: who exists, who may earn, and the dated terms of each offer.
//!
//! Pure. Its JSON form (keys sorted, every value written out) is what the store keeps under its hash, so that a
//! decision can be made again years later with the terms it was made with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::{MerchantId, OfferId, PublisherId};
use crate::money::{Currency, Rate};
use crate::time::TimeMs;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rulebook {
    pub merchants: BTreeMap<MerchantId, MerchantRules>,
    pub offers: BTreeMap<OfferId, OfferRules>,
    pub publishers: BTreeMap<PublisherId, PublisherRules>,
    /// By merchant, then by folded code (`fold_coupon_code`).
    pub coupons: BTreeMap<MerchantId, BTreeMap<String, CouponRules>>,
}

impl Rulebook {
    /// How long a click may count at most, by all terms there are or were.
    pub fn longest_window_days(&self) -> u32 {
        let terms = self.offers.values().flat_map(|offer| &offer.terms);
        terms.map(|terms| terms.window_days).max().unwrap_or(0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerchantRules {
    pub currency: Currency,
    pub unit: Unit,
}

/// What a merchant's reports are counted in; a toman is 10 rials (contract I4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    #[default]
    Rial,
    Toman,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferStatus {
    Active,
    Paused,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublisherStatus {
    Pending,
    Approved,
    Suspended,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckoutRule {
    #[default]
    None,
    IgnoreAfterCheckout,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRules {
    pub merchant_id: MerchantId,
    pub status: OfferStatus,
    pub checkout_rule: CheckoutRule,
    /// Ascending by `from`, inheritance resolved (contract M14).
    pub terms: Vec<Terms>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    LastClick,
    FirstClick,
    Linear,
    Position,
    TimeDecay,
}

/// Whose date chooses the rate (contract M16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateBasis {
    #[default]
    Conversion,
    Click,
}

/// The conditions of an offer from `from` (inclusive) to `until` (exclusive).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub from: TimeMs,
    pub until: Option<TimeMs>,
    pub window_days: u32,
    pub model: Model,
    pub hold_days: u32,
    pub rate_basis: RateBasis,
    pub default_rate: Rate,
    pub coupon_rate: Option<Rate>,
    /// By category.
    pub rates: BTreeMap<String, Rate>,
    /// By conversion type.
    pub conversion_rates: BTreeMap<String, Rate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublisherRules {
    pub status: PublisherStatus,
    pub contract_signed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CouponPolicy {
    Always,
    IfInvolved,
    IfWinner,
    IfNoClick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponRules {
    pub offer_id: OfferId,
    pub publisher_id: PublisherId,
    pub policy: CouponPolicy,
}

impl OfferRules {
    /// The terms in force at `at`: of the entries with `from <= at < until` the one with the greatest `from` (M14).
    pub fn terms_at(&self, at: TimeMs) -> Option<&Terms> {
        self.terms.iter().rev().find(|terms| terms.from <= at && terms.until.is_none_or(|until| at < until))
    }
}

impl Rulebook {
    pub fn coupon(&self, merchant_id: MerchantId, code: &str) -> Option<&CouponRules> {
        self.coupons.get(&merchant_id)?.get(&fold_coupon_code(code))
    }

    /// The text whose SHA-256 names this version.
    pub fn canonical_json(&self) -> String {
        // Maps are ordered and no value can fail to serialise: keys are strings or numbers.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Coupon codes are compared trimmed and without ASCII case (contract M21).
pub fn fold_coupon_code(code: &str) -> String {
    code.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m14_the_greatest_from_wins_and_the_older_entry_returns_after_a_campaign() {
        let terms = |from: i64, until: Option<i64>, parts: u32| Terms {
            from: TimeMs(from),
            until: until.map(TimeMs),
            window_days: 10,
            model: Model::LastClick,
            hold_days: 14,
            rate_basis: RateBasis::Conversion,
            default_rate: Rate::PartsPerMillion(parts),
            coupon_rate: None,
            rates: BTreeMap::new(),
            conversion_rates: BTreeMap::new(),
        };
        let offer = OfferRules {
            merchant_id: MerchantId(1),
            status: OfferStatus::Active,
            checkout_rule: CheckoutRule::None,
            terms: vec![terms(10, None, 1), terms(20, Some(30), 2)],
        };
        let at = |ms| offer.terms_at(TimeMs(ms)).map(|terms| terms.default_rate);
        assert_eq!(at(9), None);
        assert_eq!(at(10), Some(Rate::PartsPerMillion(1)));
        assert_eq!(at(20), Some(Rate::PartsPerMillion(2)));
        assert_eq!(at(29), Some(Rate::PartsPerMillion(2)));
        assert_eq!(at(30), Some(Rate::PartsPerMillion(1)));
    }

    #[test]
    fn canonical_json_reads_back() {
        let mut book = Rulebook::default();
        book.merchants
            .insert(MerchantId(7), MerchantRules { currency: Currency::parse("IRR").unwrap(), unit: Unit::Toman });
        book.coupons.entry(MerchantId(7)).or_default().insert(
            "yalda".into(),
            CouponRules { offer_id: OfferId(1), publisher_id: PublisherId(2), policy: CouponPolicy::Always },
        );
        assert_eq!(serde_json::from_str::<Rulebook>(&book.canonical_json()).unwrap(), book);
        assert!(book.coupon(MerchantId(7), " YALDA ").is_some());
    }
}
