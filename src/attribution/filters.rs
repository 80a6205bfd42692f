//! Which candidates count: window, then checkout, then label (contract M8-M13).

use super::candidates::Candidate;
use super::facts::{Facts, Settings, Touch};
use super::touches::Merged;
use super::trace::{Trace, short};
use super::{Causes, Reason};
use crate::catalog::rulebook::{CheckoutRule, OfferRules, Terms};
use crate::commission::grouped;
use crate::time::{DAY_MS, TimeMs};

/// A candidate that passed the window, and the terms in force when it was clicked.
#[derive(Clone, Copy, Debug)]
pub struct Counting<'a> {
    pub touch: Merged,
    pub offer: &'a OfferRules,
    pub terms: &'a Terms,
}

impl Counting<'_> {
    pub fn click(&self) -> Touch {
        self.touch.first
    }
}

/// The candidates that count, in order (M5).
pub fn filter<'a>(
    candidates: Vec<Candidate<'a>>,
    facts: &Facts,
    settings: &Settings,
    causes: &mut Causes,
    trace: &mut Trace,
) -> Vec<Counting<'a>> {
    let within = window(candidates, facts, settings, causes, trace);
    let before = checkout(within, facts.report.checkout_started_at, causes, trace);
    label(before, trace)
}

/// Where a click stands to the order.
enum Place<'a> {
    Within(&'a Terms),
    /// After the order, but no more than two clocks may differ (M11).
    Skewed(&'a Terms),
    Outside,
}

fn window<'a>(
    candidates: Vec<Candidate<'a>>,
    facts: &Facts,
    settings: &Settings,
    causes: &mut Causes,
    trace: &mut Trace,
) -> Vec<Counting<'a>> {
    let placed: Vec<_> =
        candidates.into_iter().map(|candidate| (candidate, place(&candidate, facts, settings))).collect();
    let any_within = placed.iter().any(|(_, (place, _))| matches!(place, Place::Within(_)));
    let mut counting = Vec::new();
    for (Candidate { touch, offer }, (place, why)) in placed {
        let (terms, verdict) = match place {
            Place::Within(terms) => (Some(terms), "within the window"),
            Place::Skewed(terms) if !any_within => (Some(terms), "counts, as no other candidate is within its window"),
            Place::Skewed(_) => (None, "does not count, as another candidate is within its window"),
            Place::Outside => (None, "outside of the window"),
        };
        trace.judge("window", touch.first, terms.is_some(), format!("{}: {why}: {verdict}.", short(touch.first)));
        match terms {
            Some(terms) => counting.push(Counting { touch, offer, terms }),
            None => causes.add(Reason::WindowExpired),
        }
    }
    counting
}

fn place<'a>(candidate: &Candidate<'a>, facts: &Facts, settings: &Settings) -> (Place<'a>, String) {
    let clicked_at = candidate.touch.first.clicked_at();
    let Some(terms) = candidate.offer.terms_at(clicked_at) else {
        return (Place::Outside, "the offer had no terms in force when it was clicked".into());
    };
    let occurred_at = facts.report.occurred_at_ms;
    let until = clicked_at + i64::from(terms.window_days) * DAY_MS;
    if occurred_at > until {
        let why = format!("its {} days ended at {until}, the order came at {occurred_at}", terms.window_days);
        return (Place::Outside, why);
    }
    if clicked_at <= facts.occurred_at_most() {
        let why = format!("ordered at {occurred_at}, at most {} days after the click", terms.window_days);
        return (Place::Within(terms), why);
    }
    let after = format!("clicked {} ms after the order at {occurred_at}", grouped(clicked_at - occurred_at));
    // The skew starts where the lower end does: at the last moment that the reported second may mean (M10).
    if clicked_at <= facts.latest_clicked_at(settings) {
        let why = format!("{after}, clocks may differ by {} ms", grouped(settings.clock_skew_ms));
        return (Place::Skewed(terms), why);
    }
    (Place::Outside, after)
}

/// An offer may refuse clicks made after its own checkout began: coupon sites that catch the customer there.
fn checkout<'a>(
    candidates: Vec<Counting<'a>>,
    started_at: Option<TimeMs>,
    causes: &mut Causes,
    trace: &mut Trace,
) -> Vec<Counting<'a>> {
    let Some(started_at) = started_at else { return candidates };
    let mut keep = |candidate: &Counting| {
        if candidate.offer.checkout_rule != CheckoutRule::IgnoreAfterCheckout {
            return true;
        }
        let click = candidate.click();
        let kept = click.clicked_at() <= started_at;
        let verdict = if kept { "did not come after it: counts" } else { "came after it: does not count" };
        let why = format!(
            "{}: offer {} ignores clicks after the checkout began, at {started_at}; this one {verdict}.",
            short(click),
            click.offer_id()
        );
        trace.judge("checkout", click, kept, why);
        if !kept {
            causes.add(Reason::CheckoutRule);
        }
        kept
    };
    candidates.into_iter().filter(|candidate| keep(candidate)).collect()
}

/// Touches that were no navigation of the visitor (hidden images, frames) count only where nothing else is left.
fn label<'a>(candidates: Vec<Counting<'a>>, trace: &mut Trace) -> Vec<Counting<'a>> {
    let any_navigated = candidates.iter().any(|candidate| candidate.touch.navigated);
    for candidate in candidates.iter().filter(|candidate| !candidate.touch.navigated) {
        let verdict = match any_navigated {
            true => "a click that was one is left: does not count",
            false => "no click that was one is left: counts",
        };
        let why = format!("{}: not a navigation of the visitor; {verdict}.", short(candidate.click()));
        trace.judge("label", candidate.click(), !any_navigated, why);
    }
    candidates.into_iter().filter(|candidate| candidate.touch.navigated || !any_navigated).collect()
}
