//! M1-M7, M50, M51: which clicks there are.

use super::*;
use crate::click::{LABEL_BOT, LABEL_PREFETCH};

const HOUR: i64 = 3_600_000;

#[test]
fn m1_an_own_click_and_the_visitors_touches_are_candidates_together() {
    let known = story().model(Model::Linear).clicks(&[click(1, ORDERED_AT - 2 * HOUR)]);
    let other_visitor = click_of(2, 12, 2, ORDERED_AT - HOUR, 0);
    assert_eq!(known.clone().own(other_visitor).shares(), [(1, 500_000, 60), (2, 500_000, 60)]);
    // The own click being one of the touches changes nothing.
    let own = click(1, ORDERED_AT - 2 * HOUR);
    assert_eq!(known.own(own).shares(), [(1, 1_000_000, 120)]);
}

#[test]
fn m1_an_invalid_click_id_does_not_spoil_the_touches_of_a_visitor() {
    let story = story().invalid_click().clicks(&[click(1, ORDERED_AT)]);
    assert_eq!(story.winner(), Some(1));
    assert!(story.says("click_id", "was not signed by this tracker"));
}

#[test]
fn m1_touches_of_several_offers_of_the_merchant_are_candidates_together() {
    let story = story().other_offer(13, |offer| offer.terms[0].default_rate = percent("50%"));
    let story = story.clicks(&[click(1, ORDERED_AT - HOUR), click_of(1, 13, 2, ORDERED_AT, 0)]);
    assert_eq!(story.shares(), [(2, 1_000_000, 500)]);
}

#[test]
fn m1_a_visitors_touches_elsewhere_leave_neither_cause_nor_trace() {
    // Offer 21 is another merchant's, 77 is no longer in the catalog; so is publisher 9.
    let story = story().other_offer(21, |offer| offer.merchant_id = MerchantId(2));
    let elsewhere: Vec<ClickId> = [(21, 1), (21, 9), (77, 1), (77, 9)]
        .iter()
        .flat_map(|(offer, publisher)| (0..6).map(|n| click_of(1, *offer, *publisher, ORDERED_AT - n * HOUR, 0)))
        .collect();
    let decision = story.clone().clicks(&elsewhere).decide();
    assert_eq!((decision.reason, decision.explanation), (Some(Reason::NoTouch), story.decide().explanation));
    // The own click is told: of a removed offer there is no touch, of another merchant's it is the reason.
    let removed = story.clone().own(elsewhere[12]).clicks(&elsewhere).decide();
    let told: Vec<_> = removed.explanation.iter().filter_map(|step| step.click_id).collect();
    assert_eq!((removed.reason, told), (Some(Reason::NoTouch), vec![elsewhere[12]]));
    assert_eq!(story.own(elsewhere[0]).clicks(&elsewhere).reason(), Some(Reason::WrongMerchant));
}

#[test]
fn m4_the_caps_see_through_what_was_reduced() {
    // 1,300 publishers clicked later than the first touch of the own click's stream, which lies in the midst of them.
    let mut story = story().model(Model::Linear);
    let own = click(1, ORDERED_AT - 30 * HOUR);
    let ours: Vec<ClickId> = (0..9).map(|n| click(1, ORDERED_AT - 100 * HOUR + n * 11 * HOUR)).collect();
    story = story.clicks(&ours).clicks(&[own]).own(own);
    for publisher in 100..1_400 {
        story = story.publisher(publisher, Some(PublisherStatus::Approved));
        story = story.clicks(&[click(publisher, ORDERED_AT - 90 * HOUR + i64::from(publisher) * 200_000)]);
    }
    let bounds = Bounds {
        own: Some(Touch(own)),
        window_ms: story.settings.dedupe_window_ms,
        latest: story.facts.latest_clicked_at(&story.settings),
        until: TimeMs(ORDERED_AT),
    };
    let clicks = Clicks { touches: story.facts.touches.clone(), extent: Extent::Whole };
    let reduced = reduce(clicks, &bounds);
    assert_eq!((reduced.extent, reduced.touches.len() < 1_100), (Extent::Reduced, true));
    let mut by_reduced = story.clone();
    by_reduced.facts.touches = reduced.touches;
    assert_eq!(by_reduced.shares(), story.shares());
    assert_eq!(story.shares().len(), 64);
}

