//! M8-M13: which candidates count.

use super::*;

/// 2026-11-22T10:00:00Z, as in the contract's examples.
const TEN: i64 = 1_795_341_600_000;

fn ordered(at: i64) -> Story {
    story().occurred_at(at)
}

fn whole_seconds(at: i64) -> Story {
    ordered(at).report(|report| report.occurred_at_whole_seconds = true)
}

fn checkout(started_at: i64) -> Story {
    let story = story().offer(|offer| offer.checkout_rule = CheckoutRule::IgnoreAfterCheckout);
    story.report(|report| report.checkout_started_at = Some(TimeMs(started_at)))
}

#[test]
fn m8_filters_run_window_then_checkout_then_label() {
    // The navigated click falls at the checkout before the label is looked at, so the hidden one counts.
    let story = checkout(ORDERED_AT - 100).clicks(&[hidden(1, ORDERED_AT - 200), click(2, ORDERED_AT - 50)]);
    assert_eq!(story.winner(), Some(1));
    // The click within its window keeps the skewed one out, even though it falls at the checkout afterwards.
    let story = checkout(ORDERED_AT - 100).clicks(&[click(1, ORDERED_AT - 50), click(2, ORDERED_AT + 50)]);
    assert_eq!(story.reason(), Some(Reason::WindowExpired));
}

#[test]
fn m9_both_ends_of_the_window_count() {
    // The contract's example: 10 days, click at 0: 864,000,000 counts, 864,000,001 does not.
    assert_eq!(ordered(864_000_000).clicks(&[click(1, 0)]).winner(), Some(1));
    assert_eq!(ordered(864_000_001).clicks(&[click(1, 0)]).reason(), Some(Reason::WindowExpired));
    assert_eq!(ordered(5).clicks(&[click(1, 5)]).winner(), Some(1));
}

#[test]
fn m9_zero_days_mean_the_same_millisecond() {
    let zero = |at: i64| ordered(at).terms(|terms| terms.window_days = 0).clicks(&[click(1, TEN)]);
    assert_eq!(zero(TEN).winner(), Some(1));
    assert_eq!(zero(TEN + 1).reason(), Some(Reason::WindowExpired));
}

#[test]
fn m9_each_candidate_has_the_window_of_its_own_offer_when_it_was_clicked() {
    let story = story().other_offer(13, |offer| offer.terms[0].window_days = 30);
    let story = story.offer(|offer| {
        let longer = Terms { from: TimeMs(ORDERED_AT - days(19)), window_days: 20, ..offer.terms[0].clone() };
        offer.terms.push(longer);
    });
    let at = |offer: u32, before: i64| story.clone().clicks(&[click_of(1, offer, 1, ORDERED_AT - before, 0)]).winner();
    assert_eq!(at(13, days(30)), Some(1));
    assert_eq!(at(12, days(19)), Some(1));
    assert_eq!(at(12, days(19) + 1), None);
}

#[test]
fn m10_a_time_of_whole_seconds_is_read_as_the_end_of_its_second() {
    // The contract's example: click 10:00:00.450, `occurred_at` 10:00:00 is read as 10:00:00.999.
    let mut story = whole_seconds(TEN).clicks(&[click(1, TEN + 450)]);
    story.settings.clock_skew_ms = 0;
    assert_eq!(story.winner(), Some(1));
    // Written as 10:00:00.000 it is no time of whole seconds.
    story.facts.report.occurred_at_whole_seconds = false;
    assert_eq!(story.reason(), Some(Reason::WindowExpired));
}

#[test]
fn m10_the_upper_end_uses_the_time_as_reported() {
    let story = |at: i64| whole_seconds(at).clicks(&[click(1, TEN - days(10))]);
    assert_eq!(story(TEN).winner(), Some(1));
    assert_eq!(story(TEN + 1_000).reason(), Some(Reason::WindowExpired));
}

#[test]
fn m11_a_click_after_the_order_counts_only_if_no_other_is_within_its_window() {
    // The contract's example: clicks 10:00:00 and 10:01:00, `occurred_at` 10:00:30.500.
    let both = [click(1, TEN), click(2, TEN + 60_000)];
    assert_eq!(ordered(TEN + 30_500).model(Model::Linear).clicks(&both).winner(), Some(1));
    assert_eq!(ordered(TEN + 30_500).clicks(&both[1..]).winner(), Some(2));
    // An expired candidate does not pass, so it keeps nobody out.
    let expired = [click(1, TEN - days(11)), click(2, TEN + 60_000)];
    assert_eq!(ordered(TEN).clicks(&expired).winner(), Some(2));
}

#[test]
fn m11_clocks_may_differ_by_the_skew_and_no_more() {
    let after = |ms: i64| ordered(TEN + 1).clicks(&[click(1, TEN + 1 + ms)]);
    assert_eq!(after(120_000).winner(), Some(1));
    assert_eq!(after(120_001).reason(), Some(Reason::WindowExpired));
    // Several skewed ones count together.
    let two = ordered(TEN + 1).model(Model::Linear).clicks(&[click(1, TEN + 5), click(2, TEN + 6)]);
    assert_eq!(two.shares().len(), 2);
}

#[test]
fn m12_clicks_after_the_checkout_began_are_dropped_an_equal_time_counts() {
    let at = |offset: i64| checkout(ORDERED_AT - 100).clicks(&[click(1, ORDERED_AT - 100 + offset)]);
    assert_eq!(at(0).winner(), Some(1));
    assert_eq!(at(1).reason(), Some(Reason::CheckoutRule));
    assert!(at(1).says("checkout", "ignores clicks after the checkout began"));
    let mut unknown = at(1);
    unknown.facts.report.checkout_started_at = None;
    assert_eq!(unknown.winner(), Some(1));
}

#[test]
fn m12_the_rule_is_that_of_each_candidates_own_offer() {
    let story = checkout(ORDERED_AT - 100).other_offer(13, |offer| offer.checkout_rule = CheckoutRule::None);
    let late = [click(1, ORDERED_AT - 50), click_of(1, 13, 2, ORDERED_AT - 60, 0)];
    assert_eq!(story.clicks(&late).winner(), Some(2));
}

#[test]
fn m13_a_touch_that_was_no_navigation_counts_only_alone() {
    let story = story().clicks(&[click(1, ORDERED_AT - 100), hidden(3, ORDERED_AT)]);
    assert_eq!(story.winner(), Some(1));
    assert!(story.says("label", "does not count"));
    let mut alone = story;
    alone.facts.touches.retain(|touch| !touch.0.navigated());
    assert_eq!(alone.winner(), Some(3));
}
