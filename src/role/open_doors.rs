//! The doors of a machine that answers visitors and merchants, while they are open: a thread for each edge worker and one
//! for the API.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::certificates::TlsOfDoors;
use super::doors::Doors;
use super::edge_worker::{self, EdgeWorker};
use super::house::House;
use super::observed::{self, Answering};
use super::threads::Lost;
use super::{Failure, running};
use crate::admin::Admin;
use crate::edge;
use crate::handover::Predecessor;
use crate::http::{Bodies, Door, Limits};
use crate::intake::Intake;

/// A machine that is about to answer: built, and bound to its ports.
pub struct Listening {
    pub house: House,
    pub doors: Doors,
    pub tls: TlsOfDoors,
    /// Files that the process may have open.
    pub descriptors: usize,
    /// Whose ports they are still.
    pub before: Option<Predecessor>,
}

pub struct OpenDoors {
    stop: watch::Sender<bool>,
    api: JoinHandle<()>,
    workers: Vec<EdgeWorker>,
}

/// What comes in by them.
pub struct Visited {
    /// Of each worker.
    pub edge: Vec<Vec<TcpListener>>,
    /// The same, or none without a certificate.
    pub edge_tls: Vec<Vec<TcpListener>>,
    pub api: Vec<TcpListener>,
    pub api_tls: Vec<TcpListener>,
    pub tls: TlsOfDoors,
    pub router: axum::Router,
    pub intake: Arc<Intake>,
    /// Files that the process may have open.
    pub descriptors: usize,
}

impl OpenDoors {
    /// Opens them; what the admin listener shows of them comes with it.
    pub fn open(house: &House, visited: Visited, lost: &Lost) -> Result<(OpenDoors, Admin), Failure> {
        let Visited { edge, edge_tls, api, api_tls, tls, router, intake, descriptors } = visited;
        let (stop, stopping) = watch::channel(false);
        let keeps = if house.trusted_proxies().is_some() { edge::keeps_forwarded } else { edge::keeps };
        let limits = house.limits(descriptors);
        let of_edge = Limits { per_address: house.per_address(), ..limits.clone() };
        let edge_door = Door::new(of_edge, Bodies::Forgotten, keeps);
        let address =
            edge_tls.iter().flatten().next().map(TcpListener::local_addr).transpose().map_err(Failure::internal)?;
        let settings = house.edge_settings(address);
        let listeners = edge_worker::listeners(house, edge, edge_tls, tls.edge.as_ref());
        let workers = edge_worker::start_all(house, settings, listeners, &edge_door, &stopping, lost)?;
        let api_door = Door::new(limits, Bodies::Passed, |_| true);
        let listeners = running::api_listeners(api, api_tls, tls.api.as_ref());
        let api = running::serve_api(listeners, api_door.clone(), router, stopping, lost)?;
        let edge = workers.iter().map(|worker| worker.metrics.clone()).collect();
        let mut admin = observed::answering(house, Answering { edge, edge_door, api_door, intake, tls });
        admin.not_ready.push(lost.not_ready());
        Ok((OpenDoors { stop, api, workers }, admin))
    }

    /// Returns when the last answer is given.
    pub fn close(self) {
        // Nobody is left to hear it when all doors have ended by themselves.
        let _ = self.stop.send(true);
        // A panic there was told by the thread itself.
        let _ = self.api.join();
        self.workers.into_iter().for_each(EdgeWorker::join);
    }
}
