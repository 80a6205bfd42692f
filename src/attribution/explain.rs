//! The part of the explanation that is about money, in plain English with its numbers.

use super::trace::Trace;
use super::{Decision, MAX_TOLD_REFUNDS, Reason, State};
use crate::commission::{Earning, Line, RateSource, Rated, Refunded, exact, grouped};
use crate::event::{Conversion, MerchantStatus};
use crate::money::{MinorUnits, Rate};

/// One sentence per line of the order.
pub fn lines(rated: &[Rated], trace: &mut Trace) {
    let whole_order = |line: &Rated| rated.len() == 1 && line.line.sku.is_none() && line.line.category.is_none();
    for (place, line) in rated.iter().enumerate() {
        let name = if whole_order(line) { "The order".into() } else { line_name(place + 1, line) };
        trace.say("commission", format!("{name}: {}.", line_money(line)));
    }
}

fn line_name(number: usize, rated: &Rated) -> String {
    let mut name = format!("Line {number}");
    for (what, value) in [("sku", rated.line.sku), ("category", rated.line.category)] {
        if let Some(value) = value {
            name.push_str(&format!(", {what} {value:?}"));
        }
    }
    name
}

fn line_money(rated: &Rated) -> String {
    let amount = line_amount(&rated.line);
    let source = match rated.source {
        RateSource::Type => "the rate of the conversion's type",
        RateSource::Category => "the rate of its category",
        RateSource::Default => "the default rate",
        RateSource::Coupon => "the rate of sales by coupon",
    };
    match rated.rate {
        _ if rated.is_out_of_stock() => format!("{amount}, out of stock when it was clicked, earns 0"),
        rate if rate.is_zero() => format!("{amount} at {rate} ({source}) earns 0"),
        Rate::PartsPerMillion(_) => {
            format!("{amount} at {} ({source}) earns {}", rated.rate, exact(rated.millionths))
        }
        Rate::Fixed(_) if rated.fixed > 0 => format!("earns the fixed sum of {}, {source}, once", grouped(rated.fixed)),
        Rate::Fixed(_) if rated.line.amount == 0 && rated.source == RateSource::Category => {
            format!("amount 0 earns nothing of the fixed sum, {source}")
        }
        Rate::Fixed(_) => format!("earns nothing more: {source} is a fixed sum, earned once"),
    }
}

/// "2 x 1,000 - 100 = 1,900", or the amount alone where there is nothing to reckon.
fn line_amount(line: &Line) -> String {
    let amount = grouped(line.amount);
    if line.quantity == 1 && line.discount == 0 {
        return amount;
    }
    let discount = if line.discount == 0 { String::new() } else { format!(" - {}", grouped(line.discount)) };
    format!("{} x {}{discount} = {amount}", grouped(line.quantity), grouped(line.unit_amount))
}

pub fn earned(earning: &Earning, earned: MinorUnits, report: &Conversion, trace: &mut Trace) {
    let fixed = match earning.fixed {
        0 => String::new(),
        fixed => format!(" and with the fixed sum of {}", grouped(fixed)),
    };
    let sum = exact(earning.millionths());
    let why = format!("Together {sum}; rounded once{fixed}: {} {}.", grouped(earned), report.currency);
    trace.say("commission", why);
}

pub fn refunds(refunded: &Refunded, attributed: bool, trace: &mut Trace) {
    for (refund_id, note) in refunded.notes.iter().take(MAX_TOLD_REFUNDS) {
        let moves = if attributed { "" } else { " Nobody earned by this order, so no money moves." };
        trace.say("refund", format!("Refund {refund_id:?} {note}{moves}"));
    }
    if let Some(more @ 1..) = refunded.notes.len().checked_sub(MAX_TOLD_REFUNDS) {
        trace.say("refund", format!("{more} more refunds count and are not told one by one."));
    }
    if let Some(more) = &refunded.more {
        trace.say("refund", more.clone());
    }
}

/// What refunds and the merchant's status left, and until when it is held.
pub fn kept(decision: &Decision, refunded: &Refunded, report: &Conversion, trace: &mut Trace) {
    let currency = report.currency;
    let left = format!("{} {currency} of {} earned", grouped(decision.commission), grouped(decision.earned));
    if !refunded.notes.is_empty() || refunded.more.is_some() {
        let how = match refunded.full {
            true => "nothing of the order is left, fixed sums are reversed too".into(),
            false => {
                format!("{} of the exact commission is reversed, the rest rounded once", exact(refunded.millionths))
            }
        };
        trace.say("refund", format!("After refunds: {how}."));
    }
    for share in &decision.shares {
        let coupon = if share.coupon { ", by coupon" } else { "" };
        let why = format!(
            "Publisher {}: {} of 1,000,000 parts, {} {currency}, {} reversed{coupon}.",
            share.publisher_id,
            grouped(share.parts),
            grouped(share.commission),
            grouped(share.reversed)
        );
        trace.say("share", why);
    }
    let held = decision.hold_until_ms.map(|until| format!(", held until {until}")).unwrap_or_default();
    let state = match decision.state {
        Some(State::Reversed) => " (reversed)".into(),
        Some(State::Rejected) => " (rejected)".into(),
        _ => held,
    };
    trace.say("outcome", format!("Attributed: {left} stand{state}."));
}

pub fn status(status: Option<MerchantStatus>, trace: &mut Trace) {
    let why = match status {
        None => return,
        Some(MerchantStatus::Rejected) => "The merchant rejected the order: no money stands while it is.",
        Some(MerchantStatus::Pending) => "The merchant has not confirmed the order yet.",
        Some(MerchantStatus::Approved) => "The merchant confirmed the order.",
    };
    trace.say("status", why);
}

pub fn unattributed(reason: Reason, trace: &mut Trace) {
    let why = match reason {
        Reason::Unverified => "only a browser reported it, the merchant has not confirmed it",
        Reason::Conflict => "another report of the same order was committed first and counts",
        Reason::InvalidClickId => "the report's click ID is not one of this tracker's",
        Reason::WrongMerchant => "the click was on another merchant's offer",
        Reason::PublisherInactive => "the click's publisher is no longer in the catalog",
        Reason::WindowExpired => "a click was found, but outside of its window",
        Reason::CheckoutRule => "the only clicks came after the checkout had begun, and the offer ignores those",
        Reason::CouponRule => "the coupon needs a click that counts, and there is none",
        Reason::NoTouch => "no click and no coupon that could have brought it is known",
        Reason::OutOfStock => "everything in the order was out of stock when it was clicked",
        Reason::ZeroRate => "nothing in the order has a rate above 0",
    };
    trace.say("outcome", format!("Unattributed: {why}."));
}
