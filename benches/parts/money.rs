//! From the facts of an order to its entries in the ledger.

use std::hint::black_box;

use afflux::attribution::{self, Decision, Facts, OwnClick, Settings, Touch};
use afflux::catalog::{self, MerchantId, OfferId, PublisherId, Rulebook};
use afflux::click::{ClickId, Keys, VisitorKey};
use afflux::ledger::{self, Balances, Occasion};
use afflux::time::TimeMs;
use serde_json::json;

use crate::Size;
use crate::parts::catalog::home;

const OCCURRED_AT: i64 = 1_796_000_000_000;
const SETTINGS: Settings = Settings { dedupe_window_ms: 10_000, clock_skew_ms: 60_000, max_report_delay_days: 60 };

/// Three items, eight touches of two publishers, linear.
pub fn decide(_: Size) -> Box<dyn FnMut()> {
    let (facts, rulebook) = (facts(), rulebook());
    Box::new(move || {
        let decision = attribution::decide(black_box(&facts), &rulebook, &SETTINGS);
        assert_eq!(decision.shares.len(), 2);
    })
}

/// The first entries of that decision.
pub fn post(_: Size) -> Box<dyn FnMut()> {
    let decision: Decision = attribution::decide(&facts(), &rulebook(), &SETTINGS);
    let report = facts().report;
    Box::new(move || {
        let occasion = Occasion {
            conversion_id: &report.conversion_id,
            revision: 1,
            merchant_id: MerchantId(1),
            currency: report.currency,
            at: TimeMs(OCCURRED_AT),
        };
        let entries = ledger::post(&occasion, &Balances::default(), black_box(&decision)).expect("they balance");
        assert_eq!(entries.len(), 3);
    })
}

fn rulebook() -> Rulebook {
    let loaded = catalog::load(&home(0).path().join("catalog.toml")).expect("a catalog");
    (*loaded.snapshot.rulebook).clone()
}

fn facts() -> Facts {
    let keys = Keys::parse(&Keys::file_text(&[7; 64])).expect("keys");
    let click = |number: u32| {
        let at = TimeMs(OCCURRED_AT - 3_600_000 * i64::from(number + 1));
        ClickId::sign(&keys, at, OfferId(12), PublisherId(34 + number % 2), VisitorKey(7), 0, number)
    };
    let report = json!({
        "conversion_id": "1-sale-order-1", "merchant_id": 1, "order_id": "order-1", "type": "sale",
        "amount": 6_000_000, "currency": "IRR", "occurred_at_ms": OCCURRED_AT, "received_at_ms": OCCURRED_AT + 1_000,
        "content_hash": "0000000000000000",
        "items": [
            { "sku": "a", "category": "mobile", "quantity": 1, "unit_amount": 3_000_000 },
            { "sku": "b", "category": "case", "quantity": 2, "unit_amount": 1_000_000 },
            { "sku": "c", "quantity": 1, "unit_amount": 1_000_000 },
        ],
    });
    Facts {
        report: serde_json::from_value(report).expect("a report"),
        own_click: OwnClick::Verified(click(0)),
        touches: (0..8).map(|number| Touch(click(number))).collect(),
        extent: Default::default(),
        refunds: Vec::new(),
        more_refunds: Default::default(),
        merchant_status: None,
        late_click_ignored: false,
    }
}
