use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::api::Access;
use crate::attribution::consumer::tests::world::{T0, World, click, irr, rulebook};
use crate::catalog::rulebook::{MerchantRules, Unit};
use crate::catalog::{Links, Merchant, MerchantId, Snapshot};
use crate::clock::ManualClock;
use crate::event::ConversionIds;
use crate::report::{Reports, routes};
use crate::spool::Topic;
use crate::store::Store;
use crate::store::testing::{self, Home};
use crate::time::{HOUR_MS, TimeMs};

const CLICKS: u64 = 1;
const ORDERS: u64 = 2;

struct Api {
    world: World,
    router: axum::Router,
    /// What the file holds is copied here, and read from here.
    database: Option<Home>,
}

fn sha256(text: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().try_into().unwrap()
}

fn merchant(id: u32) -> Merchant {
    Merchant {
        id: MerchantId(id),
        rules: MerchantRules { currency: irr(), unit: Unit::Rial },
        bearer_tokens_sha256: vec![sha256(&format!("secret-{id}"))],
        postback_tokens_sha256: Vec::new(),
        signing_secrets: Vec::new(),
        allow_networks: Vec::new(),
        status_words: BTreeMap::new(),
        conversion_types: Vec::new(),
    }
}

impl Api {
    fn open() -> Api {
        Api::over(None)
    }

    /// Over a file, and over PostgreSQL.
    fn both() -> [Api; 2] {
        [Api::open(), Api::over(Some(testing::database()))]
    }

    fn over(database: Option<Home>) -> Api {
        let world = World::new();
        let place = database.as_ref().map_or_else(|| world.place(), |home| home.place.clone());
        let merchants = [1, 2].map(|id| (MerchantId(id), merchant(id)));
        let snapshot = Snapshot::new(rulebook(), merchants.into(), Default::default(), Links::default());
        let catalog = Arc::new(ArcSwap::from_pointee(snapshot));
        let clock = Arc::new(ManualClock::at(TimeMs(T0)));
        let access = Arc::new(Access::new(catalog, vec![sha256("operator")], None, clock));
        let reports = Reports::new(access, ConversionIds::new(&world.keys), place, 2, TimeZone::UTC);
        Api { router: crate::api::router([routes(Arc::new(reports))]), world, database }
    }

    /// Consumes what is in the spools.
    fn round(&mut self) {
        self.world.round();
        self.database.iter().for_each(|home| testing::copy(&self.world.place(), home));
    }

    /// Makes the store, without anything in it.
    fn make(&self) {
        let place = self.database.as_ref().map_or_else(|| self.world.place(), |home| home.place.clone());
        testing::apart(|| drop(Store::open(&place).unwrap()));
    }

