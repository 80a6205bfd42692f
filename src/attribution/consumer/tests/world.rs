//! A small network: two merchants' offers, publishers, and spools in memory that are fed by hand.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use crate::attribution::Settings;
use crate::attribution::consumer::shared::Layout;
use crate::attribution::consumer::{AttributionMetrics, Consumer, Reach, Records, Rules, Source, SpoolReach};
use crate::catalog::rulebook::{
    CheckoutRule, CouponPolicy, CouponRules, MerchantRules, Model, OfferRules, OfferStatus, PublisherRules,
    PublisherStatus, RateBasis, Terms, Unit,
};
use crate::catalog::{Links, MerchantId, OfferId, PublisherId, Rulebook, Snapshot};
use crate::click::{ClickId, Keys, LABEL_NON_NAVIGATION, VisitorId};
use crate::clock::ManualClock;
use crate::event::ConversionIds;
use crate::money::{Currency, Rate};
use crate::spool::{SpoolId, Topic};
use crate::store::{Place, Reader, Store, StoreError, View};
use crate::time::{HOUR_MS, TimeMs};

/// 2026-11-22T10:00:00Z.
pub const T0: i64 = 1_795_341_600_000;

pub const SETTINGS: Settings = Settings { dedupe_window_ms: 10_000, clock_skew_ms: 120_000, max_report_delay_days: 14 };

/// Spools of both topics, and how much of each may be read.
#[derive(Default)]
pub struct Spools {
    pub spools: BTreeMap<u64, Spool>,
    /// The source hands out this many records more than it is asked for, from before.
    pub repeats: u64,
    pub applied: BTreeMap<u64, u64>,
    /// Happens while it is looked how far to read.
    pub meanwhile: Option<Box<dyn FnOnce()>>,
}

pub struct Spool {
    pub topic: Topic,
    pub records: Vec<Option<Vec<u8>>>,
    /// Records below may be read.
    pub until: u64,
    pub sealed: bool,
    /// Numbers that are not there, and not known to be lost.
    pub missing: Vec<u64>,
}

impl Source for Spools {
    fn reach(&mut self) -> io::Result<Reach> {
        let of = |topic: Topic| {
            let reach = |(id, spool): (&u64, &Spool)| SpoolReach {
                spool: SpoolId(*id),
                until: spool.until,
                sealed: spool.sealed.then_some(spool.records.len() as u64),
            };
            self.spools.iter().filter(|(_, spool)| spool.topic == topic).map(reach).collect()
        };
        let reach = Reach { conversions: of(Topic::Conversions), clicks: of(Topic::Clicks) };
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile();
        }
        Ok(reach)
    }

    fn read(&mut self, spool: SpoolId, from: u64, until: u64, most: usize, into: &mut Records) -> io::Result<()> {
        let spool = self.spools.get(&spool.0).ok_or(io::ErrorKind::NotFound)?;
        for seq in (from.saturating_sub(self.repeats)..until).take(most + self.repeats as usize) {
            match &spool.records[seq as usize] {
                _ if spool.missing.contains(&seq) => {}
                Some(record) => into.push(seq, record),
                None => into.push_lost(seq, seq),
            }
        }
        Ok(())
    }

    fn applied(&mut self, spool: SpoolId, next: u64) {
        self.applied.insert(spool.0, next);
    }

    fn wait(&mut self, _at_most: Duration) {}
}

pub struct World {
    pub source: Spools,
    pub rules: Rules,
    pub metrics: AttributionMetrics,
    pub keys: Arc<Keys>,
    ids: ConversionIds,
    directory: tempfile::TempDir,
}

pub fn irr() -> Currency {
    Currency::parse("IRR").unwrap()
}

