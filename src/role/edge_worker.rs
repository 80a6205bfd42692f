//! The edge's threads: each a runtime of its own, a listener, a spool, counters; nothing shared is written by a click.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::watch;

use super::Failure;
use super::house::{House, spool_failure};
use super::running::heard;
use super::threads::{Guard, Lost};
use crate::config::ProxyListener;
use crate::edge::{Clicks, Edge, Metrics, Peer, Settings};
use crate::http::{self, Door, Listener, OnThread};
use crate::spool::Topic;
use crate::tls::Server;

pub struct EdgeWorker {
    pub metrics: Arc<Metrics>,
    thread: JoinHandle<()>,
}

impl EdgeWorker {
    /// Returns when its last connection is gone.
    pub fn join(self) {
        // A panic there was told by the thread itself.
        let _ = self.thread.join();
    }
}

/// Those of each worker. Without TLS there are no sockets for it.
pub fn listeners(
    house: &House,
    plain: Vec<Vec<TcpListener>>,
    tls: Vec<Vec<TcpListener>>,
    server: Option<&Arc<Server>>,
) -> Vec<Vec<Listener>> {
    for socket in plain.iter().chain(&tls).flatten() {
        // Where that cannot be had it works all the same.
        let _ = http::wait_for_words(socket).inspect_err(|error| tracing::debug!("no deferred accept: {error}"));
    }
    let proxies = house.proxies_at(ProxyListener::Listen);
    let proxies_tls = house.proxies_at(ProxyListener::TlsListen);
    let mut tls = tls.into_iter();
    let of_worker = |plain: Vec<TcpListener>| {
        let sockets = tls.next().into_iter().flatten();
        let tls = sockets.filter_map(|socket| Some(Listener::tls(socket, server?.clone()).behind(proxies_tls.clone())));
        plain.into_iter().map(|socket| Listener::plain(socket).behind(proxies.clone())).chain(tls).collect()
    };
    plain.into_iter().map(of_worker).collect()
}

/// A worker for each of the listeners. Where one is lost its connections are reset, and the others go on answering until
/// the role, which is told, has drained.
pub fn start_all(
    house: &House,
    settings: Arc<Settings>,
    listeners: Vec<Vec<Listener>>,
    door: &Arc<Door>,
    stop: &watch::Receiver<bool>,
    lost: &Lost,
) -> Result<Vec<EdgeWorker>, Failure> {
    let mut workers = Vec::with_capacity(listeners.len());
    for (number, listeners) in listeners.into_iter().enumerate() {
        let writer = house.spools.writer(Topic::Clicks, number as u16).map_err(spool_failure)?;
        let (catalog, lists) = (house.catalog.handle(), house.lists.handle());
        let clicks = Clicks::new(catalog, lists, settings.clone(), writer, house.clock.clone());
        let clicks = clicks.map_err(Failure::internal)?;
        let (metrics, door) = (Arc::new(Metrics::default()), door.clone());
        let (stop, told) = (stop.clone(), stop.clone());
        let counted = metrics.clone();
        let (made, is_made) = std::sync::mpsc::sync_channel(1);
        let name = format!("edge-{number}");
        let guard = lost.guards(&name, &stop);
        let work = move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = made.send(Ok(()));
                run(&runtime, listeners, door, clicks, counted, stop, guard);
            }
            // Somebody waits for it.
            Err(error) => drop(made.send(Err(error))),
        };
        let thread = lost.spawn(name, move || *told.borrow(), work)?;
        // A worker without a runtime is told, and not found out by visitors that are reset.
        is_made.recv().map_err(Failure::internal)?.map_err(Failure::internal)?;
        workers.push(EdgeWorker { metrics, thread });
    }
    Ok(workers)
}

fn run(
    runtime: &LocalRuntime,
    listeners: Vec<Listener>,
    door: Arc<Door>,
    clicks: Clicks,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
    guard: impl Fn() -> Guard,
) {
    let edge = Edge::new(clicks, metrics);
    // Counted by this thread alone: the door is all threads', and a click writes nothing that is.
    let answering = Rc::new(door.clone());
    let serve = |listener: Listener| {
        let (edge, answering, tls) = (edge.clone(), answering.clone(), listener.tls.is_some());
        let service_for = move |peer: SocketAddr| {
            let (edge, door) = (edge.clone(), answering.clone());
            let peer = Peer { address: peer.ip().to_canonical(), tls };
            service_fn(move |request: hyper::Request<Incoming>| {
                let (edge, door) = (edge.clone(), door.clone());
                async move {
                    let (mut request, body) = request.into_parts();
                    let answer = edge.answer(&mut request, peer).await;
                    http::forget_body(body);
                    Ok(door.say_last(answer))
                }
            })
        };
        heard(http::serve(listener, door.clone(), service_for, OnThread, stop.clone()), guard())
    };
    runtime.block_on(async {
        let mut listeners = listeners.into_iter();
        let first = listeners.next();
        // As tasks of their own: what happens at one listener wakes nobody at another.
        let others: Vec<_> = listeners.map(|listener| tokio::task::spawn_local(serve(listener))).collect();
        if let Some(first) = first {
            serve(first).await;
        }
        for other in others {
            // A panic there was told by its guard.
            let _ = other.await;
        }
    });
}
