//! A click, from the parsed request to its `Location`. Reads like the contract: find the link, judge it, make the ID,
//! build the page, append, answer. No await, lock, DNS or log line; what it needs it was given.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use http::HeaderMap;
use smallvec::SmallVec;

use super::event::{Name, Object, name};
use super::labels::Flags;
use super::lists::Lists;
use super::location::{self, Ours};
use super::networks::Networks;
use super::query::{Parameter, Query, cut};
use super::random::{Random, Unguessable};
use super::remembered::Remembered;
use super::said::Said;
use super::visitor::{self, AddressKeys};
use crate::catalog::rulebook::{OfferStatus, PublisherStatus};
use crate::catalog::template::MacroValues;
use crate::catalog::{Offer, OfferId, PublisherId, Snapshot};
use crate::click::{ClickId, Keys, VisitorId, VisitorKey};
use crate::clock::Clock;
use crate::config::{IpPrivacy, VisitorPrivacy};
use crate::spool::{NotSpooled, Writer};
use crate::time::TimeMs;

/// User agent, referer and language are cut at this many bytes, without a flag (contract E10).
const HEADER_BYTES: usize = 512;

/// Extra parameters of an offer for which there is room without an allocation.
const EXTRAS: usize = 4;

/// What all workers are told.
pub struct Settings {
    pub fallback_url: Option<String>,
    pub referrer_policy: Option<&'static str>,
    /// Value of Strict-Transport-Security on answers over TLS.
    pub hsts: Option<String>,
    /// Where what comes without TLS is sent to.
    pub https_port: Option<u16>,
    /// Whose X-Forwarded-For and X-Forwarded-Proto count.
    pub trusted_proxies: Option<Arc<Networks>>,
    pub cookie_max_age_s: u64,
    pub name: String,
    pub ip: IpPrivacy,
    pub visitor: VisitorPrivacy,
    pub keys: Arc<Keys>,
    pub disk_wait: DiskWait,
}

/// How long an answer waits for its fdatasync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskWait {
    No,
    AtMost(std::time::Duration),
    WithoutLimit,
}

/// Where a click goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clicked {
    /// `None`: there is no page at all, a 404.
    pub has_page: bool,
    pub rejected: bool,
    /// The visitor to set a cookie for.
    pub new_visitor: Option<VisitorId>,
    /// `None` for HEAD, which makes no event.
    pub spooled: Option<Result<u64, NotSpooled>>,
    pub flags: Flags,
}

/// The clicks of one worker.
pub struct Clicks {
    /// Looks for a newer snapshot by one load; nothing shared is written.
    catalog: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    /// The same for the lists of bots and data centres.
    lists: Cache<Arc<ArcSwap<Lists>>, Arc<Lists>>,
    pub desk: Desk,
}

/// What a click is looked up in: read alone, and replaced from elsewhere.
struct Known<'s> {
    snapshot: &'s Snapshot,
    lists: &'s Lists,
}

/// Everything a worker keeps between clicks.
pub struct Desk {
    pub settings: Arc<Settings>,
    pub writer: Writer,
    clock: Arc<dyn Clock>,
    latest: TimeMs,
    random: Random,
    remembered: Remembered,
    unguessable: Unguessable,
    address_keys: AddressKeys,
    query: Query,
    page: Vec<u8>,
    /// Values of the offer's extra parameters.
    extra: Vec<u8>,
    event: Vec<u8>,
    pub location: Vec<u8>,
}

/// The offer and publisher of a request: by code, or by parameters.
struct Target<'s> {
    offer: &'s Offer,
    /// `None`: not a number.
    publisher_id: Option<PublisherId>,
    code: Option<&'s str>,
    url: Option<&'s str>,
}

