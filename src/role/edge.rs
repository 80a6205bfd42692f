//! `afflux edge`: the doors, intake, spool and catalog of `serve`, and the shipper in place of attribution. Kafka and Redis
//! may be down at the start and at any time: redirects and intake do not know them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::base::{Base, KeysFrom};
use super::certificates::TlsOfDoors;
use super::cluster::{cluster, required};
use super::doors::Doors;
use super::house::{self, House};
use super::links::{self, Links};
use super::open_doors::{Listening, OpenDoors, Visited};
use super::shipping::Shipping;
use super::signals::{Asked, Signals};
use super::succession::{Arrival, Successor};
use super::threads::Lost;
use super::{Exit, Failure, configured, descriptors, logging, running};
use crate::clock::WallClock;
use crate::config::Config;
use crate::dedupe::shared::SharedDedupe;
use crate::handover::Offer;
use crate::intake::{self, OrderIndex};
use crate::kafka::Cluster;
use crate::redis::Link;
use crate::shipper::{Duplicates, Unavailable};
use crate::spool::{Spools, inspect};

/// How long a stop waits for Kafka to take what is left, at most, and which part of the deadline that may be.
const LAST_SHIPPING: Duration = Duration::from_secs(5);
const DEADLINE_PART: u32 = 3;

/// How often `--drain-only` looks whether everything is shipped.
const LOOK: Duration = Duration::from_millis(100);

const ROLE: &str = "edge";

pub fn edge(file: Option<&Path>, allow_changed_terms: bool, takeover: bool) -> Result<Exit, Failure> {
    let arrival = Arrival::new(ROLE, takeover)?;
    let file = file.map(Path::to_owned);
    let build = move || {
        let mut config = configured(file.as_deref())?;
        config.keys.catalog.allow_changed_terms |= allow_changed_terms;
        logging::start();
        let descriptors = descriptors::raise();
        let cluster = required(&config, &[("click.keys_file", config.click.keys_file.is_some())])?;
        let hints = Hints::build(&config)?;
        let house = House::build(Base::build(config, KeysFrom::File)?)?;
        let tls = TlsOfDoors::load(&house.config)?;
        let (handed, before) = arrival.ask(&house.config)?;
        let doors = Doors::bind(&house.config, &tls, handed)?;
        Ok((Listening { house, doors, tls, descriptors, before }, cluster, hints))
    };
    running::start(build, |(listening, cluster, hints), signals| run(listening, cluster, hints, signals))
}

async fn run(listening: Listening, cluster: Cluster, hints: Hints, mut signals: Signals) -> Result<Exit, Failure> {
    let Listening { house, doors, tls, descriptors, before } = listening;
    let addresses = doors.addresses().map_err(Failure::internal)?;
    let lost = Lost::default();

    let Hints { order_index, duplicates, links } = hints;
    let intake = house.intake(house.access(), order_index)?;
    let router = crate::api::router([intake::routes(intake.clone())]);
    let offer = Offer::of(doors.named()).map_err(Failure::internal)?;
    let (watched, Doors { edge, edge_tls, api, api_tls, admin: admin_door }) = (intake.clone(), doors);
    let visited = Visited { edge, edge_tls, api, api_tls, tls: tls.clone(), router, intake, descriptors };
    let (open, mut admin) = OpenDoors::open(&house, visited, &lost)?;
    let (spools, clock) = (house.spools.clone(), house.clock.clone());
    let shipping = Shipping::start(&house.config, cluster, spools, clock, duplicates, &lost)?;
    let shipped = shipping.metrics.clone();
    admin.metrics.push(Box::new(move |page| shipped.write(page)));
    admin.metrics.push(Box::new(move |page| links.write_metrics(page)));
    let admin = Arc::new(admin);
    running::serve_admin(admin_door, &admin, &lost)?;
    let reloads = running::watch_files(&house, &tls, Some(&house.lists), &lost)?;
    addresses.log();
    let mut after = Successor::expect(&house.config, ROLE, before, offer.clone(), &lost).await?;

    let (lost_thread, handed_over) = (|| house.lost_thread(&watched), after.is_ready());
    let end = running::until_asked_to_stop(&house, &mut signals, reloads, &lost, lost_thread, handed_over).await;
    let spools = house.spools.clone();
    let at_most = LAST_SHIPPING.min(running::deadline(&house) / DEADLINE_PART);
    let close = move || {
        offer.close();
        open.close();
        let unsealed = spools.close();
        shipping.finish(at_most);
        unsealed
    };
    let exit = running::stopped(&running::drain(&house, &mut signals, &admin, end, close).await)?;
    lost.or(exit)
}

