//! M43-M49: states, outcomes and their reasons.

use super::*;
use crate::attribution::{State, conflict};
use crate::event::MerchantStatus;

fn clicked() -> Story {
    story().clicks(&[click(1, ORDERED_AT)])
}

fn status(mut story: Story, status: MerchantStatus) -> Story {
    story.facts.merchant_status = Some(status);
    story
}

#[test]
fn m43_the_hold_ends_hold_days_after_the_order() {
    // The contract's example: `occurred_at` 0, 14 days: approved as of 1,209,600,000.
    let decision = story().occurred_at(0).clicks(&[click(1, 0)]).decide();
    assert_eq!((decision.state, decision.hold_until_ms), (Some(State::Pending), Some(TimeMs(1_209_600_000))));
    let decision = story().decide();
    assert_eq!((decision.state, decision.hold_until_ms), (None, None));
}

#[test]
fn m43_fully_refunded_is_reversed_and_stays_attributed() {
    let decision = clicked().refund_all().decide();
    assert_eq!((decision.outcome, decision.state), (Outcome::Attributed, Some(State::Reversed)));
    assert_eq!((decision.earned, decision.commission), (120, 0));
}

#[test]
fn m44_rejected_brings_the_money_to_0_and_a_later_word_brings_it_back() {
    let rejected = status(clicked(), MerchantStatus::Rejected).decide();
    assert_eq!((rejected.outcome, rejected.state), (Outcome::Attributed, Some(State::Rejected)));
    assert_eq!((rejected.earned, rejected.commission, rejected.shares[0].reversed), (120, 0, 120));
    for word in [MerchantStatus::Approved, MerchantStatus::Pending] {
        let back = status(clicked(), word).decide();
        assert_eq!((back.state, back.commission), (Some(State::Pending), 120));
    }
}

#[test]
fn m44_an_order_that_arrives_as_rejected_is_decided_like_any_other() {
    let arrives = clicked().report(|report| report.merchant_status = Some(MerchantStatus::Rejected));
    assert_eq!(arrives.decide().state, Some(State::Rejected));
    assert_eq!(status(arrives, MerchantStatus::Approved).decide().commission, 120);
    let nobody = story().report(|report| report.merchant_status = Some(MerchantStatus::Rejected)).decide();
    assert_eq!((nobody.reason, nobody.state), (Some(Reason::NoTouch), Some(State::Rejected)));
}

#[test]
fn m46_attributed_with_a_rate_above_0_even_if_the_money_is_0() {
    for story in [clicked().amount(0), clicked().amount(1)] {
        let decision = story.decide();
        assert_eq!((decision.outcome, decision.state), (Outcome::Attributed, Some(State::Pending)));
        assert_eq!(super::shares(&decision), [(1, 1_000_000, 0)]);
    }
    // A free case: its fixed rate is above 0, but nothing is earned (M30).
    let free = clicked().items(vec![item("p", "case", 1, 0, 0)]).decide();
    assert_eq!((free.outcome, free.commission), (Outcome::Attributed, 0));
}

#[test]
fn m47_the_first_cause_of_the_list_is_the_reason() {
    let shop = story()
        .other_offer(21, |offer| offer.merchant_id = MerchantId(2))
        .offer(|offer| offer.checkout_rule = CheckoutRule::IgnoreAfterCheckout)
        .report(|report| report.checkout_started_at = Some(TimeMs(ORDERED_AT - 100)));
    // Each story adds a cause that stands earlier in the list.
    let story = shop.clone();
    assert_eq!(story.reason(), Some(Reason::NoTouch));
    let story = story.coupon(3, CouponPolicy::IfWinner);
    assert_eq!(story.reason(), Some(Reason::CouponRule));
    let story = story.clicks(&[click(1, ORDERED_AT - 50)]);
    assert_eq!(story.reason(), Some(Reason::CheckoutRule));
    let story = story.clicks(&[click(2, ORDERED_AT - days(11))]);
    assert_eq!(story.reason(), Some(Reason::WindowExpired));
    let story = story.publisher(4, None).clicks(&[click(4, ORDERED_AT)]);
    assert_eq!(story.reason(), Some(Reason::PublisherInactive));
    let wrong = story.clone().own(click_of(5, 21, 1, ORDERED_AT, 0));
    assert_eq!(wrong.reason(), Some(Reason::WrongMerchant));
    let story = story.invalid_click();
    assert_eq!(story.reason(), Some(Reason::InvalidClickId));
    let story = story.report(|report| report.unverified = true);
    assert_eq!(story.reason(), Some(Reason::Unverified));
}

#[test]
fn m47_with_somebody_found_the_lines_are_the_reason() {
    let gone = |category: &str| Item { out_of_stock: true, ..item("x", category, 1, 5, 0) };
    let reason = |items: Vec<Item>| clicked().items(items).reason();
    assert_eq!(reason(vec![gone(""), gone("rice")]), Some(Reason::OutOfStock));
    assert_eq!(reason(vec![gone(""), item("c", "rice", 1, 5, 0)]), Some(Reason::ZeroRate));
    assert_eq!(reason(vec![item("c", "rice", 1, 5, 0)]), Some(Reason::ZeroRate));
}

#[test]
fn m48_a_conflict_is_an_outcome_without_money() {
    let decision = conflict(&clicked().facts.report);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Unattributed, Some(Reason::Conflict)));
    assert_eq!((decision.commission, decision.state, decision.shares.len()), (0, None, 0));
}

#[test]
fn m49_two_types_of_one_order_both_earn() {
    let sale = clicked().decide();
    let signup = clicked().report(|report| report.kind = "signup".into()).decide();
    assert_eq!((sale.commission, signup.commission), (120, 500_000));
}

#[test]
fn decisions_survive_being_stored() {
    let stories = [
        clicked().items(basket()).refund_items(&[("a", 1)]),
        story(),
        clicked().terms(|terms| terms.default_rate = percent("100%")).amount(crate::money::MAX_AMOUNT),
    ];
    for story in stories {
        let decision = story.decide();
        let text = serde_json::to_string(&decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
        let facts = serde_json::to_string(&story.facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&facts).unwrap(), story.facts);
    }
}
