//! A catalog of two merchants and an API over it, without a port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::{digest, hmac};
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use data_encoding::HEXLOWER;
use hashbrown::HashMap;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::MemoryDisk;
use crate::api::Access;
use crate::catalog::rulebook::{MerchantRules, Unit};
use crate::catalog::{Links, Merchant, MerchantId, Rulebook, Snapshot};
use crate::click::Keys;
use crate::clock::ManualClock;
use crate::event::{ConversionIds, MerchantStatus};
use crate::intake::{Intake, Log, OrderIndex};
use crate::money::Currency;
use crate::redis::LinkSettings;
use crate::time::TimeMs;

/// 2026-11-22T06:30:00Z.
pub const NOW: TimeMs = TimeMs(1_795_329_000_000);
pub const PEER: &str = "192.0.2.7:40000";

pub struct Shop {
    pub router: axum::Router,
    pub intake: Arc<Intake>,
    pub disk: Arc<MemoryDisk>,
    pub clock: Arc<ManualClock>,
    pub directory: TempDir,
}

/// How a shop differs from the usual one.
pub struct Setup {
    pub merchants: Vec<Merchant>,
    pub requests_per_merchant_s: Option<NonZeroU32>,
    /// Where the order index lies; absent: in the shop's directory.
    pub index: Option<std::path::PathBuf>,
    /// Present: it is in Redis, as of an edge among others.
    pub redis: Option<LinkSettings>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Default for Setup {
    fn default() -> Setup {
        let mut toman = merchant(2, "toman-secret");
        toman.rules.unit = Unit::Toman;
        let mut euro = merchant(3, "euro-secret");
        euro.rules.currency = Currency::parse("EUR").unwrap();
        Setup {
            merchants: vec![merchant(1, "secret"), toman, euro],
            requests_per_merchant_s: None,
            index: None,
            redis: None,
        }
    }
}

/// A merchant whose token, and postback token with `p-` before it, is `secret`.
pub fn merchant(id: u32, secret: &str) -> Merchant {
    Merchant {
        id: MerchantId(id),
        rules: MerchantRules { currency: Currency::parse("IRR").unwrap(), unit: Unit::Rial },
        bearer_tokens_sha256: vec![sha256(secret)],
        postback_tokens_sha256: vec![sha256(&format!("p-{secret}"))],
        signing_secrets: Vec::new(),
        allow_networks: Vec::new(),
        status_words: BTreeMap::from([
            ("confirmed".to_owned(), MerchantStatus::Approved),
            ("trash".to_owned(), MerchantStatus::Rejected),
        ]),
        conversion_types: vec!["first_order".to_owned()],
    }
}

pub fn sha256(text: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().try_into().unwrap()
}

/// A report that is right.
pub fn sale(order_id: &str) -> Value {
    json!({"order_id": order_id, "type": "sale", "amount": 1_000_000, "click_id": "c"})
}

impl Shop {
    pub fn open() -> Shop {
        Shop::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Shop {
        let directory = tempfile::tempdir().unwrap();
        let merchants: HashMap<_, _> = setup.merchants.into_iter().map(|merchant| (merchant.id, merchant)).collect();
        let snapshot = Snapshot::new(Rulebook::default(), merchants, HashMap::new(), Links::default());
        let clock = Arc::new(ManualClock::at(NOW));
        let access = Access::new(
            Arc::new(ArcSwap::from_pointee(snapshot)),
            vec![sha256("operator")],
            setup.requests_per_merchant_s,
            clock.clone(),
        );
        let keys = Keys::parse(&Keys::file_text(&[7; 64])).unwrap();
        let disk = Arc::new(MemoryDisk::default());
        let index = match setup.redis {
            Some(redis) => OrderIndex::start_redis(redis, Arc::default()),
            None => OrderIndex::start(setup.index.unwrap_or_else(|| directory.path().join("orders.sqlite"))),
        };
        let index = index.unwrap();
        let intake = Arc::new(Intake::new(
            Arc::new(access),
            ConversionIds::new(&keys),
            Log::Memory(disk.clone()),
            index,
            300_000,
        ));
        let router = crate::api::router([crate::intake::routes(intake.clone())]);
        Shop { router, intake, disk, clock, directory }
    }

    pub async fn ask(&self, request: Request<Body>) -> Answer {
        let mut request = request;
        if request.extensions().get::<ConnectInfo<SocketAddr>>().is_none() {
            request.extensions_mut().insert(ConnectInfo(PEER.parse::<SocketAddr>().unwrap()));
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Merchant 1 posts JSON with their token.
    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.ask(post(path, "secret").body(body.into()).unwrap()).await
    }

    pub async fn report(&self, report: &Value) -> Answer {
        self.post("/v1/conversions", report.to_string()).await
    }

    pub async fn refund(&self, refund: &Value) -> Answer {
        self.post("/v1/refunds", refund.to_string()).await
    }

    pub async fn get(&self, path_and_query: &str) -> Answer {
        self.ask(Request::get(path_and_query).body(Body::empty()).unwrap()).await
    }

    /// The only event there is.
    pub fn event(&self) -> Value {
        let events = self.disk.events();
        assert_eq!(events.len(), 1, "{events:#?}");
        events.into_iter().next().unwrap()
    }
}

/// A JSON request with a token.
pub fn post(path: &str, token: &str) -> axum::http::request::Builder {
    Request::post(path).header("content-type", "application/json").header("authorization", format!("Bearer {token}"))
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn is_replay(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    /// The pointers in `errors`.
    pub fn pointers(&self) -> Vec<String> {
        pointers(&self.json())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    #[track_caller]
    pub fn expect_fault(self, pointer: &str) -> Answer {
        let answer = self.expect(422);
        assert_eq!(answer.pointers(), [pointer], "{}", answer.body);
        answer
    }
}

pub fn pointers(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors: {problem}"));
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

/// The header of a right signature.
pub fn sign(secret: &str, unix_s: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{unix_s}.").as_bytes());
    context.update(body);
    format!("t={unix_s},v1={}", HEXLOWER.encode(context.sign().as_ref()))
}
