//! What attribution costs without HTTP and spools: clicks and conversions a second into the store, CPU each.
//!
//! `cargo run --release --example attribution_figures -- [CLICKS [CONVERSIONS]]`; 10,000,000 and 100,000 if not said.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use afflux::attribution::Settings;
use afflux::attribution::consumer::shared::Layout;
use afflux::attribution::consumer::{AttributionMetrics, Consumer, Reach, Records, Rules, Source, SpoolReach};
use afflux::catalog::rulebook::{
    CheckoutRule, MerchantRules, Model, OfferRules, OfferStatus, PublisherRules, PublisherStatus, RateBasis, Terms,
    Unit,
};
use afflux::catalog::{Links, MerchantId, OfferId, PublisherId, Rulebook, Snapshot};
use afflux::click::{ClickId, Keys, VisitorId};
use afflux::clock::ManualClock;
use afflux::event::ConversionIds;
use afflux::money::{Currency, Rate};
use afflux::spool::SpoolId;
use afflux::store::{Place, Store};
use afflux::time::TimeMs;
use arc_swap::ArcSwap;
use serde_json::json;

const MERCHANT: MerchantId = MerchantId(1);
const OFFER: OfferId = OfferId(12);
const PUBLISHERS: u32 = 200;
/// 2026-11-22T10:00:00Z.
const T0: i64 = 1_795_341_600_000;
const CLICKS_A_MS: u64 = 20;

/// Records made as they are read; `making` is what that took.
struct Made {
    keys: Arc<Keys>,
    ids: ConversionIds,
    clicks: Arc<AtomicU64>,
    conversions: Arc<AtomicU64>,
    making: Arc<AtomicU64>,
}

impl Made {
    fn at(number: u64) -> i64 {
        T0 + (number / CLICKS_A_MS) as i64
    }

    fn visitor(number: u64) -> VisitorId {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        VisitorId::new(random)
    }

    fn click_id(&self, number: u64) -> ClickId {
        let key = Made::visitor(number).key(MERCHANT, &self.keys);
        let publisher = PublisherId(1 + number as u32 % PUBLISHERS);
        ClickId::sign(&self.keys, TimeMs(Made::at(number)), OFFER, publisher, key, 0, number as u32)
    }

    fn click(&self, number: u64) -> Vec<u8> {
        let click_id = self.click_id(number);
        let event = json!({
            "event": "click", "schema": 1, "spool": "0000000000000001", "seq": number,
            "click_id": click_id.to_string(), "clicked_at_ms": Made::at(number), "offer_id": OFFER.0,
            "publisher_id": click_id.publisher_id().0, "merchant_id": MERCHANT.0, "link": format!("link{}", number % 500),
            "visitor_id": Made::visitor(number).as_str(), "visitor_key": click_id.visitor_key(), "visitor_new": true,
            "url": "https://shop.example/p/1?color=black", "source": "newsletter", "sub1": format!("s{}", number % 300),
            "ip": "192.0.2.0", "ip_key": format!("{number:016x}"), "language": "fa",
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0",
            "referer": "https://blog.example/best-phones", "flags": [], "billable": true,
        });
        event.to_string().into_bytes()
    }

    /// An order by the click of the same number.
    fn conversion(&self, number: u64) -> Vec<u8> {
        let (order, at) = (format!("A-{number}"), Made::at(number) + 3_600_000);
        let event = json!({
            "event": "conversion", "schema": 1, "spool": "0000000000000002", "seq": number,
            "conversion_id": self.ids.id(MERCHANT, &order, "sale").to_string(), "merchant_id": MERCHANT.0,
            "order_id": order, "type": "sale", "click_id": self.click_id(number).to_string(), "amount": 1_250_000,
            "currency": "IRR", "occurred_at_ms": at, "received_at_ms": at, "content_hash": "00000000000000aa",
        });
        event.to_string().into_bytes()
    }
}

impl Source for Made {
    fn reach(&mut self) -> io::Result<Reach> {
        let reach = |spool, until| vec![SpoolReach { spool: SpoolId(spool), until, sealed: None }];
        let (clicks, conversions) = (self.clicks.load(Relaxed), self.conversions.load(Relaxed));
        Ok(Reach { clicks: reach(1, clicks), conversions: reach(2, conversions) })
    }