impl Clicks {
    pub fn new(
        catalog: Arc<ArcSwap<Snapshot>>,
        lists: Arc<ArcSwap<Lists>>,
        settings: Arc<Settings>,
        writer: Writer,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Clicks> {
        let mut random = Random::seeded()?;
        let desk = Desk {
            settings,
            writer,
            clock,
            latest: TimeMs(i64::MIN),
            remembered: Remembered::new(random.next()),
            random,
            unguessable: Unguessable::new(),
            address_keys: AddressKeys::new(),
            query: Query::default(),
            page: Vec::with_capacity(4_096),
            extra: Vec::new(),
            event: Vec::with_capacity(8_192),
            location: Vec::with_capacity(4_096),
        };
        Ok(Clicks { catalog: Cache::new(catalog), lists: Cache::new(lists), desk })
    }

    /// A click on `/{code}` or `/click`; `None` where code or offer are unknown. Leaves the page in `location`. HEAD
    /// gets the same page without a click ID and makes no event (contract E5).
    pub fn click(
        &mut self,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        peer: IpAddr,
        is_head: bool,
    ) -> Option<Clicked> {
        let known = Known { snapshot: self.catalog.load(), lists: self.lists.load() };
        self.desk.click(known, path, query, headers, peer, is_head)
    }
}

impl Desk {
    fn click(
        &mut self,
        known: Known<'_>,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        peer: IpAddr,
        is_head: bool,
    ) -> Option<Clicked> {
        let Known { snapshot, lists } = known;
        self.query.read(query);
        let target = self.find(snapshot, path)?;
        let clicked_at = self.now();
        let said = Said::read(headers);
        let mut flags = Flags::of(&said, peer, lists, &mut self.remembered);
        flags.truncated = self.query.truncated;
        let visitor = said.visitor.or_else(|| self.unguessable.sixteen().ok().map(VisitorId::new))?;
        let reject = reject(snapshot, &target, clicked_at);
        let merchant_id = target.offer.rules.merchant_id;
        let visitor_key = visitor.key(merchant_id, &self.settings.keys);
        let publisher_id = target.publisher_id.unwrap_or(PublisherId(0));
        let click_id = (reject.is_none()).then(|| {
            let random = self.random.next() as u32;
            let keys = &self.settings.keys;
            ClickId::sign(keys, clicked_at, target.offer.id, publisher_id, visitor_key, flags.bits(), random)
        });
        let has_page = match &click_id {
            None => self.rejected_page(&target, clicked_at),
            Some(id) => self.page(&target, id, clicked_at, is_head, &mut flags),
        };
        let new_visitor = said.visitor.is_none().then_some(visitor);
        if is_head {
            return Some(Clicked { has_page, rejected: reject.is_some(), flags, new_visitor: None, spooled: None });
        }
        let told =
            Told { clicked_at, click_id, reject, flags, visitor, new: said.visitor.is_none(), visitor_key, has_page };
        self.write_event(snapshot, &target, &told, &said, peer);
        let spooled = Some(self.writer.append(&self.event));
        Some(Clicked { has_page, rejected: reject.is_some(), flags, new_visitor, spooled })
    }

    /// Times of one worker never go back: a backward step is waited out (contract E45).
    fn now(&mut self) -> TimeMs {
        self.latest = self.latest.max(self.clock.now());
        self.latest
    }

