//! Reading a body: how large it may be, what it may be, and how long it may take (contract I21-I23).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

pub const MAX_BODY_BYTES: usize = 1_048_576;

/// Memory for all bodies at once, in pieces that a body takes as it grows: 256 MiB. Past it: 503.
const PIECE_BYTES: usize = 65_536;
const PIECES: usize = 4_096;

/// From the first byte asked for to the last; a slower caller gets 408.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The memory that bodies may fill, and the time each may take.
pub struct Bodies {
    pieces: Arc<Semaphore>,
    timeout: Duration,
}

/// A body in memory; its place is free again when this is dropped.
#[derive(Default)]
pub struct WholeBody {
    pub bytes: Vec<u8>,
    _pieces: Option<OwnedSemaphorePermit>,
}

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies { pieces: Arc::new(Semaphore::new(PIECES)), timeout: READ_TIMEOUT }
    }
}

impl Bodies {
    /// Reads all of a body, chunked or not: `MAX_BODY_BYTES` at most.
    pub async fn read(&self, body: Body) -> Result<WholeBody, Problem> {
        let slow = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        tokio::time::timeout(self.timeout, self.read_all(body)).await.map_err(slow)?
    }

    async fn read_all(&self, mut body: Body) -> Result<WholeBody, Problem> {
        let mut whole = WholeBody::default();
        let mut room = 0;
        while let Some(frame) = body.frame().await {
            let broken = |_| Problem::new(StatusCode::BAD_REQUEST, "the body broke off or is not well framed");
            // Trailers are ignored.
            let Ok(chunk) = frame.map_err(broken)?.into_data() else { continue };
            if whole.bytes.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(too_large());
            }
            while room < whole.bytes.len() + chunk.len() {
                whole.take(self.piece()?);
                room += PIECE_BYTES;
            }
            whole.bytes.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    fn piece(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let full = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many large bodies at once");
        self.pieces.clone().try_acquire_owned().map_err(full)
    }
}

impl WholeBody {
    fn take(&mut self, piece: OwnedSemaphorePermit) {
        match &mut self._pieces {
            Some(held) => held.merge(piece),
            none => *none = Some(piece),
        }
    }
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "a body has at most 1,048,576 bytes")
}

/// 413 before a byte is read, so that `Expect: 100-continue` gets no 100.
pub fn check_declared_length(headers: &HeaderMap) -> Result<(), Problem> {
    // The HTTP library has refused what is no number; one of more digits than a u64 has is certainly too large.
    let is_too_large = |value: &header::HeaderValue| match value.to_str().map(str::parse::<u64>) {
        Ok(Ok(length)) => length > MAX_BODY_BYTES as u64,
        _ => true,
    };
    if headers.get_all(header::CONTENT_LENGTH).iter().any(is_too_large) { Err(too_large()) } else { Ok(()) }
}

/// 415 unless the body is `media_type`, alone or with `charset=utf-8`, and not encoded (contract I22).
pub fn require_media_type(headers: &HeaderMap, media_type: &'static str) -> Result<(), Problem> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let is_right = |value: &header::HeaderValue| value.to_str().is_ok_and(|value| is_media_type(value, media_type));
    let one_right_type = types.next().is_some_and(is_right) && types.next().is_none();
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    if one_right_type && codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let wanted = format!("the body must be {media_type}, optionally with charset=utf-8, and not encoded");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, wanted))
}

fn is_media_type(value: &str, media_type: &str) -> bool {
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case(media_type)
        && parts.all(|parameter| {
            let Some((name, charset)) = parameter.split_once('=') else { return parameter.is_empty() };
            name.trim().eq_ignore_ascii_case("charset")
                && charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Never;

    impl http_body::Body for Never {
        type Data = axum::body::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            std::task::Poll::Pending
        }
    }

    #[tokio::test]
    async fn i23_a_body_that_does_not_come_is_408() {
        let bodies = Bodies { timeout: Duration::from_millis(1), ..Bodies::default() };
        let problem = bodies.read(Body::new(Never)).await.err().unwrap();
        assert_eq!(problem.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn bodies_take_their_memory_and_give_it_back() {
        let bodies = Bodies { pieces: Arc::new(Semaphore::new(2)), ..Bodies::default() };
        let first = bodies.read(Body::from(vec![b' '; PIECE_BYTES + 1])).await.ok().unwrap();
        assert_eq!(first.bytes.len(), PIECE_BYTES + 1);
        assert!(bodies.read(Body::empty()).await.is_ok());
        let refused = bodies.read(Body::from("x")).await.err().unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert!(bodies.read(Body::from(vec![b' '; 2 * PIECE_BYTES])).await.is_ok());
        assert!(bodies.read(Body::from(vec![b' '; 2 * PIECE_BYTES + 1])).await.is_err());
    }
}
