//! Who may have brought the customer, before any filter (contract M1, M2, M4, M6).

use std::collections::BTreeSet;

use super::facts::{Facts, OwnClick, Settings, Touch};
use super::touches::{Merged, keep, merge};
use super::trace::{Trace, describe, short};
use super::{Causes, Extent, Reason};
use crate::catalog::rulebook::OfferRules;
use crate::catalog::{MerchantId, Rulebook};
use crate::commission::grouped;

/// Beyond these, touches that M4 left out are only counted in the explanation.
const EXPLAINED_DROPPED: usize = 100;

/// A touch whose merchant, offer and publisher are in order.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub touch: Merged,
    pub offer: &'a OfferRules,
}

/// All candidates in order (M5). What falls here leaves its cause behind (M47).
pub fn candidates<'a>(
    facts: &Facts,
    rulebook: &'a Rulebook,
    settings: &Settings,
    causes: &mut Causes,
    trace: &mut Trace,
) -> Vec<Candidate<'a>> {
    let own = own_click(facts, causes, trace);
    let merchant_id = facts.report.merchant_id;
    let ours = |touch: &Merged| touch.own || is_of_merchant(touch, merchant_id, rulebook);
    let touches = if facts.is_late_report(settings) {
        late_report(facts, own, settings, trace)
    } else {
        kept_touches(facts, own, settings, ours, trace)
    };
    touches.into_iter().filter_map(|touch| in_order(touch, merchant_id, rulebook, causes, trace)).collect()
}

/// Only touches at the reporting merchant are candidates (M1). Of the others nothing is said and nothing follows from
/// them: where the visitor was at other merchants is not this one's to know. The report's own click is told apart.
fn is_of_merchant(touch: &Merged, merchant_id: MerchantId, rulebook: &Rulebook) -> bool {
    rulebook.offers.get(&touch.first.offer_id()).is_some_and(|offer| offer.merchant_id == merchant_id)
}

fn own_click(facts: &Facts, causes: &mut Causes, trace: &mut Trace) -> Option<Touch> {
    match facts.own_click {
        OwnClick::None => None,
        OwnClick::Verified(click_id) => Some(Touch(click_id)),
        OwnClick::Invalid => {
            causes.add(Reason::InvalidClickId);
            trace.say(
                "click_id",
                "The report's click ID was not signed by this tracker, or was changed: it proves nothing.",
            );
            None
        }
    }
}

/// The visitor's other touches may be forgotten by now, so none of them counts (M6).
fn late_report(facts: &Facts, own: Option<Touch>, settings: &Settings, trace: &mut Trace) -> Vec<Merged> {
    let why = format!(
        "Received at {}, more than {} days after the order at {}: only the report's own click ID can count. \
         {} other clicks are left out.",
        facts.report.received_at_ms,
        settings.max_report_delay_days,
        facts.report.occurred_at_ms,
        grouped(
            facts.touches.iter().collect::<BTreeSet<_>>().iter().filter(|touch| Some(***touch) != own).count() as i64
        ),
    );
    trace.say("late_report", why);
    own.map(|click| Merged::alone(click, true)).into_iter().collect()
}

/// Merges all clicks, then keeps a bounded choice. Touches too late to count are chosen apart from the others: else a
/// visitor who comes back after the order would push out the touch that brought it, and the money would depend on when
/// the decision was made.
fn kept_touches(
    facts: &Facts,
    own: Option<Touch>,
    settings: &Settings,
    ours: impl Fn(&Merged) -> bool,
    trace: &mut Trace,
) -> Vec<Merged> {
    explain_extent(facts.extent, trace);
    let clicks: BTreeSet<Touch> = facts.touches.iter().copied().chain(own).collect();
    let clicks: Vec<Touch> = clicks.into_iter().collect();
    let merged = merge(&clicks, own, settings.dedupe_window_ms);
    let latest = facts.latest_clicked_at(settings);
    let (in_time, too_late) = merged.into_iter().partition(|touch: &Merged| touch.first.clicked_at() <= latest);
    let mut chosen = Vec::new();
    let mut dropped = Vec::new();
    for touches in [in_time, too_late] {
        let (kept, left) = keep(touches);
        chosen.extend(kept);
        // The report's own click is a candidate in any case (M4).
        let (own, left): (Vec<Merged>, Vec<Merged>) = left.into_iter().partition(|touch| touch.own);
        chosen.extend(own);
        dropped.extend(left);
    }
    dropped.retain(&ours);
    explain_dropped(&dropped, trace);
    chosen.retain(ours);
    chosen.sort();
    chosen
}

fn explain_extent(extent: Extent, trace: &mut Trace) {
    let why = match extent {
        Extent::Whole => return,
        Extent::Reduced => {
            "The visitor has so many clicks that only those are told which may be kept: per offer and publisher the first \
             and the latest 3 touches."
        }
        Extent::Cut => {
            "The visitor has more clicks than a decision reads: those stored first are left out. Of the others only those \
             are told which may be kept."
        }
    };
    trace.say("kept_touches", why);
}

fn explain_dropped(dropped: &[Merged], trace: &mut Trace) {
    for touch in dropped.iter().take(EXPLAINED_DROPPED) {
        let why = format!(
            "{}: not kept. Per offer and publisher the first and the latest 3 touches are, of those the latest 64 \
             navigated and the latest 8 others.",
            short(touch.first)
        );
        trace.judge("kept_touches", touch.first, false, why);
    }
    if let Some(more @ 1..) = dropped.len().checked_sub(EXPLAINED_DROPPED) {
        trace.say("kept_touches", format!("{more} more touches were not kept for the same reason."));
    }
}

/// M2: the merchant is the one reporting, publisher and offer are in the catalog. Their status today does not matter:
/// the ID proves that they were in order when clicked.
fn in_order<'a>(
    touch: Merged,
    merchant_id: MerchantId,
    rulebook: &'a Rulebook,
    causes: &mut Causes,
    trace: &mut Trace,
) -> Option<Candidate<'a>> {
    let offer = rulebook.offers.get(&touch.first.offer_id());
    let publisher_known = rulebook.publishers.contains_key(&touch.first.publisher_id());
    let (cause, why) = match offer {
        Some(offer) if offer.merchant_id != merchant_id => (
            Some(Reason::WrongMerchant),
            format!("belongs to merchant {}, not to the one reporting", offer.merchant_id),
        ),
        _ if !publisher_known => (Some(Reason::PublisherInactive), "its publisher is no longer in the catalog".into()),
        // The click's merchant is not known either, so nothing speaks for it: as if there were no touch (M47).
        None => (None, "its offer is no longer in the catalog".into()),
        Some(offer) => {
            trace.judge("candidate", touch.first, true, format!("{}: a candidate.", describe(&touch)));
            return Some(Candidate { touch, offer });
        }
    };
    cause.into_iter().for_each(|cause| causes.add(cause));
    trace.judge("candidate", touch.first, false, format!("{}: no candidate, {why}.", describe(&touch)));
    None
}
