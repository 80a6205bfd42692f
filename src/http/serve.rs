//! From a listener to answered requests, and to the end of it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::{Bytes, Incoming};
use hyper::rt::Executor;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::service::Service;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::accept::Acceptor;
use super::addresses::Trusted;
use super::connection::{Connection, Welcome};
use super::handshake::Handshakes;
use super::listen::BACKLOG;
use super::places::{Door, Places};
use super::proxied::{Introduced, introduction};
use super::requests::{Answer, Answering};
use super::reserve::Words;
use super::watch::Wait;
use crate::tls;

const SWEEP: Duration = Duration::from_secs(1);
/// Of a listener that speaks TLS: handshakes are bounded more closely than anything else (contract E33).
const TLS_SWEEP: Duration = Duration::from_millis(500);
const DRAIN_SWEEP: Duration = Duration::from_millis(100);

/// Where connections come from.
pub struct Listener {
    pub socket: std::net::TcpListener,
    /// Only TLS is spoken there, by these certificates.
    pub tls: Option<Arc<tls::Server>>,
    /// Each connection begins with a header of PROXY protocol v2, and only these may make one.
    pub proxies: Option<Trusted>,
}

impl Listener {
    pub fn plain(socket: std::net::TcpListener) -> Listener {
        Listener { socket, tls: None, proxies: None }
    }

    pub fn tls(socket: std::net::TcpListener, server: Arc<tls::Server>) -> Listener {
        Listener { socket, tls: Some(server), proxies: None }
    }

    /// The same for connections that `proxies` make for others.
    pub fn behind(self, proxies: Option<Trusted>) -> Listener {
        Listener { proxies, ..self }
    }
}

/// Where connections run.
pub trait Spawn<F> {
    fn spawn(&self, task: F) -> AbortHandle;
}

/// On the thread that accepted them: services need not be `Send`.
#[derive(Clone, Copy)]
pub struct OnThread;

/// On any thread of the runtime.
#[derive(Clone, Copy)]
pub struct OnRuntime;

/// For the streams of HTTP/2: each ends when its connection does.
impl<F: Future<Output = ()> + 'static> Executor<F> for OnThread {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for OnRuntime {
    fn execute(&self, stream: F) {
        tokio::spawn(stream);
    }
}

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
    listener: Listener,
    door: Arc<Door>,
    service_for: M,
    spawn: X,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()>
where
    M: Fn(SocketAddr) -> S + Clone,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    X: Spawn<Connection<S, B, X, M>> + Http2ServerConnExec<Answering<S::Future>, Answer<B>>,
{
    let handshakes = listener.tls.map(Handshakes::new);
    let proxies = listener.proxies;
    let (words, first, period) = match (&handshakes, &proxies) {
        (None, None) => (Words::Http, Wait::Idle, SWEEP),
        (None, Some(_)) => (Words::Http, Wait::Head, SWEEP),
        (Some(_), _) => (Words::Tls, Wait::Handshake, TLS_SWEEP),
    };
    let places = Places::new(door.clone(), first);
    let mut acceptor = Acceptor::new(listener.socket, door.clone(), words, places.newcomers.clone())?;
    let is_behind = || handshakes.as_ref().is_some_and(|handshakes| handshakes.is_behind());
    let welcome = |acceptor: &mut Acceptor, stream, peer: SocketAddr| {
        if proxies.as_ref().is_some_and(|proxies| !proxies.has(peer.ip())) {
            // Closed without an answer.
            return door.proxied.count(Introduced::Untrusted);
        }
        // Behind a proxy the address is known later.
        let place = if is_behind() { None } else { places.take() };
        let place = place.and_then(|place| if proxies.is_some() { Some(place) } else { place.of_address(peer.ip()) });
        let Some(place) = place else {
            handshakes.iter().for_each(|handshakes| handshakes.turned_away());
            return acceptor.turn_away(stream);
        };
        let watch = place.watch.clone();
        let connection = match (&handshakes, &proxies) {
            (None, None) => Connection::plain(stream, place, service_for(peer)),
            (Some(handshakes), None) => {
                Connection::tls(handshakes.begin(stream, place), service_for(peer), spawn.clone())
            }
            (_, Some(_)) => {
                if handshakes.is_none() {
                    // So that one that never says for whom it is does not hold up the end.
                    watch.starts(Wait::Idle, places.now());
                }
                let welcome = Welcome {
                    service_for: service_for.clone(),
                    executor: spawn.clone(),
                    handshakes: handshakes.clone(),
                };
                Connection::proxied(introduction(stream, peer, place), welcome)
            }
        };
        watch.runs_as(spawn.spawn(connection.counted(places.newcomers.one_more())));
    };
    // A dropped sender is nobody left to say stop.
    let mut stopped = pin!(async move { stop.wait_for(|stop| *stop).await.is_ok() || std::future::pending().await });
    let mut sweep = sweeping(period);
    loop {
        // In this order: however many come and whatever accepting fails of, a stop is heard and slow ones are ended.
        let event = poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Stop);
            }
            if sweep.poll_tick(cx).is_ready() {
                return Poll::Ready(Event::Sweep);
            }
            acceptor.poll(cx).map(|(stream, peer)| Event::Came(stream, peer))
        });
        match event.await {
            Event::Stop => break,
            Event::Sweep => {
                places.sweep();
                acceptor.sweep();
            }
            Event::Came(stream, peer) => welcome(&mut acceptor, stream, peer),
        }
    }
    door.drain();
    // As many as a queue holds, and the line that was taken out of it: whoever came before the stop is among them. Another
    // process may share the queue and be the one that is meant to answer whoever comes now; without an end to it a crowd
    // would keep this one.
    for _ in 0..=2 * BACKLOG {
        let Some((stream, peer)) = acceptor.next_waiting().await else { break };
        welcome(&mut acceptor, stream, peer);
    }
    drop(acceptor);
    let mut sweep = sweeping(DRAIN_SWEEP);
    while !places.is_empty() {
        sweep.tick().await;
        places.sweep();
    }
    Ok(())
}

enum Event {
    Stop,
    Sweep,
    Came(TcpStream, SocketAddr),
}

fn sweeping(period: Duration) -> tokio::time::Interval {
    let mut sweep = interval(period);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep
}