/// Ships what lies in the spool directory, without listening; ends when all of it is shipped and sealed.
pub fn drain_only(file: Option<&Path>) -> Result<Exit, Failure> {
    let file = file.map(Path::to_owned);
    let build = move || {
        let config = configured(file.as_deref())?;
        logging::start();
        let cluster = cluster(&config)?;
        if !config.shipper.enabled {
            return Err(Failure::usage(config.violation("shipper.enabled", "false; --drain-only ships")));
        }
        let clock = Arc::new(WallClock::start());
        let spools = Arc::new(house::open_spools(&config, clock.clone())?);
        let duplicates = duplicates(&config, &mut Links::default())?;
        let lost = Lost::default();
        let shipping = Shipping::start(&config, cluster, spools.clone(), clock.clone(), duplicates, &lost)?;
        Ok((shipping, spools, clock, lost))
    };
    running::start(build, |(shipping, spools, clock, lost), signals| drain(shipping, spools, clock, lost, signals))
}

async fn drain(
    shipping: Shipping,
    spools: Arc<Spools>,
    clock: Arc<WallClock>,
    lost: Lost,
    mut signals: Signals,
) -> Result<Exit, Failure> {
    tracing::info!("shipping what lies in the spool directory");
    let mut tick = tokio::time::interval(LOOK);
    let is_shipped = || shipping.left().is_some_and(|left| left.spools == 0);
    while !is_shipped() && lost.trouble().is_none() {
        tokio::select! {
            asked = signals.next() => if asked == Asked::Stop { break },
            _ = tick.tick() => {
                clock.discipline();
                spools.lost_thread().inspect(|name| lost.tell(name));
            }
        }
    }
    let is_done = is_shipped();
    let metrics = shipping.metrics.clone();
    let stopped = tokio::task::spawn_blocking(move || {
        shipping.stop();
        let unsealed = spools.close();
        (unsealed, if is_done { nothing_is_unknown(spools.directory()) } else { Ok(()) })
    });
    let (unsealed, known) = tokio::select! {
        stopped = stopped => stopped.map_err(Failure::internal)?,
        () = signals.stop() => std::process::exit(i32::from(Exit::Internal.code())),
    };
    lost.or(Exit::Ok)?;
    known?;
    if is_done {
        return running::stopped(&unsealed);
    }
    let message = match metrics.left() {
        Some(left) => format!("not all is shipped: {} records of {} spools remain", left.records, left.spools),
        None => "nothing was shipped: another process ships from this directory".to_owned(),
    };
    Err(Failure { exit: Exit::Negative, message })
}

/// What is no spool of this directory, or has no control file that can be used, was shipped by nobody.
fn nothing_is_unknown(directory: &Path) -> Result<(), Failure> {
    let faults = inspect::survey(directory).map_err(Failure::io)?.faults;
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure { exit: Exit::Negative, message: format!("not all is shipped:\n{}", faults.join("\n")) })
}

/// What an edge asks Redis: hints, all of them. Down or slow, it goes on without.
struct Hints {
    order_index: OrderIndex,
    duplicates: Duplicates,
    links: Links,
}

impl Hints {
    fn build(config: &Config) -> Result<Hints, Failure> {
        let mut links = Links::default();
        let duplicates = duplicates(config, &mut links)?;
        let settings = links::settings(config)?;
        let order_index = OrderIndex::start_redis(settings, links.count("orders")).map_err(Failure::internal)?;
        Ok(Hints { order_index, duplicates, links })
    }
}

/// Who knows about duplicates. With a window of 0 there are none.
fn duplicates(config: &Config, links: &mut Links) -> Result<Duplicates, Failure> {
    let window_ms = config.dedupe.window_ms.0 as i64;
    if window_ms == 0 {
        return Ok(Box::new(|clicks| Ok(vec![None; clicks.len()])));
    }
    let settings = links::settings(config)?.with_timeout(Duration::from_millis(config.dedupe.timeout_ms.0));
    let link = Link::new(settings, links.count("duplicates"), "duplicates");
    let mut shared = SharedDedupe::new(link, window_ms);
    Ok(Box::new(move |clicks| shared.judge(clicks).map_err(|_| Unavailable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_a_drain_names_what_nobody_shipped() {
        let home = tempfile::tempdir().unwrap();
        assert!(nothing_is_unknown(home.path()).is_ok());
        for directory in ["clicks-00000000000000ff", "a-copy"] {
            std::fs::create_dir(home.path().join(directory)).unwrap();
            std::fs::write(home.path().join(directory).join("00000000.seg"), "x").unwrap();
        }
        let Failure { exit, message } = nothing_is_unknown(home.path()).unwrap_err();
        assert_eq!(exit.code(), 1);
        assert!(message.contains("clicks-00000000000000ff: it has no control file"), "{message}");
        assert!(message.contains("a-copy: not a spool of this directory"), "{message}");
    }
}
