//! The edge's threads: each a runtime of its own, a listener, a spool, counters; nothing shared is written by a click.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use hyper::service::service_fn;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::Failure;
use super::house::{House, spool_failure};
use super::threads::Lost;
use crate::edge::{Clicks, Edge, Metrics};
use crate::http::{self, Door, OnThread};
use crate::spool::Topic;

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

/// A worker for each listener. Where one is lost its connections are reset, and the others go on answering until the role,
/// which is told, has drained.
pub fn start_all(
    house: &House,
    listeners: Vec<TcpListener>,
    door: &Arc<Door>,
    stop: &watch::Receiver<bool>,
    lost: &Lost,
) -> Result<Vec<EdgeWorker>, Failure> {
    let settings = house.edge_settings();
    let mut workers = Vec::with_capacity(listeners.len());
    for (number, listener) in listeners.into_iter().enumerate() {
        let writer = house.spools.writer(Topic::Clicks, number as u16).map_err(spool_failure)?;
        let (catalog, lists) = (house.catalog.handle(), house.lists.handle());
        let clicks = Clicks::new(catalog, lists, settings.clone(), writer, house.clock.clone());
        let clicks = clicks.map_err(Failure::internal)?;
        let (metrics, door) = (Arc::new(Metrics::default()), door.clone());
        let (stop, told) = (stop.clone(), stop.clone());
        let counted = metrics.clone();
        // Made here, and not by its thread: a worker without one is told, and not found out by visitors that are reset.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
        let work = move || run(&runtime, listener, door, clicks, counted, stop);
        let thread = lost.spawn(format!("edge-{number}"), move || *told.borrow(), work)?;
        workers.push(EdgeWorker { metrics, thread });
    }
    Ok(workers)
}

fn run(
    runtime: &Runtime,
    listener: TcpListener,
    door: Arc<Door>,
    clicks: Clicks,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
) {
    let edge = Edge::new(clicks, metrics);
    // Counted by this thread alone: the door is all threads', and a click writes nothing that is.
    let answering = Rc::new(door.clone());
    let service_for = move |peer: SocketAddr| {
        let (edge, door) = (edge.clone(), answering.clone());
        let address = peer.ip().to_canonical();
        service_fn(move |request| {
            let (edge, door) = (edge.clone(), door.clone());
            async move { Ok(door.say_last(edge.answer(&request, address).await)) }
        })
    };
    let served = LocalSet::new().block_on(runtime, http::serve(listener, door, service_for, OnThread, stop));
    if let Err(error) = served {
        tracing::error!(%error, "an edge worker cannot listen");
    }
}
