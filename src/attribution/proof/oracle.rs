//! The contract's page on money once more: plain, slow, obvious. Written from the page alone, so that it shares neither
//! code nor structure with what it judges; every choice is made by definition ("kept if fewer than 64 later ones"), not
//! by algorithm. What the page leaves open is decided here as it is there.

use std::collections::BTreeMap;

use super::*;
use crate::attribution::State;
use crate::event::MerchantStatus;

/// What must come out.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    pub reason: Option<Reason>,
    pub state: Option<State>,
    pub offer: Option<u32>,
    /// Publisher, parts, kept, reversed, marked by the coupon.
    pub shares: Vec<(u32, u32, i64, i64, bool)>,
    pub lines: Vec<i128>,
    pub fixed: i64,
    pub earned: i64,
    pub commission: i64,
    pub hold_until: Option<i64>,
    pub kept_amount: i64,
}

impl Expected {
    pub fn of(decision: &Decision) -> Expected {
        assert_eq!(decision.reason.is_none(), decision.outcome == Outcome::Attributed);
        let shares = decision.shares.iter();
        Expected {
            reason: decision.reason,
            state: decision.state,
            offer: decision.offer_id.map(|offer| offer.0),
            shares: shares.map(|s| (s.publisher_id.0, s.parts, s.commission, s.reversed, s.coupon)).collect(),
            lines: decision.line_millionths.clone(),
            fixed: decision.fixed,
            earned: decision.earned,
            commission: decision.commission,
            hold_until: decision.hold_until_ms.map(|at| at.0),
            kept_amount: decision.kept_amount,
        }
    }
}

/// A touch, taken out of its ID.
#[derive(Clone, Copy, PartialEq)]
struct T {
    at: i64,
    bytes: [u8; 36],
    visitor: u64,
    offer: u32,
    publisher: u32,
    navigated: bool,
    own: bool,
}

impl T {
    fn of(id: ClickId, own: bool) -> T {
        let (bytes, visitor) = (*id.as_bytes(), id.visitor_key().0);
        let (offer, publisher) = (id.offer_id().0, id.publisher_id().0);
        T { at: id.clicked_at().0, bytes, visitor, offer, publisher, navigated: bytes[23] % 2 == 0, own }
    }
    /// M5.
    fn later_than(&self, other: &T) -> bool {
        self.at > other.at || (self.at == other.at && self.bytes > other.bytes)
    }
    fn same_stream(&self, other: &T) -> bool {
        (self.visitor, self.offer, self.publisher) == (other.visitor, other.offer, other.publisher)
    }
}

fn earliest(touches: &[T]) -> Option<T> {
    touches.iter().find(|t| !touches.iter().any(|other| t.later_than(other))).copied()
}

/// M3: the earliest takes all of its stream that came less than a window after it; then the same with the rest.
fn merge(mut clicks: Vec<T>, window: i64) -> Vec<T> {
    let mut touches = Vec::new();
    while let Some(mut first) = earliest(&clicks) {
        let (group, rest): (Vec<T>, Vec<T>) =
            clicks.into_iter().partition(|c| *c == first || (c.same_stream(&first) && c.at - first.at < window));
        first.navigated = group.iter().any(|c| c.navigated);
        first.own = group.iter().any(|c| c.own);
        touches.push(first);
        clicks = rest;
    }
    touches
}

/// M4, by definition.
fn kept(touches: &[T]) -> Vec<T> {
    let later = |t: &T, among: &dyn Fn(&T) -> bool| touches.iter().filter(|o| among(o) && o.later_than(t)).count();
    let of_stream = |t: &T| {
        let first = !touches.iter().any(|o| o.same_stream(t) && t.later_than(o));
        first || later(t, &|o| o.same_stream(t)) < 3
    };
    let of_visitor = |t: &T| {
        let limit = if t.navigated { 64 } else { 8 };
        later(t, &|o| o.visitor == t.visitor && o.navigated == t.navigated && of_stream(o)) < limit
    };
    touches.iter().filter(|t| t.own || (of_stream(t) && of_visitor(t))).copied().collect()
}

