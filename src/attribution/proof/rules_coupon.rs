//! M21-M26: what a coupon changes.

use super::*;

fn code(code: &str) -> Story {
    story().coupon(3, CouponPolicy::Always).report(|report| report.coupon_code = Some(code.into()))
}

#[test]
fn m21_codes_are_compared_trimmed_and_without_ascii_case() {
    for spelled in ["YALDA", " yalda ", "Yalda\t"] {
        assert_eq!(code(spelled).winner(), Some(3), "{spelled:?}");
    }
}

#[test]
fn m21_an_unknown_code_is_as_if_absent_and_the_explanation_says_so() {
    let story = code("NOROUZ").clicks(&[click(1, ORDERED_AT)]).terms(|terms| terms.coupon_rate = Some(percent("8%")));
    assert_eq!(story.shares(), [(1, 1_000_000, 120)]);
    assert!(story.says("coupon", "\"NOROUZ\" is as if absent"));
    let mut elsewhere = code("YALDA");
    elsewhere.facts.report.merchant_id = MerchantId(2);
    assert_eq!(elsewhere.reason(), Some(Reason::NoTouch));
}

#[test]
fn m21_a_coupon_needs_an_approved_publisher_an_active_offer_and_terms() {
    let coupon = code("YALDA").clicks(&[click(1, ORDERED_AT)]).terms(|terms| terms.coupon_rate = Some(percent("8%")));
    assert_eq!(coupon.shares(), [(3, 1_000_000, 80)]);
    for status in [None, Some(PublisherStatus::Pending), Some(PublisherStatus::Suspended)] {
        let absent = coupon.clone().publisher(3, status);
        assert_eq!(absent.shares(), [(1, 1_000_000, 120)]);
        assert!(absent.says("coupon", "publisher 3 is not approved"));
    }
    for status in [OfferStatus::Paused, OfferStatus::Ended] {
        let absent = coupon.clone().offer(|offer| offer.status = status);
        assert_eq!(absent.shares(), [(1, 1_000_000, 120)]);
        assert!(absent.says("coupon", "offer 12 is not active"));
    }
    let absent = coupon.terms(|terms| {
        terms.until = Some(TimeMs(ORDERED_AT));
        terms.rate_basis = RateBasis::Click;
    });
    assert_eq!(absent.reason(), Some(Reason::WindowExpired));
    assert!(absent.says("coupon", "no terms in force"));
}

#[test]
fn m22_always_takes_all() {
    let coupon = story().coupon(3, CouponPolicy::Always);
    assert_eq!(coupon.clone().clicks(&[click(1, ORDERED_AT)]).winner(), Some(3));
    let decision = coupon.decide();
    assert_eq!(super::shares(&decision), [(3, 1_000_000, 120)]);
    assert!(decision.shares[0].coupon);
    assert_eq!(decision.shares[0].click_id, None);
}

#[test]
fn m22_if_involved_takes_all_from_a_click_of_its_publisher_that_counts() {
    let both = [click(1, ORDERED_AT - 1), click(2, ORDERED_AT)];
    let decision = story().coupon(1, CouponPolicy::IfInvolved).clicks(&both).decide();
    assert_eq!(super::shares(&decision), [(1, 1_000_000, 120)]);
    assert_eq!(decision.shares[0].click_id, Some(both[0]));
    // Not involved: the click of the coupon's publisher is expired, or hidden behind a navigated one.
    for click_of_3 in [click(3, ORDERED_AT - days(11)), hidden(3, ORDERED_AT)] {
        let story = story().coupon(3, CouponPolicy::IfInvolved).clicks(&[click_of_3, both[0]]);
        assert_eq!(story.winner(), Some(1));
        assert!(!story.decide().shares[0].coupon);
    }
}

