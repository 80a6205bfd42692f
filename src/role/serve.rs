//! `afflux serve`: everything in one process.
//!
//! In phases: take the signals over, read and build (no port yet), bind, log the addresses, run, drain. Threads: one for
//! each edge worker, one for the API, one for attribution, one that watches the catalog, those of the spool and of the
//! order index, and the one that called, which runs admin and signals: it touches no disk, so that a disk that hangs can
//! be seen and the process ended.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::doors::Doors;
use super::house::House;
use super::observed::{self, Observed};
use super::signals::{Asked, Signals};
use super::spool_source::SpoolSource;
use super::{Exit, Failure, configured, descriptors, edge_worker, logging};
use crate::admin::Admin;
use crate::attribution::consumer::{self, AttributionMetrics, Parts};
use crate::http::{Bodies, Door, OnRuntime, router_service};
use crate::spool::Unsealed;
use crate::{api, catalog, edge, http};

/// Between looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

pub fn serve(file: Option<&Path>, allow_changed_terms: bool) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let mut signals = runtime.block_on(async { Signals::listen() }).map_err(Failure::internal)?;
    let mut config = configured(file)?;
    config.keys.catalog.allow_changed_terms |= allow_changed_terms;
    logging::start();
    let descriptors = descriptors::raise();
    let build = move || {
        let house = House::build(config)?;
        let doors = Doors::bind(&house.config)?;
        Ok((house, doors))
    };
    let exit = runtime.block_on(async {
        match signals.during(build).await? {
            Some((house, doors)) => run(house, doors, signals, descriptors).await,
            None => Ok(Exit::Ok),
        }
    });
    // A start that was given up still goes on: it is not waited for.
    runtime.shutdown_background();
    exit
}

async fn run(house: House, doors: Doors, mut signals: Signals, descriptors: usize) -> Result<Exit, Failure> {
    let [edge_address, api_address, admin_address] = doors.addresses().map_err(Failure::internal)?;
    let (stop, stopping) = watch::channel(false);

    let (intake, reports, router) = house.api()?;
    let attribution = Arc::new(AttributionMetrics::default());
    let consumer = Consumer::start(&house, attribution.clone())?;
    let limits = house.limits(descriptors);
    let edge_door = Door::new(limits.clone(), Bodies::Forgotten, edge::keeps);
    let workers = edge_worker::start_all(&house, doors.edge, &edge_door, &stopping)?;
    let api_door = Door::new(limits, Bodies::Passed, |_| true);
    let api = serve_api(doors.api, api_door.clone(), router, stopping.clone())?;
    let edge = workers.iter().map(|worker| worker.metrics.clone()).collect();
    let observed = Observed { edge, edge_door, api_door, attribution, intake, reports };
    let admin = Arc::new(observed::admin(&house, observed));
    serve_admin(doors.admin, admin.clone())?;
    let reload = watch_catalog(&house)?;
    tracing::info!(edge = %edge_address, api = %api_address, admin = %admin_address, "listening");

    until_asked_to_stop(&house, &mut signals, reload).await;
    tracing::info!("draining");
    admin.draining.store(true, Relaxed);
    // Nobody is left to hear it when all doors have ended by themselves.
    let _ = stop.send(true);
    let deadline = Duration::from_secs(house.config.shutdown.deadline_s.0);
    let drained = async {
        let closed = tokio::task::spawn_blocking(move || {
            // A panic there was told by the thread itself.
            let _ = api.join();
            workers.into_iter().for_each(edge_worker::EdgeWorker::join);
            consumer.stop();
            house.spools.close()
        });
        closed.await.ok()
    };
    let done = tokio::select! {
        done = drained => done,
        () = tokio::time::sleep(deadline) => None,
        () = signals.stop() => None,
    };
    if let Some(unsealed) = done {
        return stopped(&unsealed);
    }
    // Threads may hang where they are: nothing answered is lost by leaving them there.
    tracing::error!("not drained in time");
    std::process::exit(i32::from(Exit::Internal.code()));
}

/// Clean, unless something of a spool did not reach the disk.
fn stopped(unsealed: &[Unsealed]) -> Result<Exit, Failure> {
    for Unsealed { spool, topic, unsynced } in unsealed {
        let topic = topic.name();
        tracing::error!(%spool, topic, unsynced, "not sealed: its disk fails; the next start seals what it finds");
    }
    if unsealed.is_empty() {
        tracing::info!("stopped");
        return Ok(Exit::Ok);
    }
    let (spools, records) = (unsealed.len(), unsealed.iter().map(|spool| spool.unsynced).sum::<u64>());
    Err(Failure::io(format!("stopped, but {records} records of {spools} spools are not known to be on disk")))
}

/// The API on a thread of its own: an order is written where it is accepted, and a disk may hold that up.
fn serve_api(
    listener: TcpListener,
    door: Arc<Door>,
    router: axum::Router,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let handed = door.clone();
    let service = move |peer| router_service(router.clone(), handed.clone(), peer, api::refused);
    let work = move || {
        if let Err(error) = runtime.block_on(http::serve(listener, door, service, OnRuntime, stop)) {
            tracing::error!(%error, "the API cannot listen");
        }
    };
    std::thread::Builder::new().name("api".into()).spawn(work).map_err(Failure::internal)
}

/// Serves signals and the clock.
async fn until_asked_to_stop(house: &House, signals: &mut Signals, reload: SyncSender<()>) {
    let mut clock_tick = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => return,
                Asked::Reload => {
                    house.key_reloads.reload(&house.config, &house.keys);
                    // One that waits already is enough.
                    let _ = reload.try_send(());
                }
            },
            _ = clock_tick.tick() => house.clock.discipline(),
        }
    }
}

/// Reloads the catalog when it is asked to and when its files change, until what is returned is dropped.
fn watch_catalog(house: &House) -> Result<SyncSender<()>, Failure> {
    let interval = Some(house.config.catalog.watch_interval_ms.0).filter(|ms| *ms > 0).map(Duration::from_millis);
    let (ask, asked) = sync_channel(1);
    let (current, clock) = (house.catalog.clone(), house.clock.clone());
    let thread = std::thread::Builder::new().name("catalog".into());
    thread.spawn(move || catalog::watch(&current, interval, &asked, &*clock)).map_err(Failure::internal)?;
    Ok(ask)
}

fn serve_admin(listener: TcpListener, admin: Arc<Admin>) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(Failure::internal)?;
    // It answers until the process ends: whoever watches a drain wants to see it.
    tokio::spawn(async move { axum::serve(listener, admin.router()).await });
    Ok(())
}

/// The attribution thread.
struct Consumer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Consumer {
    fn start(house: &House, metrics: Arc<AttributionMetrics>) -> Result<Consumer, Failure> {
        let source = SpoolSource::new(house.spools.clone());
        let parts = Parts { source, store_path: house.config.store.path.clone(), rules: house.rules(), metrics };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || consumer::run(parts, || stopped.load(Relaxed));
        let thread = std::thread::Builder::new().name("attribution".into()).spawn(work).map_err(Failure::internal)?;
        Ok(Consumer { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Relaxed);
        // A panic there was told; what was not applied will be at the next start.
        let _ = self.thread.join();
    }
}
