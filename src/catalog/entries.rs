//! Entries as operators write them, each checked by itself (contract P23); how they refer to each other is `build`'s.
//!
//! An entry whose ID can be read is given on even if the rest is wrong and noted: who refers to it is not told that it
//! does not exist.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::rulebook::{CheckoutRule, CouponPolicy, OfferStatus, PublisherRules, PublisherStatus, Unit};
use super::terms::{self, Terms};
use super::{MerchantId, OfferId, PublisherId};
use crate::event::MerchantStatus;
use crate::files::Files;
use crate::money::Currency;
use crate::toml_reader::{Choice, FromToml, Int, Section, TokenHash};

pub type Id = Int<1, 4_294_967_295>;

/// A handful of secrets; more is another file by mistake.
const MOST_SECRETS_BYTES: u64 = 64 * 1024;

/// Where an entry and its keys stand, for what is found wrong with it later.
#[derive(Clone, Debug)]
pub struct Place {
    pub file: PathBuf,
    pub section: &'static str,
    line: usize,
    lines: Vec<(String, usize)>,
}

impl Place {
    fn of(section: &Section<'_>, name: &'static str) -> Place {
        Place { file: section.file().to_owned(), section: name, line: section.line(), lines: section.lines() }
    }

    /// The line of a key's value, or where the entry begins.
    pub fn line_of(&self, key: &str) -> usize {
        self.lines.iter().find(|(known, _)| known == key).map_or(self.line, |(_, line)| *line)
    }
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
    /// `None`: wrong and noted.
    pub merchant_id: Option<MerchantId>,
    pub status: OfferStatus,
    pub checkout_rule: CheckoutRule,
    pub landing_url: Option<(String, usize)>,
    pub fallback_url: Option<(String, usize)>,
    /// `None`: wrong and noted.
    pub deep_link_hosts: Option<Vec<String>>,
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

/// What is `None` is wrong and noted, but for the URL, which may be absent.
pub struct LinkEntry {
    pub place: Place,
    pub code: Option<String>,
    pub offer_id: Option<OfferId>,
    pub publisher_id: Option<PublisherId>,
    pub url: Option<String>,
}

/// What is `None` is wrong and noted.
pub struct CouponEntry {
    pub place: Place,
    pub code: Option<String>,
    pub offer_id: Option<OfferId>,
    pub publisher_id: Option<PublisherId>,
    pub policy: Option<CouponPolicy>,
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

pub fn merchant(section: Section<'_>, files: &mut Files) -> Option<MerchantEntry> {
    let id = section.required::<Id>("id");
    section.optional::<String>("name");
    let currency = section.required::<Currency>("currency");
    let unit = section.optional::<Choice<Unit>>("unit").map_or(Unit::Rial, |unit| unit.0);
    let hashes = |key| section.optional::<Vec<TokenHash>>(key).unwrap_or_default().iter().map(|hash| hash.0).collect();
    let entry = MerchantEntry {
        place: Place::of(&section, "merchants"),
        id: MerchantId(id.map_or(0, |id| id.0 as u32)),
        currency: currency.unwrap_or(Currency::IRR),
        unit,
        bearer_tokens_sha256: hashes("bearer_tokens_sha256"),
        postback_tokens_sha256: hashes("postback_tokens_sha256"),
        signing_secrets: signing_secrets(&section, files),
        allow_networks: section.optional("allow_networks").unwrap_or_default(),
        status_words: status_words(&section),
    };
    if unit == Unit::Toman && currency.is_some_and(|currency| currency != Currency::IRR) {
        section.violation("unit", "\"toman\" is ten rials: with another currency than IRR only \"rial\" is allowed");
    }
    section.finish();
    id.map(|_| entry)
}

/// A secret a line, trimmed, empty lines skipped, newest first (contract P25). None is ever shown.
fn signing_secrets(section: &Section<'_>, files: &mut Files) -> Vec<Vec<u8>> {
    let key = "signing_secrets_file";
    let Some(name) = section.optional::<PathBuf>(key) else { return Vec::new() };
    let path = section.file().parent().unwrap_or(Path::new("")).join(name);
    let text = match files.read(&path, MOST_SECRETS_BYTES) {
        Ok(text) => text,
        Err(error) => {
            section.violation(key, format!("{}: {error}; a file that can be read is allowed", path.display()));
            return Vec::new();
        }
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().to_vec()).collect();
    if secrets.is_empty() {
        section.violation(key, format!("{}: no secret in it, one a line is allowed", path.display()));
    }
    secrets
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
        place: Place::of(&section, "offers"),
        id: OfferId(id.map_or(0, |id| id.0 as u32)),
        merchant_id: merchant_id.map(|id| MerchantId(id.0 as u32)),
        status: section.optional::<Choice<OfferStatus>>("status").map_or(OfferStatus::Active, |status| status.0),
        checkout_rule: section
            .optional::<Choice<CheckoutRule>>("checkout_rule")
            .map_or_else(Default::default, |rule| rule.0),
        landing_url: section.located("landing_url"),
        fallback_url: section.located("fallback_url"),
        deep_link_hosts: deep_link_hosts(&section),
        allow_http: section.optional("allow_http").unwrap_or(false),
        click_id_parameter: section.located("click_id_parameter").unwrap_or(("click_id".into(), section.line())),
        stand_down: section.optional("stand_down").unwrap_or(false),
        extra_parameters: section.section("extra_parameters").map_or_else(Vec::new, |table| table.pairs()),
        terms: terms::read(section.sections("terms")),
    };
    section.finish();
    id.map(|_| entry)
}

fn deep_link_hosts(section: &Section<'_>) -> Option<Vec<String>> {
    let hosts = section.optional("deep_link_hosts");
    if section.has("deep_link_hosts") { hosts } else { Some(Vec::new()) }
}

pub fn publisher(section: Section<'_>) -> Option<PublisherEntry> {
    let id = section.required::<Id>("id");
    section.optional::<String>("name");
    let status = section.required::<Choice<PublisherStatus>>("status");
    let contract_signed = section.optional("contract_signed").unwrap_or(false);
    let place = Place::of(&section, "publishers");
    section.finish();
    let status = status.map_or(PublisherStatus::Pending, |status| status.0);
    let rules = PublisherRules { status, contract_signed };
    Some(PublisherEntry { place, id: PublisherId(id?.0 as u32), rules })
}

pub fn link(section: Section<'_>) -> LinkEntry {
    let code = section.required::<String>("code");
    let offer_id = section.required::<Id>("offer_id");
    let publisher_id = section.required::<Id>("publisher_id");
    let url = section.optional("url");
    if let Some(message) = code.as_deref().and_then(code_violation) {
        section.violation("code", message);
    }
    let place = Place::of(&section, "links");
    section.finish();
    LinkEntry {
        place,
        code: code.filter(|code| code_violation(code).is_none()),
        offer_id: offer_id.map(|id| OfferId(id.0 as u32)),
        publisher_id: publisher_id.map(|id| PublisherId(id.0 as u32)),
        url,
    }
}

pub fn coupon(section: Section<'_>) -> CouponEntry {
    let code = section.required::<String>("code");
    let offer_id = section.required::<Id>("offer_id");
    let publisher_id = section.required::<Id>("publisher_id");
    let policy = section.required::<Choice<CouponPolicy>>("policy");
    if code.as_deref().is_some_and(|code| code.trim().is_empty() || code.len() > 255) {
        section.violation("code", "empty or over 255 bytes, 1-255 bytes are allowed");
    }
    let place = Place::of(&section, "coupons");
    section.finish();
    CouponEntry {
        place,
        code,
        offer_id: offer_id.map(|id| OfferId(id.0 as u32)),
        publisher_id: publisher_id.map(|id| PublisherId(id.0 as u32)),
        policy: policy.map(|policy| policy.0),
    }
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
