//! `afflux console`: conversions and reports over the books in PostgreSQL, for merchants and operators; any number of
//! copies. It writes nothing: where the database is down its answers are 503, and nothing else depends on it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::field::display;

use super::base::{Base, KeysFrom};
use super::certificates::TlsOfDoors;
use super::signals::Signals;
use super::threads::Lost;
use super::{Exit, Failure, configured, descriptors, doors, logging, observed, place, running};
use crate::event::ConversionIds;
use crate::http::{Bodies, Door};
use crate::report::{self, Reports};
use crate::store::Place;
use crate::toml_reader::Violations;

struct Built {
    base: Base,
    place: Place,
    tls: TlsOfDoors,
    api: TcpListener,
    api_tls: Option<TcpListener>,
    admin: TcpListener,
    descriptors: usize,
}

pub fn console(file: Option<&Path>) -> Result<Exit, Failure> {
    let file = file.map(Path::to_owned);
    running::start(move || build(file.as_deref()), run)
}

fn build(file: Option<&Path>) -> Result<Built, Failure> {
    let config = configured(file)?;
    logging::start();
    let descriptors = descriptors::raise();
    let place = place::required(&config).map_err(Failure::usage)?;
    let base = Base::build(config, KeysFrom::File)?;
    let config = &base.config;
    let tls = TlsOfDoors::load_api(config)?;
    let mut violations = Violations::default();
    let mut bound = |key: &str, address: SocketAddr| {
        doors::bind_one(config, key, address).map_err(|violation| violations.add(violation)).ok()
    };
    let (api, admin) = (bound("api.listen", config.api.listen), bound("admin.listen", config.admin.listen));
    let api_tls = tls.api.as_ref().and_then(|_| bound("api.tls_listen", config.api.tls_listen));
    violations.none().map_err(Failure::usage)?;
    let missing = || Failure::internal("a listener without a violation is missing");
    let (api, admin) = (api.ok_or_else(missing)?, admin.ok_or_else(missing)?);
    Ok(Built { base, place, tls, api, api_tls, admin, descriptors })
}

async fn run(built: Built, mut signals: Signals) -> Result<Exit, Failure> {
    let Built { base, place, tls, api, api_tls, admin, descriptors } = built;
    let address = |listener: &TcpListener| listener.local_addr().map_err(Failure::internal);
    let (api_address, admin_address) = (address(&api)?, address(&admin)?);
    let tls_address = api_tls.as_ref().map(address).transpose()?.map(display);
    let (stop, stopping) = watch::channel(false);
    let lost = Lost::default();

    let zone = base.config.report.time_zone.0.clone();
    let readers = base.config.postgresql.readers.0 as usize;
    let reports = Arc::new(Reports::new(base.access(), ConversionIds::new(&base.keys), place, readers, zone));
    let router = crate::api::router([report::routes(reports.clone())]);
    let door = Door::new(base.limits(descriptors), Bodies::Passed, |_| true);
    let listeners = running::api_listeners(api, api_tls, tls.api.as_ref());
    let served = running::serve_api(listeners, door.clone(), router, stopping, &lost)?;
    let mut watched = observed::base(&base);
    watched.metrics.push(Box::new(move |page| observed::api_door(&door, page)));
    let certificates = tls.clone();
    watched.metrics.push(Box::new(move |page| certificates.write_metrics(page)));
    watched.metrics.push(Box::new(move |page| reports.write_metrics(page)));
    watched.not_ready.push(lost.not_ready());
    let watched = Arc::new(watched);
    running::serve_admin(admin, watched.clone(), &lost)?;
    let reloads = running::watch_files(&base, &tls, None, &lost)?;
    tracing::info!(api = %api_address, api_tls = tls_address, admin = %admin_address, "listening");

    running::until_asked_to_stop(&base, &mut signals, reloads, &lost, || None).await;
    let close = move || {
        // Nobody is left to hear it when the door has ended by itself.
        let _ = stop.send(true);
        // A panic there was told by the thread itself.
        let _ = served.join();
    };
    running::drain(&base, &mut signals, &watched, close).await;
    tracing::info!("stopped");
    lost.or(Exit::Ok)
}
