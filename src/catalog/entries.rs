//! Entries as operators write them, each checked by itself (contract P23); how they refer to each other is `build`'s.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;

use super::rulebook::{CheckoutRule, CouponPolicy, OfferStatus, PublisherRules, PublisherStatus, Unit};
use super::terms::{self, Terms};
use super::{MerchantId, OfferId, PublisherId};
use crate::event::MerchantStatus;
use crate::money::Currency;
use crate::toml_reader::{Choice, FromToml, Int, Section, TokenHash};

pub type Id = Int<1, 4_294_967_295>;

/// Where an entry stands, for what is found wrong with it later.
#[derive(Clone, Debug)]
pub struct Place {
    pub file: PathBuf,
    pub line: usize,
    pub section: &'static str,
}

pub struct MerchantEntry {
    pub place: Place,
    pub id: MerchantId,
    pub currency: Currency,
    pub unit: Unit,
    pub bearer_tokens_sha256: Vec<[u8; 32]>,
    pub postback_tokens_sha256: Vec<[u8; 32]>,
    pub signing_secrets: Vec<Vec<u8>>,
    pub allow_networks: Vec<IpNet>,
    pub status_words: BTreeMap<String, MerchantStatus>,
}

pub struct OfferEntry {
    pub place: Place,
    pub id: OfferId,
    pub merchant_id: MerchantId,
    pub status: OfferStatus,
    pub checkout_rule: CheckoutRule,
    pub landing_url: Option<(String, usize)>,
    pub fallback_url: Option<(String, usize)>,
    pub deep_link_hosts: Vec<String>,
    pub deep_link_hosts_line: usize,
    pub allow_http: bool,
    pub click_id_parameter: (String, usize),
    pub stand_down: bool,
    pub extra_parameters: Vec<(String, String, usize)>,
    pub terms: Vec<Terms>,
}

pub struct PublisherEntry {
    pub place: Place,
    pub id: PublisherId,
    pub rules: PublisherRules,
}

pub struct LinkEntry {
    pub place: Place,
    pub code: String,
    pub offer_id: OfferId,
    pub publisher_id: PublisherId,
    pub url: Option<String>,
}

pub struct CouponEntry {
    pub place: Place,
    pub code: String,
    pub offer_id: OfferId,
    pub publisher_id: PublisherId,
    pub policy: CouponPolicy,
}

fn place(section: &Section<'_>, name: &'static str) -> Place {
    Place { file: section.file().to_owned(), line: section.line(), section: name }
}

/// Paths that are the edge's own and can never be a link (contract P23).
const RESERVED_CODES: [&str; 9] =
    ["click", "pixel", "healthz", "robots", "postback", "v1", "api", "metrics", "favicon"];

/// Why a code is none.
pub fn code_violation(code: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if code.is_empty() || code.len() > 64 || !code.bytes().all(allowed) {
        return Some(format!("{code:?}, 1-64 of A-Z a-z 0-9 _ - are allowed"));
    }
    let reserved = RESERVED_CODES.contains(&code);
    reserved.then(|| format!("{code:?} is a path of the edge's own; another code is allowed"))
}

pub fn merchant(section: Section<'_>) -> Option<MerchantEntry> {
    let id = section.required::<Id>("id");
    section.optional::<String>("name");
    let currency = section.required::<Currency>("currency");
    let unit = section.optional::<Choice<Unit>>("unit").map_or(Unit::Rial, |unit| unit.0);
    let hashes = |key| section.optional::<Vec<TokenHash>>(key).unwrap_or_default().iter().map(|hash| hash.0).collect();
    let entry = MerchantEntry {
        place: place(&section, "merchants"),
        id: MerchantId(id.map_or(0, |id| id.0 as u32)),
        currency: currency.unwrap_or(Currency::IRR),
        unit,
        bearer_tokens_sha256: hashes("bearer_tokens_sha256"),
        postback_tokens_sha256: hashes("postback_tokens_sha256"),
        signing_secrets: signing_secrets(&section),
        allow_networks: section.optional("allow_networks").unwrap_or_default(),
        status_words: status_words(&section),
    };
    if unit == Unit::Toman && currency.is_some_and(|currency| currency != Currency::IRR) {
        section.violation("unit", "\"toman\" is ten rials: with another currency than IRR only \"rial\" is allowed");
    }
    section.finish();
    (id.is_some() && currency.is_some()).then_some(entry)
}

/// A secret a line, trimmed, empty lines skipped, newest first (contract P25).
fn signing_secrets(section: &Section<'_>) -> Vec<Vec<u8>> {
    let Some(name) = section.optional::<PathBuf>("signing_secrets_file") else { return Vec::new() };
    let path = section.file().parent().unwrap_or(std::path::Path::new("")).join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(|line| line.as_bytes().to_vec()).collect()
        }
        Err(error) => {
            section.violation(
                "signing_secrets_file",
                format!("{}: {error}; a file that can be read is allowed", path.display()),
            );
            Vec::new()
        }
    }
}

