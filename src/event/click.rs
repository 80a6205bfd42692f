//! A click as its event tells it (contract V4).

use std::borrow::Cow;

use serde::Deserialize;

use crate::catalog::{MerchantId, OfferId, PublisherId};
use crate::click::VisitorKey;
use crate::time::TimeMs;

/// The fields of a click event that somebody reads. A rejected click has no `click_id`.
#[derive(Clone, Debug, Deserialize)]
pub struct Click<'a> {
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
