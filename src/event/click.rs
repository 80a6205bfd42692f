//! A click as its event tells it (contract V4).

use std::borrow::Cow;

use serde::Deserialize;

use super::NUMBERS;
use crate::catalog::{MerchantId, OfferId, PublisherId};
use crate::click::VisitorKey;
use crate::time::TimeMs;

/// The fields of a click event that somebody reads. A rejected click has no `click_id`.
#[derive(Clone, Debug, Deserialize)]
pub struct Click<'a> {
    /// Where it was parked before it was fed again under this number.
    #[serde(borrow)]
    pub of_spool: Option<Cow<'a, str>>,
    pub of_seq: Option<u64>,
    #[serde(borrow)]
    pub click_id: Option<Cow<'a, str>>,
    pub clicked_at_ms: TimeMs,
    pub offer_id: OfferId,
    /// `None`: the link named none, or what is no number. Such a click is rejected.
    pub publisher_id: Option<PublisherId>,
    pub merchant_id: MerchantId,
    #[serde(borrow)]
    pub link: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub visitor_id: Option<Cow<'a, str>>,
    pub visitor_key: VisitorKey,
    #[serde(default)]
    pub visitor_new: bool,
    /// The chosen page before our parameters.
    #[serde(borrow)]
    pub url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub sub1: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub ip_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub user_agent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub flags: Vec<Cow<'a, str>>,
    pub billable: bool,
    #[serde(borrow)]
    pub reject: Option<Cow<'a, str>>,
}

impl Click<'_> {
    /// The spool and number whose place it takes, if it was parked there and fed again.
    pub fn takes_place_of(&self) -> Option<(u64, u64)> {
        let spool = u64::from_str_radix(self.of_spool.as_deref()?, 16).ok()?;
        Some((spool, self.of_seq.filter(|seq| *seq < NUMBERS)?))
    }
}