    async fn ask(&self, token: &str, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    async fn ask_json(&self, token: &str, path: &str) -> (u16, Value) {
        let (status, body) = self.ask(token, path).await;
        (status.as_u16(), serde_json::from_str(&body).unwrap())
    }

    /// A click by publisher 1, then an order of 1,000.
    fn sell(&mut self, order: &str) {
        let sketch = click(T0, 1, 1);
        let id = self.world.click_id(&sketch).to_string();
        self.world.append(CLICKS, Topic::Clicks, &self.world.click(&sketch));
        let report = self.world.report(order, T0 + HOUR_MS, json!({"click_id": id}));
        self.world.append(ORDERS, Topic::Conversions, &report);
    }
}

#[tokio::test]
async fn i39_a_conversion_reads_back() {
    for mut api in Api::both() {
        api.sell("A-1");
        api.world.append(ORDERS, Topic::Conversions, &api.world.refund("R-1", "A-1", T0, json!({"amount": 333})));
        api.round();
        let id = api.world.conversion_id(1, "A-1", "sale");
        let (status, mut body) = api.ask_json("secret-1", &format!("/v1/conversions/{id}")).await;
        assert_eq!(status, 200);
        let explanation = body.as_object_mut().unwrap().remove("explanation").unwrap();
        assert!(explanation.as_array().unwrap().iter().all(|step| step["why"].is_string()));
        let expected = json!({
            "conversion_id": id, "merchant_id": 1, "order_id": "A-1", "type": "sale", "status": "accepted",
            "outcome": "attributed", "state": "pending", "currency": "IRR", "amount": 1000,
            "occurred_at_ms": T0 + HOUR_MS, "commission": 80,
            "shares": [{"publisher_id": 1, "parts": 1_000_000, "commission": 80, "reversed": 40, "coupon": false}],
            "refunds": [{"refund_id": "R-1", "reason": "return", "amount": 333, "occurred_at_ms": T0}],
        });
        assert_eq!(body, expected);
        let (_, list) = api.ask_json("operator", "/v1/conversions?order_id=A-1").await;
        assert_eq!(list["conversions"][0]["conversion_id"], json!(id));
        assert_eq!(list["conversions"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn i40_a_right_id_is_pending_and_others_are_404() {
    for api in Api::both() {
        let id = api.world.conversion_id(1, "A-9", "sale");
        // Without a store, and with one.
        for _ in 0..2 {
            let (status, body) = api.ask_json("secret-1", &format!("/v1/conversions/{id}")).await;
            assert_eq!(
                (status, body),
                (200, json!({"conversion_id": id, "merchant_id": 1, "status": "accepted", "outcome": "pending"}))
            );
            api.make();
        }
        let forged = format!("{}A", &id[..id.len() - 1]);
        for (token, id) in [
            ("secret-1", forged.as_str()),
            ("secret-2", &id),
            ("secret-1", "x"),
            ("operator", "%2e%2e"),
            ("operator", "%ff"),
        ] {
            let (status, body) = api.ask_json(token, &format!("/v1/conversions/{id}")).await;
            assert_eq!((status, &body["status"]), (404, &json!(404)), "{token} {id}");
        }
    }
}

#[tokio::test]
async fn i20_a_merchant_sees_its_own_rows_only() {
    for mut api in Api::both() {
        api.sell("A-1");
        api.round();
        let path = "/v1/reports/performance?from=2026-11-22&to=2026-11-23&group_by=merchant";
        let rows = |body: &Value| body["rows"].as_array().unwrap().len();
        for (token, expected) in [("operator", 1), ("secret-1", 1), ("secret-2", 0)] {
            assert_eq!(rows(&api.ask_json(token, path).await.1), expected, "{token}");
        }
        let (_, body) = api.ask_json("secret-2", "/v1/conversions?order_id=A-1").await;
        assert_eq!(body, json!({"conversions": []}));
        for path in [path, "/v1/conversions?order_id=A-1", "/v1/conversions/x"] {
            assert_eq!(api.ask("wrong", path).await.0, StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test]
async fn i43_csv_and_json_say_the_same() {
    for mut api in Api::both() {
        let path = "/v1/reports/performance?from=2026-11-22T00:00:00Z&to=2026-11-23&group_by=publisher,link,sub1,type";
        assert_eq!(api.ask_json("operator", path).await, (200, json!({"rows": []})));
        api.sell("A-1");
        api.round();
        let (_, csv) = api.ask("operator", &format!("{path}&format=csv")).await;
        assert_eq!(
            csv,
            "publisher,link,sub1,type,clicks,billable_clicks,rejected_clicks,conversions,amount,commission,reversed,currency\n\
             1,phone,a,,1,1,0,0,0,0,0,IRR\n1,phone,a,sale,0,0,0,1,1000,120,0,IRR\n"
        );
        let (_, body) = api.ask_json("operator", path).await;
        assert_eq!(body["rows"][1]["commission"], 120);
        assert_eq!(body["rows"][0]["type"], Value::Null);
    }
}

#[tokio::test]
async fn i47_wrong_parameters_are_422() {
    let api = Api::open();
    for (query, parameters) in [
        ("", vec!["from", "to"]),
        ("?from=2026-11-22&to=2026-11-21", vec!["from"]),
        ("?from=2026-11-22&to=2026-11-23&group_by=day,colour", vec!["group_by"]),
    ] {
        let (status, body) = api.ask_json("operator", &format!("/v1/reports/performance{query}")).await;
        let named: Vec<&str> =
            body["errors"].as_array().unwrap().iter().map(|error| error["parameter"].as_str().unwrap()).collect();
        assert_eq!((status, named), (422, parameters), "{query}");
    }
    assert_eq!(api.ask_json("operator", "/v1/conversions").await.1["errors"][0]["parameter"], "order_id");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_503() {
    let api = Api::open();
    std::fs::write(api.world.path(), "this is no database, it is a text that somebody put here by mistake ".repeat(9))
        .unwrap();
    let id = api.world.conversion_id(1, "A-9", "sale");
    assert_eq!(api.ask("secret-1", &format!("/v1/conversions/{id}")).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_document_says_how_answers_and_errors_look() {
    let api = Api::open();
    let (status, document) = api.ask_json("operator", "/openapi.json").await;
    assert_eq!(status, 200);
    let content = |path: &str, status: &str| document["paths"][path]["get"]["responses"][status]["content"].clone();
    let performance = content("/v1/reports/performance", "200");
    assert!(performance.get("application/json").is_some() && performance.get("text/csv").is_some(), "{performance}");
    let unknown = content("/v1/conversions/{conversion_id}", "404");
    let reference = &unknown["application/problem+json"]["schema"]["$ref"];
    assert_eq!(reference, "#/components/schemas/Problem", "{unknown}");
    let field = |name: &str| document["components"]["schemas"]["Conversion"]["properties"][name]["description"].clone();
    assert!(field("amount").as_str().is_some_and(|text| text.starts_with("Gross")), "{}", field("amount"));
    assert!(field("commission").as_str().is_some_and(|text| text.starts_with("Net")), "{}", field("commission"));
}

/// A server that is started anew breaks the connections that were kept: nobody hears of it.
#[tokio::test]
async fn a_connection_that_broke_while_it_was_kept_is_opened_again() {
    let mut api = Api::over(Some(testing::database()));
    api.sell("A-1");
    api.round();
    let path = "/v1/conversions?order_id=A-1";
    for _ in 0..3 {
        let (status, body) = api.ask_json("operator", path).await;
        assert_eq!((status, body["conversions"].as_array().unwrap().len()), (200, 1));
        let schema = api.database.as_ref().unwrap().schema();
        let ended =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{schema}'");
        testing::admin(&ended);
    }
}
