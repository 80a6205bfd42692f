//! From the spools to Kafka: every record at least once, in the order of its spool, in the spool's one partition.
//!
//! - **The home partition of a spool is on disk before its first record is sent**, and never changes.
//! - **The cursor moves only over delivery reports, in order**, and segments are deleted only below a cursor on disk.
//! - **After any failure everything goes back to the cursor.** Readers know each record by its spool and number and drop
//!   what they have, so sending again is always right; leaving out never is.
//! - A record that Kafka will not take, alone, is parked: kept in a file, and an event stands in its place. So do events
//!   for what the disk lost: the numbers have no holes.
//! - Kafka away is a growing spool and a number on a dashboard.
//!
//! One thread. `round` is the whole of it: look, feed, tell, hear, save.

pub mod cursor;
mod failure;
mod feed;
mod hear;
mod homes;
mod look;
mod loss;
mod metrics;
pub mod parked;
pub mod reship;
mod route;
mod run;
mod settle;
mod ship;
mod tell;
#[cfg(test)]
mod tests;
pub mod unpark;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use metrics::{Left, ShipperMetrics};
pub use run::run;

use crate::clock::Clock;
use crate::event::Glance;
use crate::kafka::Cluster;
use crate::kafka::producer::{Producer, Report};
use crate::spool::{SpoolId, Spools, Topic};
use failure::{Pause, Suspect};
use homes::Homes;
use look::Looked;
use loss::Ends;
use route::Route;
use ship::Ship;

/// Asks for duplicates: for each click the ID of the click that it repeats.
pub type Duplicates = Box<dyn FnMut(&[Glance<'_>]) -> Result<Vec<Option<String>>, Unavailable> + Send>;

/// Nobody knows about duplicates now: the clicks go as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody knows about duplicates now")]
pub struct Unavailable;

#[derive(Clone, Debug)]
pub struct Settings {
    /// The machine's name in heartbeats.
    pub edge: String,
    /// Most records that are asked for duplicates and handed over at once.
    pub batch_records: usize,
    pub linger_ms: u64,
    /// Between heartbeats of a spool.
    pub heartbeat: Duration,
    /// Any number: which partition is the first worker's, and how pauses vary.
    pub random: u64,
}

/// Between heartbeats, outside of tests.
pub const HEARTBEAT: Duration = Duration::from_secs(60);

pub struct Parts {
    pub spools: Arc<Spools>,
    pub cluster: Cluster,
    pub clock: Arc<dyn Clock>,
    pub settings: Settings,
    pub duplicates: Duplicates,
    pub metrics: Arc<ShipperMetrics>,
}

pub struct Shipper {
    parts: Parts,
    producer: Option<Producer>,
    /// When the next client may be made.
    remake: Pause,
    ships: BTreeMap<SpoolId, Ship>,
    homes: Homes,
    routes: [Route; 2],
    /// Spools by what the client knows them by.
    slots: Vec<SpoolId>,
    reports: Vec<Report>,
    /// Bytes that wait in the client.
    waiting_bytes: usize,
    /// Where a record is that Kafka refused, in order. While there is one nothing else is sent.
    suspects: Vec<Suspect>,
    /// The spool of which nothing but suspects is sent, since the last round in which others were.
    alone: Option<SpoolId>,
    parked_in_a_row: u32,
    looked: Looked,
    ends: Ends,
    /// Where the next round begins among the spools.
    turn: usize,
    unreachable: Option<&'static str>,
}

/// How long is waited where nothing is to be done, and between rounds where little is.
const IDLE: Duration = Duration::from_millis(200);
const PACE: Duration = Duration::from_millis(10);
const BUSY: Duration = Duration::from_millis(1);

impl Shipper {
    pub fn new(parts: Parts) -> Shipper {
        let random = parts.settings.random;
        let routes = [Topic::Clicks, Topic::Conversions].map(|topic| Route::new(parts.cluster.topic(topic), random));
        Shipper {
            parts,
            producer: None,
            remake: Pause::new(random),
            ships: BTreeMap::new(),
            homes: Homes::default(),
            routes,
            slots: Vec::new(),
            reports: Vec::new(),
            waiting_bytes: 0,
            suspects: Vec::new(),
            alone: None,
            parked_in_a_row: 0,
            looked: Looked::default(),
            ends: Ends::default(),
            turn: 0,
            unreachable: None,
        }
    }

    /// One step of everything.
    pub fn round(&mut self) {
        let moves = self.parts.spools.moves();
        self.look();
        if !self.has_producer() {
            self.measure();
            std::thread::sleep(PACE);
            return;
        }
        let sent = self.feed();
        self.tell();
        let is_waiting = self.producer.as_ref().is_some_and(|producer| producer.waiting() > 0);
        if is_waiting {
            let much = sent > 0 && sent * 2 >= self.parts.settings.batch_records;
            self.hear(if much { BUSY } else { PACE });
        } else {
            // Whatever was not counted down: nothing is left to be counted.
            self.waiting_bytes = 0;
            self.homes.nothing_waits();
            self.hear(Duration::ZERO);
            self.parts.spools.wait_for_move(moves, IDLE);
            // Not more often: a trickle of clicks must not cost a round each.
            std::thread::sleep(PACE);
        }
        self.check_ends();
        self.save(false);
        self.measure();
    }

    /// A client, where one may be made.
    fn has_producer(&mut self) -> bool {
        if self.producer.is_none() && self.remake.is_over() {
            let pace = crate::kafka::producer::Pace { linger_ms: self.parts.settings.linger_ms };
            match Producer::new(&self.parts.cluster, pace, self.parts.metrics.producer.clone()) {
                Ok(producer) => self.producer = Some(producer),
                Err(error) => {
                    self.parts.metrics.count_error("client");
                    if self.remake.fail() {
                        tracing::error!(%error, "nothing can be shipped; trying again");
                    }
                }
            }
        }
        self.producer.is_some()
    }

    /// Saves the cursors that have moved: of each at most once a second, or `all` now. Only then its records may be
    /// deleted.
    fn save(&mut self, all: bool) {
        let now = self.parts.clock.now();
        for ship in self.ships.values_mut() {
            let is_due = ship.saved_at.is_none_or(|at| all || at.elapsed() >= SAVE_EVERY);
            if ship.moved_at.is_none() || ship.cursor.is_none() || !is_due {
                continue;
            }
            ship.saved_at = Some(Instant::now());
            match ship.save(now) {
                Ok(()) => self.parts.spools.consumed(ship.id(), ship.acked),
                Err(error) => {
                    let spool = ship.id();
                    self.parts.metrics.count_error("disk");
                    self.looked.complain(spool, || {
                        tracing::error!(%spool, %error, "how far it is shipped cannot be written down; trying again");
                    });
                }
            }
        }
    }
}

const SAVE_EVERY: Duration = Duration::from_secs(1);