fn status_words(section: &Section<'_>) -> BTreeMap<String, MerchantStatus> {
    let mut words = BTreeMap::new();
    let Some(table) = section.section("status_words") else { return words };
    for (word, status, line) in table.pairs::<Choice<MerchantStatus>>() {
        if words.insert(word.to_lowercase(), status.0).is_some() {
            table.violation_at(line, &word, "stands twice (words are compared without case), once is allowed");
        }
    }
    words
}

pub fn offer(section: Section<'_>) -> Option<OfferEntry> {
    let id = section.required::<Id>("id");
    let merchant_id = section.required::<Id>("merchant_id");
    section.optional::<String>("name");
    let entry = OfferEntry {
        place: place(&section, "offers"),
        id: OfferId(id.map_or(0, |id| id.0 as u32)),
        merchant_id: MerchantId(merchant_id.map_or(0, |id| id.0 as u32)),
        status: section.optional::<Choice<OfferStatus>>("status").map_or(OfferStatus::Active, |status| status.0),
        checkout_rule: section
            .optional::<Choice<CheckoutRule>>("checkout_rule")
            .map_or_else(Default::default, |rule| rule.0),
        landing_url: section.located("landing_url"),
        fallback_url: section.located("fallback_url"),
        deep_link_hosts: section.optional("deep_link_hosts").unwrap_or_default(),
        deep_link_hosts_line: section.line_of("deep_link_hosts"),
        allow_http: section.optional("allow_http").unwrap_or(false),
        click_id_parameter: section.located("click_id_parameter").unwrap_or(("click_id".into(), section.line())),
        stand_down: section.optional("stand_down").unwrap_or(false),
        extra_parameters: section.section("extra_parameters").map_or_else(Vec::new, |table| table.pairs()),
        terms: terms::read(section.sections("terms")),
    };
    section.finish();
    (id.is_some() && merchant_id.is_some()).then_some(entry)
}

pub fn publisher(section: Section<'_>) -> Option<PublisherEntry> {
    let id = section.required::<Id>("id");
    section.optional::<String>("name");
    let status = section.required::<Choice<PublisherStatus>>("status");
    let contract_signed = section.optional("contract_signed").unwrap_or(false);
    let place = place(&section, "publishers");
    section.finish();
    let rules = PublisherRules { status: status?.0, contract_signed };
    Some(PublisherEntry { place, id: PublisherId(id?.0 as u32), rules })
}

pub fn link(section: Section<'_>) -> Option<LinkEntry> {
    let code = section.required::<String>("code");
    let offer_id = section.required::<Id>("offer_id");
    let publisher_id = section.required::<Id>("publisher_id");
    let url = section.optional("url");
    if let Some(message) = code.as_deref().and_then(code_violation) {
        section.violation("code", message);
    }
    let place = place(&section, "links");
    section.finish();
    Some(LinkEntry {
        place,
        code: code.filter(|code| code_violation(code).is_none())?,
        offer_id: OfferId(offer_id?.0 as u32),
        publisher_id: PublisherId(publisher_id?.0 as u32),
        url,
    })
}

pub fn coupon(section: Section<'_>) -> Option<CouponEntry> {
    let code = section.required::<String>("code");
    let offer_id = section.required::<Id>("offer_id");
    let publisher_id = section.required::<Id>("publisher_id");
    let policy = section.required::<Choice<CouponPolicy>>("policy");
    if code.as_deref().is_some_and(|code| code.trim().is_empty() || code.len() > 255) {
        section.violation("code", "empty or over 255 bytes, 1-255 bytes are allowed");
    }
    let place = place(&section, "coupons");
    section.finish();
    Some(CouponEntry {
        place,
        code: code?,
        offer_id: OfferId(offer_id?.0 as u32),
        publisher_id: PublisherId(publisher_id?.0 as u32),
        policy: policy?.0,
    })
}

impl FromToml for Currency {
    fn from_toml(value: &toml::de::DeValue<'_>) -> Result<Currency, String> {
        let text = String::from_toml(value)?;
        Currency::parse(&text).map_err(|error| format!("{text:?} is {error}"))
    }
}

impl FromToml for IpNet {
    fn from_toml(value: &toml::de::DeValue<'_>) -> Result<IpNet, String> {
        let text = String::from_toml(value)?;
        let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| address()).map_err(|_| format!("{text:?} is no network, as \"192.0.2.0/24\""))
    }
}
