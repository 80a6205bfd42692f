//! Entries put together: every reference leads somewhere, every name stands once, every page may be gone to.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use hashbrown::HashMap;

use super::entries::{CouponEntry, LinkEntry, MerchantEntry, OfferEntry, Place, PublisherEntry};
use super::links::{Link, Links};
use super::pages::Pages;
use super::rulebook::{
    CouponPolicy, CouponRules, MerchantRules, OfferRules, PublisherRules, Rulebook, fold_coupon_code,
};
use super::{Merchant, MerchantId, Offer, OfferId, PublisherId, Snapshot};
use crate::toml_reader::{Violation, Violations};

/// Types that every merchant may report (contract I2).
const COMMON_TYPES: [&str; 4] = ["sale", "lead", "signup", "install"];

/// Takes entries in the order of the files, then the links, and gives the snapshot. Violations go where they are listed.
pub struct Builder<'v> {
    violations: &'v RefCell<Violations>,
    merchants: Vec<MerchantEntry>,
    offers: Vec<OfferEntry>,
    publishers: Vec<PublisherEntry>,
    links: Vec<LinkEntry>,
    coupons: Vec<CouponEntry>,
    rulebook: Rulebook,
    ready_merchants: HashMap<MerchantId, Merchant>,
    ready_offers: HashMap<OfferId, Offer>,
    ready_links: Links,
    offer_places: HashMap<OfferId, Place>,
    /// Offers whose `deep_link_hosts` are wrong and noted: their links are not judged by them.
    without_hosts: HashSet<OfferId>,
}

/// What a link is judged by; shared by the threads that read links files.
#[derive(Clone, Copy)]
pub struct Linkable<'b> {
    offers: &'b HashMap<OfferId, Offer>,
    publishers: &'b BTreeMap<PublisherId, PublisherRules>,
    without_hosts: &'b HashSet<OfferId>,
}

impl Linkable<'_> {
    /// The link's URL re-serialised, if it has one that is right. Everything that is wrong goes to `note`, with its key;
    /// an ID that is `None` is so already.
    pub fn judge(
        &self,
        offer_id: Option<OfferId>,
        publisher_id: Option<PublisherId>,
        url: Option<&str>,
        mut note: impl FnMut(&'static str, String),
    ) -> Option<String> {
        let offer = offer_id.and_then(|id| self.offers.get(&id));
        if let (Some(id), None) = (offer_id, offer) {
            note("offer_id", format!("no offer {id}, one of the catalog is allowed"));
        }
        if let Some(id) = publisher_id.filter(|id| !self.publishers.contains_key(id)) {
            note("publisher_id", format!("no publisher {id}, one of the catalog is allowed"));
        }
        let offer = offer.filter(|offer| !self.without_hosts.contains(&offer.id))?;
        let url = url?;
        let wrong =
            |refused| format!("{url:?}: {refused}; a page under deep_link_hosts of offer {} is allowed", offer.id);
        offer.deep_links.check(url).map_err(|refused| note("url", wrong(refused))).ok()
    }
}

