//! `afflux serve`: everything in one process.
//!
//! In phases: take the signals over, read and build (no port yet), bind, log the addresses, run, drain. Threads: one for
//! each edge worker, one for the API, one for attribution, one that watches the catalog, those of the spool and of the
//! order index, and the one that called, which runs admin and signals: it touches no disk, so that a disk that hangs can
//! be seen and the process ended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;

use super::base::{Base, KeysFrom};
use super::certificates::TlsOfDoors;
use super::doors::Doors;
use super::house::House;
use super::observed::{self, Answering};
use super::signals::Signals;
use super::spool_source::SpoolSource;
use super::threads::Threads;
use super::{Exit, Failure, configured, descriptors, edge_worker, logging, place, running};
use crate::attribution::consumer::shared::Layout;
use crate::attribution::consumer::{self, AttributionMetrics, Parts};
use crate::event::ConversionIds;
use crate::http::{Bodies, Door};
use crate::report::{self, Reports};
use crate::store::Store;
use crate::{edge, intake};

/// Connections to the file for reports and look-ups: as many as are answered at once.
const MAX_READERS: usize = 10;

pub fn serve(file: Option<&Path>, allow_changed_terms: bool) -> Result<Exit, Failure> {
    let file = file.map(Path::to_owned);
    let build = move || {
        let mut config = configured(file.as_deref())?;
        config.keys.catalog.allow_changed_terms |= allow_changed_terms;
        if config.postgresql.url_file.is_some() {
            // The commands would read another store than the one that is written.
            let message = "set, and `serve` keeps everything in store.path; only leaving it out is allowed here";
            return Err(Failure::usage(config.violation("postgresql.url_file", message)));
        }
        logging::start();
        let descriptors = descriptors::raise();
        let base = Base::build(config, KeysFrom::FileOrMade)?;
        // A file that is no store, or a newer one, is told now and not by a consumer that tries for ever.
        Store::open(&place::file(&base.config)).map_err(|error| Failure::io(format!("store.path: {error}")))?;
        let house = House::build(base)?;
        let tls = TlsOfDoors::load(&house.config)?;
        let doors = Doors::bind(&house.config, &tls)?;
        Ok((house, doors, tls, descriptors))
    };
    running::start(build, |(house, doors, tls, descriptors), signals| run(house, doors, tls, signals, descriptors))
}

async fn run(
    house: House,
    doors: Doors,
    tls: TlsOfDoors,
    mut signals: Signals,
    descriptors: usize,
) -> Result<Exit, Failure> {
    let addresses = doors.addresses().map_err(Failure::internal)?;
    let (stop, stopping) = watch::channel(false);

    let access = house.access();
    let intake = house.intake(access.clone(), house.embedded_order_index()?)?;
    let zone = house.config.report.time_zone.0.clone();
    let ids = ConversionIds::new(&house.keys);
    let reports = Arc::new(Reports::new(access, ids, place::file(&house.config), MAX_READERS, zone));
    let router = crate::api::router([intake::routes(intake.clone()), report::routes(reports.clone())]);
    let attribution = Arc::new(AttributionMetrics::default());
    let consumer = start_consumer(&house, attribution.clone())?;
    let lost = consumer.lost();
    let limits = house.limits(descriptors);
    let edge_door = Door::new(limits.clone(), Bodies::Forgotten, edge::keeps);
    let edge_listeners = edge_worker::listeners(doors.edge, doors.edge_tls, tls.edge.as_ref());
    let settings = house.edge_settings(addresses.edge_tls)?;
    let workers = edge_worker::start_all(&house, settings, edge_listeners, &edge_door, &stopping)?;
    let api_door = Door::new(limits, Bodies::Passed, |_| true);
    let api_listeners = running::api_listeners(doors.api, doors.api_tls, tls.api.as_ref());
    let api = running::serve_api(api_listeners, api_door.clone(), router, stopping.clone())?;
    let edge = workers.iter().map(|worker| worker.metrics.clone()).collect();
    let mut admin = observed::answering(&house, Answering { edge, edge_door, api_door, intake, tls: tls.clone() });
    admin.metrics.push(Box::new(move |page| attribution.write(page)));
    admin.metrics.push(Box::new(move |page| reports.write_metrics(page)));
    let found = lost.clone();
    admin.not_ready.push(Box::new(move || found.trouble()));
    let admin = Arc::new(admin);
    running::serve_admin(doors.admin, admin.clone())?;
    let reloads = running::watch_files(&house, &tls)?;
    addresses.log();

    running::until_asked_to_stop(&house, &mut signals, reloads, &lost).await;
    let spools = house.spools.clone();
    let close = move || {
        // Nobody is left to hear it when all doors have ended by themselves.
        let _ = stop.send(true);
        // A panic there was told by the thread itself.
        let _ = api.join();
        workers.into_iter().for_each(edge_worker::EdgeWorker::join);
        consumer.stop();
        spools.close()
    };
    let exit = running::stopped(&running::drain(&house, &mut signals, &admin, close).await)?;
    lost.or(exit)
}

/// The attribution thread.
fn start_consumer(house: &House, metrics: Arc<AttributionMetrics>) -> Result<Threads, Failure> {
    let source = SpoolSource::new(house.spools.clone());
    let parts = Parts { source, place: place::file(&house.config), rules: house.rules(Layout::Alone), metrics };
    let mut threads = Threads::default();
    threads.spawn("attribution", move |stop| consumer::run(parts, || stop.load(Relaxed)))?;
    Ok(threads)
}
