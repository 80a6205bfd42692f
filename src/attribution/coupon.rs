//! What a coupon code changes (contract M21-M25).

use super::filters::Counting;
use super::trace::{Trace, short};
use super::{Causes, Reason};
use crate::catalog::Rulebook;
use crate::catalog::rulebook::{CouponPolicy, CouponRules, OfferStatus, PublisherStatus, RateBasis, Terms};
use crate::event::Conversion;

/// A coupon of the reporting merchant that counts.
#[derive(Clone, Copy, Debug)]
pub struct Coupon<'a> {
    pub rules: CouponRules,
    /// Of its offer at the time of the order.
    pub terms: &'a Terms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    /// Marks the share that its publisher has.
    Marks,
    TakesAll,
}

/// The report's coupon, unless it is as if absent (M21); the explanation says why it is.
pub fn coupon<'a>(report: &Conversion, rulebook: &'a Rulebook, trace: &mut Trace) -> Option<Coupon<'a>> {
    let code = report.coupon_code.as_deref()?;
    match usable(report, code, rulebook) {
        Ok(coupon) => Some(coupon),
        Err(why) => {
            trace.say("coupon", format!("Coupon {:?} is as if absent: {why}.", code.trim()));
            None
        }
    }
}

fn usable<'a>(report: &Conversion, code: &str, rulebook: &'a Rulebook) -> Result<Coupon<'a>, String> {
    let unknown = || format!("the catalog knows no such coupon of merchant {}", report.merchant_id);
    let rules = *rulebook.coupon(report.merchant_id, code).ok_or_else(unknown)?;
    let publisher = rulebook.publishers.get(&rules.publisher_id).map(|publisher| publisher.status);
    if publisher != Some(PublisherStatus::Approved) {
        return Err(format!("its publisher {} is not approved", rules.publisher_id));
    }
    let offer = rulebook.offers.get(&rules.offer_id).filter(|offer| offer.status == OfferStatus::Active);
    let offer = offer.ok_or_else(|| format!("its offer {} is not active", rules.offer_id))?;
    let ended = || format!("its offer {} had no terms in force at {}", rules.offer_id, report.occurred_at_ms);
    let terms = offer.terms_at(report.occurred_at_ms).ok_or_else(ended)?;
    Ok(Coupon { rules, terms })
}

impl<'a> Coupon<'a> {
    /// What the policy does, given the candidates that count after all filters (M22).
    pub fn effect(&self, counting: &[Counting], causes: &mut Causes, trace: &mut Trace) -> Effect {
        let publisher_id = self.rules.publisher_id;
        let any = !counting.is_empty();
        let involved = counting.iter().any(|candidate| candidate.click().publisher_id() == publisher_id);
        let (effect, why) = match self.rules.policy {
            CouponPolicy::Always => (Effect::TakesAll, "always: takes all"),
            CouponPolicy::IfNoClick if any => {
                (Effect::Nothing, "if_no_click: a click counts, so the coupon takes nothing")
            }
            CouponPolicy::IfNoClick => (Effect::TakesAll, "if_no_click: no click counts, so the coupon takes all"),
            CouponPolicy::IfInvolved if involved => {
                (Effect::TakesAll, "if_involved: a click of its publisher counts, takes all")
            }
            CouponPolicy::IfInvolved if any => {
                (Effect::Nothing, "if_involved: no click of its publisher counts, takes nothing")
            }
            CouponPolicy::IfWinner if any => (Effect::Marks, "if_winner: only marks what its publisher earns by click"),
            CouponPolicy::IfInvolved => (Effect::Nothing, "if_involved: no click counts, so nobody earns by it"),
            CouponPolicy::IfWinner => (Effect::Nothing, "if_winner: no click counts, so nobody earns by it"),
        };
        // The two policies that need a click, without any (M23).
        if !any && effect == Effect::Nothing {
            causes.add(Reason::CouponRule);
        }
        trace.say("coupon", format!("Coupon of publisher {publisher_id} for offer {}, {why}.", self.rules.offer_id));
        effect
    }

    /// The terms that give the rates when the coupon takes all: those at the order, or with `rate_basis = "click"` at the
    /// latest counting click of the coupon's own offer, if there is one (M25).
    pub fn rates(&self, counting: &[Counting<'a>], trace: &mut Trace) -> &'a Terms {
        let of_offer = |candidate: &&Counting| candidate.click().offer_id() == self.rules.offer_id;
        let latest = counting.iter().rev().find(of_offer).filter(|_| self.terms.rate_basis == RateBasis::Click);
        match latest {
            None => self.terms,
            Some(candidate) => {
                trace.say("terms", format!("{}: gives the rates (rate_basis click).", short(candidate.click())));
                candidate.terms
            }
        }
    }
}
