//! One conversion as reported, checked field by field (contract I2-I5): either all of it is right, or every fault is
//! named.

use super::fields::Fields;
use super::fingerprint::{self, Fingerprint};
use super::items;
use super::json::{Members, Value};
use crate::api::Fault;
use crate::catalog::Merchant;
use crate::catalog::rulebook::Unit;
use crate::event::{Conversion, ConversionIds, Extra};
use crate::money::{Currency, MAX_AMOUNT, MinorUnits};
use crate::time::TimeMs;

/// Top-level fields that we know; all others are `extra`.
pub const KNOWN: &[&str] = &[
    "order_id",
    "type",
    "click_id",
    "coupon_code",
    "visitor_id",
    "amount",
    "currency",
    "occurred_at",
    "customer_id",
    "new_customer",
    "discount",
    "checkout_started_at",
    "items",
    "extra",
];

/// Conversion types that every merchant may report.
const TYPES: [&str; 4] = ["sale", "lead", "signup", "install"];

/// 2000-01-01T00:00:00Z: before it a clock is not set.
const EARLIEST: TimeMs = TimeMs(946_684_800_000);

const MAX_EXTRA_BYTES: usize = 4_096;

/// What a report is checked against.
pub struct Rules<'a> {
    pub merchant: &'a Merchant,
    pub ids: &'a ConversionIds,
    /// Minor units in one unit of the report's amounts.
    pub factor: MinorUnits,
    pub received_at: TimeMs,
    /// Nothing may have happened after this.
    pub latest: TimeMs,
    pub source_ip: Option<String>,
}

/// A conversion that may be accepted, and what it is compared by.
#[derive(Debug)]
pub struct Report {
    pub conversion: Conversion,
    pub fingerprint: Fingerprint,
}

/// Minor units in a merchant's own unit (contract I4).
pub fn factor(merchant: &Merchant) -> MinorUnits {
    match merchant.rules.unit {
        Unit::Rial => 1,
        Unit::Toman => 10,
    }
}

/// Checks all fields; the faults stand in the order of the contract's table.
pub fn check(members: &Members<'_>, rules: &Rules<'_>) -> Result<Report, Vec<Fault>> {
    let mut fields = Fields::new(members, "");
    let order_id = fields.number("order_id");
    let kind = kind(&mut fields, rules.merchant, None);
    let mut texts =
        ["click_id", "coupon_code", "visitor_id", "customer_id"].map(|name| fields.text(name).map(str::to_owned));
    let items = items::read(&mut fields, rules.factor);
    let amount = amount(&mut fields, rules.factor, kind, &items);
    let currency = currency(&mut fields, rules.merchant);
    let occurred_at = occurred_at(&mut fields, rules.latest);
    let whole_seconds = occurred_at.is_some() && fields.text("occurred_at").is_some_and(|text| !text.contains('.'));
    let new_customer = fields.boolean("new_customer");
    let discount = money(&mut fields, "discount", rules.factor);
    let checkout_started_at = fields.time("checkout_started_at");
    if checkout_started_at.is_some_and(|started| started > occurred_at.unwrap_or(rules.received_at)) {
        fields.fault::<()>("checkout_started_at", "must not be after occurred_at");
    }
    let (extra, canonical_extra) = extra(&mut fields, members).unzip();
    let (Some(order_id), Some(kind), Some(amount), Some(currency), true) =
        (order_id, kind, amount, currency, fields.is_sound())
    else {
        return Err(fields.into_faults());
    };
    let [click_id, coupon_code, visitor_id, customer_id] = texts.each_mut().map(Option::take);
    let mut conversion = Conversion {
        conversion_id: rules.ids.id(rules.merchant.id, order_id, kind).to_string(),
        merchant_id: rules.merchant.id,
        order_id: order_id.to_owned(),
        kind: kind.to_owned(),
        click_id,
        coupon_code,
        visitor_id,
        amount,
        currency,
        occurred_at_ms: occurred_at.unwrap_or(rules.received_at),
        occurred_at_whole_seconds: whole_seconds,
        occurred_at_filled_in: Some(occurred_at.is_none()),
        received_at_ms: rules.received_at,
        customer_id,
        new_customer,
        discount,
        checkout_started_at,
        items,
        unverified: false,
        original_status: None,
        merchant_status: None,
        extra,
        source_ip: rules.source_ip.clone(),
        content_hash: String::new(),
    };
    let fingerprint = fingerprint_of(&conversion, occurred_at, canonical_extra.as_deref());
    conversion.content_hash = fingerprint.content_hash();
    Ok(Report { conversion, fingerprint })
}

/// The conversion's type: one of the four or the merchant's own (contract I2).
pub fn kind<'v>(fields: &mut Fields<'v, '_>, merchant: &Merchant, default: Option<&'v str>) -> Option<&'v str> {
    if fields.value("type").is_none() {
        return default.or_else(|| fields.fault("type", "is required"));
    }
    let kind = fields.text("type")?;
    if TYPES.contains(&kind) || merchant.conversion_types.iter().any(|own| own == kind) {
        return Some(kind);
    }
    fields.fault("type", "must be sale, lead, signup, install or a type of the merchant's offers")
}

