//! What merchants send, against what must always hold of it (see `crate::probes`).

use std::collections::BTreeMap;

use super::json::{self, Value};
use super::report::{self, Rules};
use crate::catalog::rulebook::{MerchantRules, Unit};
use crate::catalog::{Merchant, MerchantId};
use crate::click::Keys;
use crate::event::{Conversion, ConversionIds};
use crate::money::Currency;
use crate::time::TimeMs;

/// 2026-11-22T06:30:00Z.
const NOW: TimeMs = TimeMs(1_795_329_000_000);

/// JSON that we take is JSON to others too, and says the same when it is written again. A report that is accepted is an
/// event that reads back, with an amount that is no debt.
pub fn conversion(bytes: &[u8]) {
    let Ok(value) = json::parse(bytes) else { return };
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok(), "{:?}", String::from_utf8_lossy(bytes));
    let mut written = String::new();
    value.write(&mut written);
    let mut again = String::new();
    match json::parse(written.as_bytes()) {
        Ok(value) => value.write(&mut again),
        Err(error) => panic!("{error}: {written}"),
    }
    assert_eq!(written, again);
    let (Value::Object(members), Some(merchant)) = (&value, merchant()) else { return };
    let Ok(keys) = Keys::parse(&Keys::file_text(&[7; 64])) else { return };
    let rules = Rules {
        merchant: &merchant,
        ids: &ConversionIds::new(&keys),
        factor: report::factor(&merchant),
        received_at: NOW,
        latest: NOW + 300_000,
        source_ip: None,
    };
    let Ok(accepted) = report::check(members, &rules) else { return };
    let event = accepted.conversion;
    assert!(event.amount >= 0 && !event.order_id.is_empty() && event.occurred_at_ms <= rules.latest);
    assert_eq!(event.content_hash.len(), 16);
    let told = serde_json::to_vec(&event).map_err(|error| error.to_string());
    let read = told.and_then(|told| serde_json::from_slice::<Conversion>(&told).map_err(|error| error.to_string()));
    assert_eq!(read, Ok(event));
}

fn merchant() -> Option<Merchant> {
    Some(Merchant {
        id: MerchantId(1),
        rules: MerchantRules { currency: Currency::parse("IRR").ok()?, unit: Unit::Rial },
        bearer_tokens_sha256: Vec::new(),
        postback_tokens_sha256: Vec::new(),
        signing_secrets: Vec::new(),
        allow_networks: Vec::new(),
        status_words: BTreeMap::new(),
        conversion_types: Vec::new(),
    })
}
