//! Entries put together: every reference leads somewhere, every name stands once, every page may be gone to.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::deep_link::DeepLinkHosts;
use super::entries::{CouponEntry, LinkEntry, MerchantEntry, OfferEntry, Place, PublisherEntry};
use super::links::{Link, Links};
use super::rulebook::{CouponRules, MerchantRules, OfferRules, Rulebook, fold_coupon_code};
use super::template::Template;
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
            let url = entry.url.as_deref();
            if let Err((key, message)) = self.add_link(&entry.code, entry.offer_id, entry.publisher_id, url) {
                self.violation(&entry.place, key, message);
            }
        }
    }

    /// One link, of a TOML entry or a line of a links file. The error names the key.
    pub fn add_link(
        &mut self,
        code: &str,
        offer_id: OfferId,
        publisher_id: PublisherId,
        url: Option<&str>,
    ) -> Result<(), (&'static str, String)> {
        let Some(offer) = self.ready_offers.get(&offer_id) else {
            return Err(("offer_id", format!("no offer {offer_id}, one of the catalog is allowed")));
        };
        if !self.rulebook.publishers.contains_key(&publisher_id) {
            return Err(("publisher_id", format!("no publisher {publisher_id}, one of the catalog is allowed")));
        }
        let url = match url {
            None => None,
            Some(url) => Some(offer.deep_links.check(url).map_err(|refused| {
                ("url", format!("{url:?}: {refused}; a page under deep_link_hosts of offer {offer_id} is allowed"))
            })?),
        };
        let link = Link { code, offer_id, publisher_id, url: url.as_deref() };
        self.ready_links.add(link).map_err(|error| ("code", format!("{code:?}: {error}, once is allowed")))
    }

    pub fn violations(&self) -> &'v RefCell<Violations> {
        self.violations
    }

    pub fn finish(mut self) -> Snapshot {
        self.ready_links.shrink();
        Snapshot::new(self.rulebook, self.ready_merchants, self.ready_offers, self.ready_links)
    }

    fn violation(&self, place: &Place, key: &str, message: impl Into<String>) {
        self.violation_at(&place.file, place.line, &format!("{}.{key}", place.section), message);
    }

    fn violation_at(&self, file: &Path, line: usize, key: &str, message: impl Into<String>) {
        let violation = Violation { file: file.to_owned(), line, key: key.to_owned(), message: message.into() };
        self.violations.borrow_mut().add(violation);
    }

    fn resolve_merchants(&mut self) {
        let mut tokens: HashMap<[u8; 32], MerchantId> = HashMap::new();
        for entry in std::mem::take(&mut self.merchants) {
            let own: HashSet<[u8; 32]> =
                entry.bearer_tokens_sha256.iter().chain(&entry.postback_tokens_sha256).copied().collect();
            for token in own {
                let other = *tokens.entry(token).or_insert(entry.id);
                if other != entry.id {
                    let message = format!("a token of merchant {other} too, one merchant for each token is allowed");
                    self.violation(&entry.place, "bearer_tokens_sha256", message);
                }
            }
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

    fn resolve_publishers(&mut self) {
        for entry in std::mem::take(&mut self.publishers) {
            if self.rulebook.publishers.insert(entry.id, entry.rules).is_some() {
                self.violation(&entry.place, "id", format!("{} stands twice, once is allowed", entry.id));
            }
        }
    }

    fn resolve_offers(&mut self) {
        for entry in std::mem::take(&mut self.offers) {
            let place = entry.place.clone();
            let rules = OfferRules {
                merchant_id: entry.merchant_id,
                status: entry.status,
                checkout_rule: entry.checkout_rule,
                terms: entry.terms.clone(),
            };
            match self.ready_merchants.get_mut(&entry.merchant_id) {
                None => {
                    let message = format!("no merchant {}, one of the catalog is allowed", entry.merchant_id);
                    self.violation(&place, "merchant_id", message);
                }
                Some(merchant) => {
                    let types = rules.terms.iter().flat_map(|terms| terms.conversion_rates.keys());
                    for kind in types.filter(|kind| !COMMON_TYPES.contains(&kind.as_str())) {
                        if !merchant.conversion_types.contains(kind) {
                            merchant.conversion_types.push(kind.clone());
                        }
                    }
                }
            }
            let (id, offer) = (entry.id, self.offer_with_pages(entry, rules.clone()));
            if self.rulebook.offers.insert(id, rules).is_some() {
                self.violation(&place, "id", format!("{id} stands twice, once is allowed"));
            }
            self.ready_offers.insert(id, offer);
        }
    }

    fn offer_with_pages(&self, entry: OfferEntry, rules: OfferRules) -> Offer {
        let file = &entry.place.file;
        let wrong = |line: usize, key: &str, message: String| {
            self.violation_at(file, line, &format!("offers.{key}"), message);
        };
        let landing = entry.landing_url.as_ref().and_then(|(text, line)| {
            let template = Template::page(text, entry.allow_http);
            template.map_err(|error| wrong(*line, "landing_url", format!("{text:?}: {error}"))).ok()
        });
        let fallback_url = entry.fallback_url.as_ref().and_then(|(text, line)| {
            let page = page(text, entry.allow_http);
            page.map_err(|error| wrong(*line, "fallback_url", format!("{text:?}: {error}"))).ok()
        });
        let hosts = DeepLinkHosts::parse(&entry.deep_link_hosts, entry.allow_http);
        let deep_links = hosts.unwrap_or_else(|error| {
            wrong(entry.deep_link_hosts_line, "deep_link_hosts", error.to_string());
            DeepLinkHosts::default()
        });
        let (click_id_parameter, line) = entry.click_id_parameter.clone();
        if click_id_parameter.is_empty()
            || click_id_parameter.len() > 64
            || click_id_parameter.eq_ignore_ascii_case("afsrc")
        {
            wrong(line, "click_id_parameter", "a name of 1-64 bytes other than afsrc is allowed".into());
        }
        let mut extra_parameters: Vec<(String, Template)> = Vec::new();
        for (name, text, line) in &entry.extra_parameters {
            let key = format!("extra_parameters.{name}");
            let taken = |other: &str| other.eq_ignore_ascii_case(name);
            if name.is_empty() || taken("afsrc") || taken(&click_id_parameter) {
                wrong(*line, &key, "a name other than the click ID's and afsrc is allowed".into());
            } else if extra_parameters.iter().any(|(other, _)| taken(other)) {
                wrong(*line, &key, "stands twice (names are compared without case), once is allowed".into());
            }
            match Template::parameter(text) {
                Ok(template) => extra_parameters.push((name.clone(), template)),
                Err(error) => wrong(*line, &key, format!("{text:?}: {error}")),
            }
        }
        let plain_landing_url = landing.as_ref().map(Template::plain);
        Offer {
            id: entry.id,
            rules,
            landing,
            fallback_url,
            plain_landing_url,
            deep_links,
            click_id_parameter,
            stand_down: entry.stand_down,
            extra_parameters,
        }
    }

    fn resolve_coupons(&mut self) {
        for entry in std::mem::take(&mut self.coupons) {
            let Some(offer) = self.rulebook.offers.get(&entry.offer_id) else {
                let message = format!("no offer {}, one of the catalog is allowed", entry.offer_id);
                self.violation(&entry.place, "offer_id", message);
                continue;
            };
            if !self.rulebook.publishers.contains_key(&entry.publisher_id) {
                let message = format!("no publisher {}, one of the catalog is allowed", entry.publisher_id);
                self.violation(&entry.place, "publisher_id", message);
            }
            let rules =
                CouponRules { offer_id: entry.offer_id, publisher_id: entry.publisher_id, policy: entry.policy };
            let merchant_id = offer.merchant_id;
            let codes: &mut BTreeMap<String, CouponRules> = self.rulebook.coupons.entry(merchant_id).or_default();
            if codes.insert(fold_coupon_code(&entry.code), rules).is_some() {
                let message =
                    format!("{:?} stands twice for merchant {merchant_id} (without case), once is allowed", entry.code);
                self.violation(&entry.place, "code", message);
            }
        }
    }
}

/// Any absolute https page, or http where the offer allows it.
fn page(text: &str, allow_http: bool) -> Result<String, String> {
    let allowed =
        if allow_http { "an absolute https or http URL is allowed" } else { "an absolute https URL is allowed" };
    let url = url::Url::parse(text).map_err(|error| format!("{error}; {allowed}"))?;
    let scheme = url.scheme() == "https" || (allow_http && url.scheme() == "http");
    if scheme && url.has_host() { Ok(url.into()) } else { Err(allowed.to_owned()) }
}
