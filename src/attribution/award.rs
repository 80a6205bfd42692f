//! Who shares a conversion, and whose terms count (contract M15-M17, M20, M22-M25).

use std::collections::BTreeMap;

use super::coupon::{Coupon, Effect};
use super::facts::Touch;
use super::filters::Counting;
use super::trace::{Trace, short};
use super::{Causes, Reason, model};
use crate::catalog::rulebook::{Model, RateBasis, Terms};
use crate::catalog::{OfferId, PublisherId};
use crate::commission::{Part, grouped};
use crate::money::ALL_PARTS;
use crate::time::TimeMs;

/// A publisher was found.
#[derive(Debug)]
pub struct Award<'a> {
    /// The offer whose terms count.
    pub offer_id: OfferId,
    pub hold_days: u32,
    /// The terms that give the rates; `None`: none were in force then (M15).
    pub rates: Option<&'a Terms>,
    /// By publisher, ascending; none of 0 parts.
    pub parts: Vec<Part>,
    /// Who has the latest counting touch: units left over are theirs first (M33).
    pub latest_publisher: Option<PublisherId>,
    /// Its share is the coupon's, or marked by it.
    pub coupon_publisher: Option<PublisherId>,
}

/// Gives the conversion to those who brought it, or tells why nobody did.
pub fn award<'a>(
    counting: &[Counting<'a>],
    coupon: Option<&Coupon<'a>>,
    occurred_at: TimeMs,
    causes: &mut Causes,
    trace: &mut Trace,
) -> Result<Award<'a>, Reason> {
    let effect = coupon.map(|coupon| (coupon, coupon.effect(counting, causes, trace)));
    if let Some((coupon, Effect::TakesAll)) = effect {
        return Ok(to_coupon(coupon, counting, trace));
    }
    let latest = counting.last().ok_or_else(|| causes.reason())?;
    let marked = effect.filter(|(_, effect)| *effect == Effect::Marks).map(|(coupon, _)| coupon.rules.publisher_id);
    Ok(to_clicks(counting, latest, marked, occurred_at, trace))
}

fn to_coupon<'a>(coupon: &Coupon<'a>, counting: &[Counting<'a>], trace: &mut Trace) -> Award<'a> {
    for candidate in counting {
        trace.judge("coupon", candidate.click(), false, format!("{}: the coupon takes all.", short(candidate.click())));
    }
    let publisher_id = coupon.rules.publisher_id;
    let latest = counting.iter().rposition(|candidate| candidate.click().publisher_id() == publisher_id);
    let latest_publisher = counting.last().map(|candidate| candidate.click().publisher_id());
    Award {
        offer_id: coupon.rules.offer_id,
        hold_days: coupon.terms.hold_days,
        rates: Some(coupon.rates(counting, trace)),
        parts: vec![Part { publisher_id, parts: ALL_PARTS, latest }],
        latest_publisher,
        coupon_publisher: Some(publisher_id),
    }
}

fn to_clicks<'a>(
    counting: &[Counting<'a>],
    latest: &Counting<'a>,
    marked: Option<PublisherId>,
    occurred_at: TimeMs,
    trace: &mut Trace,
) -> Award<'a> {
    let offer_id = latest.click().offer_id();
    let terms = latest.terms;
    let (rates, basis) = match terms.rate_basis {
        RateBasis::Conversion => (latest.offer.terms_at(occurred_at), format!("at the order, {occurred_at}")),
        RateBasis::Click => (Some(terms), format!("at that click, {}", latest.click().clicked_at())),
    };
    trace.say(
        "terms",
        format!(
            "The latest click that counts is on offer {offer_id}; its terms at that click share by {} and hold for {} \
             days. Rates are those {basis}.",
            name(terms.model),
            terms.hold_days
        ),
    );
    let parts = shared(counting, terms.model, occurred_at, trace);
    let latest_publisher = Some(latest.click().publisher_id());
    Award { offer_id, hold_days: terms.hold_days, rates, parts, latest_publisher, coupon_publisher: marked }
}

/// Parts of each touch, added up by publisher (M20).
fn shared(counting: &[Counting], model: Model, occurred_at: TimeMs, trace: &mut Trace) -> Vec<Part> {
    let clicked_at: Vec<TimeMs> = counting.iter().map(|candidate| candidate.click().clicked_at()).collect();
    let parts = model::parts(model, &clicked_at, occurred_at);
    let mut by_publisher: BTreeMap<PublisherId, Part> = BTreeMap::new();
    for (place, (candidate, parts)) in counting.iter().zip(parts).enumerate() {
        explain_part(candidate.click(), model, parts, trace);
        if parts == 0 {
            continue;
        }
        let publisher_id = candidate.click().publisher_id();
        let part = by_publisher.entry(publisher_id).or_insert(Part { publisher_id, parts: 0, latest: None });
        part.parts += parts;
        part.latest = Some(place);
    }
    by_publisher.into_values().collect()
}

fn explain_part(click: Touch, model: Model, parts: u32, trace: &mut Trace) {
    let because = match (model, parts) {
        (Model::LastClick, 0) => ", as a later click counts",
        (Model::FirstClick, 0) => ", as an earlier click counts",
        (_, 0) => ", as it is too old beside the others",
        _ => "",
    };
    let parts_text = grouped(parts);
    let why = format!("{}: {} gives it {parts_text} of 1,000,000 parts{because}.", short(click), name(model));
    trace.judge("model", click, parts > 0, why);
}

fn name(model: Model) -> &'static str {
    match model {
        Model::LastClick => "last_click",
        Model::FirstClick => "first_click",
        Model::Linear => "linear",
        Model::Position => "position",
        Model::TimeDecay => "time_decay",
    }
}
