//! M34-M42: what refunds take back.

use super::*;
use crate::attribution::State;

fn clicked() -> Story {
    story().clicks(&[click(1, ORDERED_AT)])
}

fn kept(story: &Story) -> MinorUnits {
    story.decide().commission
}

#[test]
fn m34_a_refund_reverses_at_the_original_rate_and_never_more_than_was_earned() {
    let story = clicked().refund_amount(250);
    let decision = story.decide();
    assert_eq!((decision.earned, decision.commission, decision.kept_amount), (120, 90, 750));
    assert_eq!((decision.shares[0].commission, decision.shares[0].reversed), (90, 30));
    assert_eq!(kept(&story.refund_amount(900).refund_all().refund_amount(1)), 0);
}

#[test]
fn m35_pieces_reverse_their_part_of_the_line_and_the_last_one_the_rest() {
    // 3 pieces of 7 at 12 %: 2,520,000 millionths; one piece is 840,000, two 1,680,000.
    let story = clicked().items(vec![item("a", "", 3, 7, 0), item("b", "", 1, 1_000, 0)]);
    let one = story.refund_items(&[("a", 1)]);
    assert!(one.says("refund", "0.84 of the exact"));
    assert!(one.clone().refund_items(&[("a", 1)]).says("refund", "1.68 of the exact"));
    assert!(one.refund_items(&[("a", 2)]).says("refund", "2.52 of the exact"));
}

#[test]
fn m35_lines_of_equal_sku_are_used_in_order() {
    let items = vec![item("a", "mobile", 1, 1_000, 0), item("a", "", 2, 1_000, 0), item("b", "", 1, 5_000, 0)];
    let story = clicked().items(items);
    assert_eq!(kept(&story), 20 + 240 + 600);
    assert_eq!(kept(&story.clone().refund_items(&[("a", 1)])), 240 + 600);
    assert_eq!(kept(&story.clone().refund_items(&[("a", 1)]).refund_items(&[("a", 1)])), 120 + 600);
    assert_eq!(kept(&story.refund_items(&[("a", 1), ("a", 2)])), 600);
}

#[test]
fn m36_an_amount_reverses_its_part_of_the_whole() {
    // The contract's example: 1,000 at 12 %, refund 333: kept 80; 667 more: kept 0.
    let story = clicked().refund_amount(333);
    assert_eq!(kept(&story), 80);
    let all = story.refund_amount(667).decide();
    assert_eq!((all.commission, all.state), (0, Some(State::Reversed)));
}

#[test]
fn m37_items_and_amounts_add_up_and_are_capped_by_what_is_left() {
    // mobile 2,000 at 2 % = 40, the other 1,000 at 12 % = 120; 160 of 3,000.
    let story = clicked().items(vec![item("a", "mobile", 2, 1_000, 0), item("b", "", 1, 1_000, 0)]);
    // b: 120; 300 of 3,000: 16.
    let mixed = story.clone().refund_items(&[("b", 1)]).refund_amount(300);
    assert_eq!((kept(&mixed), mixed.decide().kept_amount), (24, 1_700));
    // 120 + 53.3 by 1,000 is more than the 160 there are, but 1,000 of the amount is left.
    let capped = story.clone().refund_items(&[("b", 1)]).refund_amount(1_000).decide();
    assert_eq!((capped.commission, capped.kept_amount, capped.state), (0, 1_000, Some(State::Pending)));
    // a and 1,000: all of the amount is gone, so all of the commission is.
    let whole = story.refund_items(&[("a", 2)]).refund_amount(1_000).decide();
    assert_eq!((whole.commission, whole.kept_amount, whole.state), (0, 0, Some(State::Reversed)));
}

#[test]
fn m38_what_is_kept_is_rounded_once_and_split_anew() {
    // The contract's example: one of the two pieces in M28, kept 79.
    assert_eq!(kept(&clicked().items(basket()).refund_items(&[("a", 1)])), 79);
    let both = [click(1, ORDERED_AT - 1), click(2, ORDERED_AT)];
    let shared = story().model(Model::Linear).clicks(&both).refund_amount(101);
    assert_eq!(shared.shares(), [(1, 500_000, 54), (2, 500_000, 54)]);
}

#[test]
fn m39_more_than_is_left_is_capped_and_an_unknown_sku_has_no_effect() {
    let capped = clicked().refund_amount(700).refund_amount(700);
    assert_eq!(kept(&capped), 0);
    assert!(capped.says("refund", "300 of 1,000 (700 were asked for, more than was left)"));
    let story = clicked().items(basket());
    let pieces = story.clone().refund_items(&[("a", 9)]);
    assert_eq!(kept(&pieces), 60);
    assert!(pieces.says("refund", "2 of sku \"a\" (9 were asked for, more than was left)"));
    let unknown = story.refund_items(&[("z", 1)]);
    assert_eq!(kept(&unknown), 98);
    assert!(unknown.says("refund", "no sku \"z\", no effect"));
}

#[test]
fn m40_a_fixed_rate_is_reversed_only_by_a_full_refund() {
    let signup = |amount: MinorUnits| clicked().amount(amount).report(|report| report.kind = "signup".into());
    assert_eq!(kept(&signup(1_000).refund_amount(400)), 500_000);
    assert_eq!(kept(&signup(1_000).refund_amount(400).refund_amount(600)), 0);
    assert_eq!(kept(&signup(1_000).refund_all()), 0);
    let cases = clicked().items(vec![item("p", "case", 2, 50, 0), item("r", "", 1, 500, 0)]);
    assert_eq!(kept(&cases.clone().refund_items(&[("p", 2)])), 760);
    assert_eq!(kept(&cases.refund_items(&[("p", 2), ("r", 1)])), 0);
}

#[test]
fn m40_an_order_of_amount_0_can_only_be_refunded_whole() {
    let free = clicked().report(|report| report.kind = "signup".into()).items(vec![item("a", "", 1, 0, 0)]);
    for partial in
        [free.clone().refund_items(&[("a", 1)]), free.clone().refund_amount(0), free.clone().refund_amount(5)]
    {
        let decision = partial.decide();
        assert_eq!((decision.commission, decision.state), (500_000, Some(State::Pending)));
    }
    assert_eq!(free.refund_all().decide().state, Some(State::Reversed));
}

#[test]
fn m42_a_refund_of_an_unattributed_order_is_recorded_and_moves_no_money() {
    let story = story().refund_amount(400);
    let decision = story.decide();
    assert_eq!((decision.reason, decision.state), (Some(Reason::NoTouch), None));
    assert_eq!((decision.commission, decision.kept_amount, decision.shares.len()), (0, 600, 0));
    assert!(story.says("refund", "no money moves"));
}

#[test]
fn refunds_count_once_each_in_any_order() {
    let story = clicked().items(basket()).refund_items(&[("a", 1)]).refund_amount(700).refund_items(&[("a", 2)]);
    let told = story.decide();
    let mut shuffled = story.clone();
    shuffled.facts.refunds.reverse();
    shuffled.facts.refunds.extend(story.facts.refunds);
    assert_eq!(shuffled.decide(), told);
}

#[test]
fn an_explanation_has_an_end() {
    let mut story = clicked();
    for _ in 0..1_000 {
        story = story.refund_amount(1);
    }
    let decision = story.decide();
    assert_eq!((decision.commission, decision.state), (0, Some(State::Reversed)));
    assert!(decision.explanation.len() < 120);
    assert!(story.says("refund", "900 more refunds"));
}