    fn find<'s>(&self, snapshot: &'s Snapshot, path: &str) -> Option<Target<'s>> {
        if path == "/click" {
            let offer = snapshot.offer(OfferId(self.query.number(Parameter::Offer)?))?;
            let publisher_id = self.query.number(Parameter::Publisher).map(PublisherId);
            return Some(Target { offer, publisher_id, code: None, url: None });
        }
        let link = snapshot.link(path.strip_prefix('/')?.as_bytes())?;
        let offer = snapshot.offer(link.offer_id)?;
        Some(Target { offer, publisher_id: Some(link.publisher_id), code: Some(link.code), url: link.url })
    }

    /// The page of contract E12 into `page`, and with ours in it into `location`.
    fn page(&mut self, target: &Target<'_>, id: &ClickId, at: TimeMs, is_head: bool, flags: &mut Flags) -> bool {
        let encoded = id.encode();
        let click_id = if is_head { "" } else { std::str::from_utf8(&encoded).unwrap_or_default() };
        let offer = target.offer;
        let values = macro_values(&self.query, target, click_id, at);
        let deep_link = self.query.value(Parameter::DeepLink);
        let random = &mut self.random;
        self.page.clear();
        let checked = match target.url {
            None if !deep_link.is_empty() => Some(offer.deep_links.check(deep_link)),
            _ => None,
        };
        flags.deep_link_rejected = matches!(checked, Some(Err(_)));
        match (target.url, checked, &offer.landing) {
            (Some(url), ..) => self.page.extend_from_slice(url.as_bytes()),
            (None, Some(Ok(url)), _) => self.page.extend_from_slice(url.as_bytes()),
            (None, _, Some(landing)) => landing.render(&values, &mut || random.next(), &mut self.page),
            (None, _, None) => match offer.fallback_url.as_ref().or(self.settings.fallback_url.as_ref()) {
                Some(url) => self.page.extend_from_slice(url.as_bytes()),
                None => return false,
            },
        }
        let mut rendered: SmallVec<[(usize, usize); EXTRAS]> = SmallVec::new();
        self.extra.clear();
        for (_, template) in &offer.extra_parameters {
            let start = self.extra.len();
            template.render(&values, &mut || random.next(), &mut self.extra);
            rendered.push((start, self.extra.len()));
        }
        let mut ours: SmallVec<[Ours<'_>; 6 + EXTRAS]> = SmallVec::new();
        ours.push(Ours { name: &offer.click_id_parameter, value: click_id, encoded: true });
        ours.push(Ours { name: "afsrc", value: if offer.stand_down { "1" } else { "" }, encoded: true });
        for ((name, _), (start, end)) in offer.extra_parameters.iter().zip(&rendered) {
            let value = std::str::from_utf8(&self.extra[*start..*end]).unwrap_or_default();
            ours.push(Ours { name, value, encoded: true });
        }
        for (name, parameter) in AD_CLICK_IDS {
            let value = self.query.value(parameter);
            if !value.is_empty() && !ours.iter().any(|taken| taken.name.eq_ignore_ascii_case(name)) {
                ours.push(Ours { name, value, encoded: false });
            }
        }
        location::write(std::str::from_utf8(&self.page).unwrap_or_default(), &ours, &mut self.location);
        true
    }

    /// Where a rejected click goes: nothing of ours is added, and macros without a value are empty (contract E24).
    fn rejected_page(&mut self, target: &Target<'_>, at: TimeMs) -> bool {
        let offer = target.offer;
        let random = &mut self.random;
        self.page.clear();
        match (&offer.fallback_url, &offer.landing, &self.settings.fallback_url) {
            (None, Some(landing), _) => {
                let values = macro_values(&self.query, target, "", at);
                landing.render(&values, &mut || random.next(), &mut self.page);
            }
            (Some(url), ..) | (None, None, Some(url)) => self.page.extend_from_slice(url.as_bytes()),
            (None, None, None) => return false,
        }
        let removed = [&offer.click_id_parameter, "afsrc"].map(|name| Ours { name, value: "", encoded: true });
        location::write(std::str::from_utf8(&self.page).unwrap_or_default(), &removed, &mut self.location);
        true
    }

    fn write_event(&mut self, snapshot: &Snapshot, target: &Target<'_>, told: &Told, said: &Said<'_>, peer: IpAddr) {
        // Borrowed and not counted: all workers share the settings, and a click writes nothing that is shared.
        let Desk { settings, writer, query, page, address_keys, event, .. } = self;
        let mut event = Object::event(event, "click", writer.id().0, writer.next_seq());
        if let Some(id) = &told.click_id {
            event.plain(name!("click_id"), &id.encode());
        }
        event.number(name!("clicked_at_ms"), told.clicked_at.0);
        event.number(name!("offer_id"), target.offer.id.0);
        if let Some(id) = target.publisher_id {
            event.number(name!("publisher_id"), id.0);
        }
        event.number(name!("merchant_id"), target.offer.rules.merchant_id.0);
        event.text(name!("link"), target.code.unwrap_or_default());
        if settings.visitor == VisitorPrivacy::Full {
            event.plain(name!("visitor_id"), told.visitor.as_str().as_bytes());
        }
        event.plain(name!("visitor_key"), &told.visitor_key.to_hex());
        event.boolean(name!("visitor_new"), told.new);
        if told.has_page {
            event.text(name!("url"), std::str::from_utf8(page).unwrap_or_default());
        }
        for (name, parameter) in LABELS {
            event.text(name, query.value(parameter));
        }
        match settings.ip {
            IpPrivacy::Full => event.address(name!("ip"), peer.to_canonical()),
            IpPrivacy::Cut => event.address(name!("ip"), visitor::cut_address(peer)),
            IpPrivacy::None => {}
        }
        event.plain(name!("ip_key"), &address_keys.hash(peer, told.clicked_at, &settings.keys));
        for (name, value) in [(name!("user_agent"), said.user_agent), (name!("referer"), said.referer)] {
            event.text(name, cut(&text_of(value), HEADER_BYTES));
        }
        let languages = text_of(said.languages);
        let first = languages.split([',', ';']).next().unwrap_or_default().trim();
        event.text(name!("language"), cut(first, HEADER_BYTES));
        event.words(name!("flags"), told.flags.names());
        event.boolean(name!("billable"), told.reject.is_none() && told.flags.billable());
        event.text(name!("reject"), told.reject.unwrap_or_default());
        event.text(name!("edge"), &settings.name);
        event.plain(name!("catalog"), &snapshot.hash.as_bytes()[..8]);
        event.end();
    }
}

