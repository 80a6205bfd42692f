//! M14-M20: whose terms count, and how a model shares. The models' arithmetic is tested beside it, in `model`.

use super::*;

/// 12 %, and 15 % from a day before the order until a day after it.
fn campaign() -> Story {
    story().offer(|offer| {
        let (from, until) = (TimeMs(ORDERED_AT - days(1)), Some(TimeMs(ORDERED_AT + days(1))));
        let campaign = Terms { from, until, default_rate: percent("15%"), ..offer.terms[0].clone() };
        offer.terms.push(campaign);
    })
}

#[test]
fn m14_rates_change_when_a_campaign_begins_and_ends() {
    let clicked = campaign().clicks(&[click(1, ORDERED_AT - days(3))]);
    for (at, commission) in [(-days(1) - 1, 120), (-days(1), 150), (days(1) - 1, 150), (days(1), 120)] {
        assert_eq!(clicked.clone().occurred_at(ORDERED_AT + at).shares(), [(1, 1_000_000, commission)], "{at}");
    }
}

#[test]
fn m15_without_terms_at_the_click_the_offer_counts_as_ended() {
    let story =
        story().offer(|offer| offer.terms[0].from = TimeMs(ORDERED_AT - 10)).clicks(&[click(1, ORDERED_AT - 11)]);
    assert_eq!(story.reason(), Some(Reason::WindowExpired));
    assert!(story.says("window", "no terms in force"));
}

#[test]
fn m15_without_terms_for_the_rates_nothing_is_earned() {
    let story = story().terms(|terms| terms.until = Some(TimeMs(ORDERED_AT))).clicks(&[click(1, ORDERED_AT - 1)]);
    assert_eq!(story.reason(), Some(Reason::ZeroRate));
    assert!(story.says("terms", "no terms in force then"));
    assert_eq!(story.clone().terms(|terms| terms.rate_basis = RateBasis::Click).winner(), Some(1));
    let mut gone = item("a", "", 1, 5, 0);
    gone.out_of_stock = true;
    assert_eq!(story.items(vec![gone]).reason(), Some(Reason::OutOfStock));
}

#[test]
fn m16_rate_basis_chooses_the_date_of_the_rate() {
    // The contract's example: 12 %, in a campaign 15 %; click before it, order of 1,000 in it.
    let clicked = campaign().clicks(&[click(1, ORDERED_AT - days(2))]);
    assert_eq!(clicked.shares(), [(1, 1_000_000, 150)]);
    assert_eq!(clicked.terms(|terms| terms.rate_basis = RateBasis::Click).shares(), [(1, 1_000_000, 120)]);
}

#[test]
fn m16_model_hold_and_basis_are_those_of_the_latest_candidate_when_it_was_clicked() {
    let story = story().other_offer(13, |offer| {
        offer.terms[0].model = Model::Linear;
        offer.terms[0].hold_days = 30;
        offer.terms[0].default_rate = percent("10%");
        let now = Terms { from: TimeMs(ORDERED_AT), hold_days: 1, model: Model::FirstClick, ..offer.terms[0].clone() };
        offer.terms.push(now);
    });
    let story = story.clicks(&[click(1, ORDERED_AT - 100_000), click_of(1, 13, 2, ORDERED_AT - 1, 0)]);
    let decision = story.decide();
    assert_eq!(super::shares(&decision), [(1, 500_000, 50), (2, 500_000, 50)]);
    assert_eq!(decision.offer_id, Some(OfferId(13)));
    assert_eq!(decision.hold_until_ms, Some(TimeMs(ORDERED_AT + days(30))));
}

#[test]
fn m17_models_share_among_the_counting_candidates_only() {
    let story = story().clicks(&[
        click(1, ORDERED_AT - days(11)),
        click(2, ORDERED_AT - 300_000),
        hidden(3, ORDERED_AT - 200_000),
        click(4, ORDERED_AT - 100_000),
    ]);
    let shares = |model: Model| story.clone().model(model).shares();
    assert_eq!(shares(Model::LastClick), [(4, 1_000_000, 120)]);
    assert_eq!(shares(Model::FirstClick), [(2, 1_000_000, 120)]);
    assert_eq!(shares(Model::Linear), [(2, 500_000, 60), (4, 500_000, 60)]);
    assert_eq!(shares(Model::Position), [(2, 500_000, 60), (4, 500_000, 60)]);
}

#[test]
fn m18_ties_go_to_the_later_touch() {
    let clicks: Vec<ClickId> = (1..=3).map(|n| click(n, ORDERED_AT - 100_000 + i64::from(n))).collect();
    let story = story().model(Model::Linear).clicks(&clicks);
    assert_eq!(story.shares(), [(1, 333_333, 40), (2, 333_333, 40), (3, 333_334, 40)]);
}

#[test]
fn m19_time_decay_halves_every_seven_days() {
    let story = story().model(Model::TimeDecay).amount(30_000);
    let week = [click(1, ORDERED_AT - days(7)), click(2, ORDERED_AT)];
    assert_eq!(story.clone().clicks(&week).shares(), [(1, 333_333, 1_200), (2, 666_667, 2_400)]);
    let half = [click(1, ORDERED_AT - 5_040 * 60_000), click(2, ORDERED_AT)];
    assert_eq!(story.clone().clicks(&half).shares(), [(1, 428_571, 1_543), (2, 571_429, 2_057)]);
    // Clicked after the order (M11): age 0.
    let after = [click(1, ORDERED_AT + 90_000), click(2, ORDERED_AT + 1)];
    assert_eq!(story.clicks(&after).shares(), [(1, 500_000, 1_800), (2, 500_000, 1_800)]);
}

#[test]
fn m20_parts_of_one_publisher_add_up() {
    let clicks = [click(1, ORDERED_AT - 300_000), click(2, ORDERED_AT - 200_000), click(1, ORDERED_AT - 100_000)];
    let decision = story().model(Model::Linear).clicks(&clicks).decide();
    assert_eq!(super::shares(&decision), [(1, 666_667, 80), (2, 333_333, 40)]);
    assert_eq!(decision.shares[0].click_id, Some(clicks[2]));
}