#[test]
fn m22_if_winner_only_marks() {
    let both = [click(1, ORDERED_AT - 100_000), click(2, ORDERED_AT)];
    let story = story().coupon(1, CouponPolicy::IfWinner).clicks(&both);
    assert_eq!(story.winner(), Some(2));
    assert!(!story.decide().shares[0].coupon);
    let shared = story.model(Model::Linear).decide();
    assert_eq!(super::shares(&shared), [(1, 500_000, 60), (2, 500_000, 60)]);
    assert_eq!(shared.shares.iter().map(|share| share.coupon).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn m22_if_no_click_takes_all_only_without_a_candidate() {
    let coupon = story().coupon(3, CouponPolicy::IfNoClick);
    assert_eq!(coupon.winner(), Some(3));
    assert_eq!(coupon.clone().clicks(&[click(1, ORDERED_AT)]).winner(), Some(1));
    assert_eq!(coupon.clicks(&[click(1, ORDERED_AT - days(11))]).winner(), Some(3));
}

#[test]
fn m23_if_involved_and_if_winner_earn_nothing_without_a_candidate() {
    for policy in [CouponPolicy::IfInvolved, CouponPolicy::IfWinner] {
        let coupon = story().coupon(3, policy);
        assert_eq!(coupon.reason(), Some(Reason::CouponRule));
        // An expired click is the earlier cause.
        assert_eq!(coupon.clicks(&[click(3, ORDERED_AT - days(11))]).reason(), Some(Reason::WindowExpired));
    }
}

#[test]
fn m24_a_bad_click_does_not_hinder_a_coupon_and_is_still_explained() {
    for policy in [CouponPolicy::Always, CouponPolicy::IfNoClick] {
        let coupon = story().coupon(3, policy).other_offer(21, |offer| offer.merchant_id = MerchantId(2));
        assert_eq!(coupon.clone().invalid_click().winner(), Some(3));
        assert!(coupon.clone().invalid_click().says("click_id", "proves nothing"));
        let expired = coupon.clone().own(click(1, ORDERED_AT - days(11)));
        assert_eq!(expired.winner(), Some(3));
        assert!(expired.says("window", "outside of the window"));
        let wrong = coupon.own(click_of(5, 21, 1, ORDERED_AT, 0));
        assert_eq!(wrong.winner(), Some(3));
        assert!(wrong.says("candidate", "belongs to merchant 2"));
    }
}

#[test]
fn m25_the_coupons_offer_at_the_order_gives_everything() {
    let story = story().coupon(3, CouponPolicy::Always).other_offer(13, |offer| {
        offer.terms[0].default_rate = percent("50%");
        offer.terms[0].hold_days = 60;
    });
    let story = story.terms(|terms| terms.hold_days = 7).clicks(&[click_of(1, 13, 1, ORDERED_AT, 0)]);
    // With `rate_basis = "conversion"` a click on the coupon's own offer gives nothing either.
    let story = story.offer(|offer| {
        let cheap = Terms { default_rate: percent("1%"), until: Some(TimeMs(ORDERED_AT)), ..offer.terms[0].clone() };
        offer.terms.push(Terms { from: TimeMs(ORDERED_AT - days(1)), ..cheap });
    });
    let decision = story.clicks(&[click(2, ORDERED_AT - 5)]).decide();
    assert_eq!(super::shares(&decision), [(3, 1_000_000, 120)]);
    assert_eq!((decision.offer_id, decision.hold_until_ms), (Some(OFFER), Some(TimeMs(ORDERED_AT + days(7)))));
}

#[test]
fn m25_with_rate_basis_click_the_rates_are_those_of_the_latest_click_on_the_coupons_offer() {
    let story = story().coupon(3, CouponPolicy::Always).other_offer(13, |_| {}).offer(|offer| {
        offer.terms[0].rate_basis = RateBasis::Click;
        let from = TimeMs(ORDERED_AT - days(1));
        let dearer = Terms { from, default_rate: percent("15%"), hold_days: 30, ..offer.terms[0].clone() };
        offer.terms.push(dearer);
    });
    assert_eq!(story.shares(), [(3, 1_000_000, 150)]);
    let old = click(1, ORDERED_AT - days(2));
    let clicked = story.clicks(&[click(2, ORDERED_AT - days(3)), old, click_of(1, 13, 1, ORDERED_AT, 0)]);
    assert_eq!(clicked.shares(), [(3, 1_000_000, 120)]);
    // Only the rates: the hold is that at the order.
    assert_eq!(clicked.decide().hold_until_ms, Some(TimeMs(ORDERED_AT + days(30))));
    // A click that does not count gives nothing.
    let hidden = clicked.clicks(&[hidden(1, ORDERED_AT - days(2) + 1)]);
    assert_eq!(hidden.shares(), [(3, 1_000_000, 120)]);
}

#[test]
fn m26_the_coupon_rate_replaces_all_but_categories_of_zero() {
    // The contract's example, 8 %: the lines of M28 earn 152 + 40 + 0 = 192, whatever the policy decided.
    for (policy, winner) in [(CouponPolicy::Always, 3), (CouponPolicy::IfNoClick, 1), (CouponPolicy::IfWinner, 1)] {
        let story = story().coupon(3, policy).terms(|terms| terms.coupon_rate = Some(percent("8%"))).items(basket());
        let decision = story.clicks(&[click(1, ORDERED_AT)]).decide();
        assert_eq!(decision.line_millionths, [152_000_000, 40_000_000, 0]);
        assert_eq!(super::shares(&decision), [(winner, 1_000_000, 192)]);
    }
}

#[test]
fn m26_a_fixed_coupon_rate_is_earned_once_per_conversion() {
    let story = story().coupon(3, CouponPolicy::Always).terms(|terms| terms.coupon_rate = Some(percent("300")));
    let decision = story.clone().items(basket()).decide();
    assert_eq!((decision.line_millionths, decision.fixed), (vec![0, 0, 0], 300));
    let rice_only = story.clone().items(basket().split_off(2));
    assert_eq!(rice_only.reason(), Some(Reason::ZeroRate));
    // A type's own rate is not replaced (M29).
    assert_eq!(story.report(|report| report.kind = "signup".into()).shares(), [(3, 1_000_000, 500_000)]);
}

#[test]
fn m26_a_coupon_rate_of_zero_leaves_nothing() {
    let story = story().coupon(3, CouponPolicy::Always).terms(|terms| terms.coupon_rate = Some(percent("0%")));
    assert_eq!(story.reason(), Some(Reason::ZeroRate));
}
