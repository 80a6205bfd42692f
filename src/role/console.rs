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
use super::succession::{Arrival, Successor};
use super::threads::Lost;
use super::{Exit, Failure, configured, descriptors, doors, logging, observed, place, running};
use crate::event::ConversionIds;
use crate::handover::{DoorName, Offer, Predecessor};
use crate::http::{Bodies, Door};
use crate::report::{self, Reports};
use crate::store::Place;
use crate::toml_reader::Violations;

struct Built {
    base: Base,
    place: Place,
    tls: TlsOfDoors,
    api: Vec<TcpListener>,
    api_tls: Vec<TcpListener>,
    admin: Vec<TcpListener>,
    descriptors: usize,
    before: Option<Predecessor>,
}

const ROLE: &str = "console";

pub fn console(file: Option<&Path>, takeover: bool) -> Result<Exit, Failure> {
    let arrival = Arrival::new(ROLE, takeover)?;
    let file = file.map(Path::to_owned);
    running::start(move || build(file.as_deref(), arrival), run)
}

fn build(file: Option<&Path>, arrival: Arrival) -> Result<Built, Failure> {
    let config = configured(file)?;
    logging::start();
    let descriptors = descriptors::raise();
    let place = place::required(&config).map_err(Failure::usage)?;
    let base = Base::build(config, KeysFrom::File)?;
    let config = &base.config;
    let tls = TlsOfDoors::load_api(config)?;
    let mut violations = Violations::default();
    let (mut handed, before) = arrival.ask(config)?;
    let mut bound = |door, address: SocketAddr| {
        let bound = doors::bind_one(config, &mut handed, door, address);
        bound.map_err(|violation| violations.add(violation)).unwrap_or_default()
    };
    let (api, admin) = (bound(DoorName::Api, config.api.listen), bound(DoorName::Admin, config.admin.listen));
    let api_tls = tls.api.as_ref().map(|_| bound(DoorName::ApiTls, config.api.tls_listen)).unwrap_or_default();
    violations.none().map_err(Failure::usage)?;
    handed.finish();
    Ok(Built { base, place, tls, api, api_tls, admin, descriptors, before })
}

async fn run(built: Built, mut signals: Signals) -> Result<Exit, Failure> {
    let Built { base, place, tls, api, api_tls, admin, descriptors, before } = built;
    let (api_address, admin_address) = (doors::address(&api)?, doors::address(&admin)?);
    let tls_address = doors::address(&api_tls).ok().map(display);
    let of_api = doors::named(&api, DoorName::Api).chain(doors::named(&api_tls, DoorName::ApiTls));
    let offer = Offer::of(of_api.chain(doors::named(&admin, DoorName::Admin))).map_err(Failure::internal)?;
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
    running::serve_admin(admin, &watched, &lost)?;
    let reloads = running::watch_files(&base, &tls, None, &lost)?;
    tracing::info!(api = %api_address, api_tls = tls_address, admin = %admin_address, "listening");

    let mut after = Successor::expect(&base.config, ROLE, before, offer.clone(), &lost).await?;
    let handed_over = after.is_ready();
    let end = running::until_asked_to_stop(&base, &mut signals, reloads, &lost, || None, handed_over).await;
    let close = move || {
        offer.close();
        // Nobody is left to hear it when the door has ended by itself.
        let _ = stop.send(true);
        // A panic there was told by the thread itself.
        let _ = served.join();
    };
    running::drain(&base, &mut signals, &watched, end, close).await;
    tracing::info!("stopped");
    lost.or(Exit::Ok)
}
