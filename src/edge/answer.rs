//! Requests to answers: method before path, exact paths, and the headers of each (contract E1-E5, E11, E25).

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, STRICT_TRANSPORT_SECURITY,
};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;

use super::click::{Clicked, Clicks, DiskWait};
use super::metrics::{Metrics, Outcome};
use super::networks::Networks;
use super::{forwarded, https};
use crate::http::Refusal;
use crate::spool::Durable;

const ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");
const NOINDEX: HeaderValue = HeaderValue::from_static("noindex");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

const ROBOTS_TXT: &[u8] = b"User-agent: *\nDisallow: /\n";
const NOT_FOUND_PAGE: &[u8] =
    b"<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Not found</title></head>\
<body><h1>Not found</h1><p>This link does not exist or does not exist any more.</p></body></html>\n";

pub type Answer = Response<Full<Bytes>>;

/// One worker's service.
pub struct Edge {
    clicks: RefCell<Clicks>,
    durable: Durable,
    disk_wait: DiskWait,
    /// This thread's own copies of the headers' values.
    hsts: Option<HeaderValue>,
    referrer_policy: Option<HeaderValue>,
    /// What stands behind the visitor in every cookie.
    cookie_tail: String,
    https_port: Option<u16>,
    trusted_proxies: Option<Arc<Networks>>,
    metrics: Arc<Metrics>,
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: IpAddr,
    /// Between us and it, or, as a trusted proxy says, between that and the visitor.
    pub tls: bool,
}

impl Edge {
    pub fn new(clicks: Clicks, metrics: Arc<Metrics>) -> Rc<Edge> {
        let durable = clicks.desk.writer.durable();
        let settings = &clicks.desk.settings;
        let hsts = settings.hsts.as_deref().and_then(|value| HeaderValue::from_str(value).ok());
        let referrer_policy = settings.referrer_policy.map(HeaderValue::from_static);
        let (disk_wait, https_port) = (settings.disk_wait, settings.https_port);
        let trusted_proxies = settings.trusted_proxies.clone();
        let cookie_tail = format!("; Path=/; HttpOnly; SameSite=Lax; Max-Age={}", settings.cookie_max_age_s);
        let clicks = RefCell::new(clicks);
        Rc::new(Edge {
            clicks,
            durable,
            disk_wait,
            hsts,
            referrer_policy,
            cookie_tail,
            https_port,
            trusted_proxies,
            metrics,
        })
    }