/// What the macros of a click stand for. An empty click ID: there is none.
fn macro_values<'a>(query: &'a Query, target: &Target<'_>, click_id: &'a str, at: TimeMs) -> MacroValues<'a> {
    MacroValues {
        click_id,
        offer_id: target.offer.id,
        publisher_id: target.publisher_id,
        subs: std::array::from_fn(|number| query.sub(number as u8)),
        source: query.value(Parameter::Source),
        coupon_code: query.value(Parameter::Coupon),
        clicked_at: at,
    }
}

/// What the click was found to be.
struct Told {
    clicked_at: TimeMs,
    click_id: Option<ClickId>,
    reject: Option<&'static str>,
    flags: Flags,
    visitor: VisitorId,
    new: bool,
    visitor_key: VisitorKey,
    has_page: bool,
}

const AD_CLICK_IDS: [(&str, Parameter); 4] = [
    (location::AD_CLICK_IDS[0], Parameter::Gclid),
    (location::AD_CLICK_IDS[1], Parameter::Fbclid),
    (location::AD_CLICK_IDS[2], Parameter::Ttclid),
    (location::AD_CLICK_IDS[3], Parameter::Msclkid),
];

/// As they stand in the event.
const LABELS: [(Name, Parameter); 16] = [
    (name!("source"), Parameter::Source),
    (name!("coupon_code"), Parameter::Coupon),
    (name!("sub1"), Parameter::Sub(0)),
    (name!("sub2"), Parameter::Sub(1)),
    (name!("sub3"), Parameter::Sub(2)),
    (name!("sub4"), Parameter::Sub(3)),
    (name!("sub5"), Parameter::Sub(4)),
    (name!("sub6"), Parameter::Sub(5)),
    (name!("sub7"), Parameter::Sub(6)),
    (name!("sub8"), Parameter::Sub(7)),
    (name!("sub9"), Parameter::Sub(8)),
    (name!("sub10"), Parameter::Sub(9)),
    (name!("gclid"), Parameter::Gclid),
    (name!("fbclid"), Parameter::Fbclid),
    (name!("ttclid"), Parameter::Ttclid),
    (name!("msclkid"), Parameter::Msclkid),
];

/// Why a click earns nobody anything, by the words of contract E24.
fn reject(snapshot: &Snapshot, target: &Target<'_>, at: TimeMs) -> Option<&'static str> {
    let Some(publisher) = target.publisher_id.and_then(|id| snapshot.publisher(id)) else {
        return Some("unknown_publisher");
    };
    match (publisher.status, target.offer.rules.status) {
        (PublisherStatus::Pending, _) => Some("publisher_pending"),
        (PublisherStatus::Suspended, _) => Some("publisher_suspended"),
        (_, OfferStatus::Paused) => Some("offer_paused"),
        (_, OfferStatus::Ended) => Some("offer_ended"),
        (_, OfferStatus::Active) => target.offer.rules.terms_at(at).is_none().then_some("offer_ended"),
    }
}

/// What is not UTF-8 in it becomes U+FFFD.
fn text_of(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    // Nearly all of them are: that is seen faster than where they are not.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Into::into)
}
