//! From a listener to answered requests, and to the end of it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::guard::Guard;
use super::limits::HEAD_BYTES;
use super::places::{Door, Places};
use super::refusal::{RETRY_AFTER_S, Refusal};

const SWEEP: Duration = Duration::from_secs(1);
const DRAIN_SWEEP: Duration = Duration::from_millis(100);
/// How long nothing is accepted after the system had no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(50);

/// Where connections run.
pub trait Spawn<F> {
    fn spawn(&self, task: F) -> AbortHandle;
}

/// On the thread that accepted them: services need not be `Send`.
pub struct OnThread;

/// On any thread of the runtime.
pub struct OnRuntime;

impl<F: Future<Output = ()> + 'static> Spawn<F> for OnThread {
    fn spawn(&self, task: F) -> AbortHandle {
        tokio::task::spawn_local(task).abort_handle()
    }
}

impl<F: Future<Output = ()> + Send + 'static> Spawn<F> for OnRuntime {
    fn spawn(&self, task: F) -> AbortHandle {
        tokio::spawn(task).abort_handle()
    }
}

/// Answers what comes to `listener` with what `service_for` makes of each peer, until `stop` says true: then everything
/// that waits to be accepted still is, each connection is closed after its answer, and the call returns when the last
/// one is gone. The caller holds the deadline: dropping this future resets what is left.
pub async fn serve<M, S, B, X>(
    listener: std::net::TcpListener,
    door: Arc<Door>,
    service_for: M,
    spawn: X,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()>
where
    M: Fn(SocketAddr) -> S,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<AnyError>,
    X: Spawn<Connection<S, B>>,
{
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Places::new(door.clone());
    let welcome = |stream, peer| match places.take() {
        None => turn_away(&stream, &door),
        Some(place) => {
            let watch = place.watch.clone();
            let connection = Connection::new(Guard::new(stream, place), service_for(peer));
            watch.runs_as(spawn.spawn(connection));
        }
    };
    // A dropped sender is nobody left to say stop.
    let mut stopped = pin!(async move { stop.wait_for(|stop| *stop).await.is_ok() || std::future::pending().await });
    let mut sweep = sweeping(SWEEP);
    loop {
        let event = poll_fn(|cx| {
            while let Poll::Ready(accepted) = listener.poll_accept(cx) {
                match accepted {
                    Ok((stream, peer)) => welcome(stream, peer),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => return Poll::Ready(Event::NoRoom(error)),
                }
            }
            if sweep.poll_tick(cx).is_ready() {
                return Poll::Ready(Event::Sweep);
            }
            stopped.as_mut().poll(cx).map(|_| Event::Stop)
        });
        match event.await {
            Event::Sweep => places.sweep(),
            Event::NoRoom(error) => {
                tracing::warn!("connections cannot be accepted: {error}");
                tokio::time::sleep(NO_ROOM).await;
            }
            Event::Stop => break,
        }
    }
    door.drain();
    accept_the_rest(&listener, welcome);
    drop(listener);
    let mut sweep = sweeping(DRAIN_SWEEP);
    while !places.is_empty() {
        sweep.tick().await;
        places.sweep();
    }
    Ok(())
}

enum Event {
    Sweep,
    NoRoom(io::Error),
    Stop,
}

fn sweeping(period: Duration) -> tokio::time::Interval {
    let mut sweep = interval(period);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep
}

/// Until the queue is empty: what the kernel has accepted for us would be reset when the listener closes.
fn accept_the_rest(listener: &TcpListener, welcome: impl Fn(TcpStream, SocketAddr)) {
    use std::os::fd::AsFd;
    while let Ok(socket) = rustix::net::accept_with(listener.as_fd(), rustix::net::SocketFlags::NONBLOCK) {
        let stream = std::net::TcpStream::from(socket);
        if let (Ok(peer), Ok(stream)) = (stream.peer_addr(), TcpStream::from_std(stream)) {
            welcome(stream, peer);
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// The answer to a connection for which there is no place: without hearing it, as far as it can be told at all.
fn turn_away(stream: &TcpStream, door: &Door) {
    let status = Refusal::Overloaded.status();
    let answer = format!(
        "HTTP/1.1 {status}\r\nretry-after: {RETRY_AFTER_S}\r\ncache-control: no-store\r\ncontent-length: 0\r\n\
         connection: close\r\n\r\n"
    );
    // What it has sent so far is read, or else closing would take the answer back.
    let _ = rustix::net::recv(stream, &mut [0; HEAD_BYTES], rustix::net::RecvFlags::DONTWAIT);
    if rustix::net::send(stream, answer.as_bytes(), rustix::net::SendFlags::DONTWAIT).is_ok() {
        door.turn_away();
    }
}

/// A connection that is served until one side has enough of it.
pub struct Connection<S, B>(http1::Connection<TokioIo<Guard>, S>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl<S, B> Connection<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<AnyError>,
{
    fn new(guard: Guard, service: S) -> Self {
        let mut http = http1::Builder::new();
        // A client that has said all still hears the answer; and hyper reads ahead of no answer, so a read that waits is
        // an idle connection.
        http.half_close(true).max_buf_size(2 * HEAD_BYTES);
        Connection(http.serve_connection(TokioIo::new(guard), service))
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
        Pin::new(&mut self.0).poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!("a connection ended early: {error}");
            }
        })
    }
}
