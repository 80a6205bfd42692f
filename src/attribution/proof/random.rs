//! Random catalogs, touches, orders and refunds: small worlds in which everything collides with everything, with times
//! on both sides of every limit.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::event::MerchantStatus;

const OFFERS: [u32; 4] = [12, 13, 21, 77];
const PUBLISHERS: std::ops::RangeInclusive<u32> = 1..=6;

fn rate() -> impl Strategy<Value = Rate> {
    select(vec!["0%", "12%", "33.3333%", "0.0001%", "50%", "100%", "7", "701", "0"]).prop_map(percent)
}

fn terms_of(from: i64) -> impl Strategy<Value = Terms> {
    let models = vec![Model::LastClick, Model::FirstClick, Model::Linear, Model::Position, Model::TimeDecay];
    let bases = vec![RateBasis::Conversion, RateBasis::Click];
    let until = proptest::option::weighted(0.3, select(vec![1, days(2), days(20)]));
    let categories = btree_map(select(vec!["mobile".to_owned(), "rice".into(), "case".into()]), rate(), 0..3);
    let types = btree_map(Just("signup".to_owned()), rate(), 0..2);
    let windows = select(vec![0, 1, 5, 10, 30]);
    let rates = (rate(), proptest::option::of(rate()), categories, types);
    (until, windows, select(models), 0u32..40, select(bases), rates).prop_map(
        move |(
            until,
            window_days,
            model,
            hold_days,
            rate_basis,
            (default_rate, coupon_rate, rates, conversion_rates),
        )| Terms {
            from: TimeMs(from),
            until: until.map(|length| TimeMs(from + length)),
            window_days,
            model,
            hold_days,
            rate_basis,
            default_rate,
            coupon_rate,
            rates,
            conversion_rates,
        },
    )
}

fn offer(merchant: u32) -> impl Strategy<Value = OfferRules> {
    let rules = select(vec![CheckoutRule::None, CheckoutRule::IgnoreAfterCheckout]);
    let statuses = select(vec![OfferStatus::Active, OfferStatus::Active, OfferStatus::Paused, OfferStatus::Ended]);
    let all = [0, ORDERED_AT - days(12), ORDERED_AT - days(3), ORDERED_AT].map(terms_of);
    let chosen =
        [true, false, false, false].map(|always| if always { Just(true).boxed() } else { any::<bool>().boxed() });
    (rules, statuses, all, chosen).prop_map(move |(checkout_rule, status, terms, chosen)| {
        let terms = terms.into_iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(terms, _)| terms).collect();
        OfferRules { merchant_id: MerchantId(merchant), status, checkout_rule, terms }
    })
}

fn rulebook() -> impl Strategy<Value = Rulebook> {
    let statuses = vec![PublisherStatus::Approved, PublisherStatus::Approved, PublisherStatus::Suspended];
    let policies =
        vec![CouponPolicy::Always, CouponPolicy::IfInvolved, CouponPolicy::IfWinner, CouponPolicy::IfNoClick];
    let coupon = (select(vec![12, 13, 77]), PUBLISHERS, select(policies));
    (offer(1), offer(1), offer(2), vec(select(statuses), 5), coupon).prop_map(|(a, b, c, statuses, coupon)| {
        let mut rulebook = story().rulebook;
        rulebook.offers = BTreeMap::from([(OfferId(12), a), (OfferId(13), b), (OfferId(21), c)]);
        let publishers = (1..).map(PublisherId).zip(statuses);
        rulebook.publishers =
            publishers.map(|(id, status)| (id, PublisherRules { status, contract_signed: true })).collect();
        let (offer_id, publisher_id, policy) = (OfferId(coupon.0), PublisherId(coupon.1), coupon.2);
        let rules = CouponRules { offer_id, publisher_id, policy };
        rulebook.coupons.insert(SHOP, BTreeMap::from([("yalda".into(), rules)]));
        rulebook
    })
}

fn click_id() -> impl Strategy<Value = ClickId> {
    // Around the order, the checkout, the skew, the ends of windows and of terms.
    let anchors = vec![0, 0, 999, 120_000, 120_999, -50, -60_000, -days(1), -days(3), -days(5), -days(10), -days(30)];
    let near =
        prop_oneof![-2i64..3, -12_000i64..12_000, (-4i64..4, -1i64..2).prop_map(|(steps, off)| steps * 10_000 + off)];
    let labels = select(vec![0u8, 0, 0, 1, 4, 5]);
    let offers = select([&OFFERS[..], &[12, 12, 13]].concat());
    (1u64..3, offers, PUBLISHERS, select(anchors), near, labels, 0u8..2).prop_map(
        |(visitor, offer, publisher, anchor, near, labels, key)| {
            let mut bytes = *click_of(visitor, offer, publisher, ORDERED_AT + anchor + near, labels).as_bytes();
            bytes[0] |= key;
            ClickId::from_bytes(bytes).unwrap()
        },
    )
}

/// Publishers who click all the time, seen or hidden: what the caps of M4 are for.
fn crowd() -> impl Strategy<Value = Vec<ClickId>> {
    let steps = vec((1u32..6, 0i64..4_000, 0u8..2), 80..160);
    (steps, select(vec![0u8, 1, 1])).prop_map(|(steps, labels)| {
        let click = |(publisher, step, label): &(u32, i64, u8)| {
            let seldom = if step % 40 == 0 { *label } else { labels };
            click_of(1, [12, 13][*step as usize % 2], *publisher, ORDERED_AT - step * 10_000, seldom)
        };
        steps.iter().map(click).collect()
    })
}

