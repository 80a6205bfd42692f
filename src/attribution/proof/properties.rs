//! What holds for every set of facts. A failing case prints its seed and its smallest form; the seed is kept under
//! `proptest-regressions` and is run first from then on.

use std::cell::Cell;

use proptest::prelude::*;

use super::oracle::{Expected, expected};
use super::random::{flooded, world};
use super::*;
use crate::ledger::{self, Account, Balances, Entry, Occasion};
use crate::money::ALL_PARTS;

const CASES: u32 = 2_000;

fn config() -> ProptestConfig {
    ProptestConfig { cases: CASES, ..ProptestConfig::default() }
}

fn currency() -> Currency {
    Currency::parse("IRR").unwrap()
}

/// Posts the difference between what stands in the books and this decision, as attribution does after each fact.
fn post(entries: &mut Vec<Entry>, decision: &Decision) {
    let revision = entries.last().map_or(1, |last| last.revision + 1);
    let (merchant_id, currency, at) = (SHOP, currency(), TimeMs(ORDERED_AT));
    let occasion = Occasion { conversion_id: "c", revision, merchant_id, currency, at };
    let posted = Balances::of(entries.iter());
    entries.extend(ledger::post(&occasion, &posted, decision).unwrap());
    // After any prefix: balanced sets, and balances that are the decision's.
    assert_eq!(ledger::check("c", merchant_id, currency, entries, Some(decision)), []);
}

/// The same facts with touches and refunds in the order that `seed` gives, some of them twice.
fn rearranged(story: &Story, seed: u64) -> Story {
    let mut state = seed | 1;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let mut story = story.clone();
    let touches = &mut story.facts.touches;
    for _ in 0..touches.len() {
        let (a, b) = (next(touches.len()), next(touches.len()));
        touches.swap(a, b);
        if next(4) == 0 {
            touches.push(touches[a]);
        }
    }
    let refunds = &mut story.facts.refunds;
    for _ in 0..refunds.len() {
        let (a, b) = (next(refunds.len()), next(refunds.len()));
        refunds.swap(a, b);
        if next(4) == 0 {
            refunds.push(refunds[a].clone());
        }
    }
    story
}

/// As the consumer reduces a visitor's clicks, however few they are.
fn reduced(story: &Story, touches: Vec<Touch>) -> Clicks {
    let own = match story.facts.own_click {
        OwnClick::Verified(click_id) => Some(Touch(click_id)),
        OwnClick::None | OwnClick::Invalid => None,
    };
    let latest = story.facts.latest_clicked_at(&story.settings);
    let bounds = Bounds { own, window_ms: story.settings.dedupe_window_ms, latest, until: TimeMs(i64::MAX) };
    reduce(Clicks { touches, extent: Extent::Reduced }, &bounds)
}

