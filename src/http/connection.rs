//! One connection, from its accept to its end: the socket, TLS where the listener speaks it, the guard, hyper.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::guard::Guard;
use super::handshake::Handshake;
use super::limits::HEAD_BYTES;
use super::places::Place;
use super::watch::Wait;
use super::wire::{Tls, Wire};

/// A connection that is served until one side has enough of it.
pub struct Connection<S, B>(Stage<S, B>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body;

/// What only TLS needs stands in boxes: a plain connection is no larger for it, and needs no allocation more.
#[allow(clippy::large_enum_variant)]
enum Stage<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
    Plain(Http1<TcpStream, S>),
    /// The service waits for the end of it.
    Handshake(Handshake, Option<S>),
    Tls(Box<Http1<Tls, S>>),
}

type Http1<W, S> = http1::Connection<TokioIo<Guard<W>>, S>;
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Nothing in it is pinned where it lies.
impl<S, B> Unpin for Connection<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
}

impl<S, B> Connection<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<AnyError>,
{
    pub(super) fn plain(stream: TcpStream, place: Place, service: S) -> Self {
        Connection(Stage::Plain(http1(stream, place, service)))
    }

    pub(super) fn tls(handshake: Handshake, service: S) -> Self {
        Connection(Stage::Handshake(handshake, Some(service)))
    }
}

impl<S, B> Future for Connection<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<AnyError>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.0 {
                Stage::Plain(http) => return Pin::new(http).poll(cx).map(ended),
                Stage::Tls(http) => return Pin::new(&mut **http).poll(cx).map(ended),
                Stage::Handshake(handshake, service) => {
                    let shaken = ready!(handshake.as_mut().poll(cx)).zip(service.take());
                    let Some(((stream, place), service)) = shaken else { return Poll::Ready(()) };
                    // Now it may be silent for as long as anybody. What was agreed upon (ALPN) is http/1.1 or nothing.
                    place.watch.starts(Wait::Idle, place.places().now());
                    self.0 = Stage::Tls(Box::new(http1(stream, place, service)));
                }
            }
        }
    }
}

fn http1<W, S, B>(stream: W, place: Place, service: S) -> Http1<W, S>
where
    W: Wire,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<AnyError>,
{
    let mut http = http1::Builder::new();
    // A client that has said all still hears the answer; and hyper reads ahead of no answer, so a read that waits is an
    // idle connection.
    http.half_close(true).max_buf_size(2 * HEAD_BYTES);
    http.serve_connection(TokioIo::new(Guard::new(stream, place)), service)
}

fn ended(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("a connection ended early: {error}");
    }
}
