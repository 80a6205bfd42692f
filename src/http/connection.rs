//! One connection, from its accept to its end: the socket, TLS where the listener speaks it, the guard, hyper.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use hyper::body::{Bytes, Incoming};
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::guard::Guard;
use super::handshake::{Handshake, Handshakes};
use super::http2::Http2;
use super::limits::{Bodies, HEAD_BYTES};
use super::places::Place;
use super::proxied::Introduction;
use super::requests::{Answer, Answering};
use super::reserve::{RESERVE, Words};
use super::rush::Newcomer;
use super::watch::Wait;
use super::wire::{Tls, Wire};

/// A connection that is served until one side has enough of it.
pub struct Connection<S, B, X, M>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + Unpin,
{
    stage: Stage<S, B, X, M>,
    /// Until its first turn.
    newcomer: Option<Newcomer>,
    /// The runtime has looked at its socket, or will have at its next turn.
    is_looked_at: bool,
}

/// What only TLS needs stands in boxes: a plain connection is no larger for it, and needs no allocation more.
#[allow(clippy::large_enum_variant)]
enum Stage<S, B, X, M>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + Unpin,
{
    Plain(Http1<TcpStream, S>),
    /// The service waits for the end of it, and the executor too.
    Handshake(Handshake, Option<(S, X)>),
    Tls(Box<Http1<Tls, S>>),
    Http2(Box<Http2<S, B, X>>),
    /// For whom it is comes to be known at the end of it.
    Proxied(Introduction, Option<Box<Welcome<M, X>>>),
}

/// What a connection gets when its proxy has said for whom it is.
pub struct Welcome<M, X> {
    pub service_for: M,
    pub executor: X,
    pub handshakes: Option<Arc<Handshakes>>,
}

type Http1<W, S> = http1::Connection<TokioIo<Guard<W>>, S>;
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Nothing in it is pinned where it lies.
impl<S, B, X, M> Unpin for Connection<S, B, X, M>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + Unpin,
{
}

impl<S, B, X, M> Connection<S, B, X, M>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<AnyError>,
{
    fn begins(stage: Stage<S, B, X, M>) -> Self {
        Connection { stage, newcomer: None, is_looked_at: false }
    }

    pub(super) fn plain(stream: TcpStream, place: Place, service: S) -> Self {
        Connection::begins(Stage::Plain(http1(stream, place, service)))
    }

    /// If it comes to speak HTTP/2, its streams run by `executor`.
    pub(super) fn tls(handshake: Handshake, service: S, executor: X) -> Self {
        Connection::begins(Stage::Handshake(handshake, Some((service, executor))))
    }

    pub(super) fn proxied(introduction: Introduction, welcome: Welcome<M, X>) -> Self {
        Connection::begins(Stage::Proxied(introduction, Some(Box::new(welcome))))
    }

    /// Counted until its first turn.
    pub(super) fn counted(self, newcomer: Newcomer) -> Self {
        Connection { newcomer: Some(newcomer), ..self }
    }
}

impl<M, X> Welcome<M, X> {
    /// The connection of `source`, or none where it has too many already.
    fn enter<S, B>(self, stream: TcpStream, source: SocketAddr, place: Place) -> Option<Stage<S, B, X, M>>
    where
        M: Fn(SocketAddr) -> S,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<AnyError>,
    {
        let door = place.shared_places().door.clone();
        let Some(place) = place.of_address(source.ip()) else {
            let words = if self.handshakes.is_some() { Words::Tls } else { Words::Http };
            self.handshakes.iter().for_each(|handshakes| handshakes.turned_away());
            RESERVE.turn_stream_away(stream, &door, words);
            return None;
        };
        let service = (self.service_for)(source);
        Some(match &self.handshakes {
            None => {
                place.watch.starts(Wait::Idle, place.places().now());
                Stage::Plain(http1(stream, place, service))
            }
            Some(handshakes) => Stage::Handshake(handshakes.begin(stream, place), Some((service, self.executor))),
        })
    }
}

impl<S, B, X, M> Future for Connection<S, B, X, M>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<AnyError>,
    M: Fn(SocketAddr) -> S,
    X: Http2ServerConnExec<Answering<S::Future>, Answer<B>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.is_looked_at, true) {
            // Of a new socket nobody knows what waits there: this would be a turn for nothing, and whoever comes would be
            // let in long before they can be answered. Who yields is woken when the runtime has looked at the sockets.
            let _ = pin!(yield_now()).poll(cx);
            return Poll::Pending;
        }
        self.newcomer = None;
        loop {
            match &mut self.stage {
                Stage::Plain(http) => return Pin::new(http).poll(cx).map(ended),
                Stage::Http2(http) => return Pin::new(&mut **http).poll(cx).map(ended),
                Stage::Tls(http) => return Pin::new(&mut **http).poll(cx).map(ended),
                Stage::Proxied(introduction, welcome) => {
                    let introduced = ready!(introduction.as_mut().poll(cx)).zip(welcome.take());
                    let Some(((stream, source, place), welcome)) = introduced else { return Poll::Ready(()) };
                    let Some(stage) = welcome.enter(stream, source, place) else { return Poll::Ready(()) };
                    self.stage = stage;
                }
                Stage::Handshake(handshake, service) => {
                    let shaken = ready!(handshake.as_mut().poll(cx)).zip(service.take());
                    let Some(((stream, place), (service, executor))) = shaken else { return Poll::Ready(()) };
                    // Now it may be silent for as long as anybody.
                    place.watch.starts(Wait::Idle, place.places().now());
                    self.stage = if stream.speaks_http2() {
                        Stage::Http2(Box::new(Http2::new(stream, place, service, executor)))
                    } else {
                        Stage::Tls(Box::new(http1(stream, place, service)))
                    };
                }
            }
        }
    }
}

fn http1<W, S, B>(stream: W, place: Place, service: S) -> Http1<W, S>
where
    W: Wire,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<AnyError>,
{
    let mut http = http1::Builder::new();
    // A client that has said all still hears the answer; and hyper reads ahead of no answer, so a read that waits is an
    // idle connection.
    http.half_close(true).max_buf_size(2 * HEAD_BYTES);
    // Whose bodies nobody reads answers without one, or with a short one: it stands behind its head in one buffer, and the
    // kernel is spared a list of them.
    http.writev(place.places().door.bodies == Bodies::Passed);
    http.serve_connection(TokioIo::new(Guard::new(stream, place)), service)
}

fn ended(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("a connection ended early: {error}");
    }
}