    fn read(&mut self, spool: SpoolId, from: u64, until: u64, most: usize, into: &mut Records) -> io::Result<()> {
        let began = cpu_ms();
        for number in (from..until).take(most) {
            let record = if spool.0 == 1 { self.click(number) } else { self.conversion(number) };
            into.push(number, &record);
        }
        self.making.fetch_add(cpu_ms() - began, Relaxed);
        Ok(())
    }

    fn applied(&mut self, _spool: SpoolId, _next: u64) {}

    fn wait(&mut self, _at_most: Duration) {}
}

fn main() {
    let asked: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let (all_clicks, all_conversions) = (asked.first().unwrap_or(&10_000_000), asked.get(1).unwrap_or(&100_000));
    let keys = Arc::new(Keys::parse(&Keys::file_text(&[7; 64])).unwrap());
    let (clicks, conversions, making) = <(Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
    let mut source = Made {
        ids: ConversionIds::new(&keys),
        keys: keys.clone(),
        clicks: clicks.clone(),
        conversions: conversions.clone(),
        making: making.clone(),
    };
    let snapshot = Snapshot::new(rulebook(), Default::default(), Default::default(), Links::default());
    let rules = Rules {
        layout: Layout::Alone,
        keys,
        settings: Settings { dedupe_window_ms: 10_000, clock_skew_ms: 120_000, max_report_delay_days: 14 },
        catalog: Arc::new(ArcSwap::from_pointee(snapshot)),
        clock: Arc::new(ManualClock::at(TimeMs(T0 + 3_600_000))),
        keep_click_counts_days: 0,
        keep_personal_days: 0,
    };
    let directory = tempfile::tempdir().unwrap();
    let metrics = AttributionMetrics::default();
    let store = Store::open(&Place::Sqlite(directory.path().join("afflux.sqlite"))).unwrap();
    let mut consumer = Consumer::new(&mut source, store, &rules, &metrics).unwrap();
    let mut run = |what: String, events: u64| {
        let (began, cpu, made) = (Instant::now(), cpu_ms(), making.load(Relaxed));
        assert_eq!(consumer.round(&|| false).unwrap() as u64, events);
        let made = making.load(Relaxed) - made;
        let (wall, cpu) = (began.elapsed().as_secs_f64() - made as f64 / 1e3, cpu_ms() - cpu - made);
        println!("{what}: {:.0}/s, {:.2} us CPU each", events as f64 / wall, cpu as f64 * 1e3 / events as f64);
    };
    for done in (0..*all_clicks).step_by(1_000_000) {
        let next = (done + 1_000_000).min(*all_clicks);
        clicks.store(next, Relaxed);
        run(format!("clicks, {done} touches before"), next - done);
    }
    conversions.store(*all_conversions, Relaxed);
    run("conversions".into(), *all_conversions);
    println!("{} transactions", metrics.batches.value());
}

fn rulebook() -> Rulebook {
    let mut book = Rulebook::default();
    let currency = Currency::parse("IRR").unwrap();
    book.merchants.insert(MERCHANT, MerchantRules { currency, unit: Unit::Rial });
    let terms = Terms {
        from: TimeMs(0),
        until: None,
        window_days: 10,
        model: Model::LastClick,
        hold_days: 14,
        rate_basis: RateBasis::Conversion,
        default_rate: Rate::PartsPerMillion(120_000),
        coupon_rate: None,
        rates: BTreeMap::new(),
        conversion_rates: BTreeMap::new(),
    };
    let (status, checkout_rule) = (OfferStatus::Active, CheckoutRule::None);
    book.offers.insert(OFFER, OfferRules { merchant_id: MERCHANT, status, checkout_rule, terms: vec![terms] });
    let approved = PublisherRules { status: PublisherStatus::Approved, contract_signed: true };
    book.publishers.extend((1..=PUBLISHERS).map(|id| (PublisherId(id), approved)));
    book
}

/// CPU time of this process, user and system, in milliseconds.
fn cpu_ms() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as u64 * 1_000 + spent.tv_nsec as u64 / 1_000_000
}