    /// Answers one request, whose header fields are gone then: the answer's stand in their memory. The only wait is for
    /// the disk, and only where that was asked for.
    pub async fn answer(&self, request: &mut Parts, peer: Peer) -> Answer {
        let began = Instant::now();
        let peer = self.asks(request, peer);
        let (mut answer, outcome, waits_for) = self.prepare(request, peer);
        if let (Some(hsts), true) = (&self.hsts, peer.tls) {
            answer.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if let Some(seq) = waits_for {
            self.wait_for_disk(seq).await;
        }
        self.metrics.count(outcome);
        self.metrics.seconds.record(began.elapsed());
        answer
    }

    /// Whom a trusted proxy asks for, or the peer itself.
    fn asks(&self, request: &Parts, peer: Peer) -> Peer {
        let Some(trusted) = &self.trusted_proxies else { return peer };
        match forwarded::asks(peer, &request.headers, trusted) {
            Some((asks, found)) => {
                self.metrics.count_forwarded(found);
                asks
            }
            None => peer,
        }
    }

    fn prepare(&self, request: &mut Parts, peer: Peer) -> (Answer, Outcome, Option<u64>) {
        if let Some(refusal) = Refusal::of(&request.method, &request.uri) {
            let (answer, outcome) = refused(refusal);
            return (answer, outcome, None);
        }
        let is_head = request.method == Method::HEAD;
        if !is_head && request.method != Method::GET {
            let answer =
                plain(StatusCode::METHOD_NOT_ALLOWED, b"", Some((ALLOW, HeaderValue::from_static("GET, HEAD"))));
            return (answer, Outcome::MethodNotAllowed, None);
        }
        match request.uri.path() {
            "/healthz" => (text(StatusCode::OK, "text/plain", b"ok"), Outcome::Health, None),
            _ if !peer.tls && self.https_port.is_some() => self.to_https(request),
            "/robots.txt" => (text(StatusCode::OK, "text/plain", ROBOTS_TXT), Outcome::Health, None),
            _ => self.click(request, peer, is_head),
        }
    }

    fn click(&self, request: &mut Parts, peer: Peer, is_head: bool) -> (Answer, Outcome, Option<u64>) {
        let mut clicks = self.clicks.borrow_mut();
        let (path, query) = (request.uri.path(), request.uri.query().unwrap_or_default());
        let Some(clicked) = clicks.click(path, query, &request.headers, peer.address, is_head) else {
            let settings = &clicks.desk.settings;
            let fallback = settings.fallback_url.as_ref().and_then(|url| HeaderValue::from_str(url).ok());
            let answer = fallback.map_or_else(not_found, |url| self.redirect(HeaderMap::new(), url));
            return (answer, Outcome::NotFound, None);
        };
        self.count_flags(&clicked);
        let waits_for = match clicked.spooled {
            Some(Ok(seq)) => Some(seq),
            Some(Err(_)) => {
                clicks.desk.writer.count_unspooled();
                None
            }
            None => None,
        };
        let outcome = match clicked {
            Clicked { rejected: true, .. } => Outcome::Rejected,
            Clicked { has_page: false, .. } => Outcome::NotFound,
            _ => Outcome::Redirected,
        };
        let headers = std::mem::take(&mut request.headers);
        let mut answer = self.click_answer(headers, &clicks, &clicked, peer);
        if is_head && answer.body().is_end_stream() {
            // hyper says so itself of every other answer without a body.
            answer.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        (answer, outcome, waits_for)
    }

    /// The page of a click, or ours where it has none. The cookie comes with both (contract E24, E31).
    fn click_answer(&self, headers: HeaderMap, clicks: &Clicks, clicked: &Clicked, peer: Peer) -> Answer {
        let location = clicked.has_page.then(|| HeaderValue::from_bytes(&clicks.desk.location).ok()).flatten();
        let mut answer = match location {
            Some(location) => {
                let mut answer = self.redirect(headers, location);
                answer.headers_mut().insert(ROBOTS_TAG, NOINDEX);
                answer
            }
            None => not_found(),
        };
        if let Some(visitor) = &clicked.new_visitor {
            let parts = ["aff_vid=", visitor.as_str(), &self.cookie_tail, if peer.tls { "; Secure" } else { "" }];
            // Letters, digits and punctuation: always a header.
            if let Ok(cookie) = HeaderValue::from_maybe_shared(Bytes::from(parts.concat())) {
                answer.headers_mut().insert(SET_COOKIE, cookie);
            }
        }
        answer
    }

    /// In the memory of `headers`.
    fn redirect(&self, mut headers: HeaderMap, location: HeaderValue) -> Answer {
        headers.clear();
        headers.insert(CACHE_CONTROL, NO_STORE);
        headers.insert(LOCATION, location);
        if let Some(policy) = &self.referrer_policy {
            headers.insert(REFERRER_POLICY, policy.clone());
        }
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::FOUND;
        *answer.headers_mut() = headers;
        answer
    }

    /// The same target on the same host, over TLS. It is no click: that is made there.
    fn to_https(&self, request: &Parts) -> (Answer, Outcome, Option<u64>) {
        let location = self.https_port.and_then(|port| https::location(&request.headers, &request.uri, port));
        match location {
            Some(location) => {
                let answer = plain(StatusCode::MOVED_PERMANENTLY, b"", Some((LOCATION, location)));
                (answer, Outcome::ToHttps, None)
            }
            // To where is not known.
            None => (plain(StatusCode::BAD_REQUEST, b"", None), Outcome::BadRequest, None),
        }
    }

    async fn wait_for_disk(&self, seq: u64) {
        let limit = match self.disk_wait {
            DiskWait::No => return,
            DiskWait::AtMost(limit) => Some(limit),
            DiskWait::WithoutLimit => None,
        };
        if self.durable.wait(seq, limit).await.is_err() {
            // The visitor goes on all the same; that it is not known to be on disk is counted and shown.
            self.durable.count_undurable();
        }
    }

    fn count_flags(&self, clicked: &Clicked) {
        if clicked.spooled.is_some() {
            self.metrics.count_flags(clicked.flags);
        }
    }
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "text/html; charset=utf-8", NOT_FOUND_PAGE)
}

fn refused(refusal: Refusal) -> (Answer, Outcome) {
    let outcome = match refusal {
        Refusal::LineTooLong => Outcome::TooLong,
        Refusal::Overloaded => Outcome::Overloaded,
        _ => Outcome::BadRequest,
    };
    let retry = HeaderValue::from_static(crate::http::RETRY_AFTER_S);
    let header = (refusal == Refusal::Overloaded).then_some((RETRY_AFTER, retry));
    let mut answer = plain(refusal.status(), b"", header);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    (answer, outcome)
}

fn text(status: StatusCode, kind: &'static str, body: &'static [u8]) -> Answer {
    plain(status, body, Some((CONTENT_TYPE, HeaderValue::from_static(kind))))
}

fn plain(status: StatusCode, body: &'static [u8], header: Option<(HeaderName, HeaderValue)>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    if body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    if let Some((name, value)) = header {
        headers.insert(name, value);
    }
    answer
}
