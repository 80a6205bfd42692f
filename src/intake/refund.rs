//! One refund as reported, checked field by field (contract I37). Whether there is such an order, and enough of it left,
//! is consumption's question (I38).

use super::fields::Fields;
use super::fingerprint::{self, Fingerprint};
use super::json::Members;
use super::report::{self, Rules};
use crate::api::Fault;
use crate::event::{Refund, RefundItem, RefundReason};

const MAX_ITEMS: usize = 1_000;
const MAX_QUANTITY: i64 = 1_000_000;
const MAX_SKU_CHARACTERS: usize = 255;

const REASONS: [(&str, RefundReason); 6] = [
    ("return", RefundReason::Return),
    ("cancellation", RefundReason::Cancellation),
    ("adjustment", RefundReason::Adjustment),
    ("fraud", RefundReason::Fraud),
    ("out_of_stock", RefundReason::OutOfStock),
    ("duplicate", RefundReason::Duplicate),
];

/// A refund that may be accepted, and what it is compared by.
#[derive(Debug)]
pub struct RefundReport {
    pub refund: Refund,
    pub fingerprint: Fingerprint,
}

/// Checks all fields. Unknown ones are ignored.
pub fn check(members: &Members<'_>, rules: &Rules<'_>) -> Result<RefundReport, Vec<Fault>> {
    let mut fields = Fields::new(members, "");
    let refund_id = fields.number("refund_id");
    let order_id = fields.number("order_id");
    let kind = report::kind(&mut fields, rules.merchant, Some("sale"));
    let reason = reason(&mut fields);
    let items = items(&mut fields);
    let amount = report::money(&mut fields, "amount", rules.factor);
    if amount.is_some() && !items.is_empty() {
        fields.fault::<()>("amount", "stands instead of items, not beside them");
    }
    let occurred_at = report::occurred_at(&mut fields, rules.latest);
    let (Some(refund_id), Some(order_id), Some(kind), Some((word, reason)), true) =
        (refund_id, order_id, kind, reason, fields.is_sound())
    else {
        return Err(fields.into_faults());
    };
    let mut fingerprint = Fingerprint::new(fingerprint::REFUND);
    fingerprint.set("order_id", order_id.as_bytes());
    fingerprint.set("type", kind.as_bytes());
    fingerprint.set("reason", word.as_bytes());
    if !items.is_empty() {
        let line = |item: &RefundItem| format!("{}:{},{};", item.sku.len(), item.sku, item.quantity);
        fingerprint.set("items", items.iter().map(line).collect::<String>().as_bytes());
    }
    if let Some(amount) = amount {
        fingerprint.set("amount", amount.to_string().as_bytes());
    }
    if let Some(at) = occurred_at {
        fingerprint.set("occurred_at", at.0.to_string().as_bytes());
    }
    let refund = Refund {
        refund_id: refund_id.to_owned(),
        conversion_id: rules.ids.id(rules.merchant.id, order_id, kind).to_string(),
        merchant_id: rules.merchant.id,
        order_id: order_id.to_owned(),
        kind: kind.to_owned(),
        reason,
        items,
        amount,
        occurred_at_ms: occurred_at.unwrap_or(rules.received_at),
        occurred_at_filled_in: Some(occurred_at.is_none()),
        received_at_ms: rules.received_at,
        content_hash: fingerprint.content_hash(),
    };
    Ok(RefundReport { refund, fingerprint })
}

fn reason(fields: &mut Fields<'_, '_>) -> Option<(&'static str, RefundReason)> {
    let detail = "must be return, cancellation, adjustment, fraud, out_of_stock or duplicate";
    if fields.value("reason").is_none() {
        return fields.fault("reason", detail);
    }
    let sent = fields.text("reason")?;
    REASONS.into_iter().find(|(word, _)| *word == sent).or_else(|| fields.fault("reason", detail))
}

fn items(fields: &mut Fields<'_, '_>) -> Vec<RefundItem> {
    let lines = fields.objects("items", MAX_ITEMS);
    let mut items = Vec::with_capacity(lines.len());
    for mut line in lines {
        for required in ["sku", "quantity"] {
            if line.value(required).is_none() {
                line.fault::<()>(required, "is required");
            }
        }
        let sku = line.short_text("sku", MAX_SKU_CHARACTERS).map(str::to_owned);
        let quantity = line.integer("quantity", 1..=MAX_QUANTITY).and_then(|quantity| u32::try_from(quantity).ok());
        if let (Some(sku), Some(quantity)) = (sku, quantity) {
            items.push(RefundItem { sku, quantity });
        }
        fields.adopt(line);
    }
    items
}
