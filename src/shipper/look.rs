//! Which spools there are, and what is left of them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::metrics::Left;
use super::ship::Ship;
use super::{Shipper, reship};
use crate::spool::{Known, SpoolId, Topic};
use crate::time::TimeMs;

/// Spools that are shipped for good are listed so often: one may have been asked for again, or its directory removed.
const FULL_LIST_EVERY: Duration = Duration::from_secs(10);

/// Between looks for spools whose process died.
const RECOVER_EVERY: Duration = Duration::from_secs(2);

/// Between looks for those that are to be sent again.
const REQUESTS_EVERY: Duration = Duration::from_secs(2);

/// Listing may take this part of the time at most: a machine may hold thousands of old spools.
const LIST_SHARE: u32 = 20;

const MEASURE_EVERY: Duration = Duration::from_millis(250);

/// Looks at disks for the time of a spool's oldest record, in one measurement.
const MOST_LOOKS: usize = 8;

/// The same complaint about a spool is made so often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// Spools of which that is remembered; past it complaints may come more often.
const MAX_COMPLAINTS: usize = 1_024;

#[derive(Default)]
pub struct Looked {
    /// When the spools were listed last, on the clock of events: before their positions were taken.
    pub at: TimeMs,
    /// Spools whose cursor could not be read: nothing of them is shipped until it can.
    pub unmet: BTreeSet<SpoolId>,
    next: Option<Instant>,
    full: Option<Instant>,
    recovered: Option<Instant>,
    requested: Option<Instant>,
    measured: Option<Instant>,
    complaints: HashMap<SpoolId, Instant>,
    /// What is said of the directory itself.
    failed: Option<std::io::ErrorKind>,
}

fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|at| at.elapsed() >= every)
}

impl Looked {
    /// Says it, unless something was said of this spool lately.
    pub fn complain(&mut self, spool: SpoolId, say: impl FnOnce()) {
        if self.complaints.len() >= MAX_COMPLAINTS {
            self.complaints.clear();
        }
        if is_due(self.complaints.get(&spool).copied(), COMPLAIN_EVERY) {
            self.complaints.insert(spool, Instant::now());
            say();
        }
    }
}

impl Shipper {
    pub(super) fn look(&mut self) {
        if is_due(self.looked.recovered, RECOVER_EVERY) {
            self.looked.recovered = Some(Instant::now());
            let recovered = self.parts.spools.recover().map(|_| ());
            self.complain_of_directory(recovered);
        }
        self.list();
        // Not before all spools are known: a request for one that is not would be lost.
        if self.looked.full.is_some() && is_due(self.looked.requested, REQUESTS_EVERY) {
            self.looked.requested = Some(Instant::now());
            self.take_requests();
        }
    }

    fn list(&mut self) {
        if self.looked.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let began = Instant::now();
        let is_full = is_due(self.looked.full, FULL_LIST_EVERY);
        let at = self.parts.clock.now();
        let listed = if is_full { self.parts.spools.list() } else { self.parts.spools.list_unconsumed() };
        match listed {
            Ok(known) => {
                self.looked.at = at;
                self.take_note(known, is_full);
            }
            Err(error) => self.complain_of_directory(Err(error)),
        }
        self.looked.next = Some(Instant::now() + began.elapsed() * LIST_SHARE);
    }

    fn take_note(&mut self, listed: Vec<Known>, is_full: bool) {
        if is_full {
            self.looked.full = Some(Instant::now());
            let there: HashSet<SpoolId> = listed.iter().map(Known::id).collect();
            self.looked.unmet.retain(|spool| there.contains(spool));
            for ship in self.ships.extract_if(.., |spool, _| !there.contains(spool)).map(|(_, ship)| ship) {
                // Of what waits in the client of it no report will be counted any more.
                let (records, bytes) = ship.waiting();
                self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
                if let Some(cursor) = ship.cursor {
                    self.homes.at((ship.topic(), cursor.partition)).end_waiting(records, bytes);
                }
            }
        }
        for known in listed {
            match self.ships.get_mut(&known.id()) {
                Some(ship) => ship.known = known,
                None => self.meet(known),
            }
        }
    }

    /// A spool that was not known: how far it was shipped stands beside it.
    fn meet(&mut self, known: Known) {
        let spool = known.id();
        match Ship::open(known) {
            Ok((ship, is_damaged)) => {
                if is_damaged {
                    tracing::error!(%spool, "its cursor is damaged: all that is kept of it is sent again");
                }
                if let Some(cursor) = ship.cursor {
                    if let Some((place, witness)) = ship.witness() {
                        self.homes.remember(place, witness, cursor.saved_at);
                    }
                    self.parts.spools.consumed(spool, cursor.next);
                }
                // Nobody watched meanwhile.
                if let Some((place, witness)) = ship.witness() {
                    self.homes.doubt(place, witness);
                }
                self.looked.unmet.remove(&spool);
                self.ships.insert(spool, ship);
            }
            Err(error) => {
                self.looked.unmet.insert(spool);
                self.parts.metrics.count_error("disk");
                self.looked.complain(
                    spool,
                    || tracing::error!(%spool, %error, "how far it was shipped cannot be read; trying again"),
                );
            }
        }
    }

