//! One connection that speaks HTTP/2: hyper's, and what it says when the door drains or nothing was asked for too long.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use hyper::body::{Bytes, Incoming};
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::TokioIo;

use super::frame_guard::FrameGuard;
use super::limits::{
    Bodies, CONNECTION_WINDOW_BYTES, FORGOTTEN_WINDOW_BYTES, FRAME_BYTES, OWN_RESETS, PASSED_WINDOW_BYTES,
    RESETS_BEFORE_HEARD, SEND_BYTES, STREAMS, UNREADABLE_LIST_BYTES,
};
use super::places::{Place, Places};
use super::requests::{Answer, Answering, Requests};
use super::watch::Watch;
use super::wire::Tls;

pub struct Http2<S, B, X>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + Unpin,
{
    connection: http2::Connection<TokioIo<FrameGuard>, Requests<S>, X>,
    watch: Arc<Watch>,
    places: Arc<Places>,
    /// GOAWAY is said, or will be.
    is_last: bool,
}

impl<S, B, X> Http2<S, B, X>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    X: Http2ServerConnExec<Answering<S::Future>, Answer<B>>,
{
    /// Streams run by `executor`.
    pub fn new(stream: Tls, place: Place, service: S, executor: X) -> Self {
        let (places, watch, is_surplus) = (place.shared_places(), place.watch.clone(), place.is_surplus);
        let window = match places.door.bodies {
            Bodies::Forgotten => FORGOTTEN_WINDOW_BYTES,
            Bodies::Passed => PASSED_WINDOW_BYTES,
        };
        let mut http = http2::Builder::new(executor);
        http.max_concurrent_streams(STREAMS)
            .max_frame_size(FRAME_BYTES)
            .max_header_list_size(UNREADABLE_LIST_BYTES)
            .initial_stream_window_size(window)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BYTES)
            .max_pending_accept_reset_streams(RESETS_BEFORE_HEARD)
            .max_local_error_reset_streams(OWN_RESETS);
        let service = Requests::new(service, places.clone(), is_surplus);
        let connection = http.serve_connection(TokioIo::new(FrameGuard::new(stream, place)), service);
        let mut http2 = Http2 { connection, watch, places, is_last: false };
        if is_surplus {
            http2.say_last();
        }
        http2
    }

    /// Streams that the client opens before it hears of it are answered still.
    fn say_last(&mut self) {
        self.is_last = true;
        Pin::new(&mut self.connection).graceful_shutdown();
    }
}

impl<S, B, X> Future for Http2<S, B, X>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    X: Http2ServerConnExec<Answering<S::Future>, Answer<B>>,
{
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.is_last {
            // In this order, or it might be told in between.
            self.watch.says_goodbye(cx.waker());
            if self.places.door.is_draining() || self.watch.is_leaving() {
                self.say_last();
            }
        }
        let ended = Pin::new(&mut self.connection).poll(cx);
        if let Poll::Ready(Err(error)) = &ended
            && is_of_calm(error)
        {
            self.places.http2.floods.add_shared(1);
        }
        ended
    }
}

/// h2 found a flood before the guard did: resets before they were heard, continuations, small parts of bodies.
fn is_of_calm(error: &hyper::Error) -> bool {
    let of_h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    of_h2.is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// Nothing in it is pinned where it lies.
impl<S, B, X> Unpin for Http2<S, B, X>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + Unpin,
{
}
