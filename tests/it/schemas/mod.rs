//! `docs/schema` against real events: what is written is described, and what is described is written (contract V1-V10).

mod checker;

use std::collections::BTreeSet;

use afflux::event::{Event, Parked, SpoolState, Unparked};
use afflux::time::TimeMs;
use serde_json::{Value, json};

use crate::rig::server::{Start, TOKEN};
use crate::rig::{Client, Server, books};

fn schema(event: &str) -> Value {
    let path = format!("{}/docs/schema/{event}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_described(event: &Value) {
    let name = event["event"].as_str().expect("an event has a name");
    let faults = checker::faults(&schema(name), event);
    assert!(faults.is_empty(), "{event}: {faults:#?}");
}

/// Fields of the schema that none of these events has.
fn unseen(name: &str, events: &[Value]) -> Vec<String> {
    let of_name = events.iter().filter(|event| event["event"] == name).filter_map(Value::as_object);
    let seen: BTreeSet<&String> = of_name.flat_map(|fields| fields.keys()).collect();
    let schema = schema(name);
    let described = schema["properties"].as_object().expect("fields").keys();
    described.filter(|field| !seen.contains(field)).cloned().collect()
}

const BROWSER: (&str, &str) = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");

fn clicks(edge: &mut Client) -> String {
    let labels = "source=feed&coupon_code=YALDA&gclid=g&fbclid=f&ttclid=t&msclkid=m&sub1=a&sub2=%22&sub3=%D8%B4\
                  &sub4=4&sub5=5&sub6=6&sub7=7&sub8=8&sub9=%0A&sub10=10";
    let headers = [BROWSER, ("Referer", "https://blog.example/"), ("Accept-Language", "fa-IR,fa;q=0.9")];
    let first = edge.get(&format!("/phone?{labels}"), &headers);
    let long = "x".repeat(300);
    for (target, headers) in [
        ("/click?offer_id=12&aff_id=34&url=https://elsewhere.example/", &[][..]),
        ("/click?offer_id=12&aff_id=35", &[BROWSER]),
        ("/click?offer_id=12&aff_id=nobody", &[BROWSER, ("Cookie", "aff_vid=AAAAAAAAAAAAAAAAAAAAAA")]),
        ("/phone", &[("User-Agent", "Googlebot/2.1"), ("Sec-Purpose", "prefetch"), ("Sec-Fetch-Dest", "image")]),
        (&format!("/phone?sub1={long}"), &[BROWSER]),
    ] {
        assert_eq!(edge.get(target, headers).status, 302, "{target}");
    }
    first.click_id()
}

fn reports(api: &mut Client, click_id: &str) -> String {
    let item = json!({"sku": "p1", "category": "mobile", "quantity": 2, "unit_amount": 700_000, "discount": 150_000});
    let gone = json!({"sku": "p2", "quantity": 1, "unit_amount": 0, "out_of_stock": true});
    let whole = json!({
        "order_id": "A-1", "type": "sale", "click_id": click_id, "coupon_code": "YALDA",
        "visitor_id": "AAAAAAAAAAAAAAAAAAAAAA", "amount": 1_250_000, "currency": "IRR",
        "occurred_at": "2026-11-01T10:00:00+03:30", "checkout_started_at": "2026-11-01T09:59:59.5+03:30",
        "customer_id": "c-9", "new_customer": true, "discount": 50_000, "items": [item, gone],
        "campaign": {"deep": [1, 2.50]},
    });
    let posted = api.post_json("/v1/conversions", TOKEN, &whole);
    assert_eq!(posted.status, 202, "{}", posted.text());
    let bare = json!({"order_id": "A-2", "type": "lead", "click_id": "no click ID"});
    assert_eq!(api.post_json("/v1/conversions", TOKEN, &bare).status, 202);
    let postback = format!("/postback?click_id={click_id}&order_id=A-3&amount=1&status=confirmed&token={TOKEN}");
    assert_eq!(api.get(&postback, &[]).status, 200);
    let refunds = [
        json!({"refund_id": "R-1", "order_id": "A-1", "reason": "return", "items": [{"sku": "p1", "quantity": 1}]}),
        json!({"refund_id": "R-2", "order_id": "A-1", "reason": "adjustment", "amount": 5,
               "occurred_at": "2026-11-02T10:00:00.250Z"}),
        json!({"refund_id": "R-3", "order_id": "A-2", "type": "lead", "reason": "fraud"}),
    ];
    for refund in refunds {
        let answer = api.post_json("/v1/refunds", TOKEN, &refund);
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    posted.json()["conversion_id"].as_str().expect("an ID").to_owned()
}

#[test]
fn v1_every_event_of_a_spool_is_described_and_every_field_is_written() {
    let home = tempfile::tempdir().unwrap();
    let start = Start { config: vec![("edge", "name = \"edge-1\"".into())], ..Start::default() };
    let server = Server::start(home.path(), &start);
    let click_id = clicks(&mut server.edge());
    reports(&mut server.api(), &click_id);
    let events = books::spooled(&server);
    assert_eq!(events.len(), 6 + 3 + 3);
    events.iter().for_each(assert_described);
    // Only the shipper and the pixel write these.
    assert_eq!(unseen("click", &events), ["duplicate_of", "of_seq", "of_spool"]);
    assert_eq!(unseen("conversion", &events), ["unverified"]);
    assert_eq!(unseen("refund", &events), [""; 0]);

    let mut wrong = events[0].clone();
    wrong["visitor_key"] = json!("0123456789ABCDEF");
    assert_eq!(checker::faults(&schema("click"), &wrong).len(), 1, "{wrong}");
}

/// As the shipper settles a click.
#[test]
fn v7_a_duplicate_that_was_parked_and_fed_again_is_described() {
    let id = "A".repeat(48);
    assert_described(&json!({
        "event": "click", "schema": 1, "spool": "00000000000000ff", "seq": 3, "of_spool": "00000000000000fe", "of_seq": 9,
        "click_id": id, "clicked_at_ms": 5,
        "offer_id": 12, "publisher_id": 34, "merchant_id": 1, "visitor_key": "0123456789abcdef", "visitor_new": false,
        "ip_key": "0123456789abcdef", "flags": [], "billable": false, "duplicate_of": id,
        "edge": "edge-1", "catalog": "01234567",
    }));
}

#[test]
fn v10_states_of_a_spool_and_parked_records_are_described() {
    let state = SpoolState {
        spool: 7,
        seq: Some(9),
        topic: "clicks".into(),
        edge: "edge-1".into(),
        at_ms: TimeMs(5),
        shipped: 8,
        oldest_unshipped_ms: Some(TimeMs(4)),
        unspooled: 0,
        late: 2,
    };
    let empty = SpoolState { seq: None, oldest_unshipped_ms: None, topic: "conversions".into(), ..state.clone() };
    let parked =
        |why: &str| Event::parked(&Parked { spool: 7, seq: 1, why: why.into(), bytes: 9, parked_at_ms: TimeMs(1) });
    let mut written =
        vec![Event::heartbeat(&state), Event::seal(&state), Event::heartbeat(&empty), Event::seal(&empty)];
    written.extend(["too_large", "refused", "lost"].map(parked));
    let unparked = Unparked { spool: 8, seq: 1, of_spool: 7, of_seq: 1, unparked_at_ms: TimeMs(1) };
    written.push(Event::unparked(&unparked));
    let events: Vec<Value> = written.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    events.iter().for_each(assert_described);
    for name in ["heartbeat", "seal", "parked", "unparked"] {
        assert_eq!(unseen(name, &events), [""; 0], "{name}");
    }
}

/// What a merchant reads, and the number of the revision.
#[test]
fn v9_the_facts_of_a_decision_are_described() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &Start::default());
    let click_id = clicks(&mut server.edge());
    let id = reports(&mut server.api(), &click_id);
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("Authorization", authorization.as_str())];
    let read = |target: &str| server.api().get(target, &headers).json();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while read(&format!("/v1/conversions/{id}"))["refunds"].as_array().is_none_or(|refunds| refunds.len() < 2) {
        assert!(std::time::Instant::now() < deadline, "not decided");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for order in ["A-1", "A-2", "A-3"] {
        let mut event =
            json!({"event": "attribution", "schema": 1, "spool": "00000000000000ff", "seq": 0, "revision": 1});
        let answer = read(&format!("/v1/conversions?order_id={order}"))["conversions"][0].clone();
        assert_eq!(answer["order_id"], order, "{answer}");
        event.as_object_mut().expect("an object").extend(answer.as_object().expect("an object").clone());
        assert_described(&event);
    }
}

/// What `docs/stream.md` reads of an event is there.
#[test]
fn v1_the_tables_of_the_document_name_fields_that_exist() {
    let path = format!("{}/docs/stream.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut tables = 0;
    for (start, name) in [
        ("CREATE TABLE afflux_clicks_queue\n", "click"),
        ("CREATE TABLE afflux_attributions_queue\n", "attribution"),
        ("CREATE TABLE clicks (\n", "click"),
    ] {
        let (_, rest) = text.split_once(start).expect(start);
        let schema = schema(name);
        let columns = rest.lines().skip_while(|line| *line == "(").take_while(|line| line.starts_with("    "));
        let fields = columns.filter(|line| !line.contains(" AS ") && !line.contains("WATERMARK"));
        for field in fields.filter_map(|line| line.split_whitespace().next()) {
            assert!(schema["properties"].get(field).is_some(), "{start}: {field}");
            tables += 1;
        }
    }
    assert!(tables > 40, "{tables}");
}
