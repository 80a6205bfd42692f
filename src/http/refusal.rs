//! Requests that no service sees: refused by the guard, answered through the service all the same.
//!
//! What the guard refuses becomes a request of a method that it lets nobody else use. So the answer takes its turn behind
//! those of earlier requests of the connection, and the service counts it like any other.

use http::{Method, Request, StatusCode, Uri};

/// The method of such requests. A client's own request with this method is renamed to `OTHER`.
pub const METHOD: &str = "REFUSED";
/// What methods are called that mean something to hyper or to us, and nothing to any service of ours.
pub const OTHER: &str = "OTHER";

/// Why, by the status of the answer. The connection closes after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Malformed HTTP/1.
    Malformed,
    LineTooLong,
    FieldsTooLarge,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// `Limits::connections`, or as many of one address as may be.
    Overloaded,
}

/// `Retry-After` of a 503, seconds (contract E34).
pub const RETRY_AFTER_S: &str = "2";

impl Refusal {
    /// The refusal that a request with this method and target stands for.
    pub fn of(method: &Method, target: &Uri) -> Option<Refusal> {
        if *method == Method::GET || method.as_str() != METHOD {
            return None;
        }
        let all = [
            Refusal::Malformed,
            Refusal::LineTooLong,
            Refusal::FieldsTooLarge,
            Refusal::UnknownCoding,
            Refusal::Overloaded,
        ];
        let status = target.path().strip_prefix('/')?;
        all.into_iter().find(|refusal| status == refusal.status().as_str())
    }

    /// What is wrong, for those who read answers.
    pub fn detail(self) -> &'static str {
        match self {
            Refusal::Malformed => "not well-formed HTTP/1",
            Refusal::LineTooLong => "a request line of at most 8,192 bytes is allowed",
            Refusal::FieldsTooLarge => "at most 64 header fields and 16,384 bytes of them are allowed",
            Refusal::UnknownCoding => "no transfer coding but chunked is allowed",
            Refusal::Overloaded => "too many connections",
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            Refusal::Malformed => StatusCode::BAD_REQUEST,
            Refusal::LineTooLong => StatusCode::URI_TOO_LONG,
            Refusal::FieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Refusal::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Makes a request of HTTP/2 the one that only says so.
    pub(super) fn take_place_of<B>(self, request: &mut Request<B>) {
        let target = format!("/{}", self.status().as_str());
        // Both are well-formed.
        if let (Ok(method), Ok(uri)) = (Method::from_bytes(METHOD.as_bytes()), Uri::try_from(target)) {
            (*request.method_mut(), *request.uri_mut()) = (method, uri);
        }
    }

    /// The request that hyper gets in place of the refused one.
    pub(super) fn head(self) -> String {
        format!("{METHOD} /{} HTTP/1.1\r\nconnection: close\r\n\r\n", self.status().as_str())
    }
}
