//! What the ledger must say, worked out from the events alone and apart from the program: last click wins, one rate for
//! each offer, refunds by amount. It follows contract M3, M5, M9, M11, M32-M38 for the catalog of these tests.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// What each account has of each conversion, accounts at 0 left out.
pub type Sums = BTreeMap<(String, String), i128>;

const DEDUPE_MS: i64 = 10_000;
const SKEW_MS: i64 = 120_000;
const WINDOW_MS: i64 = 10 * 86_400_000;

#[derive(Clone)]
struct Touch {
    at: i64,
    id: Vec<u8>,
    offer: u64,
    publisher: u64,
}

/// `events` are those of all spools, in any order.
pub fn ledger(events: &[Value]) -> Sums {
    let touches = touches(events);
    let visitors = visitors(events);
    let refunds = refunds(events);
    let mut sums = Sums::new();
    for (id, conversion) in first_reports(events) {
        let visitor = conversion["click_id"].as_str().and_then(|click| visitors.get(click));
        let candidates = visitor.and_then(|visitor| touches.get(visitor)).map_or(&[][..], Vec::as_slice);
        let occurred = conversion["occurred_at_ms"].as_i64().expect("a time");
        let is_reported = conversion["occurred_at_filled_in"] != true;
        let Some(winner) = winner(candidates, occurred, is_reported) else { continue };
        let amount = i128::from(conversion["amount"].as_i64().expect("an amount"));
        let kept = kept(amount, rate(winner.offer), refunds.get(&id).map_or(&[][..], Vec::as_slice));
        if kept != 0 {
            sums.insert((id.clone(), "merchant:1:receivable".into()), kept);
            sums.insert((id, format!("publisher:{}:pending", winner.publisher)), -kept);
        }
    }
    sums
}

/// Parts per million.
fn rate(offer: u64) -> i128 {
    match offer {
        12 => 120_000,
        13 => 75_000,
        other => panic!("offer {other} is not in the catalog"),
    }
}

/// Of several records of one order all say the same: the crowd never changes its mind about an order.
fn first_reports(events: &[Value]) -> BTreeMap<String, &Value> {
    let conversions = events.iter().filter(|event| event["event"] == "conversion");
    let mut first: BTreeMap<String, &Value> = BTreeMap::new();
    for conversion in conversions {
        let id = conversion["conversion_id"].as_str().expect("an ID").to_owned();
        let earlier = |known: &&Value| known["received_at_ms"].as_i64() <= conversion["received_at_ms"].as_i64();
        if !first.get(&id).is_some_and(earlier) {
            first.insert(id, conversion);
        }
    }
    first
}

fn visitors(events: &[Value]) -> HashMap<&str, &str> {
    let clicks = events.iter().filter(|event| event["event"] == "click");
    clicks.filter_map(|click| Some((click["click_id"].as_str()?, click["visitor_key"].as_str()?))).collect()
}

/// By visitor; clicks of one offer and publisher in ten seconds are one touch, that of the first (M3).
fn touches(events: &[Value]) -> HashMap<&str, Vec<Touch>> {
    let mut by_visitor: HashMap<&str, Vec<Touch>> = HashMap::new();
    for click in events.iter().filter(|event| event["event"] == "click") {
        let (Some(visitor), Some(id)) = (click["visitor_key"].as_str(), click["click_id"].as_str()) else { continue };
        let touch = Touch {
            at: click["clicked_at_ms"].as_i64().expect("a time"),
            id: data_encoding::BASE64URL_NOPAD.decode(id.as_bytes()).expect("base64url"),
            offer: click["offer_id"].as_u64().expect("an offer"),
            publisher: click["publisher_id"].as_u64().expect("a publisher"),
        };
        by_visitor.entry(visitor).or_default().push(touch);
    }
    for touches in by_visitor.values_mut() {
        touches.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
        let mut opened: HashMap<(u64, u64), i64> = HashMap::new();
        touches.retain(|touch| {
            let group = opened.entry((touch.offer, touch.publisher)).or_insert(i64::MIN / 2);
            let opens = touch.at - *group >= DEDUPE_MS;
            if opens {
                *group = touch.at;
            }
            opens
        });
    }
    by_visitor
}

/// The latest touch before the order, else the latest that a wrong clock explains (M9-M11).
fn winner(touches: &[Touch], occurred: i64, is_reported: bool) -> Option<&Touch> {
    // A merchant who reports whole seconds leaves out the milliseconds (M10); our own clock does not.
    let end = if is_reported && occurred % 1_000 == 0 { occurred + 999 } else { occurred };
    let passes = |touch: &&Touch| touch.at <= end && occurred <= touch.at + WINDOW_MS;
    let skewed = |touch: &&Touch| touch.at > end && touch.at <= occurred + SKEW_MS;
    touches.iter().rev().find(passes).or_else(|| touches.iter().rev().find(skewed))
}

/// By conversion, amounts, `None` for all; each refund once.
fn refunds(events: &[Value]) -> HashMap<String, Vec<Option<i128>>> {
    let mut once: BTreeMap<&str, &Value> = BTreeMap::new();
    for refund in events.iter().filter(|event| event["event"] == "refund") {
        once.entry(refund["refund_id"].as_str().expect("an ID")).or_insert(refund);
    }
    let mut by_conversion: HashMap<String, Vec<Option<i128>>> = HashMap::new();
    for refund in once.values() {
        let conversion = refund["conversion_id"].as_str().expect("an ID").to_owned();
        by_conversion.entry(conversion).or_default().push(refund["amount"].as_i64().map(i128::from));
    }
    by_conversion
}

/// What is left of the commission: in millionths, rounded once, half to even (M35-M38).
fn kept(amount: i128, rate: i128, refunds: &[Option<i128>]) -> i128 {
    let total = amount * rate;
    let refunded: i128 = refunds.iter().map(|refund| refund.unwrap_or(amount)).sum::<i128>().min(amount);
    let kept = total - if refunded == amount { total } else { total * refunded / amount };
    let (whole, rest) = (kept / 1_000_000, kept % 1_000_000);
    match (rest * 2).cmp(&1_000_000) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + whole % 2,
    }
}

#[test]
fn the_oracle_says_what_the_contract_says() {
    assert_eq!(kept(1_000, 120_000, &[Some(333)]), 80);
    assert_eq!(kept(1_000, 120_000, &[Some(333), Some(667)]), 0);
    assert_eq!(kept(104, 120_000, &[]), 12);
    let touch = |at, publisher| Touch { at, id: vec![], offer: 12, publisher };
    let touches = [touch(10, 1), touch(20, 2), touch(30, 3)];
    let publisher =
        |touches, occurred, is_reported| winner(touches, occurred, is_reported).map(|touch| touch.publisher);
    assert_eq!(publisher(&touches, 25, true), Some(2));
    assert_eq!(publisher(&touches[2..], 25, true), Some(3));
    assert_eq!(publisher(&touches, WINDOW_MS + 31, true), None);
    let touches = [touch(999, 1), touch(1_020, 2)];
    assert_eq!((publisher(&touches, 1_000, true), publisher(&touches, 1_000, false)), (Some(2), Some(1)));
}
