//! The catalog as the edge and intake see it: complete, checked, immutable. A reload makes a new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use hashbrown::HashMap;
use ipnet::IpNet;

use super::deep_link::DeepLinkHosts;
use super::links::{Link, Links};
use super::rulebook::{MerchantRules, OfferRules, PublisherRules, Rulebook};
use super::template::Template;
use super::{MerchantId, OfferId, PublisherId};
use crate::event::MerchantStatus;

pub struct Snapshot {
    /// What money depends on.
    pub rulebook: Arc<Rulebook>,
    /// SHA-256 of the rulebook's canonical JSON, 64 lower-case hex digits.
    pub hash: String,
    pub merchants: HashMap<MerchantId, Merchant>,
    pub offers: HashMap<OfferId, Offer>,
    pub links: Links,
}

/// What intake needs of a merchant: who they are and how they prove it.
pub struct Merchant {
    pub id: MerchantId,
    pub rules: MerchantRules,
    pub bearer_tokens_sha256: Vec<[u8; 32]>,
    pub postback_tokens_sha256: Vec<[u8; 32]>,
    /// Newest first.
    pub signing_secrets: Vec<Vec<u8>>,
    /// Empty: from anywhere.
    pub allow_networks: Vec<IpNet>,
    /// Lower-cased word to status.
    pub status_words: BTreeMap<String, MerchantStatus>,
    /// Conversion types of this merchant's offers beside `sale lead signup install`.
    pub conversion_types: Vec<String>,
}

/// What the edge needs of an offer, precomputed.
pub struct Offer {
    pub id: OfferId,
    pub rules: OfferRules,
    pub landing: Option<Template>,
    /// It has no macros (contract E16).
    pub fallback_url: Option<String>,
    pub deep_links: DeepLinkHosts,
    pub click_id_parameter: String,
    pub stand_down: bool,
    pub extra_parameters: Vec<(String, Template)>,
}

impl Snapshot {
    /// Nothing is known: every code is 404 (contract P20).
    pub fn empty() -> Snapshot {
        Snapshot::new(Rulebook::default(), HashMap::new(), HashMap::new(), Links::default())
    }

    pub fn new(
        rulebook: Rulebook,
        merchants: HashMap<MerchantId, Merchant>,
        offers: HashMap<OfferId, Offer>,
        links: Links,
    ) -> Snapshot {
        let hash = digest::digest(&digest::SHA256, rulebook.canonical_json().as_bytes());
        let hash = data_encoding::HEXLOWER.encode(hash.as_ref());
        Snapshot { rulebook: Arc::new(rulebook), hash, merchants, offers, links }
    }

    /// How much there is of each kind.
    pub fn counts(&self) -> [(&'static str, usize); 5] {
        [
            ("merchants", self.merchants.len()),
            ("offers", self.offers.len()),
            ("publishers", self.rulebook.publishers.len()),
            ("links", self.links.len()),
            ("coupons", self.rulebook.coupons.values().map(BTreeMap::len).sum()),
        ]
    }

    /// A dedicated link by its exact code.
    pub fn link(&self, code: &[u8]) -> Option<Link<'_>> {
        self.links.find(code)
    }

    pub fn offer(&self, offer_id: OfferId) -> Option<&Offer> {
        self.offers.get(&offer_id)
    }

    pub fn publisher(&self, publisher_id: PublisherId) -> Option<&PublisherRules> {
        self.rulebook.publishers.get(&publisher_id)
    }

    pub fn merchant(&self, merchant_id: MerchantId) -> Option<&Merchant> {
        self.merchants.get(&merchant_id)
    }
}