/// Merchant 1 with offer 12 (last click, 12 %) and offer 13 (linear, 10 %), merchant 2 with offer 22.
pub fn rulebook() -> Rulebook {
    let mut book = Rulebook::default();
    for merchant in [1, 2] {
        book.merchants.insert(MerchantId(merchant), MerchantRules { currency: irr(), unit: Unit::Rial });
    }
    for (offer, merchant, model, rate) in
        [(12, 1, Model::LastClick, 120_000), (13, 1, Model::Linear, 100_000), (22, 2, Model::LastClick, 100_000)]
    {
        let terms = Terms {
            from: TimeMs(0),
            until: None,
            window_days: 10,
            model,
            hold_days: 14,
            rate_basis: RateBasis::Conversion,
            default_rate: Rate::PartsPerMillion(rate),
            coupon_rate: None,
            rates: BTreeMap::new(),
            conversion_rates: BTreeMap::new(),
        };
        let rules = OfferRules {
            merchant_id: MerchantId(merchant),
            status: OfferStatus::Active,
            checkout_rule: CheckoutRule::None,
            terms: vec![terms],
        };
        book.offers.insert(OfferId(offer), rules);
    }
    for publisher in 1..=4 {
        let rules = PublisherRules { status: PublisherStatus::Approved, contract_signed: true };
        book.publishers.insert(PublisherId(publisher), rules);
    }
    let coupon = CouponRules { offer_id: OfferId(12), publisher_id: PublisherId(3), policy: CouponPolicy::IfNoClick };
    book.coupons.entry(MerchantId(1)).or_default().insert("yalda".into(), coupon);
    book
}

/// The catalog above, changed.
pub fn snapshot(change: impl FnOnce(&mut Rulebook)) -> Snapshot {
    let mut book = rulebook();
    change(&mut book);
    Snapshot::new(book, Default::default(), Default::default(), Links::default())
}

impl World {
    pub fn new() -> World {
        let keys = Arc::new(Keys::parse(&Keys::file_text(&[7; 64])).unwrap());
        let clock = Arc::new(ManualClock::at(TimeMs(T0 + HOUR_MS)));
        let rules = Rules {
            keys: Arc::clone(&keys),
            settings: SETTINGS,
            catalog: Arc::new(ArcSwap::from_pointee(snapshot(|_| {}))),
            clock,
            layout: Layout::Alone,
            keep_click_counts_days: 0,
            keep_personal_days: 0,
        };
        let (source, metrics) = (Spools::default(), AttributionMetrics::default());
        let ids = ConversionIds::new(&keys);
        World { source, rules, metrics, keys, ids, directory: tempfile::tempdir().unwrap() }
    }

    /// Loads the catalog with a change.
    pub fn load(&self, change: impl FnOnce(&mut Rulebook)) {
        self.rules.catalog.store(Arc::new(snapshot(change)));
    }

    /// The same spools, for a second consumer.
    pub fn copy_of(source: &Spools) -> Spools {
        let copy = |spool: &Spool| Spool {
            topic: spool.topic,
            records: spool.records.clone(),
            until: spool.until,
            sealed: spool.sealed,
            missing: spool.missing.clone(),
        };
        let spools = source.spools.iter().map(|(id, spool)| (*id, copy(spool))).collect();
        Spools { spools, repeats: source.repeats, ..Spools::default() }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("afflux.sqlite")
    }

    pub fn place(&self) -> Place {
        Place::Sqlite(self.path())
    }

    /// Appends to a spool; readable at once.
    pub fn append(&mut self, spool: u64, topic: Topic, record: &Value) {
        let new = || Spool { topic, records: Vec::new(), until: 0, sealed: false, missing: Vec::new() };
        let spool = self.source.spools.entry(spool).or_insert_with(new);
        spool.records.push(Some(serde_json::to_vec(record).unwrap()));
        spool.until = spool.records.len() as u64;
    }

    pub fn visitor(&self, visitor: u8) -> VisitorId {
        VisitorId::new([visitor; 16])
    }

    pub fn click_id(&self, click: &ClickSketch) -> ClickId {
        let merchant = if click.offer == 22 { 2 } else { 1 };
        let key = self.visitor(click.visitor).key(MerchantId(merchant), &self.keys);
        let labels = if click.non_navigation { LABEL_NON_NAVIGATION } else { 0 };
        let (offer, publisher) = (OfferId(click.offer), PublisherId(click.publisher));
        ClickId::sign(&self.keys, TimeMs(click.at), offer, publisher, key, labels, click.random)
    }

