//! Events: what stands in the spool, one flat JSON object a record (contract V1-V10).
//!
//! Reading borrows from the record where it can: a click is read a hundred thousand times a second.

mod click;
mod conversion;
mod conversion_id;
mod extra;
mod refund;
mod same;

pub use click::Click;
pub use conversion::{Conversion, Item, MerchantStatus};
pub use conversion_id::{ConversionId, ConversionIds};
pub use extra::Extra;
pub use refund::{Refund, RefundItem, RefundReason};

use serde::Deserialize;

/// The `schema` of every event written today.
pub const SCHEMA: u32 = 1;

/// One record of a spool, read.
#[derive(Debug)]
pub enum Event<'a> {
    Click(Box<Click<'a>>),
    Conversion(Box<Conversion>),
    Refund(Box<Refund>),
    /// An event that this version does not know; readers skip it (contract V3).
    Other(String),
}

#[derive(Debug, thiserror::Error)]
#[error("not an event: {0}")]
pub struct NotAnEvent(#[from] serde_json::Error);

impl<'a> Event<'a> {
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
            other => Event::Other(other.to_owned()),
        })
    }
}
