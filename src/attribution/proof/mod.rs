//! That `decide` does what the contract's page on money says: the hand-computed cases, a test per rule, and random facts
//! against an oracle that was written from the page alone.

mod cases;
mod oracle;
mod oracle_money;
mod properties;
mod random;
mod rules_candidates;
mod rules_commission;
mod rules_coupon;
mod rules_filters;
mod rules_refund;
mod rules_states;
mod rules_terms;

use std::collections::BTreeMap;

use super::{Bounds, Clicks, Decision, Extent, Facts, Outcome, OwnClick, Reason, Settings, Touch, decide, reduce};
use crate::catalog::rulebook::{
    CheckoutRule, CouponPolicy, CouponRules, MerchantRules, Model, OfferRules, OfferStatus, PublisherRules,
    PublisherStatus, RateBasis, Terms, Unit,
};
use crate::catalog::{MerchantId, OfferId, PublisherId, Rulebook};
use crate::click::{ClickId, LABEL_NON_NAVIGATION};
use crate::commission::RefundSum;
use crate::event::{Conversion, Item, Refund, RefundItem, RefundReason};
use crate::money::{Currency, MinorUnits, Rate};
use crate::time::{DAY_MS, TimeMs};

/// 2026-11-22T06:30:00Z, when the story's order happens unless it says otherwise.
pub const ORDERED_AT: i64 = 1_795_329_000_000;
pub const SHOP: MerchantId = MerchantId(1);
pub const OFFER: OfferId = OfferId(12);

/// A catalog and the facts of one order, told step by step. The catalog is that of the contract's examples: merchant 1
/// with offer 12 at 12 % (mobile 2 %, rice 0 %, case fixed 700, sign-ups 500,000), publishers 1 to 4.
#[derive(Clone, Debug)]
pub struct Story {
    pub rulebook: Rulebook,
    pub facts: Facts,
    pub settings: Settings,
}