    /// The event of a click.
    pub fn click(&self, click: &ClickSketch) -> Value {
        let click_id = self.click_id(click);
        let merchant = if click.offer == 22 { 2 } else { 1 };
        json!({
            "event": "click", "schema": 1, "click_id": click_id.to_string(), "clicked_at_ms": click.at,
            "offer_id": click.offer, "publisher_id": click.publisher, "merchant_id": merchant,
            "link": click.link, "visitor_id": self.visitor(click.visitor).as_str(),
            "visitor_key": click_id.visitor_key(), "visitor_new": false, "url": "https://shop.example/",
            "source": "newsletter", "sub1": click.sub1, "flags": [], "billable": true,
        })
    }

    pub fn conversion_id(&self, merchant: u32, order: &str, kind: &str) -> String {
        self.ids.id(MerchantId(merchant), order, kind).to_string()
    }

    /// The event of a report of merchant 1: amount 1,000, received when it occurred. `with` replaces fields.
    pub fn report(&self, order: &str, at: i64, with: Value) -> Value {
        let mut report = json!({
            "event": "conversion", "schema": 1, "merchant_id": 1, "order_id": order, "type": "sale", "amount": 1000,
            "currency": "IRR", "occurred_at_ms": at, "received_at_ms": at, "content_hash": "00000000000000aa",
        });
        merge(&mut report, with);
        let merchant = report["merchant_id"].as_u64().unwrap() as u32;
        report["conversion_id"] = json!(self.conversion_id(merchant, order, report["type"].as_str().unwrap()));
        report
    }

    pub fn refund(&self, refund: &str, order: &str, at: i64, with: Value) -> Value {
        let mut event = json!({
            "event": "refund", "schema": 1, "refund_id": refund, "conversion_id": self.conversion_id(1, order, "sale"),
            "merchant_id": 1, "order_id": order, "type": "sale", "reason": "return", "occurred_at_ms": at,
            "received_at_ms": at, "content_hash": "00000000000000bb",
        });
        merge(&mut event, with);
        event
    }

    /// Opens the store anew, as a new process would, and runs one round.
    pub fn round(&mut self) -> usize {
        self.try_round().unwrap()
    }

    pub fn try_round(&mut self) -> Result<usize, StoreError> {
        let store = Store::open(&self.place()).unwrap();
        Consumer::new(&mut self.source, store, &self.rules, &self.metrics)?.round(&|| false)
    }

    pub fn look<T>(&self, look: impl FnOnce(View<'_>) -> Result<T, StoreError>) -> T {
        Reader::open(&self.place()).unwrap().view(look).unwrap()
    }

    /// The latest decision of an order of merchant 1, as JSON.
    pub fn decision(&self, order: &str) -> Value {
        let id = self.conversion_id(1, order, "sale");
        self.look(|view| {
            let row = view.conversion(&id)?.expect("the conversion is stored");
            let decision = view.latest_decision(row.id)?.expect("it is decided");
            Ok(serde_json::from_str(&decision.text).unwrap())
        })
    }

    /// Outcome or reason, and publisher to commission.
    pub fn verdict(&self, order: &str) -> (String, Vec<(u64, i64)>) {
        let decision = self.decision(order);
        let word = decision.get("reason").unwrap_or(&decision["outcome"]).as_str().unwrap().to_owned();
        let share = |share: &Value| (share["publisher_id"].as_u64().unwrap(), share["commission"].as_i64().unwrap());
        (word, decision["shares"].as_array().unwrap().iter().map(share).collect())
    }

    /// Account and balance, all conversions together.
    pub fn books(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.look(|view| {
            view.books(TimeMs(i64::MAX), |line| {
                lines.push(format!("{} {} {} {}", line.order_id, line.account, line.amount, line.currency));
                Ok::<(), StoreError>(())
            })
        });
        lines
    }
}

/// What a test says of a click; the rest is the same for all.
#[derive(Clone, Debug)]
pub struct ClickSketch {
    pub at: i64,
    pub visitor: u8,
    pub offer: u32,
    pub publisher: u32,
    pub link: &'static str,
    pub sub1: &'static str,
    pub non_navigation: bool,
    pub random: u32,
}

pub fn click(at: i64, visitor: u8, publisher: u32) -> ClickSketch {
    let random = at as u32 ^ u32::from(visitor) << 16 ^ publisher << 24;
    ClickSketch { at, visitor, offer: 12, publisher, link: "phone", sub1: "a", non_navigation: false, random }
}

fn merge(into: &mut Value, with: Value) {
    for (name, value) in with.as_object().unwrap() {
        into[name] = value.clone();
    }
}