fn end_of_second(facts: &Facts) -> i64 {
    let at = facts.report.occurred_at_ms.0;
    if facts.report.occurred_at_whole_seconds && at % 1000 == 0 { at + 999 } else { at }
}

fn touches(facts: &Facts, settings: &Settings) -> Vec<T> {
    let own = match facts.own_click {
        OwnClick::Verified(id) => Some(T::of(id, true)),
        _ => None,
    };
    let late = facts.report.received_at_ms.0 - facts.report.occurred_at_ms.0;
    if late > i64::from(settings.max_report_delay_days) * 86_400_000 {
        return own.into_iter().collect();
    }
    let mut clicks: Vec<T> = own.into_iter().collect();
    for touch in &facts.touches {
        if !clicks.iter().any(|c| c.bytes == *touch.0.as_bytes()) {
            clicks.push(T::of(touch.0, false));
        }
    }
    let limit = end_of_second(facts) + settings.clock_skew_ms;
    let (early, after): (Vec<T>, Vec<T>) =
        merge(clicks, settings.dedupe_window_ms).into_iter().partition(|t| t.at <= limit);
    let mut all = kept(&early);
    all.extend(kept(&after));
    all.sort_by(|a, b| if a.later_than(b) { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less });
    all
}

/// M14.
fn terms_at(rulebook: &Rulebook, offer: u32, at: i64) -> Option<&Terms> {
    let in_force = |terms: &&Terms| terms.from.0 <= at && terms.until.is_none_or(|until| at < until.0);
    rulebook.offers.get(&OfferId(offer))?.terms.iter().filter(in_force).max_by_key(|terms| terms.from)
}

/// M2, M8-M13: the candidates that count, and every cause that spoke against one.
fn counting(facts: &Facts, rulebook: &Rulebook, settings: &Settings) -> (Vec<T>, Vec<Reason>) {
    let mut causes = Vec::new();
    if facts.own_click == OwnClick::Invalid {
        causes.push(Reason::InvalidClickId);
    }
    let mut candidates = Vec::new();
    for t in touches(facts, settings) {
        let merchant = rulebook.offers.get(&OfferId(t.offer)).map(|offer| offer.merchant_id);
        let publisher = rulebook.publishers.contains_key(&PublisherId(t.publisher));
        match merchant {
            // M1: the visitor's touches at the reporting merchant, and the own click.
            merchant if !t.own && merchant != Some(facts.report.merchant_id) => {}
            Some(merchant) if merchant != facts.report.merchant_id => causes.push(Reason::WrongMerchant),
            _ if !publisher => causes.push(Reason::PublisherInactive),
            None => causes.push(Reason::NoTouch),
            Some(_) => candidates.push(t),
        }
    }
    let occurred = facts.report.occurred_at_ms.0;
    let in_time = |t: &T| match terms_at(rulebook, t.offer, t.at) {
        Some(terms) => occurred <= t.at + i64::from(terms.window_days) * 86_400_000,
        None => false,
    };
    let passes = |t: &T| in_time(t) && t.at <= end_of_second(facts);
    let any = candidates.iter().any(passes);
    let skewed = |t: &T| !any && in_time(t) && t.at <= end_of_second(facts) + settings.clock_skew_ms;
    let (within, outside): (Vec<T>, Vec<T>) = candidates.into_iter().partition(|t| passes(t) || skewed(t));
    let too_late = |t: &T| {
        let rule = rulebook.offers[&OfferId(t.offer)].checkout_rule == CheckoutRule::IgnoreAfterCheckout;
        rule && facts.report.checkout_started_at.is_some_and(|started| t.at > started.0)
    };
    let (dropped, left): (Vec<T>, Vec<T>) = within.into_iter().partition(too_late);
    causes.extend(outside.iter().map(|_| Reason::WindowExpired));
    causes.extend(dropped.iter().map(|_| Reason::CheckoutRule));
    let navigated = left.iter().any(|t| t.navigated);
    (left.into_iter().filter(|t| t.navigated || !navigated).collect(), causes)
}

