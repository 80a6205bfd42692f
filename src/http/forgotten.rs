//! Bodies of HTTP/2 that were answered before they ended. A little is read behind the answer: a client whose stream is
//! reset instead may take that for an error. More than a little is reset all the same (contract E35).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use tokio::runtime::Handle;

use super::limits::FORGOTTEN_BODY_BYTES;

/// Reads what still comes, behind the answer. It ends with its connection, which ends when it has been idle for as long as
/// it may; it takes one of the connection's streams so long.
pub fn forget_body(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    // Without a runtime nothing comes any more.
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(async move {
        let mut came = 0;
        while came <= FORGOTTEN_BODY_BYTES {
            match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                Some(Ok(frame)) => came += frame.data_ref().map_or(0, |part| part.len() as u64),
                _ => return,
            }
        }
    });
}

/// A body for a service that may drop it before its end.
pub struct Passed {
    body: Option<Incoming>,
    is_http2: bool,
}

impl Passed {
    pub fn of(request: Request<Incoming>) -> Request<Passed> {
        let is_http2 = request.version() == Version::HTTP_2;
        request.map(|body| Passed { body: Some(body), is_http2 })
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        // In HTTP/1 hyper and the guard see to it.
        if self.is_http2
            && let Some(body) = self.body.take()
        {
            forget_body(body);
        }
    }
}

impl Body for Passed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
