//! M27-M33: how much is earned, and how it is split.

use super::*;
use crate::money::MAX_AMOUNT;

fn clicked() -> Story {
    story().clicks(&[click(1, ORDERED_AT)])
}

fn out_of_stock(mut item: Item) -> Item {
    item.out_of_stock = true;
    item
}

#[test]
fn m27_a_lines_discount_is_taken_once_and_the_orders_from_nothing() {
    let story = clicked().items(vec![item("a", "", 2, 1_000, 100)]).report(|report| report.discount = Some(500));
    assert_eq!(story.decide().line_millionths, [228_000_000]);
    assert_eq!(clicked().report(|report| report.discount = Some(500)).decide().line_millionths, [120_000_000]);
}

#[test]
fn m28_lines_earn_the_rate_of_their_category_else_the_default() {
    // The contract's example.
    let decision = clicked().items(basket()).decide();
    assert_eq!(decision.line_millionths, [38_000_000, 60_000_000, 0]);
    assert_eq!(decision.commission, 98);
    // Whatever the type; a category is compared exactly.
    let lead = clicked().items(vec![item("a", "Mobile", 1, 1_000, 0)]).report(|report| report.kind = "lead".into());
    assert_eq!(lead.decide().commission, 120);
}

#[test]
fn m29_a_types_rate_stands_alone() {
    let signup = |story: Story| story.report(|report| report.kind = "signup".into());
    for amount in [0, 1, MAX_AMOUNT] {
        assert_eq!(signup(clicked().amount(amount)).shares(), [(1, 1_000_000, 500_000)]);
    }
    let gone = vec![out_of_stock(item("a", "rice", 1, 5, 0))];
    assert_eq!(signup(clicked().items(gone.clone())).shares(), [(1, 1_000_000, 500_000)]);
    let by_percent =
        clicked().terms(|terms| terms.conversion_rates = BTreeMap::from([("signup".into(), percent("40%"))]));
    assert_eq!(signup(by_percent.items(gone)).decide().line_millionths, [2_000_000]);
    let zero = clicked().terms(|terms| terms.conversion_rates = BTreeMap::from([("signup".into(), percent("0%"))]));
    assert_eq!(signup(zero).reason(), Some(Reason::ZeroRate));
}

#[test]
fn m30_a_fixed_category_rate_is_earned_once_by_a_line_that_sold() {
    let cases = vec![item("p", "case", 3, 50, 0), item("q", "case", 1, 70, 0), item("r", "", 1, 500, 0)];
    let decision = clicked().items(cases.clone()).decide();
    assert_eq!((decision.line_millionths, decision.fixed), (vec![0, 0, 60_000_000], 700));
    assert_eq!(decision.commission, 760);
    let free = vec![item("p", "case", 1, 0, 0), cases[2].clone()];
    assert_eq!(clicked().items(free).decide().fixed, 0);
    let gone = vec![out_of_stock(cases[0].clone()), cases[2].clone()];
    assert_eq!(clicked().items(gone.clone()).decide().fixed, 0);
    assert_eq!(clicked().items(vec![gone[0].clone(), cases[1].clone()]).decide().fixed, 700);
}

#[test]
fn m30_a_fixed_default_rate_is_earned_once_also_at_amount_0() {
    let fixed = clicked().terms(|terms| terms.default_rate = percent("900"));
    for amount in [0, 5] {
        assert_eq!(fixed.clone().amount(amount).shares(), [(1, 1_000_000, 900)]);
    }
    let two = vec![item("a", "", 1, 0, 0), item("b", "book", 1, 5, 0), item("c", "mobile", 1, 1_000, 0)];
    let decision = fixed.clone().items(two).decide();
    assert_eq!((decision.fixed, decision.commission), (900, 920));
    assert_eq!(fixed.items(vec![item("c", "mobile", 1, 1_000, 0)]).decide().fixed, 0);
}

#[test]
fn m31_lines_out_of_stock_or_at_zero_earn_nothing_and_say_so() {
    let story = clicked().items(vec![out_of_stock(item("x", "", 1, 900, 0)), basket()[1].clone(), basket()[2].clone()]);
    assert_eq!(story.decide().line_millionths, [0, 60_000_000, 0]);
    assert!(story.says("commission", "Line 1, sku \"x\": 900, out of stock when it was clicked, earns 0"));
    assert!(story.says("commission", "900 at 0% (the rate of its category) earns 0"));
}