    /// Spools that are to be sent again from a number on.
    fn take_requests(&mut self) {
        let directory = self.parts.spools.directory().to_owned();
        let requests = reship::requests(&directory, |error| self.complain_of_directory(Err(error)));
        if requests.iter().any(|request| self.ships.contains_key(&request.spool)) {
            self.give_up(&mut super::failure::Trouble::default());
        }
        for request in requests {
            let is_heeded = match self.ships.contains_key(&request.spool) {
                true => self.set_back(request.spool, request.from),
                false => self.is_gone(&directory, request.spool),
            };
            if is_heeded && let Err(error) = request.done(&directory) {
                self.complain_of_directory(Err(error));
            }
        }
    }

    /// Nobody can send it again. One that is there, and cannot be read now, is asked for until it can.
    fn is_gone(&mut self, directory: &std::path::Path, spool: SpoolId) -> bool {
        match crate::spool::find(directory, spool) {
            Ok(None) => {
                tracing::error!(%spool, "asked to be sent again, and there is no such spool");
                true
            }
            Ok(Some(_)) => false,
            Err(error) => {
                self.looked
                    .complain(spool, || tracing::error!(%spool, %error, "cannot be sent again now; trying again"));
                false
            }
        }
    }

    /// Nothing waits when it is called. What is set back is sent again, and its records are kept until it is. True when
    /// that is on disk.
    pub(super) fn set_back(&mut self, spool: SpoolId, from: u64) -> bool {
        let now = self.parts.clock.now();
        let Some(ship) = self.ships.get_mut(&spool) else { return false };
        // Before anything else: what is not consumed is not deleted.
        self.parts.spools.consumed(spool, from.min(ship.acked));
        match ship.set_back(from, now) {
            Ok(from) => {
                tracing::warn!(%spool, from, "is sent again");
                true
            }
            Err(error) => {
                self.parts.metrics.count_error("disk");
                let say =
                    || tracing::error!(%spool, %error, "is sent again, but that is not written down; trying again");
                self.looked.complain(spool, say);
                false
            }
        }
    }

    fn complain_of_directory(&mut self, result: std::io::Result<()>) {
        let failed = result.as_ref().err().map(std::io::Error::kind);
        if let Err(error) = result {
            self.parts.metrics.count_error("disk");
            if self.looked.failed != failed {
                tracing::error!(%error, "the directory of the spools cannot be looked at; trying again");
            }
        }
        self.looked.failed = failed;
    }

    pub(super) fn measure(&mut self) {
        if !is_due(self.looked.measured, MEASURE_EVERY) {
            return;
        }
        self.looked.measured = Some(Instant::now());
        let (mut left, mut looks, mut oldest, mut cursor_age) = (Left::default(), 0, None::<TimeMs>, Duration::ZERO);
        for ship in self.ships.values_mut().filter(|ship| !ship.is_done()) {
            left.spools += 1;
            left.records += ship.lag();
            looks += usize::from(ship.must_look());
            let at = ship.oldest(looks <= MOST_LOOKS);
            oldest = oldest.into_iter().chain(at).min();
            cursor_age = ship.moved_at.map_or(cursor_age, |at| at.elapsed().max(cursor_age));
        }
        // How many records these have is not known.
        left.spools += self.looked.unmet.len() as u64;
        let metrics = &self.parts.metrics;
        metrics.lag_records.set(left.records as i64);
        metrics.spools.set(left.spools as i64);
        metrics.lag_ms.set(oldest.map_or(0, |at| (self.parts.clock.now().0 - at.0).max(0)));
        metrics.cursor_age_ms.set(cursor_age.as_millis() as i64);
        metrics.homeless.set(self.ships.values().filter(|ship| ship.homeless).count() as i64);
        if self.looked.full.is_some() {
            // Not before what moved is on disk: who waits for the end may end the process.
            let is_moving = self.ships.values().any(|ship| ship.moved_at.is_some());
            metrics.set_left(Left { spools: left.spools.max(is_moving.into()), ..left });
        }
    }

    /// The partition of a spool is said not to be there. Later ones find others; this one waits until it is.
    pub(super) fn find_home_again(&mut self, spool: SpoolId) {
        let Some(topic) = self.ships.get(&spool).map(Ship::topic) else { return };
        self.routes[topic as usize].forget_partitions();
        if self.look_for_homes(topic) == 0 {
            // It is there for all that is known: the client will learn of it.
            self.close(topic, "no_partition");
        }
    }

    /// Which spools have no home now. Returns how many.
    pub(super) fn look_for_homes(&mut self, topic: Topic) -> usize {
        let Ok(Some(partitions)) = self.partitions_of(topic) else { return 0 };
        let mut homeless = 0;
        for ship in self.ships.values_mut().filter(|ship| ship.topic() == topic && !ship.is_done()) {
            let was = ship.homeless;
            ship.homeless = ship.cursor.is_some_and(|cursor| cursor.partition as u32 >= partitions);
            homeless += usize::from(ship.homeless);
            if ship.homeless && !was {
                let (spool, partition) = (ship.id(), ship.cursor.map(|cursor| cursor.partition));
                let topic = &self.routes[topic as usize].topic;
                tracing::error!(%spool, topic, ?partition, partitions, "its partition is not there; it waits for it");
            }
        }
        homeless
    }
}