pub fn touches() -> impl Strategy<Value = Vec<ClickId>> {
    prop_oneof![8 => vec(click_id(), 0..9), 1 => vec(click_id(), 20..60), 1 => crowd()]
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let skus = select(vec!["a", "b", "c", ""]);
    let categories = select(vec!["mobile", "rice", "case", "book", ""]);
    let amounts = prop_oneof![Just(0i64), 1i64..3_000, 0i64..1_000_000_000];
    let line = (skus, categories, 1u32..5, amounts, 0i64..=100, proptest::bool::weighted(0.2));
    let line = line.prop_map(|(sku, category, quantity, unit_amount, discount_percent, out_of_stock)| {
        let discount = unit_amount * i64::from(quantity) * discount_percent / 300;
        Item { out_of_stock, ..item(sku, category, quantity, unit_amount, discount) }
    });
    vec(line, 0..6)
}

pub fn refunds() -> impl Strategy<Value = Vec<Refund>> {
    let by_items = vec((select(vec!["a", "b", "c", "z"]), 1u32..4), 1..3);
    let by_items = by_items.prop_map(|items| {
        let items = items.into_iter().map(|(sku, quantity)| RefundItem { sku: sku.into(), quantity });
        (items.collect(), None)
    });
    let by_amount =
        prop_oneof![0i64..2_000, 0i64..=crate::money::MAX_AMOUNT].prop_map(|amount| (Vec::new(), Some(amount)));
    let one = prop_oneof![3 => by_items, 3 => by_amount, 1 => Just((Vec::new(), None))];
    vec((one, 0i64..3), 0..5).prop_map(|refunds| {
        let numbered = refunds.into_iter().enumerate().map(|(number, ((items, amount), received))| {
            let received_at_ms = TimeMs(ORDERED_AT + received);
            Refund { items, amount, received_at_ms, ..refund(number) }
        });
        numbered.collect()
    })
}

fn report() -> impl Strategy<Value = Conversion> {
    let amounts = prop_oneof![0i64..3_000, 0i64..=crate::money::MAX_AMOUNT];
    let kinds = select(vec!["sale", "sale", "signup"]);
    let times = (select(vec![0, 0, 1, 500, -days(1)]), any::<bool>(), select(vec![0, 5, days(14), days(14) + 1]));
    let checkout = proptest::option::of(select(vec![0, 50, 60_000, days(1)]));
    let coupons = proptest::option::of(select(vec!["YALDA", " yalda ", "NOROUZ"]));
    (amounts, items(), kinds, times, checkout, coupons, proptest::bool::weighted(0.03)).prop_map(
        |(amount, items, kind, (offset, whole, delay), checkout, coupon, unverified)| {
            let at = ORDERED_AT + offset;
            let story = story().amount(amount).occurred_at(at);
            let story = if items.is_empty() { story } else { story.items(items) };
            let story = story.report(|report| {
                report.kind = kind.into();
                report.received_at_ms = TimeMs(at + delay);
                report.occurred_at_whole_seconds = whole;
                report.checkout_started_at = checkout.map(|before| TimeMs(at - before));
                report.coupon_code = coupon.map(Into::into);
                report.unverified = unverified;
            });
            story.facts.report
        },
    )
}

pub fn world() -> impl Strategy<Value = Story> {
    let own = prop_oneof![
        3 => Just(OwnClick::None),
        1 => Just(OwnClick::Invalid),
        3 => click_id().prop_map(OwnClick::Verified),
    ];
    let known = proptest::bool::weighted(0.3);
    let statuses = vec![None, None, None, Some(MerchantStatus::Approved), Some(MerchantStatus::Rejected)];
    let settings = (select(vec![0, 10_000]), select(vec![0, 120_000]));
    (rulebook(), report(), own, known, touches(), refunds(), select(statuses), settings).prop_map(
        |(rulebook, report, own_click, known, touches, refunds, merchant_status, (window, skew))| {
            let mut story = Story { rulebook, ..story().clicks(&touches) };
            story.facts.report = report;
            story.facts.own_click = match touches.first() {
                Some(first) if known => OwnClick::Verified(*first),
                _ => own_click,
            };
            story.facts.refunds = refunds;
            // Half of the amounts are thousandths of this order's.
            for refund in story.facts.refunds.iter_mut().filter(|refund| refund.received_at_ms.0 % 2 == 0) {
                let whole = story.facts.report.amount / 1_000;
                refund.amount = refund.amount.map(|amount| amount % 1_001 * whole);
            }
            story.facts.merchant_status = merchant_status;
            story.settings.dedupe_window_ms = window;
            story.settings.clock_skew_ms = skew;
            story
        },
    )
}

/// A world whose visitor is made to click hundreds of times by a few publishers, within the window of double clicks and
/// beyond it, seen and hidden.
pub fn flooded() -> impl Strategy<Value = Story> {
    let step =
        (1u32..5, select(vec![12u32, 12, 13]), 1u64..3, select(vec![0i64, 1, 900, 4_000, 9_999, 10_000, 40_000]));
    let steps = vec((step, select(vec![0u8, 1, 1, 5])), 100..400);
    (world(), steps, -3_000_000i64..100_000).prop_map(|(mut story, steps, start)| {
        let mut at = ORDERED_AT + start;
        let click = |((publisher, offer, visitor, step), labels): &((u32, u32, u64, i64), u8)| {
            at += step;
            Touch(click_of(*visitor, *offer, *publisher, at, *labels))
        };
        story.facts.touches.extend(steps.iter().map(click).collect::<Vec<_>>());
        story
    })
}