impl<'v> Builder<'v> {
    pub fn new(violations: &'v RefCell<Violations>) -> Builder<'v> {
        Builder {
            violations,
            merchants: Vec::new(),
            offers: Vec::new(),
            publishers: Vec::new(),
            links: Vec::new(),
            coupons: Vec::new(),
            rulebook: Rulebook::default(),
            ready_merchants: HashMap::new(),
            ready_offers: HashMap::new(),
            ready_links: Links::default(),
            offer_places: HashMap::new(),
            without_hosts: HashSet::new(),
        }
    }

    pub fn merchant(&mut self, entry: MerchantEntry) {
        self.merchants.push(entry);
    }

    pub fn offer(&mut self, entry: OfferEntry) {
        self.offers.push(entry);
    }

    pub fn publisher(&mut self, entry: PublisherEntry) {
        self.publishers.push(entry);
    }

    pub fn link(&mut self, entry: LinkEntry) {
        self.links.push(entry);
    }

    pub fn coupon(&mut self, entry: CouponEntry) {
        self.coupons.push(entry);
    }

    /// Everything but the link files, which need it to be known.
    pub fn resolve(&mut self) {
        self.resolve_merchants();
        self.resolve_publishers();
        self.resolve_offers();
        self.resolve_coupons();
        for entry in std::mem::take(&mut self.links) {
            for (key, message) in self.add_link(&entry) {
                self.violation(&entry.place, key, message);
            }
        }
    }

    /// What a links file is judged by, and where its links go.
    pub fn linking(&mut self) -> (Linkable<'_>, &mut Links) {
        let linkable = Linkable {
            offers: &self.ready_offers,
            publishers: &self.rulebook.publishers,
            without_hosts: &self.without_hosts,
        };
        (linkable, &mut self.ready_links)
    }

    /// What is wrong with the link. Its code is put down even then, so that a second one is told at once.
    fn add_link(&mut self, entry: &LinkEntry) -> Vec<(&'static str, String)> {
        let (linkable, links) = self.linking();
        let mut wrong = Vec::new();
        let note = |key, message| wrong.push((key, message));
        let url = linkable.judge(entry.offer_id, entry.publisher_id, entry.url.as_deref(), note);
        if let Some(code) = entry.code.as_deref() {
            let (offer_id, publisher_id) =
                (entry.offer_id.unwrap_or(OfferId(0)), entry.publisher_id.unwrap_or(PublisherId(0)));
            let link = Link { code, offer_id, publisher_id, url: url.as_deref() };
            wrong.extend(links.add(link).err().map(|error| ("code", format!("{code:?}: {error}, once is allowed"))));
        }
        wrong
    }

    /// The snapshot, and where its offers stand.
    pub fn finish(mut self) -> (Snapshot, HashMap<OfferId, Place>) {
        self.ready_links.shrink();
        let snapshot = Snapshot::new(self.rulebook, self.ready_merchants, self.ready_offers, self.ready_links);
        (snapshot, self.offer_places)
    }

    fn violation(&self, place: &Place, key: &str, message: impl Into<String>) {
        self.violation_at(&place.file, place.line_of(key), &format!("{}.{key}", place.section), message);
    }

    fn violation_at(&self, file: &Path, line: usize, key: &str, message: impl Into<String>) {
        let violation = Violation { file: file.to_owned(), line, key: key.to_owned(), message: message.into() };
        self.violations.borrow_mut().add(violation);
    }

    fn resolve_merchants(&mut self) {
        let mut tokens: HashMap<[u8; 32], MerchantId> = HashMap::new();
        for entry in std::mem::take(&mut self.merchants) {
            self.claim_tokens(&entry, &mut tokens);
            let rules = MerchantRules { currency: entry.currency, unit: entry.unit };
            if self.rulebook.merchants.insert(entry.id, rules).is_some() {
                self.violation(&entry.place, "id", format!("{} stands twice, once is allowed", entry.id));
            }
            let merchant = Merchant {
                id: entry.id,
                rules,
                bearer_tokens_sha256: entry.bearer_tokens_sha256,
                postback_tokens_sha256: entry.postback_tokens_sha256,
                signing_secrets: entry.signing_secrets,
                allow_networks: entry.allow_networks,
                status_words: entry.status_words,
                conversion_types: Vec::new(),
            };
            self.ready_merchants.insert(entry.id, merchant);
        }
    }

    /// Never one token for two merchants (contract P23); for both kinds of one merchant it may be the same.
    fn claim_tokens(&self, entry: &MerchantEntry, tokens: &mut HashMap<[u8; 32], MerchantId>) {
        let lists = [
            ("bearer_tokens_sha256", &entry.bearer_tokens_sha256),
            ("postback_tokens_sha256", &entry.postback_tokens_sha256),
        ];
        for (key, list) in lists {
            for (index, token) in list.iter().enumerate() {
                let other = *tokens.entry(*token).or_insert(entry.id);
                if other != entry.id {
                    let message = format!("entry {}: a token of merchant {other} too, its own is allowed", index + 1);
                    self.violation(&entry.place, key, message);
                }
            }
        }
    }

    fn resolve_publishers(&mut self) {
        for entry in std::mem::take(&mut self.publishers) {
            if self.rulebook.publishers.insert(entry.id, entry.rules).is_some() {
                self.violation(&entry.place, "id", format!("{} stands twice, once is allowed", entry.id));
            }
        }
    }

    fn resolve_offers(&mut self) {
        for entry in std::mem::take(&mut self.offers) {
            let (id, place) = (entry.id, entry.place.clone());
            self.know_merchant(&entry);
            // Merchant 0 cannot be: that it is wrong has been noted.
            let merchant_id = entry.merchant_id.unwrap_or(MerchantId(0));
            let (status, checkout_rule) = (entry.status, entry.checkout_rule);
            let rules = OfferRules { merchant_id, status, checkout_rule, terms: entry.terms.clone() };
            let offer = self.offer_with_pages(entry, rules.clone());
            if self.ready_offers.contains_key(&id) {
                self.violation(&place, "id", format!("{id} stands twice, once is allowed"));
                continue;
            }
            self.rulebook.offers.insert(id, rules);
            self.ready_offers.insert(id, offer);
            self.offer_places.insert(id, place);
        }
    }

    /// The offer's merchant is in the catalog, and takes the offer's own types of conversions.
    fn know_merchant(&mut self, entry: &OfferEntry) {
        let Some(merchant_id) = entry.merchant_id else { return };
        let Some(merchant) = self.ready_merchants.get_mut(&merchant_id) else {
            let message = format!("no merchant {merchant_id}, one of the catalog is allowed");
            self.violation(&entry.place, "merchant_id", message);
            return;
        };
        let types = entry.terms.iter().flat_map(|terms| terms.conversion_rates.keys());
        for kind in types.filter(|kind| !COMMON_TYPES.contains(&kind.as_str())) {
            if !merchant.conversion_types.contains(kind) {
                merchant.conversion_types.push(kind.clone());
            }
        }
    }

    fn offer_with_pages(&mut self, entry: OfferEntry, rules: OfferRules) -> Offer {
        let pages = Pages::new(&entry, self.violations);
        let landing = pages.landing();
        let fallback_url = pages.fallback();
        let deep_links = pages.deep_links();
        let click_id_parameter = pages.click_id_parameter();
        let extra_parameters = pages.extra_parameters();
        if deep_links.is_none() {
            self.without_hosts.insert(entry.id);
        }
        Offer {
            id: entry.id,
            rules,
            landing,
            fallback_url,
            deep_links: deep_links.unwrap_or_default(),
            click_id_parameter,
            stand_down: entry.stand_down,
            extra_parameters,
        }
    }

    fn resolve_coupons(&mut self) {
        for entry in std::mem::take(&mut self.coupons) {
            if let Some(id) = entry.publisher_id.filter(|id| !self.rulebook.publishers.contains_key(id)) {
                self.violation(
                    &entry.place,
                    "publisher_id",
                    format!("no publisher {id}, one of the catalog is allowed"),
                );
            }
            let Some(offer_id) = entry.offer_id else { continue };
            let Some(offer) = self.rulebook.offers.get(&offer_id) else {
                self.violation(&entry.place, "offer_id", format!("no offer {offer_id}, one of the catalog is allowed"));
                continue;
            };
            // The offer is the merchant's, and so is its coupon. A code is put down even where the rest is wrong and noted,
            // so that a second one is told at once.
            let merchant_id = offer.merchant_id;
            let publisher_id = entry.publisher_id.unwrap_or(PublisherId(0));
            let policy = entry.policy.unwrap_or(CouponPolicy::IfWinner);
            let rules = CouponRules { offer_id, publisher_id, policy };
            let Some(code) = entry.code else { continue };
            let codes: &mut BTreeMap<String, CouponRules> = self.rulebook.coupons.entry(merchant_id).or_default();
            if codes.insert(fold_coupon_code(&code), rules).is_some() {
                let message =
                    format!("{code:?} stands twice for merchant {merchant_id} (without case), once is allowed");
                self.violation(&entry.place, "code", message);
            }
        }
    }
}