fn without_words(decision: Decision) -> Decision {
    Decision { explanation: Vec::new(), ..decision }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn decisions_are_the_oracles(story in world()) {
        let decision = story.decide();
        prop_assert_eq!(Expected::of(&decision), expected(&story.facts, &story.rulebook, &story.settings));
    }

    #[test]
    fn parts_and_shares_add_up_and_stay_within_what_was_earned(story in world()) {
        let decision = story.decide();
        let shares = &decision.shares;
        prop_assert!(0 <= decision.commission && decision.commission <= decision.earned);
        prop_assert_eq!(shares.iter().map(|share| share.commission).sum::<i64>(), decision.commission);
        prop_assert_eq!(shares.iter().map(|share| share.commission + share.reversed).sum::<i64>(), decision.earned);
        prop_assert!(shares.iter().all(|share| share.commission >= 0 && share.reversed >= -1 && share.parts > 0));
        let parts = shares.iter().map(|share| share.parts).sum::<u32>();
        prop_assert_eq!(parts, if decision.outcome == Outcome::Attributed { ALL_PARTS } else { 0 });
        prop_assert!(!decision.explanation.is_empty());
    }

    #[test]
    fn the_order_and_repetition_of_facts_change_nothing(story in world(), seed in any::<u64>()) {
        prop_assert_eq!(rearranged(&story, seed).decide(), story.decide());
    }

    /// What is left out of a visitor's clicks makes no difference, and nor does leaving out twice.
    #[test]
    fn deciding_by_reduced_clicks_is_deciding_by_all(story in prop_oneof![world(), flooded()], seed in any::<u64>()) {
        let reduced = reduced(&story, story.facts.touches.clone());
        let mut facts = story.facts.clone();
        facts.touches = reduced.touches.clone();
        let by_reduced = decide(&facts, &story.rulebook, &story.settings);
        prop_assert_eq!(without_words(by_reduced), without_words(story.decide()));
        prop_assert_eq!(&super::properties::reduced(&story, reduced.touches.clone()), &reduced);
        prop_assert_eq!(&super::properties::reduced(&story, rearranged(&story, seed).facts.touches), &reduced);
    }

    /// Clicks that come later than all that was reduced find it as if nothing had been left out.
    #[test]
    fn reduced_clicks_take_later_ones(story in prop_oneof![world(), flooded()], part in 0usize..=100) {
        let mut all = story.facts.touches.clone();
        all.sort();
        let later = all.split_off(all.len() * part / 100);
        let mut so_far = reduced(&story, all).touches;
        so_far.extend(later);
        prop_assert_eq!(reduced(&story, so_far), reduced(&story, story.facts.touches.clone()));
    }

    /// Refunds that are added up count as those that are told one by one.
    #[test]
    fn the_sum_of_refunds_is_as_good_as_each(story in world(), told in 0usize..5) {
        let mut summed = story.clone();
        let more = summed.facts.refunds.split_off(told.min(summed.facts.refunds.len()));
        let items = &story.facts.report.items;
        let knows = |sku: &str| items.iter().any(|item| item.sku.as_deref() == Some(sku));
        more.iter().for_each(|refund| summed.facts.more_refunds.add(refund, knows));
        prop_assert_eq!(without_words(summed.decide()), without_words(story.decide()));
    }

    #[test]
    fn the_books_balance_after_any_prefix_and_end_the_same_in_any_order(story in world(), seed in any::<u64>()) {
        let mut at_once = Vec::new();
        post(&mut at_once, &story.decide());
        let mut step_by_step = Vec::new();
        let all = rearranged(&story, seed).facts;
        let mut so_far = story.clone();
        (so_far.facts.touches, so_far.facts.refunds, so_far.facts.merchant_status) = (Vec::new(), Vec::new(), None);
        post(&mut step_by_step, &so_far.decide());
        for touch in all.touches.into_iter().take(20) {
            so_far.facts.touches.push(touch);
            post(&mut step_by_step, &so_far.decide());
        }
        for refund in all.refunds {
            so_far.facts.refunds.push(refund);
            post(&mut step_by_step, &so_far.decide());
        }
        so_far.facts.merchant_status = all.merchant_status;
        so_far.facts.touches = story.facts.touches.clone();
        post(&mut step_by_step, &so_far.decide());
        prop_assert_eq!(Balances::of(&step_by_step), Balances::of(&at_once));
        // The same decision again posts nothing.
        let entries = step_by_step.len();
        post(&mut step_by_step, &so_far.decide());
        prop_assert_eq!(step_by_step.len(), entries);
    }

    #[test]
    fn a_full_refund_is_the_exact_negation(mut story in world()) {
        story.facts.refunds.clear();
        let mut entries = Vec::new();
        post(&mut entries, &story.decide());
        let earned = entries.clone();
        post(&mut entries, &story.refund_all().decide());
        let negated: Vec<(Account, i64)> = earned.iter().map(|entry| (entry.account, -entry.amount)).collect();
        let refunded: Vec<(Account, i64)> = entries[earned.len()..].iter().map(|entry| (entry.account, entry.amount)).collect();
        prop_assert_eq!(refunded, negated);
        prop_assert_eq!(Balances::of(&entries), Balances::default());
    }

    #[test]
    fn another_refund_never_gives_anything_back(story in world()) {
        let mut story = story;
        let refunds = std::mem::take(&mut story.facts.refunds);
        let mut left = story.decide().commission;
        for refund in refunds {
            story.facts.refunds.push(refund);
            let now = story.decide().commission;
            prop_assert!(now <= left);
            left = now;
        }
    }
}

/// Random facts that never earn prove nothing: the generator must reach every outcome.
#[test]
fn the_random_worlds_reach_every_outcome() {
    let seen = Cell::new(std::collections::BTreeMap::<String, u32>::new());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..3_000 {
        let story = proptest::strategy::ValueTree::current(&world().new_tree(&mut runner).unwrap());
        let decision = story.decide();
        let name = match decision.reason {
            Some(reason) => format!("{reason:?}"),
            None => format!("{} publishers, {:?}", decision.shares.len().min(3), decision.state),
        };
        let mut map = seen.take();
        *map.entry(name).or_default() += 1;
        seen.set(map);
    }
    let seen = seen.take();
    println!("{seen:#?}");
    let names = ["InvalidClickId", "WrongMerchant", "PublisherInactive", "WindowExpired", "CheckoutRule", "CouponRule"];
    for name in names.into_iter().chain(["NoTouch", "OutOfStock", "ZeroRate", "Unverified"]) {
        assert!(seen.contains_key(name), "{name} of {seen:?}");
    }
    assert!(seen["3 publishers, Some(Pending)"] > 20);
}
