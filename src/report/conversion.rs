//! One conversion as its merchant reads it (contract I39-I41).

use std::fmt;

use serde::Serialize;

use crate::attribution::{Decision, Outcome, Reason, State, Step};
use crate::catalog::{MerchantId, PublisherId};
use crate::event::{ConversionId, Refund, RefundItem, RefundReason};
use crate::money::{Currency, MinorUnits};
use crate::store::{ConversionRow, DecisionRow, Stand, StoreError, View};
use crate::time::TimeMs;

/// Types of one order that are shown; offers have a handful.
const MAX_OF_ORDER: usize = 1_000;

/// Refunds that are shown one by one; of the others there is the number.
const MAX_SHOWN_REFUNDS: usize = 1_000;

/// What a conversion became. Without an outcome of its own it is `pending`.
#[derive(Debug, Serialize)]
pub struct Answer {
    pub conversion_id: String,
    pub merchant_id: MerchantId,
    #[serde(flatten)]
    pub known: Option<Known>,
    pub status: &'static str,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Decided by what was known while the touch index was not to be had: decided again when it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    #[serde(flatten)]
    pub decided: Option<Decided>,
}

/// From the report.
#[derive(Debug, Serialize)]
pub struct Known {
    order_id: String,
    r#type: String,
    currency: Currency,
    amount: MinorUnits,
    occurred_at_ms: TimeMs,
}

/// From the decision. Money is net of refunds.
#[derive(Debug, Serialize)]
pub struct Decided {
    commission: MinorUnits,
    shares: Vec<Share>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refunds: Vec<RefundAnswer>,
    /// How many there are beyond those.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_refunds: Option<u64>,
    explanation: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Share {
    publisher_id: PublisherId,
    parts: u32,
    commission: MinorUnits,
    reversed: MinorUnits,
    coupon: bool,
}

#[derive(Debug, Serialize)]
struct RefundAnswer {
    refund_id: String,
    reason: RefundReason,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    items: Vec<RefundItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<MinorUnits>,
    occurred_at_ms: TimeMs,
}

impl Answer {
    /// By an ID that is right. What the store does not know yet is pending: a 202 stands before it (contract I40).
    pub fn by_id(view: View<'_>, id: ConversionId) -> Result<Answer, StoreError> {
        match view.conversion(&id.to_string())? {
            Some(row) => Answer::of(view, row),
            None => Ok(Answer::unseen(id)),
        }
    }

    /// For a right ID that no store knows yet.
    pub fn unseen(id: ConversionId) -> Answer {
        Answer::pending(id.to_string(), id.merchant_id(), None)
    }

    /// All types of an order; of one merchant, or of all.
    pub fn by_order(
        view: View<'_>,
        order_id: &str,
        merchant_id: Option<MerchantId>,
    ) -> Result<Vec<Answer>, StoreError> {
        let rows = view.conversions_of_order(order_id, merchant_id, MAX_OF_ORDER)?;
        rows.into_iter().map(|row| Answer::of(view, row)).collect()
    }

    pub fn of(view: View<'_>, row: ConversionRow) -> Result<Answer, StoreError> {
        let report = row.report;
        let known = Known {
            order_id: report.order_id,
            r#type: report.kind,
            currency: report.currency,
            amount: report.amount,
            occurred_at_ms: report.occurred_at_ms,
        };
        let mut refunds = view.refunds(&report.conversion_id, MAX_SHOWN_REFUNDS)?;
        refunds.sort_by(|a, b| (a.received_at_ms, &a.refund_id).cmp(&(b.received_at_ms, &b.refund_id)));
        let decision = view.latest_decision(row.id)?;
        let pending = Answer::pending(report.conversion_id, report.merchant_id, Some(known));
        let Some(DecisionRow { facts, decision, .. }) = decision else { return Ok(pending) };
        let waiting = view.waiting_of(row.id)?;
        let more_refunds = facts.refund_count().checked_sub(refunds.len() as u64).filter(|more| *more > 0);
        Ok(Answer {
            outcome: outcome_name(decision.outcome),
            reason: decision.reason,
            state: decision.state,
            provisional: waiting.is_some_and(|waiting| waiting.stand == Stand::Provisional),
            decided: Some(Decided { more_refunds, ..Decided::of(decision, refunds) }),
            ..pending
        })
    }

    /// The trace of the decision.
    pub fn steps(&self) -> &[Step] {
        self.decided.as_ref().map_or(&[], |decided| &decided.explanation)
    }

    fn pending(conversion_id: String, merchant_id: MerchantId, known: Option<Known>) -> Answer {
        Answer {
            conversion_id,
            merchant_id,
            known,
            status: "accepted",
            outcome: "pending",
            reason: None,
            state: None,
            provisional: false,
            decided: None,
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Known { order_id, r#type, currency, amount, occurred_at_ms } = self;
        write!(out, "Order {order_id:?}, {type}: {amount} {currency}, occurred at {}", occurred_at_ms.to_rfc3339())
    }
}

impl Decided {
    fn of(decision: Decision, refunds: Vec<Refund>) -> Decided {
        let share = |share: crate::attribution::Share| Share {
            publisher_id: share.publisher_id,
            parts: share.parts,
            commission: share.commission,
            reversed: share.reversed,
            coupon: share.coupon,
        };
        let refund = |refund: Refund| RefundAnswer {
            refund_id: refund.refund_id,
            reason: refund.reason,
            items: refund.items,
            amount: refund.amount,
            occurred_at_ms: refund.occurred_at_ms,
        };
        Decided {
            commission: decision.commission,
            shares: decision.shares.into_iter().map(share).collect(),
            refunds: refunds.into_iter().map(refund).collect(),
            more_refunds: None,
            explanation: decision.explanation,
        }
    }
}

pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Attributed => "attributed",
        Outcome::Unattributed => "unattributed",
    }
}