/// Units one by one to whoever has the greatest claim.
fn largest_remainders<K: Ord>(total: i128, exact: &[(i128, i128)], tie: impl Fn(usize) -> K) -> Vec<i128> {
    let mut given: Vec<i128> = exact.iter().map(|(top, bottom)| top / bottom).collect();
    let mut waiting: Vec<usize> = (0..exact.len()).collect();
    while given.iter().sum::<i128>() < total {
        let claim = |i: &usize| (exact[*i].0 % exact[*i].1, tie(*i));
        let best = waiting.iter().copied().max_by_key(|i| claim(i)).unwrap();
        waiting.retain(|i| *i != best);
        given[best] += 1;
    }
    given
}

/// M17-M19.
fn parts(model: Model, touches: &[T], occurred: i64) -> Vec<i128> {
    let n = touches.len();
    let weights: Vec<i128> = match model {
        _ if n == 1 => vec![1],
        Model::LastClick => (0..n).map(|i| i128::from(i + 1 == n)).collect(),
        Model::FirstClick => (0..n).map(|i| i128::from(i == 0)).collect(),
        Model::Position if n > 2 => {
            let ends = 2 * (n as i128 - 2);
            (0..n).map(|i| if i == 0 || i + 1 == n { ends } else { 1 }).collect()
        }
        Model::Linear | Model::Position => vec![1; n],
        Model::TimeDecay => touches.iter().map(|t| decayed((occurred - t.at).max(0) / 60_000)).collect(),
    };
    let sum: i128 = weights.iter().sum();
    if sum == 0 {
        return (0..n).map(|i| if i + 1 == n { 1_000_000 } else { 0 }).collect();
    }
    let exact: Vec<(i128, i128)> = weights.iter().map(|weight| (1_000_000 * weight, sum)).collect();
    largest_remainders(1_000_000, &exact, |i| i)
}

fn decayed(age: i64) -> i128 {
    let mut weight = (1i128 << 40) * i128::from(20_160 - age % 10_080) / 20_160;
    for _ in 0..(age / 10_080).min(100) {
        weight /= 2;
    }
    weight
}

struct Award<'a> {
    offer: u32,
    hold_days: u32,
    rates: Option<&'a Terms>,
    parts: BTreeMap<u32, i128>,
    marked: Option<u32>,
}

/// M21.
fn coupon<'a>(facts: &Facts, rulebook: &'a Rulebook) -> Option<&'a CouponRules> {
    let code = facts.report.coupon_code.as_ref()?.trim().to_ascii_lowercase();
    let rules = rulebook.coupons.get(&facts.report.merchant_id)?.get(&code)?;
    let publisher = rulebook.publishers.get(&rules.publisher_id)?;
    let offer = rulebook.offers.get(&rules.offer_id)?;
    terms_at(rulebook, rules.offer_id.0, facts.report.occurred_at_ms.0)?;
    (publisher.status == PublisherStatus::Approved && offer.status == OfferStatus::Active).then_some(rules)
}

/// M16, M20, M22, M23, M25.
fn award<'a>(counting: &[T], facts: &Facts, rulebook: &'a Rulebook, causes: &mut Vec<Reason>) -> Option<Award<'a>> {
    let occurred = facts.report.occurred_at_ms.0;
    let coupon = coupon(facts, rulebook);
    if let Some(coupon) = coupon {
        let (publisher, offer) = (coupon.publisher_id.0, coupon.offer_id.0);
        let takes_all = match coupon.policy {
            CouponPolicy::Always => true,
            CouponPolicy::IfInvolved => counting.iter().any(|t| t.publisher == publisher),
            CouponPolicy::IfNoClick => counting.is_empty(),
            CouponPolicy::IfWinner => false,
        };
        if takes_all {
            let terms = terms_at(rulebook, offer, occurred).unwrap();
            let clicked = counting.iter().rfind(|t| t.offer == offer).filter(|_| terms.rate_basis == RateBasis::Click);
            let rates = clicked.map_or(Some(terms), |t| terms_at(rulebook, offer, t.at));
            let parts = BTreeMap::from([(publisher, 1_000_000)]);
            return Some(Award { offer, hold_days: terms.hold_days, rates, parts, marked: Some(publisher) });
        }
        if counting.is_empty() {
            causes.push(Reason::CouponRule);
        }
    }
    let latest = counting.last()?;
    let terms = terms_at(rulebook, latest.offer, latest.at).unwrap();
    let rates_at = if terms.rate_basis == RateBasis::Click { latest.at } else { occurred };
    let mut by_publisher = BTreeMap::new();
    for (t, parts) in counting.iter().zip(parts(terms.model, counting, occurred)) {
        *by_publisher.entry(t.publisher).or_insert(0) += parts;
    }
    by_publisher.retain(|_, parts| *parts > 0);
    let marked = coupon.filter(|coupon| coupon.policy == CouponPolicy::IfWinner).map(|coupon| coupon.publisher_id.0);
    let rates = terms_at(rulebook, latest.offer, rates_at);
    Some(Award { offer: latest.offer, hold_days: terms.hold_days, rates, parts: by_publisher, marked })
}

