//! How the answers look, for the OpenAPI document.

use utoipa::ToSchema;

/// What a conversion became. Money is in minor units.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes what `Answer` serialises to")]
pub struct Conversion {
    conversion_id: String,
    merchant_id: u32,
    order_id: Option<String>,
    r#type: Option<String>,
    /// Always `accepted`.
    status: String,
    /// `pending`, `attributed` or `unattributed`.
    outcome: String,
    /// Why nobody earned it.
    reason: Option<String>,
    /// `pending`, `approved`, `payable`, `paid`, `reversed` or `rejected`.
    state: Option<String>,
    currency: Option<String>,
    /// Gross, as it was reported: refunds are not taken off.
    amount: Option<i64>,
    occurred_at_ms: Option<i64>,
    /// Net: what refunds and a rejection took back is taken off.
    commission: Option<i64>,
    shares: Option<Vec<Share>>,
    refunds: Option<Vec<Refund>>,
    /// How many there are beyond the 1,000 that are shown.
    more_refunds: Option<u64>,
    explanation: Option<Vec<Step>>,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub struct Conversions {
    conversions: Vec<Conversion>,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub struct Share {
    publisher_id: u32,
    /// Of 1,000,000.
    parts: u32,
    /// Net.
    commission: i64,
    /// What refunds or a rejection took back.
    reversed: i64,
    /// Earned or marked by a coupon.
    coupon: bool,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub struct Refund {
    refund_id: String,
    reason: String,
    amount: Option<i64>,
    items: Option<Vec<RefundedItem>>,
    occurred_at_ms: i64,
}

#[derive(ToSchema)]
#[schema(as = RefundItem)]
#[allow(dead_code, reason = "it only describes")]
pub struct RefundedItem {
    sku: String,
    quantity: u32,
}

/// One rule, what it looked at and what it did.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub struct Step {
    rule: String,
    click_id: Option<String>,
    publisher_id: Option<u32>,
    kept: Option<bool>,
    why: String,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub struct Performance {
    rows: Vec<PerformanceRow>,
}

/// The group keys that were asked for stand before the sums; each may be null.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes")]
pub struct PerformanceRow {
    day: Option<String>,
    hour: Option<String>,
    merchant: Option<u32>,
    offer: Option<u32>,
    publisher: Option<u32>,
    link: Option<String>,
    source: Option<String>,
    r#type: Option<String>,
    coupon_code: Option<String>,
    sub1: Option<String>,
    /// All clicks but the rejected ones.
    clicks: i64,
    billable_clicks: i64,
    rejected_clicks: i64,
    conversions: i64,
    /// Net of refunds.
    amount: i64,
    /// Net of refunds.
    commission: i64,
    /// Commission that refunds and rejections took back.
    reversed: i64,
    currency: Option<String>,
}