/// An optional amount, in minor units.
pub fn money(fields: &mut Fields<'_, '_>, name: &str, factor: MinorUnits) -> Option<MinorUnits> {
    fields.integer(name, 0..=MAX_AMOUNT / factor).map(|amount| amount * factor)
}

/// When it happened; `None` when that was not said, or not well.
pub fn occurred_at(fields: &mut Fields<'_, '_>, latest: TimeMs) -> Option<TimeMs> {
    let at = fields.time("occurred_at")?;
    if at < EARLIEST {
        return fields.fault("occurred_at", "must not be before 2000-01-01");
    }
    if at > latest {
        return fields.fault("occurred_at", "must not be in the future");
    }
    Some(at)
}

/// As sent, the sum of the items, or 0. `None` only beside a fault.
fn amount(
    fields: &mut Fields<'_, '_>,
    factor: MinorUnits,
    kind: Option<&str>,
    items: &[crate::event::Item],
) -> Option<MinorUnits> {
    let sent = fields.value("amount").is_some();
    let amount = money(fields, "amount", factor);
    if items.is_empty() {
        // Items that were sent and are all wrong are named already.
        let has_items = fields.value("items").is_some_and(|items| *items != Value::Array(Vec::new()));
        return match amount {
            None if !sent && !has_items && kind == Some("sale") => {
                fields.fault("amount", "is required for a sale without items")
            }
            None if !sent => Some(0),
            amount => amount,
        };
    }
    if sent && amount.is_none() || !fields.is_sound() {
        return None;
    }
    let Some(sum) = items::sum(items) else { return fields.fault("items", "their sum is too large") };
    if amount.is_some_and(|amount| amount != sum) {
        let detail = format!("must be the sum of the items, Σ(quantity × unit_amount − discount) = {}", sum / factor);
        return fields.fault("amount", detail);
    }
    Some(sum)
}

fn currency(fields: &mut Fields<'_, '_>, merchant: &Merchant) -> Option<Currency> {
    let ours = merchant.rules.currency;
    match fields.value("currency") {
        None => Some(ours),
        Some(Value::String(text)) if text == ours.as_str() => Some(ours),
        Some(_) => fields.fault("currency", format!("must be the merchant's currency, {ours}")),
    }
}

/// Unknown fields, and those of a field `extra`, and what they are compared by (contract I5). A name that stands in both
/// keeps the top level's value; `null` is as if absent.
fn extra(fields: &mut Fields<'_, '_>, members: &Members<'_>) -> Option<(Extra, Vec<u8>)> {
    let is_there = |value: &Value<'_>| *value != Value::Null;
    let unknown = members.iter().filter(|(name, value)| !KNOWN.contains(&name.as_ref()) && is_there(value));
    let mut merged: Members<'_> = unknown.cloned().collect();
    match fields.value("extra") {
        Some(Value::Object(inner)) => {
            let top: std::collections::HashSet<_> = merged.iter().map(|(name, _)| name.clone()).collect();
            let more = inner.iter().filter(|(name, value)| !top.contains(name) && is_there(value));
            merged.extend(more.cloned());
        }
        Some(_) => fields.fault("extra", "must be an object").unwrap_or(()),
        None => {}
    }
    if merged.is_empty() {
        return None;
    }
    let merged = Value::Object(merged);
    let (mut text, mut canonical) = (String::new(), Vec::new());
    merged.write(&mut text);
    if text.len() > MAX_EXTRA_BYTES {
        let bytes = text.len();
        let detail =
            format!("unknown fields and `extra` together have {bytes} bytes, at most {MAX_EXTRA_BYTES} are kept");
        return fields.fault("", detail);
    }
    fingerprint::write_canonical(&merged, &mut canonical);
    // It is JSON: it was just written as such.
    Extra::of(text).map(|extra| (extra, canonical))
}

/// The currency is not in it: it is the merchant's, whether sent or filled in (contract I12).
fn fingerprint_of(conversion: &Conversion, occurred_at: Option<TimeMs>, extra: Option<&[u8]>) -> Fingerprint {
    let mut fingerprint = Fingerprint::new(fingerprint::CONVERSION);
    let mut set = |field: &str, value: Option<String>| {
        if let Some(value) = value {
            fingerprint.set(field, value.as_bytes());
        }
    };
    set("click_id", conversion.click_id.clone());
    set("coupon_code", conversion.coupon_code.clone());
    set("visitor_id", conversion.visitor_id.clone());
    set("amount", Some(conversion.amount.to_string()));
    set("occurred_at", occurred_at.map(|at| at.0.to_string()));
    set("customer_id", conversion.customer_id.clone());
    set("new_customer", conversion.new_customer.map(|new| new.to_string()));
    set("discount", conversion.discount.map(|discount| discount.to_string()));
    set("checkout_started_at", conversion.checkout_started_at.map(|at| at.0.to_string()));
    if !conversion.items.is_empty() {
        fingerprint.set("items", &items::canonical(&conversion.items));
    }
    if let Some(extra) = extra {
        fingerprint.set("extra", extra);
    }
    fingerprint
}
