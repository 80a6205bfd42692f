//! The hand-computed cases, through `decide` and through the ledger.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::ledger::{self, Account, Balances, Occasion};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    catalog: Catalog,
    touches: Vec<Click>,
    conversion: Report,
    refunds: Vec<RefundCase>,
    expect: Expect,
}

#[derive(Deserialize)]
struct Catalog {
    merchants: Vec<Merchant>,
    offers: Vec<Offer>,
    publishers: Vec<Publisher>,
    coupons: Vec<Coupon>,
}

#[derive(Deserialize)]
struct Merchant {
    id: MerchantId,
    #[serde(flatten)]
    rules: MerchantRules,
}

#[derive(Deserialize)]
struct Offer {
    id: OfferId,
    merchant_id: MerchantId,
    status: OfferStatus,
    #[serde(default)]
    checkout_rule: CheckoutRule,
    terms: Vec<Entry>,
}

/// Terms as written: what is not said is inherited (M14).
#[derive(Deserialize)]
struct Entry {
    from: String,
    until: Option<String>,
    window_days: Option<u32>,
    model: Option<Model>,
    hold_days: Option<u32>,
    rate_basis: Option<RateBasis>,
    default_rate: Option<Rate>,
    coupon_rate: Option<Rate>,
    rates: Option<Vec<CategoryRate>>,
    conversion_rates: Option<Vec<TypeRate>>,
}

#[derive(Deserialize)]
struct CategoryRate {
    category: String,
    rate: Rate,
}

#[derive(Deserialize)]
struct TypeRate {
    r#type: String,
    rate: Rate,
}

#[derive(Deserialize)]
struct Publisher {
    id: PublisherId,
    status: PublisherStatus,
}

#[derive(Deserialize)]
struct Coupon {
    code: String,
    offer_id: OfferId,
    publisher_id: PublisherId,
    policy: CouponPolicy,
}

#[derive(Deserialize)]
struct Click {
    publisher_id: u32,
    offer_id: u32,
    clicked_at: String,
    non_navigation: bool,
}

#[derive(Deserialize)]
struct Report {
    merchant_id: MerchantId,
    r#type: String,
    amount: Option<MinorUnits>,
    #[serde(default)]
    items: Vec<Item>,
    occurred_at: String,
    checkout_started_at: Option<String>,
    coupon_code: Option<String>,
}

#[derive(Deserialize)]
struct RefundCase {
    refund_id: String,
    #[serde(default)]
    items: Vec<RefundItem>,
    amount: Option<MinorUnits>,
}

#[derive(Deserialize)]
struct Expect {
    outcome: Outcome,
    reason: Option<Reason>,
    parts: BTreeMap<String, u32>,
    line_millionths: Vec<i128>,
    fixed: MinorUnits,
    commission: MinorUnits,
    shares: BTreeMap<String, MinorUnits>,
    shares_after_refunds: Option<BTreeMap<String, MinorUnits>>,
}

fn time(text: &str) -> TimeMs {
    TimeMs::parse_rfc3339(text).unwrap()
}

