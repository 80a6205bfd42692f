//! Facts in, target out (contract M1-M51): the list of the rules, in the order in which they run.

use super::award::{Award, award};
use super::candidates::candidates;
use super::coupon::coupon;
use super::facts::{Facts, Settings};
use super::filters::{Counting, filter};
use super::trace::Trace;
use super::{Causes, Decision, Outcome, Reason, Share, State, explain};
use crate::catalog::Rulebook;
use crate::commission::{self, CannotEarn, Earning, Line, Refunded};
use crate::event::{Conversion, MerchantStatus};
use crate::time::DAY_MS;

/// What a conversion earns and for whom. Total and deterministic: equal sets of facts give equal decisions, in whatever
/// order the facts stand and however often each is repeated.
pub fn decide(facts: &Facts, rulebook: &Rulebook, settings: &Settings) -> Decision {
    let mut trace = Trace::default();
    let mut causes = Causes::default();
    if facts.late_click_ignored {
        let why = "A click that might have counted came to be known after approval: too late to change the decision.";
        trace.say("late_click", why);
    }
    let candidates = candidates(facts, rulebook, settings, &mut causes, &mut trace);
    let counting = filter(candidates, facts, settings, &mut causes, &mut trace);
    let coupon = coupon(&facts.report, rulebook, &mut trace);
    let award = award(&counting, coupon.as_ref(), facts.report.occurred_at_ms, &mut causes, &mut trace);
    let lines = commission::lines(&facts.report);
    // A browser's word alone moves no money, whoever brought the customer; it is the first reason of all (M47).
    let award = if facts.report.unverified { Err(Reason::Unverified) } else { award };
    let earned = award.and_then(|award| {
        let earning = earn(&award, &lines, &facts.report, coupon.is_some(), &mut trace)?;
        Ok((award, earning))
    });
    match earned {
        Ok((award, earning)) => attributed(facts, &counting, &award, &earning, &lines, trace),
        Err(reason) => unattributed(facts, reason, &lines, trace),
    }
}

/// The decision on a report that lost to another one of the same order, type and merchant (M48): an outcome without
/// money.
pub fn conflict(report: &Conversion) -> Decision {
    let mut trace = Trace::default();
    explain::unattributed(Reason::Conflict, &mut trace);
    let kept_amount = commission::order_amount(&commission::lines(report));
    Decision { reason: Some(Reason::Conflict), kept_amount, explanation: trace.steps, ..nothing() }
}

fn earn<'a>(
    award: &Award,
    lines: &[Line<'a>],
    report: &Conversion,
    with_coupon: bool,
    trace: &mut Trace,
) -> Result<Earning<'a>, Reason> {
    let Some(terms) = award.rates else {
        trace.say("terms", format!("Offer {} had no terms in force then: there are no rates.", award.offer_id));
        let all_out = lines.iter().all(|line| line.out_of_stock);
        return Err(if all_out { Reason::OutOfStock } else { Reason::ZeroRate });
    };
    match commission::earn(lines, &report.kind, terms, with_coupon) {
        Ok(earning) => {
            explain::lines(&earning.lines, trace);
            Ok(earning)
        }
        Err((cannot, rated)) => {
            explain::lines(&rated, trace);
            Err(match cannot {
                CannotEarn::OutOfStock => Reason::OutOfStock,
                CannotEarn::ZeroRate => Reason::ZeroRate,
            })
        }
    }
}

fn attributed(
    facts: &Facts,
    counting: &[Counting],
    award: &Award,
    earning: &Earning,
    lines: &[Line],
    mut trace: Trace,
) -> Decision {
    let millionths: Vec<_> = earning.lines.iter().map(|line| line.millionths).collect();
    let refunded = commission::refunded(lines, &millionths, &facts.refunds, &facts.more_refunds);
    let earned = commission::rounded(earning.millionths(), earning.fixed);
    let (state, commission) = match facts.status() {
        Some(MerchantStatus::Rejected) => (State::Rejected, 0),
        _ if refunded.full => (State::Reversed, 0),
        _ => (State::Pending, commission::rounded(earning.millionths() - refunded.millionths, earning.fixed)),
    };
    let mut decision = Decision {
        outcome: Outcome::Attributed,
        state: Some(state),
        offer_id: Some(award.offer_id),
        earned,
        commission,
        line_millionths: millionths,
        fixed: earning.fixed,
        shares: shares(award, counting, earned, commission),
        kept_amount: commission::order_amount(lines) - refunded.amount,
        hold_until_ms: Some(facts.report.occurred_at_ms + i64::from(award.hold_days) * DAY_MS),
        ..nothing()
    };
    explain::earned(earning, earned, &facts.report, &mut trace);
    explain::refunds(&refunded, true, &mut trace);
    explain::status(facts.status(), &mut trace);
    explain::kept(&decision, &refunded, &facts.report, &mut trace);
    decision.explanation = trace.steps;
    decision
}

/// What was earned and what is left of it, each split anew (M33, M38).
fn shares(award: &Award, counting: &[Counting], earned: i64, commission: i64) -> Vec<Share> {
    let earned = commission::split(earned, &award.parts, award.latest_publisher);
    let kept = commission::split(commission, &award.parts, award.latest_publisher);
    let shares = award.parts.iter().zip(earned.into_iter().zip(kept)).map(|(part, (earned, kept))| Share {
        publisher_id: part.publisher_id,
        parts: part.parts,
        commission: kept,
        reversed: earned - kept,
        coupon: award.coupon_publisher == Some(part.publisher_id),
        click_id: part.latest.and_then(|place| counting.get(place)).map(|candidate| candidate.click().0),
    });
    shares.collect()
}

fn unattributed(facts: &Facts, reason: Reason, lines: &[Line], mut trace: Trace) -> Decision {
    let refunded: Refunded = commission::refunded(lines, &vec![0; lines.len()], &facts.refunds, &facts.more_refunds);
    explain::refunds(&refunded, false, &mut trace);
    explain::status(facts.status(), &mut trace);
    explain::unattributed(reason, &mut trace);
    Decision {
        reason: Some(reason),
        // A rejected order shows its state whoever brought it (M44, I39); there is no other state without money.
        state: facts.status().filter(|status| *status == MerchantStatus::Rejected).map(|_| State::Rejected),
        kept_amount: commission::order_amount(lines) - refunded.amount,
        explanation: trace.steps,
        ..nothing()
    }
}

/// No outcome yet and no money: what every decision starts from.
pub(crate) fn nothing() -> Decision {
    Decision {
        outcome: Outcome::Unattributed,
        reason: None,
        state: None,
        offer_id: None,
        earned: 0,
        commission: 0,
        line_millionths: Vec::new(),
        fixed: 0,
        shares: Vec::new(),
        kept_amount: 0,
        hold_until_ms: None,
        explanation: Vec::new(),
    }
}