#[test]
fn m2_a_click_of_another_merchant_does_not_count() {
    let story = story().other_offer(21, |offer| offer.merchant_id = MerchantId(2));
    let foreign = click_of(7, 21, 1, ORDERED_AT, 0);
    assert_eq!(story.clone().own(foreign).reason(), Some(Reason::WrongMerchant));
    assert_eq!(story.own(foreign).clicks(&[click(2, ORDERED_AT)]).winner(), Some(2));
}

#[test]
fn m2_publisher_and_offer_must_be_in_the_catalog() {
    let clicked = story().own(click(1, ORDERED_AT));
    assert_eq!(clicked.clone().publisher(1, None).reason(), Some(Reason::PublisherInactive));
    let gone = story().own(click_of(1, 77, 1, ORDERED_AT, 0));
    assert_eq!(gone.reason(), Some(Reason::NoTouch));
    // An unknown offer's merchant is unknown; the unknown publisher is all that can be said.
    assert_eq!(gone.publisher(1, None).reason(), Some(Reason::PublisherInactive));
    let foreign = story().other_offer(21, |offer| offer.merchant_id = MerchantId(2)).publisher(1, None);
    assert_eq!(foreign.own(click_of(7, 21, 1, ORDERED_AT, 0)).reason(), Some(Reason::WrongMerchant));
}

#[test]
fn m2_a_publisher_suspended_and_an_offer_paused_later_still_earn() {
    let clicked = story().own(click(1, ORDERED_AT)).offer(|offer| offer.status = OfferStatus::Ended);
    for status in [PublisherStatus::Suspended, PublisherStatus::Pending] {
        assert_eq!(clicked.clone().publisher(1, Some(status)).winner(), Some(1));
    }
}

#[test]
fn m3_double_clicks_are_one_touch_from_the_first_of_their_group() {
    // The contract's example: clicks at 0, 9,999 and 10,000 are two touches, at 0 and at 10,000.
    let start = ORDERED_AT - HOUR;
    let story = story().model(Model::Linear).clicks(&[
        click(1, start),
        click(1, start + 9_999),
        click(1, start + 10_000),
        click(2, start + 5),
    ]);
    assert_eq!(story.shares(), [(1, 666_667, 80), (2, 333_333, 40)]);
    assert!(story.says("candidate", "the first of 2 clicks that count as one"));
    let decision = story.decide();
    assert_eq!(decision.shares[0].click_id, Some(click(1, start + 10_000)));
}

#[test]
fn m3_a_group_keeps_the_time_of_its_first_click_and_any_navigation() {
    // The group began one millisecond too early for the window of 10 days.
    let start = ORDERED_AT - days(10) - 1;
    assert_eq!(story().clicks(&[click(1, start), click(1, start + 1)]).reason(), Some(Reason::WindowExpired));
    let clicks = [hidden(1, ORDERED_AT - HOUR), click(1, ORDERED_AT - HOUR + 1), click(2, ORDERED_AT - 2 * HOUR)];
    assert_eq!(story().clicks(&clicks).winner(), Some(1));
    let alone = [clicks[0], clicks[2]];
    assert_eq!(story().clicks(&alone).winner(), Some(2));
}

#[test]
fn m3_the_own_click_merges_too_and_visitors_do_not() {
    let start = ORDERED_AT - HOUR;
    let story = story().model(Model::Linear).clicks(&[click(1, start), click(2, start)]);
    assert_eq!(story.clone().own(click(1, start + 9_999)).shares(), [(1, 500_000, 60), (2, 500_000, 60)]);
    let another = click_of(9, 12, 1, start + 1, 0);
    assert_eq!(story.own(another).shares(), [(1, 666_667, 80), (2, 333_333, 40)]);
}

#[test]
fn m4_keeps_the_first_and_the_latest_three_of_an_offer_and_publisher() {
    let ours: Vec<ClickId> = (0..6).map(|hour| click(1, ORDERED_AT - 100 * HOUR + hour * HOUR)).collect();
    let story = story().model(Model::Linear).clicks(&ours).clicks(&[click(2, ORDERED_AT)]);
    assert_eq!(story.shares(), [(1, 800_000, 96), (2, 200_000, 24)]);
    assert!(story.says("kept_touches", "the first and the latest 3 touches"));
    assert_eq!(story.clone().model(Model::FirstClick).decide().shares[0].click_id, Some(ours[0]));
    // The own click is a candidate even where its touch is dropped.
    assert_eq!(story.own(ours[1]).shares(), [(1, 833_333, 100), (2, 166_667, 20)]);
}