impl Entry {
    fn resolve(&self, above: Option<&Terms>) -> Terms {
        let rates = |rates: &Vec<CategoryRate>| rates.iter().map(|rate| (rate.category.clone(), rate.rate)).collect();
        let by_type = |rates: &Vec<TypeRate>| rates.iter().map(|rate| (rate.r#type.clone(), rate.rate)).collect();
        Terms {
            from: time(&self.from),
            until: self.until.as_deref().map(time),
            window_days: self.window_days.or(above.map(|above| above.window_days)).unwrap(),
            model: self.model.or(above.map(|above| above.model)).unwrap(),
            hold_days: self.hold_days.or(above.map(|above| above.hold_days)).unwrap_or(14),
            rate_basis: self.rate_basis.or(above.map(|above| above.rate_basis)).unwrap_or_default(),
            default_rate: self.default_rate.or(above.map(|above| above.default_rate)).unwrap(),
            coupon_rate: self.coupon_rate.or(above.and_then(|above| above.coupon_rate)),
            rates: self.rates.as_ref().map_or_else(|| above.unwrap().rates.clone(), rates),
            conversion_rates: self
                .conversion_rates
                .as_ref()
                .map_or_else(|| above.unwrap().conversion_rates.clone(), by_type),
        }
    }
}

impl Catalog {
    fn rulebook(&self) -> Rulebook {
        let merchants = self.merchants.iter().map(|merchant| (merchant.id, merchant.rules)).collect();
        let mut rulebook = Rulebook { merchants, ..Rulebook::default() };
        for offer in &self.offers {
            let mut terms: Vec<Terms> = Vec::new();
            for entry in &offer.terms {
                terms.push(entry.resolve(terms.last()));
            }
            let (merchant_id, status, checkout_rule) = (offer.merchant_id, offer.status, offer.checkout_rule);
            rulebook.offers.insert(offer.id, OfferRules { merchant_id, status, checkout_rule, terms });
        }
        for publisher in &self.publishers {
            let rules = PublisherRules { status: publisher.status, contract_signed: true };
            rulebook.publishers.insert(publisher.id, rules);
        }
        for coupon in &self.coupons {
            let (offer_id, publisher_id, policy) = (coupon.offer_id, coupon.publisher_id, coupon.policy);
            let merchant_id = rulebook.offers[&offer_id].merchant_id;
            let code = crate::catalog::rulebook::fold_coupon_code(&coupon.code);
            let rules = CouponRules { offer_id, publisher_id, policy };
            rulebook.coupons.entry(merchant_id).or_default().insert(code, rules);
        }
        rulebook
    }
}

impl Case {
    fn story(&self) -> Story {
        let mut story = story();
        story.rulebook = self.catalog.rulebook();
        story.settings.clock_skew_ms = 0;
        let unit = match story.rulebook.merchants[&self.conversion.merchant_id].unit {
            Unit::Rial => 1,
            // What intake does (contract I4).
            Unit::Toman => 10,
        };
        for click in &self.touches {
            let labels = if click.non_navigation { LABEL_NON_NAVIGATION } else { 0 };
            let at = time(&click.clicked_at).0;
            story = story.clicks(&[click_of(1, click.offer_id, click.publisher_id, at, labels)]);
        }
        let said = &self.conversion;
        let mut items = said.items.clone();
        for item in &mut items {
            (item.unit_amount, item.discount) = (item.unit_amount * unit, item.discount * unit);
        }
        story = if items.is_empty() { story.amount(said.amount.unwrap() * unit) } else { story.items(items) };
        story = story.occurred_at(time(&said.occurred_at).0).report(|report| {
            report.merchant_id = said.merchant_id;
            report.kind = said.r#type.clone();
            report.occurred_at_whole_seconds = !said.occurred_at.contains('.');
            report.checkout_started_at = said.checkout_started_at.as_deref().map(time);
            report.coupon_code = said.coupon_code.clone();
        });
        for said in &self.refunds {
            let mut refund = refund(story.facts.refunds.len());
            refund.refund_id = said.refund_id.clone();
            refund.items = said.items.clone();
            refund.amount = said.amount.map(|amount| amount * unit);
            story.facts.refunds.push(refund);
        }
        story
    }
}

/// By publisher, as the file writes it.
fn by_publisher<T>(decision: &Decision, of: impl Fn(&crate::attribution::Share) -> T) -> BTreeMap<String, T> {
    decision.shares.iter().map(|share| (share.publisher_id.to_string(), of(share))).collect()
}

fn check(case: &Case, story: &Story) {
    let name = &case.name;
    let expect = &case.expect;
    let mut before = story.clone();
    before.facts.refunds.clear();
    let decision = before.decide();
    assert_eq!((decision.outcome, decision.reason), (expect.outcome, expect.reason), "{name}");
    assert_eq!(by_publisher(&decision, |share| share.parts), expect.parts, "{name}: parts");
    assert_eq!(decision.line_millionths, expect.line_millionths, "{name}: lines");
    assert_eq!(decision.fixed, expect.fixed, "{name}: fixed");
    assert_eq!((decision.earned, decision.commission), (expect.commission, expect.commission), "{name}");
    assert_eq!(by_publisher(&decision, |share| share.commission), expect.shares, "{name}: shares");
    let after = story.decide();
    let left = expect.shares_after_refunds.as_ref().unwrap_or(&expect.shares);
    assert_eq!(&by_publisher(&after, |share| share.commission), left, "{name}: after refunds");
    assert_eq!(after.earned, expect.commission, "{name}: refunds change nothing that was earned");
    posted(case, &[&decision, &after]);
}

/// Posts one decision after the other and reads the books.
fn posted(case: &Case, decisions: &[&Decision]) {
    let (merchant_id, currency) = (case.conversion.merchant_id, Currency::parse("IRR").unwrap());
    let mut entries = Vec::new();
    for decision in decisions {
        let revision = entries.last().map_or(1, |last: &ledger::Entry| last.revision + 1);
        let occasion = Occasion { conversion_id: "c", revision, merchant_id, currency, at: TimeMs(ORDERED_AT) };
        entries.extend(ledger::post(&occasion, &Balances::of(&entries), decision).unwrap());
        assert_eq!(ledger::check("c", merchant_id, currency, &entries, Some(decision)), [], "{}", case.name);
    }
    let left = case.expect.shares_after_refunds.as_ref().unwrap_or(&case.expect.shares);
    let balances = Balances::of(&entries);
    for (publisher, share) in left {
        let pending = Account::PublisherPending(PublisherId(publisher.parse().unwrap()));
        assert_eq!(balances.balance(pending, currency), -i128::from(*share), "{}", case.name);
    }
    let receivable = balances.balance(Account::MerchantReceivable(merchant_id), currency);
    assert_eq!(receivable, left.values().map(|share| i128::from(*share)).sum::<i128>(), "{}", case.name);
}

#[test]
fn all_hand_computed_cases() {
    let file: File = serde_json::from_str(include_str!("../../../tests/fixtures/money-cases.json")).unwrap();
    assert_eq!(file.cases.len(), 45);
    for case in &file.cases {
        let story = case.story();
        check(case, &story);
        // A touch may be known by the report's own click ID, by the visitor, or by both: the union is the same (M1).
        for own in story.facts.touches.clone() {
            check(case, &story.clone().own(own.0));
            let mut only_own = story.clone().own(own.0);
            only_own.facts.touches.retain(|touch| *touch != own);
            check(case, &only_own);
        }
    }
}