#[test]
fn m32_the_sum_is_rounded_once_half_to_even() {
    let three = (0..3).map(|n| item(&n.to_string(), "", 1, 104, 0)).collect();
    assert_eq!(clicked().items(three).decide().commission, 37);
    for (rate, amount, commission) in [("12%", 104, 12), ("50%", 5, 2), ("50%", 7, 4)] {
        let story = clicked().terms(|terms| terms.default_rate = percent(rate)).amount(amount);
        assert_eq!(story.decide().commission, commission, "{amount} at {rate}");
    }
}

#[test]
fn m33_the_unit_left_goes_to_the_publisher_of_the_later_touch() {
    // The contract's example: 101 at 500,000 parts each: 50, and 51 to the publisher of the later touch.
    let of_101 = story().model(Model::Linear).terms(|terms| terms.default_rate = percent("101"));
    let shares = |first: u32, then: u32| {
        of_101.clone().clicks(&[click(first, ORDERED_AT - 1), click(then, ORDERED_AT)]).shares()
    };
    assert_eq!(shares(1, 2), [(1, 500_000, 50), (2, 500_000, 51)]);
    assert_eq!(shares(2, 1), [(1, 500_000, 51), (2, 500_000, 50)]);
}

#[test]
fn m33_among_those_who_tie_without_the_latest_touch_the_lower_id_is_first() {
    let shares = |model: Model, order: &[u32], amount: &str| {
        let clicks: Vec<ClickId> =
            order.iter().zip(0..).map(|(publisher, n)| click(*publisher, ORDERED_AT - 9 + n)).collect();
        let story = story().model(model).terms(|terms| terms.default_rate = percent(amount)).clicks(&clicks);
        story.shares().into_iter().map(|(_, _, commission)| commission).collect::<Vec<_>>()
    };
    for order in [[1, 2, 3], [2, 1, 3]] {
        assert_eq!(shares(Model::Linear, &order, "101"), [34, 33, 34]);
        assert_eq!(shares(Model::Linear, &order, "2"), [1, 0, 1]);
    }
    assert_eq!(shares(Model::Linear, &[1, 2, 3, 4], "102"), [26, 25, 25, 26]);
    assert_eq!(shares(Model::Linear, &[4, 3, 2, 1], "102"), [26, 26, 25, 25]);
    assert_eq!(shares(Model::Position, &[1, 2, 3, 4], "13"), [5, 2, 1, 5]);
}

#[test]
fn no_amount_that_intake_accepts_overflows() {
    let lines: Vec<Item> = (0..1_000).map(|n| item(&n.to_string(), "", 1, MAX_AMOUNT, 0)).collect();
    let story = clicked().terms(|terms| terms.default_rate = percent("100%")).items(lines);
    let whole = MAX_AMOUNT * 1_000;
    let decision = story.decide();
    assert_eq!((decision.earned, decision.kept_amount), (whole, whole));
    assert_eq!(decision.line_millionths[999], i128::from(MAX_AMOUNT) * 1_000_000);
    assert_eq!(story.clone().refund_amount(whole - 1).decide().commission, 1);
    assert_eq!(story.clone().refund_items(&[("7", u32::MAX)]).decide().commission, whole - MAX_AMOUNT);
    assert_eq!(story.refund_all().decide().commission, 0);
}

#[test]
fn broken_facts_are_held_to_bounds_and_panic_nowhere() {
    let broken = Item { quantity: u32::MAX, ..item("a", "", 1, i64::MAX, i64::MIN) };
    let negative = Item { quantity: 0, ..item("b", "", 1, 5, i64::MAX) };
    let story = clicked().terms(|terms| {
        terms.default_rate = percent("100%");
        terms.window_days = u32::MAX;
        terms.hold_days = u32::MAX;
    });
    let story = story.report(|report| report.items = vec![broken; 3_000].into_iter().chain([negative]).collect());
    assert_eq!(story.decide().commission, i64::MAX);
    assert_eq!(story.clone().refund_amount(i64::MAX).decide().state, Some(crate::attribution::State::Reversed));
    assert_eq!(story.refund_items(&[("a", 1), ("b", 1)]).refund_amount(-5).decide().shares.len(), 1);
    for at in [i64::MIN, i64::MAX] {
        assert_eq!(clicked().occurred_at(at).report(|report| report.amount = at).reason(), Some(Reason::WindowExpired));
    }
}
