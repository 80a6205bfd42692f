//! The way in that conversions and refunds share: the checks of a request in the contract's order (I21), and what an
//! `Idempotency-Key` does (I13).

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Intake;
use super::fingerprint::Fingerprint;
use super::json::{self, Members, Value};
use super::order_index::{KeyMark, MarkKey};
use super::report::{self, Rules};
use crate::api::body::{self, WholeBody};
use crate::api::{self, Caller, Fault, Problem};
use crate::catalog::{Merchant, MerchantId, Snapshot};
use crate::time::TimeMs;

const MAX_KEY_BYTES: usize = 255;

/// Remembered answers are at most this long; a batch whose answer is longer is remembered by its orders alone.
const MAX_ANSWER_BYTES: usize = 1_048_576;

/// A request of a known merchant, read.
pub struct Received {
    pub catalog: Arc<Snapshot>,
    pub merchant_id: MerchantId,
    pub body: WholeBody,
    pub key: Option<MarkKey>,
    pub received_at: TimeMs,
    pub peer: Option<IpAddr>,
}

/// A 202 to be.
#[derive(Clone, Debug)]
pub struct Answer {
    pub body: String,
    pub replayed: bool,
}

impl Intake {
    /// 413 by Content-Length, 415, 401 and 403, 413 by reading, 400.
    pub async fn receive(&self, request: Request) -> Result<Received, Problem> {
        let (parts, body) = request.into_parts();
        body::check_declared_length(&parts.headers)?;
        body::require_media_type(&parts.headers, "application/json")?;
        let catalog = self.access.catalog();
        let peer = api::peer(&parts.extensions);
        let proof = self.access.proof(&catalog, &parts.headers)?;
        let (merchant_id, body) = if proof.has_signature() {
            let body = self.bodies.read(body).await?;
            (reporting_merchant(proof.caller(&body.bytes, peer)?)?, body)
        } else {
            (reporting_merchant(proof.caller(b"", peer)?)?, self.bodies.read(body).await?)
        };
        let key = idempotency_key(&parts.headers)?;
        let key = key.map(|key| MarkKey::idempotency(merchant_id, parts.uri.path(), key));
        Ok(Received { catalog, merchant_id, body, key, received_at: self.access.clock().now(), peer })
    }

    pub fn rules<'a>(&'a self, merchant: &'a Merchant, received_at: TimeMs, peer: Option<IpAddr>) -> Rules<'a> {
        Rules {
            merchant,
            ids: &self.ids,
            factor: report::factor(merchant),
            received_at,
            latest: received_at + self.max_future_ms,
            source_ip: peer.map(|peer| peer.to_string()),
        }
    }

    /// Runs `work` unless its `Idempotency-Key` knows the answer already. Two requests with one key run one after the other.
    pub async fn once(
        &self,
        keyed: Option<(MarkKey, About)>,
        work: impl Future<Output = Result<Answer, Problem>>,
    ) -> Result<Answer, Problem> {
        let Some((key, about)) = keyed else { return work.await };
        let _claim = self.index.claim(key).await;
        if let Some(known) = self.index.look_key(key).await {
            if !self.is_same(&about, &known).await {
                let fault = Fault::pointer("", "another request came with this Idempotency-Key");
                return Err(Problem::conflict("the Idempotency-Key is in use for another request", vec![fault], None));
            }
            if let Some(body) = known.answer {
                return Ok(Answer { body, replayed: true });
            }
        }
        let answer = work.await?;
        let mark = match about {
            About::One(about) => KeyMark { about, answer: None },
            About::Batch { body, .. } => KeyMark { about: body, answer: Some(answer.body.clone()) },
        };
        if mark.answer.as_ref().is_none_or(|answer| answer.len() <= MAX_ANSWER_BYTES) {
            self.index.remember_key(key, mark, self.access.clock().now()).await;
        }
        Ok(answer)
    }

    /// Whether the key came with the same (contract I13). What differs in one report is told by its order's mark.
    async fn is_same(&self, about: &About, known: &KeyMark) -> bool {
        match about {
            About::One(about) => *about == known.about,
            About::Batch { body, .. } if body.is_sent_alike(&known.about) => true,
            About::Batch { body, reports } => {
                body.is_read_alike(&known.about) && self.says_the_same_times(reports, known).await
            }
        }
    }

    /// Whether no report that was accepted says another time than then: one that was left to us says none.
    async fn says_the_same_times(&self, reports: &[Told], known: &KeyMark) -> bool {
        let answer = known.answer.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let accepted = |told: &&Told| {
            let result = answer.as_ref().and_then(|answer| answer["results"].get(told.index));
            result.is_some_and(|result| result["status"] == "accepted")
        };
        let reports: Vec<&Told> = reports.iter().filter(accepted).collect();
        let marks = self.index.look(reports.iter().map(|told| told.key).collect()).await.unwrap_or_default();
        reports.iter().zip(marks).all(|(told, mark)| {
            let differing = mark.and_then(|mark| told.fingerprint.differing(&mark.hashes));
            differing.is_none_or(|fields| fields.is_empty())
        })
    }
}

/// What a request with an `Idempotency-Key` says, to be compared with what came with the key before.
pub enum About {
    /// An order or a refund.
    One(MarkKey),
    Batch {
        body: MarkKey,
        reports: Vec<Told>,
    },
}

/// A report of a batch that is right.
pub struct Told {
    pub index: usize,
    pub key: MarkKey,
    pub fingerprint: Fingerprint,
}

impl Received {
    pub fn merchant(&self) -> Result<&Merchant, Problem> {
        self.catalog.merchant(self.merchant_id).ok_or_else(Problem::unauthorised)
    }

    /// The body's object, or 400, or 422 when it is something else (contract I24).
    pub fn object(&self) -> Result<Members<'_>, Problem> {
        let not_json = |fault: json::NotJson| Problem::new(StatusCode::BAD_REQUEST, fault.to_string());
        match json::parse(&self.body.bytes).map_err(not_json)? {
            Value::Object(members) => Ok(members),
            _ => Err(not_an_object()),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response =
            (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], self.body).into_response();
        if self.replayed {
            mark_replayed(&mut response);
        }
        response
    }
}

pub fn mark_replayed(response: &mut Response) {
    response.headers_mut().insert("idempotency-replayed", header::HeaderValue::from_static("true"));
}

pub fn not_an_object() -> Problem {
    Problem::unprocessable(vec![Fault::pointer("", "must be an object")])
}

/// Operators read; they have no orders of their own to report.
pub fn reporting_merchant(caller: Caller) -> Result<MerchantId, Problem> {
    match caller {
        Caller::Merchant(id) => Ok(id),
        Caller::Operator => Err(Problem::new(StatusCode::FORBIDDEN, "an operator's token does not report")),
    }
}

/// Runs to its end even if the caller hangs up: what is on disk also gets its mark.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|_| {
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the work was broken off; send it again"))
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let wrong = || Problem::new(StatusCode::BAD_REQUEST, "an Idempotency-Key is 1 to 255 visible ASCII characters");
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().map_err(|_| wrong())?;
    let visible = key.bytes().all(|b| b.is_ascii_graphic());
    let right = visible && (1..=MAX_KEY_BYTES).contains(&key.len()) && values.next().is_none();
    if right { Ok(Some(key)) } else { Err(wrong()) }
}