pub fn percent(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

pub fn terms(from: i64) -> Terms {
    let rates = [("mobile", "2%"), ("rice", "0%"), ("case", "700")];
    Terms {
        from: TimeMs(from),
        until: None,
        window_days: 10,
        model: Model::LastClick,
        hold_days: 14,
        rate_basis: RateBasis::Conversion,
        default_rate: percent("12%"),
        coupon_rate: None,
        rates: rates.iter().map(|(category, rate)| ((*category).into(), percent(rate))).collect(),
        conversion_rates: BTreeMap::from([("signup".into(), percent("500000"))]),
    }
}

/// A click ID as the edge would sign it, but with a tag of zeros: `decide` takes verified IDs for what they say.
pub fn click_of(visitor: u64, offer: u32, publisher: u32, at: i64, labels: u8) -> ClickId {
    let mut bytes = [0; 36];
    bytes[0] = 1 << 4;
    bytes[1..7].copy_from_slice(&at.to_be_bytes()[2..]);
    bytes[7..11].copy_from_slice(&offer.to_be_bytes());
    bytes[11..15].copy_from_slice(&publisher.to_be_bytes());
    bytes[15..23].copy_from_slice(&visitor.to_be_bytes());
    bytes[23] = labels;
    ClickId::from_bytes(bytes).unwrap()
}

/// A click on offer 12 by the story's visitor.
pub fn click(publisher: u32, at: i64) -> ClickId {
    click_of(1, OFFER.0, publisher, at, 0)
}

pub fn hidden(publisher: u32, at: i64) -> ClickId {
    click_of(1, OFFER.0, publisher, at, LABEL_NON_NAVIGATION)
}

pub fn item(sku: &str, category: &str, quantity: u32, unit_amount: MinorUnits, discount: MinorUnits) -> Item {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Item { sku: text(sku), category: text(category), quantity, unit_amount, discount, out_of_stock: false }
}

/// The basket of M28: 1,900 mobile, 500 without category, 900 rice.
pub fn basket() -> Vec<Item> {
    vec![item("a", "mobile", 2, 1_000, 100), item("b", "", 1, 500, 0), item("c", "rice", 1, 900, 0)]
}

fn conversion() -> Conversion {
    Conversion {
        conversion_id: "c".into(),
        merchant_id: SHOP,
        order_id: "A-1001".into(),
        kind: "sale".into(),
        click_id: None,
        coupon_code: None,
        visitor_id: None,
        amount: 1_000,
        currency: Currency::parse("IRR").unwrap(),
        occurred_at_ms: TimeMs(ORDERED_AT),
        occurred_at_whole_seconds: false,
        occurred_at_filled_in: Some(false),
        received_at_ms: TimeMs(ORDERED_AT),
        customer_id: None,
        new_customer: None,
        discount: None,
        checkout_started_at: None,
        items: Vec::new(),
        unverified: false,
        original_status: None,
        merchant_status: None,
        extra: None,
        source_ip: None,
        content_hash: String::new(),
    }
}

fn refund(number: usize) -> Refund {
    Refund {
        refund_id: format!("R-{number:04}"),
        conversion_id: "c".into(),
        merchant_id: SHOP,
        order_id: "A-1001".into(),
        kind: "sale".into(),
        reason: RefundReason::Return,
        items: Vec::new(),
        amount: None,
        occurred_at_ms: TimeMs(ORDERED_AT),
        occurred_at_filled_in: Some(false),
        received_at_ms: TimeMs(ORDERED_AT + number as i64),
        content_hash: String::new(),
    }
}

pub fn story() -> Story {
    let offer = OfferRules {
        merchant_id: SHOP,
        status: OfferStatus::Active,
        checkout_rule: CheckoutRule::None,
        terms: vec![terms(0)],
    };
    let mut rulebook = Rulebook::default();
    let merchant = MerchantRules { currency: Currency::parse("IRR").unwrap(), unit: Unit::Rial };
    rulebook.merchants.insert(SHOP, merchant);
    rulebook.offers.insert(OFFER, offer);
    for publisher in 1..=4 {
        let rules = PublisherRules { status: PublisherStatus::Approved, contract_signed: true };
        rulebook.publishers.insert(PublisherId(publisher), rules);
    }
    let facts = Facts {
        report: conversion(),
        own_click: OwnClick::None,
        touches: Vec::new(),
        extent: Extent::Whole,
        refunds: Vec::new(),
        more_refunds: RefundSum::default(),
        merchant_status: None,
        late_click_ignored: false,
    };
    let settings = Settings { dedupe_window_ms: 10_000, clock_skew_ms: 120_000, max_report_delay_days: 14 };
    Story { rulebook, facts, settings }
}

impl Story {
    pub fn clicks(mut self, clicks: &[ClickId]) -> Story {
        self.facts.touches.extend(clicks.iter().copied().map(Touch));
        self
    }

    pub fn own(mut self, click: ClickId) -> Story {
        self.facts.own_click = OwnClick::Verified(click);
        self
    }

    pub fn invalid_click(mut self) -> Story {
        self.facts.own_click = OwnClick::Invalid;
        self
    }

    pub fn report(mut self, change: impl FnOnce(&mut Conversion)) -> Story {
        change(&mut self.facts.report);
        self
    }

    pub fn occurred_at(self, at: i64) -> Story {
        self.report(|report| {
            report.occurred_at_ms = TimeMs(at);
            report.received_at_ms = TimeMs(at);
        })
    }

    pub fn amount(self, amount: MinorUnits) -> Story {
        self.report(|report| report.amount = amount)
    }

    pub fn items(self, items: Vec<Item>) -> Story {
        self.report(|report| {
            report.amount = items.iter().map(|item| item.amount().unwrap()).sum();
            report.items = items;
        })
    }

    /// Changes offer 12.
    pub fn offer(mut self, change: impl FnOnce(&mut OfferRules)) -> Story {
        change(self.rulebook.offers.get_mut(&OFFER).unwrap());
        self
    }

    /// Changes the first terms of offer 12.
    pub fn terms(self, change: impl FnOnce(&mut Terms)) -> Story {
        self.offer(|offer| change(&mut offer.terms[0]))
    }

    pub fn model(self, model: Model) -> Story {
        self.terms(|terms| terms.model = model)
    }

    pub fn other_offer(mut self, offer_id: u32, change: impl FnOnce(&mut OfferRules)) -> Story {
        let mut offer = self.rulebook.offers[&OFFER].clone();
        change(&mut offer);
        self.rulebook.offers.insert(OfferId(offer_id), offer);
        self
    }

    pub fn publisher(mut self, publisher: u32, status: Option<PublisherStatus>) -> Story {
        self.rulebook.publishers.remove(&PublisherId(publisher));
        if let Some(status) = status {
            let rules = PublisherRules { status, contract_signed: false };
            self.rulebook.publishers.insert(PublisherId(publisher), rules);
        }
        self
    }

    /// Coupon YALDA of a publisher for offer 12, and the order uses it.
    pub fn coupon(mut self, publisher: u32, policy: CouponPolicy) -> Story {
        let rules = CouponRules { offer_id: OFFER, publisher_id: PublisherId(publisher), policy };
        self.rulebook.coupons.entry(SHOP).or_default().insert("yalda".into(), rules);
        self.report(|report| report.coupon_code = Some("YALDA".into()))
    }

    pub fn refund_amount(mut self, amount: MinorUnits) -> Story {
        self.facts.refunds.push(Refund { amount: Some(amount), ..refund(self.facts.refunds.len()) });
        self
    }

    pub fn refund_items(mut self, items: &[(&str, u32)]) -> Story {
        let items = items.iter().map(|(sku, quantity)| RefundItem { sku: (*sku).into(), quantity: *quantity });
        self.facts.refunds.push(Refund { items: items.collect(), ..refund(self.facts.refunds.len()) });
        self
    }

    pub fn refund_all(mut self) -> Story {
        self.facts.refunds.push(refund(self.facts.refunds.len()));
        self
    }

    pub fn decide(&self) -> Decision {
        decide(&self.facts, &self.rulebook, &self.settings)
    }

    /// Publishers, their parts and what they keep.
    pub fn shares(&self) -> Vec<(u32, u32, MinorUnits)> {
        shares(&self.decide())
    }

    pub fn winner(&self) -> Option<u32> {
        match self.shares()[..] {
            [(publisher, 1_000_000, _)] => Some(publisher),
            _ => None,
        }
    }

    pub fn reason(&self) -> Option<Reason> {
        let decision = self.decide();
        assert_eq!(decision.outcome == Outcome::Unattributed, decision.reason.is_some());
        decision.reason
    }

    /// Whether the explanation has a step of this rule that says this.
    pub fn says(&self, rule: &str, text: &str) -> bool {
        self.decide().explanation.iter().any(|step| step.rule == rule && step.why.contains(text))
    }
}

pub fn shares(decision: &Decision) -> Vec<(u32, u32, MinorUnits)> {
    decision.shares.iter().map(|share| (share.publisher_id.0, share.parts, share.commission)).collect()
}

pub fn days(days: i64) -> i64 {
    days * DAY_MS
}
