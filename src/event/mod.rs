//! Events: what stands in the spool, one flat JSON object a record (contract V1-V10).
//!
//! Reading borrows from the record where it can: a click is read a hundred thousand times a second.

mod click;
mod conversion;
mod conversion_id;
mod extra;
mod glance;
mod refund;
mod same;
mod told;

pub use click::Click;
pub use conversion::{Conversion, Item, MerchantStatus};
pub use conversion_id::{ConversionId, ConversionIds};
pub use extra::Extra;
pub use glance::Glance;
pub use refund::{Refund, RefundItem, RefundReason};
pub use told::{Address, NUMBERS, Parked, SpoolState, Unparked, address, readdressed};

use serde::{Deserialize, Serialize};

/// The `schema` of every event written today.
pub const SCHEMA: u32 = 1;

/// One record of a spool, read.
#[derive(Debug)]
pub enum Event<'a> {
    Click(Box<Click<'a>>),
    Conversion(Box<Conversion>),
    Refund(Box<Refund>),
    /// How far a spool is, and that it gets no more: no records of a spool themselves.
    Heartbeat(Box<SpoolState>),
    Seal(Box<SpoolState>),
    /// In place of a record.
    Parked(Parked),
    /// Behind a record that was parked and is fed again.
    Unparked(Unparked),
    /// An event that this version does not know; readers skip it (contract V3).
    Other(String),
}

#[derive(Debug, thiserror::Error)]
#[error("not an event: {0}")]
pub struct NotAnEvent(#[from] serde_json::Error);

impl<'a> Event<'a> {
    pub fn heartbeat(state: &SpoolState) -> String {
        written("heartbeat", state)
    }

    pub fn seal(state: &SpoolState) -> String {
        written("seal", state)
    }

    pub fn parked(parked: &Parked) -> String {
        written("parked", parked)
    }

    pub fn unparked(unparked: &Unparked) -> String {
        written("unparked", unparked)
    }

    pub fn parse(record: &'a [u8]) -> Result<Event<'a>, NotAnEvent> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            event: std::borrow::Cow<'a, str>,
        }
        // Clicks are almost everything there is, and our writer puts the name first.
        if record.starts_with(br#"{"event":"click""#) {
            return Ok(Event::Click(serde_json::from_slice(record)?));
        }
        let head: Head = serde_json::from_slice(record)?;
        Ok(match head.event.as_ref() {
            "click" => Event::Click(serde_json::from_slice(record)?),
            "conversion" => Event::Conversion(serde_json::from_slice(record)?),
            "refund" => Event::Refund(serde_json::from_slice(record)?),
            "heartbeat" => Event::Heartbeat(serde_json::from_slice(record)?),
            "seal" => Event::Seal(serde_json::from_slice(record)?),
            "parked" => Event::Parked(serde_json::from_slice(record)?),
            "unparked" => Event::Unparked(serde_json::from_slice(record)?),
            other => Event::Other(other.to_owned()),
        })
    }
}

/// A JSON object of what every event has and these fields.
fn written(event: &'static str, fields: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Whole<'f, F> {
        event: &'static str,
        schema: u32,
        #[serde(flatten)]
        fields: &'f F,
    }
    // Strings and numbers alone: it cannot fail.
    serde_json::to_string(&Whole { event, schema: SCHEMA, fields }).unwrap_or_default()
}