#[test]
fn m4_keeps_the_latest_64_navigated_and_8_others_of_a_visitor() {
    let mut story = story().model(Model::FirstClick);
    for publisher in 100..180 {
        story = story.publisher(publisher, Some(PublisherStatus::Approved));
        story = story.clicks(&[click(publisher, ORDERED_AT - HOUR + i64::from(publisher))]);
    }
    // 80 came, the latest 64 are kept: the first of those kept is the 17th.
    assert_eq!(story.winner(), Some(116));
    for publisher in 1..=4 {
        let images: Vec<ClickId> = (0..4).map(|n| hidden(publisher, ORDERED_AT - n * 20_000)).collect();
        story = story.clicks(&images);
    }
    // Hidden images push out nobody who navigated, and only 8 of the 16 stay.
    assert_eq!(story.winner(), Some(116));
    story.facts.touches.retain(|touch| !touch.0.navigated());
    assert_eq!(story.clone().model(Model::Linear).decide().shares.iter().map(|share| share.parts).max(), Some(250_000));
}

#[test]
fn m4_touches_after_the_order_push_out_nobody() {
    let story = story().clicks(&[click(1, ORDERED_AT - days(11)), click(1, ORDERED_AT - HOUR)]);
    assert_eq!(story.winner(), Some(1));
    let returns: Vec<ClickId> = (1..9).map(|hour| click(1, ORDERED_AT + hour * HOUR)).collect();
    assert_eq!(story.clicks(&returns).winner(), Some(1));
}

#[test]
fn m5_touches_are_ordered_by_time_then_by_the_bytes_of_the_id() {
    let mut older_key = *click(2, ORDERED_AT - 1).as_bytes();
    older_key[0] = 1 << 4 | 15;
    let older = ClickId::from_bytes(older_key).unwrap();
    // The bytes begin with the key number, which is no time.
    assert_eq!(story().clicks(&[older, click(1, ORDERED_AT)]).winner(), Some(1));
    assert_eq!(story().clicks(&[click(1, ORDERED_AT), click(2, ORDERED_AT)]).winner(), Some(2));
}

#[test]
fn m6_a_late_report_has_its_own_click_only() {
    let clicked = story().own(click(1, ORDERED_AT - HOUR)).clicks(&[click(2, ORDERED_AT)]);
    let received = |after: i64| clicked.clone().report(|report| report.received_at_ms = TimeMs(ORDERED_AT + after));
    assert_eq!(received(days(14)).winner(), Some(2));
    assert_eq!(received(days(14) + 1).winner(), Some(1));
    assert!(received(days(14) + 1).says("late_report", "1 other clicks are left out"));
    let mut without = received(days(14) + 1);
    without.facts.own_click = OwnClick::None;
    assert_eq!(without.reason(), Some(Reason::NoTouch));
    // Its own click stands for itself, not for a group.
    let grouped = received(days(15)).clicks(&[click(1, ORDERED_AT - HOUR - 5)]);
    assert_eq!(grouped.decide().shares[0].click_id, Some(click(1, ORDERED_AT - HOUR)));
}

#[test]
fn m7_other_labels_decide_nothing_and_are_shown() {
    let labelled = click_of(1, 12, 1, ORDERED_AT, LABEL_BOT | LABEL_PREFETCH);
    let story = story().clicks(&[click(2, ORDERED_AT - HOUR), labelled]);
    assert_eq!(story.winner(), Some(1));
    assert!(story.says("candidate", "label prefetch, label bot"));
}

#[test]
fn m50_a_late_touch_decides_as_if_it_had_been_there_and_after_approval_it_is_only_named() {
    let early = story().clicks(&[click(1, ORDERED_AT - HOUR)]);
    let late = early.clone().clicks(&[click(2, ORDERED_AT - 5)]);
    assert_eq!((early.winner(), late.winner()), (Some(1), Some(2)));
    let mut frozen = early.clone();
    frozen.facts.late_click_ignored = true;
    assert_eq!(frozen.shares(), early.shares());
    assert!(frozen.says("late_click", "after approval"));
}

#[test]
fn m51_facts_know_no_hints() {
    // Of a click only the signed ID is known: no duplicate_of, no billable. The order of facts says nothing either.
    let clicks = [click(1, ORDERED_AT), click(2, ORDERED_AT - 5), hidden(3, ORDERED_AT)];
    let told = story().clicks(&clicks).decide();
    let reversed = story().clicks(&[clicks[2], clicks[1], clicks[0], clicks[1]]).decide();
    assert_eq!(told, reversed);
}