pub fn expected(facts: &Facts, rulebook: &Rulebook, settings: &Settings) -> Expected {
    let (counting, mut causes) = counting(facts, rulebook, settings);
    let award = award(&counting, facts, rulebook, &mut causes);
    let basket = super::oracle_money::Basket::of(&facts.report);
    let with_coupon = coupon(facts, rulebook).is_some();
    let rejected = facts.merchant_status.or(facts.report.merchant_status) == Some(MerchantStatus::Rejected);
    let nobody = |reason: Reason| Expected {
        reason: Some(reason),
        state: rejected.then_some(State::Rejected),
        offer: None,
        shares: Vec::new(),
        lines: Vec::new(),
        fixed: 0,
        earned: 0,
        commission: 0,
        hold_until: None,
        kept_amount: basket.refund(&facts.refunds, &[]).amount_left,
    };
    if facts.report.unverified {
        return nobody(Reason::Unverified);
    }
    let Some(award) = award else {
        return nobody(causes.into_iter().min().unwrap_or(Reason::NoTouch));
    };
    let earned = match basket.earn(award.rates, with_coupon) {
        Ok(earned) => earned,
        Err(reason) => return nobody(reason),
    };
    let refund = basket.refund(&facts.refunds, &earned.lines);
    let total = half_even(earned.lines.iter().sum()) + earned.fixed;
    let left = if refund.full || rejected { 0 } else { half_even(refund.millionths_left) + earned.fixed };
    let split = |amount: i128| {
        let exact: Vec<(i128, i128)> = award.parts.values().map(|parts| (amount * parts, 1_000_000)).collect();
        // M33: more parts, then the publisher whose touch is later than every other that counts, then the lower ID.
        let tie = |i: usize| {
            let (publisher, parts) = award.parts.iter().nth(i).unwrap();
            let mine = |t: &&T| t.publisher == *publisher;
            let has_the_latest =
                counting.iter().filter(mine).any(|t| !counting.iter().any(|other| other.later_than(t)));
            (*parts, has_the_latest, std::cmp::Reverse(*publisher))
        };
        largest_remainders(amount, &exact, tie)
    };
    let shares = award.parts.iter().zip(split(total).into_iter().zip(split(left)));
    Expected {
        reason: None,
        state: Some(match (rejected, refund.full) {
            (true, _) => State::Rejected,
            (false, true) => State::Reversed,
            (false, false) => State::Pending,
        }),
        offer: Some(award.offer),
        shares: shares
            .map(|((publisher, parts), (earned, kept))| {
                (*publisher, *parts as u32, kept as i64, (earned - kept) as i64, award.marked == Some(*publisher))
            })
            .collect(),
        lines: earned.lines,
        fixed: earned.fixed as i64,
        earned: total as i64,
        commission: left as i64,
        hold_until: Some(facts.report.occurred_at_ms.0 + i64::from(award.hold_days) * 86_400_000),
        kept_amount: refund.amount_left,
    }
}

/// M32.
fn half_even(millionths: i128) -> i128 {
    let (units, rest) = (millionths / 1_000_000, millionths % 1_000_000);
    match rest.cmp(&500_000) {
        std::cmp::Ordering::Less => units,
        std::cmp::Ordering::Greater => units + 1,
        std::cmp::Ordering::Equal => units + units % 2,
    }
}
