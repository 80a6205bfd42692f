//! `afflux serve`: everything in one process.
//!
//! In phases: take the signals over, read and build (no port yet), bind, log the addresses, run, drain. Threads: one for
//! each edge worker, one for the API, one for attribution, those that watch files, those of the spool and of the order
//! index, and the one that called, which runs admin and signals: it touches no disk, so that a disk that hangs can
//! be seen and the process ended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::base::{Base, KeysFrom};
use super::certificates::TlsOfDoors;
use super::doors::Doors;
use super::house::House;
use super::open_doors::{Listening, OpenDoors, Visited};
use super::signals::Signals;
use super::spool_source::SpoolSource;
use super::succession::{Arrival, Successor};
use super::threads::{Lost, Threads};
use super::{Exit, Failure, configured, descriptors, logging, place, running};
use crate::attribution::consumer::shared::Layout;
use crate::attribution::consumer::{self, AttributionMetrics, Parts};
use crate::event::ConversionIds;
use crate::handover::Offer;
use crate::intake;
use crate::report::{self, Reports};
use crate::store::Store;

/// Connections to the file for reports and look-ups: as many as are answered at once.
const MAX_READERS: usize = 10;

const ROLE: &str = "serve";

pub fn serve(file: Option<&Path>, allow_changed_terms: bool, takeover: bool) -> Result<Exit, Failure> {
    let arrival = Arrival::new(ROLE, takeover)?;
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
        let (handed, before) = arrival.ask(&house.config)?;
        let doors = Doors::bind(&house.config, &tls, handed)?;
        Ok(Listening { house, doors, tls, descriptors, before })
    };
    running::start(build, run)
}

async fn run(listening: Listening, mut signals: Signals) -> Result<Exit, Failure> {
    let Listening { house, doors, tls, descriptors, before } = listening;
    let addresses = doors.addresses().map_err(Failure::internal)?;
    let lost = Lost::default();

    let access = house.access();
    let intake = house.intake(access.clone(), house.embedded_order_index()?)?;
    let zone = house.config.report.time_zone.0.clone();
    let ids = ConversionIds::new(&house.keys);
    let reports = Arc::new(Reports::new(access, ids, place::file(&house.config), MAX_READERS, zone));
    let router = crate::api::router([intake::routes(intake.clone()), report::routes(reports.clone())]);
    let attribution = Arc::new(AttributionMetrics::default());
    let consumer = start_consumer(&house, attribution.clone(), &lost)?;
    let offer = Offer::of(doors.named()).map_err(Failure::internal)?;
    let (watched, Doors { edge, edge_tls, api, api_tls, admin: admin_door }) = (intake.clone(), doors);
    let visited = Visited { edge, edge_tls, api, api_tls, tls: tls.clone(), router, intake, descriptors };
    let (open, mut admin) = OpenDoors::open(&house, visited, &lost)?;
    admin.metrics.push(Box::new(move |page| attribution.write(page)));
    admin.metrics.push(Box::new(move |page| reports.write_metrics(page)));
    let admin = Arc::new(admin);
    running::serve_admin(admin_door, &admin, &lost)?;
    let reloads = running::watch_files(&house, &tls, Some(&house.lists), &lost)?;
    addresses.log();
    let mut after = Successor::expect(&house.config, ROLE, before, offer.clone(), &lost).await?;

    let (lost_thread, handed_over) = (|| house.lost_thread(&watched), after.is_ready());
    let end = running::until_asked_to_stop(&house, &mut signals, reloads, &lost, lost_thread, handed_over).await;
    let spools = house.spools.clone();
    let close = move || {
        offer.close();
        open.close();
        consumer.stop();
        spools.close()
    };
    let exit = running::stopped(&running::drain(&house, &mut signals, &admin, end, close).await)?;
    lost.or(exit)
}

/// The attribution thread.
fn start_consumer(house: &House, metrics: Arc<AttributionMetrics>, lost: &Lost) -> Result<Threads, Failure> {
    let source = SpoolSource::new(house.spools.clone());
    let parts = Parts { source, place: place::file(&house.config), rules: house.rules(Layout::Alone), metrics };
    let mut threads = Threads::watched_by(lost);
    threads.spawn("attribution", move |stop| consumer::run(parts, || stop.load(Relaxed)))?;
    Ok(threads)
}
