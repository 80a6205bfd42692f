//! The way in that conversions and refunds share: the checks of a request in the contract's order (I21), and what an
//! `Idempotency-Key` does (I13).

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Intake;
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

    /// Runs `work` unless the key knows its answer already. Two requests with one key run one after the other.
    pub async fn once(
        &self,
        key: Option<MarkKey>,
        about: MarkKey,
        is_batch: bool,
        work: impl Future<Output = Result<Answer, Problem>>,
    ) -> Result<Answer, Problem> {
        let Some(key) = key else { return work.await };
        let _claim = self.index.claim(key).await;
        match self.index.look_key(key).await {
            Some(known) if known.about != about => {
                let fault = Fault::pointer("", "another request came with this Idempotency-Key");
                return Err(Problem::conflict("the Idempotency-Key is in use for another request", vec![fault], None));
            }
            Some(KeyMark { answer: Some(body), .. }) => return Ok(Answer { body, replayed: true }),
            _ => {}
        }
        let answer = work.await?;
        if !is_batch || answer.body.len() <= MAX_ANSWER_BYTES {
            let mark = KeyMark { about, answer: is_batch.then(|| answer.body.clone()) };
            self.index.remember_key(key, mark, self.access.clock().now()).await;
        }
        Ok(answer)
    }
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
