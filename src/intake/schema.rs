//! How bodies and parameters look, for the OpenAPI document alone: reading them is `report`'s, `refund`'s and
//! `postback`'s, stricter than any schema says. A test holds the names equal.
#![allow(dead_code, reason = "these types describe, nothing reads them")]

use utoipa::{IntoParams, ToSchema};

/// One conversion, or `conversions` with 1 to 1,000 of them.
#[derive(ToSchema)]
#[schema(as = ConversionsRequest)]
#[serde(untagged)]
pub enum ConversionsBody {
    One(Box<ConversionBody>),
    Batch(BatchBody),
}

#[derive(ToSchema)]
#[schema(as = ConversionBatch)]
pub struct BatchBody {
    #[schema(min_items = 1, max_items = 1000)]
    pub conversions: Vec<ConversionBody>,
}

/// Amounts are integers in the merchant's unit. Unknown fields are kept under `extra`.
#[derive(ToSchema)]
#[schema(as = ConversionRequest)]
pub struct ConversionBody {
    /// 1 to 255 bytes, compared byte by byte.
    #[schema(min_length = 1, max_length = 255)]
    pub order_id: String,
    /// `sale`, `lead`, `signup`, `install` or a type of the merchant's offers.
    #[schema(pattern = "^[a-z][a-z0-9_]{0,31}$")]
    pub r#type: String,
    pub click_id: Option<String>,
    pub coupon_code: Option<String>,
    /// The value of the cookie `aff_vid`.
    pub visitor_id: Option<String>,
    /// Needed for a sale without items; with items their sum.
    #[schema(minimum = 0, maximum = 9007199254740991_i64)]
    pub amount: Option<i64>,
    /// The merchant's.
    pub currency: Option<String>,
    /// RFC 3339 with an offset; absent: the time of receipt.
    #[schema(format = DateTime)]
    pub occurred_at: Option<String>,
    pub customer_id: Option<String>,
    pub new_customer: Option<bool>,
    /// Information only.
    #[schema(minimum = 0, maximum = 9007199254740991_i64)]
    pub discount: Option<i64>,
    /// Not after `occurred_at`.
    #[schema(format = DateTime)]
    pub checkout_started_at: Option<String>,
    #[schema(max_items = 1000)]
    pub items: Option<Vec<ItemBody>>,
    /// At most 4,096 bytes serialised, unknown fields included.
    #[schema(value_type = Option<Object>)]
    pub extra: Option<serde_json::Value>,
}

#[derive(ToSchema)]
#[schema(as = Item)]
pub struct ItemBody {
    #[schema(max_length = 255)]
    pub sku: Option<String>,
    #[schema(max_length = 255)]
    pub category: Option<String>,
    #[schema(minimum = 1, maximum = 1000000)]
    pub quantity: u32,
    #[schema(minimum = 0, maximum = 9007199254740991_i64)]
    pub unit_amount: i64,
    /// Of the whole line, not per piece.
    #[schema(minimum = 0, maximum = 9007199254740991_i64)]
    pub discount: Option<i64>,
    pub out_of_stock: Option<bool>,
}

#[derive(ToSchema)]
#[schema(as = ConversionsAnswer)]
#[serde(untagged)]
pub enum ConversionsAnswer {
    One(ConversionAnswer),
    Batch(BatchAnswer),
}

#[derive(ToSchema)]
#[schema(as = ConversionAccepted)]
pub struct ConversionAnswer {
    pub conversion_id: String,
    /// `accepted`
    pub status: String,
}

#[derive(ToSchema)]
#[schema(as = BatchAccepted)]
pub struct BatchAnswer {
    /// One per conversion, in order.
    pub results: Vec<BatchResult>,
}

#[derive(ToSchema)]
pub struct BatchResult {
    pub index: u32,
    /// `accepted` or `rejected`
    pub status: String,
    pub conversion_id: Option<String>,
    /// Only there when true.
    pub replayed: Option<bool>,
    pub problem: Option<crate::api::problem::ProblemBody>,
}

/// Of items, of an amount, or (neither) of all that is left.
#[derive(ToSchema)]
#[schema(as = RefundRequest)]
pub struct RefundBody {
    #[schema(min_length = 1, max_length = 255)]
    pub refund_id: String,
    #[schema(min_length = 1, max_length = 255)]
    pub order_id: String,
    /// Absent: `sale`.
    pub r#type: Option<String>,
    pub reason: Reason,
    #[schema(max_items = 1000)]
    pub items: Option<Vec<RefundItemBody>>,
    #[schema(minimum = 0, maximum = 9007199254740991_i64)]
    pub amount: Option<i64>,
    #[schema(format = DateTime)]
    pub occurred_at: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = RefundReason)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Return,
    Cancellation,
    Adjustment,
    Fraud,
    OutOfStock,
    Duplicate,
}

#[derive(ToSchema)]
#[schema(as = RefundItem)]
pub struct RefundItemBody {
    #[schema(max_length = 255)]
    pub sku: String,
    #[schema(minimum = 1, maximum = 1000000)]
    pub quantity: u32,
}

#[derive(ToSchema)]
#[schema(as = RefundAccepted)]
pub struct RefundAnswer {
    pub refund_id: String,
    pub conversion_id: String,
    /// `accepted`
    pub status: String,
}

/// Of several names of one thing the first non-empty counts.
#[derive(IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[schema(as = PostbackForm)]
pub struct PostbackParameters {
    pub click_id: Option<String>,
    /// Or `txid`, `tid`. For a lead, signup or install the click ID stands in.
    pub order_id: Option<String>,
    pub txid: Option<String>,
    pub tid: Option<String>,
    /// In major units. Or `payout`, `sum`.
    pub amount: Option<String>,
    pub payout: Option<String>,
    pub sum: Option<String>,
    pub currency: Option<String>,
    /// `approved`, `pending`, `rejected` or a word of the merchant's `status_words`.
    pub status: Option<String>,
    /// Absent: `sale`. Or `goal`, `event`.
    pub r#type: Option<String>,
    pub goal: Option<String>,
    pub event: Option<String>,
    pub coupon_code: Option<String>,
    /// Or `secure`, `verification_token`; or a bearer token or signature.
    pub token: Option<String>,
    pub secure: Option<String>,
    pub verification_token: Option<String>,
}
