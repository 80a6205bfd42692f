//! From disk to Kafka's client: which spools, how much, and each record to the home of its spool.

use std::time::{Duration, Instant};

use super::Shipper;
use super::cursor::Cursor;
use super::failure::Trouble;
use super::hear::{MAX_SLOTS, Sent, ticket};
use super::settle::{Key, Ready, settle};
use super::ship::{Pending, Ship, Taken};
use crate::event::{Event, Parked};
use crate::kafka::producer::{Fault, MAX_WAITING_BYTES, MAX_WAITING_RECORDS, NotSent, UNREACHABLE};
use crate::spool::{SpoolId, is_shortage};
use crate::time::TimeMs;

/// Spools that are read in one round, each with a file and a buffer. Of more, others follow when these are done.
pub const MAX_OPEN: usize = 128;

/// Bytes that are taken of a spool at once.
const MAX_BATCH_BYTES: usize = 2 << 20;

/// What may wait in the client: well below its own bounds, so that what was read can be handed over. For one partition:
/// its broker may be away, and the others go on.
const MAX_RECORDS: usize = MAX_WAITING_RECORDS / 2;
const MAX_BYTES: usize = MAX_WAITING_BYTES / 2;
const MAX_HOME_RECORDS: usize = MAX_RECORDS / 4;
const MAX_HOME_BYTES: usize = MAX_BYTES / 4;

/// After a spool could not be read; doubled with each failure in a row, so many times.
const READ_AGAIN: Duration = Duration::from_secs(1);
const READ_DOUBLINGS: u32 = 5;

/// How long the answer to a record that is sent alone is waited for in one round.
const ALONE_WAIT: Duration = Duration::from_millis(200);

/// How long a question to the brokers may hold everything up.
pub const ASK_WAIT: Duration = Duration::from_secs(1);

/// Why no more is handed over.
enum Stop {
    /// As much waits as may.
    Full,
    Trouble(Trouble),
}

impl Shipper {
    /// Hands over what there is. Returns how many records.
    pub(super) fn feed(&mut self) -> usize {
        let ships = &self.ships;
        self.suspects.retain(|suspect| ships.get(&suspect.spool).is_some_and(|ship| ship.acked < suspect.until));
        if let Some((spool, most)) = self.open_suspect() {
            self.alone = Some(spool);
            return self.feed_alone(spool, most);
        }
        self.alone = None;
        let most = self.parts.settings.batch_records;
        let mut fed = 0;
        for spool in self.choose() {
            match self.feed_spool(spool, most) {
                Ok(count) => fed += count,
                Err(Stop::Full) => break,
                Err(Stop::Trouble(trouble)) => {
                    self.recover(trouble);
                    break;
                }
            }
        }
        fed
    }

    /// The first spool with a record that was refused, and how much of it is sent at once. One whose topic takes nothing
    /// now waits for it: the other topic goes on.
    pub(super) fn open_suspect(&self) -> Option<(SpoolId, usize)> {
        let is_open = |spool| self.ships.get(spool).is_some_and(|ship| self.routes[ship.topic() as usize].is_open());
        let suspect = self.suspects.iter().find(|suspect| is_open(&suspect.spool))?;
        Some((suspect.spool, suspect.most))
    }

    /// A few records, and nothing else until there are reports of all of them.
    fn feed_alone(&mut self, spool: SpoolId, most: usize) -> usize {
        let is_waiting = self.producer.as_ref().is_some_and(|producer| producer.waiting() > 0);
        let mut fed = 0;
        if !is_waiting {
            match self.feed_spool(spool, most) {
                Ok(count) => fed = count,
                Err(Stop::Full) => {}
                Err(Stop::Trouble(trouble)) => self.recover(trouble),
            }
        }
        self.hear_at_once(ALONE_WAIT);
        fed
    }

    /// Spools with something to send: those that are written first, then the oldest. In turn, where all have their share.
    fn choose(&mut self) -> Vec<SpoolId> {
        let (homes, routes) = (&self.homes, &self.routes);
        let may_send = |ship: &Ship| {
            let is_crowded = ship.cursor.is_some_and(|cursor| {
                let (records, bytes) = homes.waiting((ship.topic(), cursor.partition));
                records >= MAX_HOME_RECORDS || bytes >= MAX_HOME_BYTES
            });
            let is_due = ship.retry_at.is_none_or(|at| Instant::now() >= at);
            (ship.has_unsent() || !ship.ready.is_empty())
                && !ship.homeless
                && !is_crowded
                && is_due
                && routes[ship.topic() as usize].is_open()
        };
        let order = |ship: &Ship| (ship.known.position.sealed.is_some(), ship.known.position.started_ms, ship.id());
        let mut chosen: Vec<_> = self.ships.values().filter(|ship| may_send(ship)).map(order).collect();
        chosen.sort_unstable();
        let are_too_many = chosen.len() > MAX_OPEN;
        chosen.truncate(MAX_OPEN);
        let mut chosen: Vec<SpoolId> = chosen.into_iter().map(|(_, _, spool)| spool).collect();
        for ship in self.ships.values_mut().filter(|ship| are_too_many || ship.known.position.sealed.is_some()) {
            if !chosen.contains(&ship.id()) {
                ship.close_reader();
            }
        }
        if !chosen.is_empty() {
            self.turn = (self.turn + 1) % chosen.len();
            chosen.rotate_left(self.turn);
        }
        chosen
    }

    fn feed_spool(&mut self, spool: SpoolId, most: usize) -> Result<usize, Stop> {
        let Some(mut ship) = self.ships.remove(&spool) else { return Ok(0) };
        let fed = self.feed_ship(&mut ship, most);
        self.ships.insert(spool, ship);
        fed
    }

    fn feed_ship(&mut self, ship: &mut Ship, most: usize) -> Result<usize, Stop> {
        let Some(partition) = self.home_of(ship).map_err(Stop::Trouble)? else { return Ok(0) };
        if ship.ready.is_empty() {
            if !self.has_room() {
                return Err(Stop::Full);
            }
            self.prepare(ship, most);
        }
        let slot = self.slot_of(ship).ok_or(Stop::Full)?;
        let Some(producer) = &self.producer else { return Ok(0) };
        let topic = &self.routes[ship.topic() as usize].topic;
        let mut fed = 0;
        while let Some(ready) = ship.ready.front() {
            match producer.send(topic, partition, &ready.key, &ready.value, ticket(slot, Sent::Record(ready.seq))) {
                Ok(()) => {}
                Err(NotSent::Full) => return Err(Stop::Full),
                Err(NotSent::Fault(fault)) => return Err(Shipper::not_sent(fault, ship, ready.seq)),
            }
            let pending = Pending { at: ready.at, bytes: ready.value.len() };
            self.waiting_bytes += pending.bytes;
            let home = self.homes.at((ship.topic(), partition));
            home.waiting += 1;
            home.waiting_bytes += pending.bytes;
            ship.ready.pop_front();
            ship.hand(pending);
            fed += 1;
        }
        Ok(fed)
    }

    fn has_room(&self) -> bool {
        let waiting = self.producer.as_ref().map_or(0, |producer| producer.waiting());
        waiting < MAX_RECORDS && self.waiting_bytes < MAX_BYTES
    }

    /// The client itself refuses it. That it is the record's own fault is sure then, but it is looked at alone all the
    /// same: its turn comes after all that was handed over before it.
    fn not_sent(fault: Fault, ship: &Ship, seq: u64) -> Stop {
        let mut trouble = Trouble::default();
        trouble.add(fault, ship.id(), ship.topic(), Some(seq));
        Stop::Trouble(trouble)
    }

    /// The home of a spool; on disk before anything is sent there. `None` while none can be given.
    pub(super) fn home_of(&mut self, ship: &mut Ship) -> Result<Option<i32>, Trouble> {
        if let Some(cursor) = ship.cursor {
            return Ok(Some(cursor.partition));
        }
        let topic = ship.topic();
        let partitions = match self.partitions_of(topic) {
            Ok(Some(partitions)) => partitions,
            Ok(None) => return Ok(None),
            // Nobody answered. What is on its way has nothing to do with that, and is not given up for it.
            Err(fault @ (Fault::Client | Fault::Outage(UNREACHABLE))) => {
                self.parts.metrics.count_error(if fault == Fault::Client { "client" } else { UNREACHABLE });
                self.routes[topic as usize].ask_again_after(READ_AGAIN);
                ship.retry_at = Some(Instant::now() + READ_AGAIN);
                return Ok(None);
            }
            Err(fault) => {
                let mut trouble = Trouble::default();
                trouble.add(fault, ship.id(), topic, None);
                return Err(trouble);
            }
        };
        let first = self.parts.settings.random % u64::from(partitions);
        let partition = (first + u64::from(ship.known.position.worker)) % u64::from(partitions);
        let mut cursor = Cursor::pinned(ship.id(), partition as i32, partitions);
        cursor.next = ship.acked;
        match cursor.save(&ship.known.directory) {
            Ok(()) => ship.cursor = Some(cursor),
            Err(error) => {
                let spool = ship.id();
                self.parts.metrics.count_error("disk");
                self.looked.complain(spool, || tracing::error!(%spool, %error, "no cursor can be made; trying again"));
                ship.retry_at = Some(Instant::now() + READ_AGAIN);
            }
        }
        Ok(ship.cursor.map(|cursor| cursor.partition))
    }

    /// How many partitions a topic has, asked anew now and then.
    pub(super) fn partitions_of(&mut self, topic: crate::spool::Topic) -> Result<Option<u32>, Fault> {
        let route = &mut self.routes[topic as usize];
        if let Some(count) = route.partitions() {
            return Ok(Some(count));
        }
        let Some(producer) = self.producer.as_ref().filter(|_| route.may_ask()) else { return Ok(None) };
        let count = producer.partitions(&route.topic, ASK_WAIT)?;
        route.set_partitions(count);
        Ok(Some(count))
    }

    /// `None`: there are too many, until nothing waits.
    pub(super) fn slot_of(&mut self, ship: &mut Ship) -> Option<u16> {
        if ship.slot.is_none() && self.slots.len() >= MAX_SLOTS {
            if self.producer.as_ref().is_some_and(|producer| producer.waiting() > 0) {
                return None;
            }
            self.slots.clear();
            self.ships.values_mut().for_each(|other| other.slot = None);
        }
        if ship.slot.is_none() {
            ship.slot = u16::try_from(self.slots.len()).ok();
            self.slots.push(ship.id());
        }
        ship.slot
    }

    /// Takes the next records from disk and makes them ready.
    fn prepare(&mut self, ship: &mut Ship, most: usize) {
        let metrics = &self.parts.metrics;
        let taken = ship.take(most, MAX_BATCH_BYTES);
        ship.read_failures = if taken.is_ok() { 0 } else { ship.read_failures.saturating_add(1) };
        match taken {
            Ok(Taken::Nothing) => {}
            Ok(Taken::Batch(batch)) => {
                let (ready, tally) = settle(ship.topic(), batch, &mut self.parts.duplicates);
                metrics.duplicates.add(tally.duplicates);
                metrics.dedupe_unavailable.add(tally.unasked);
                metrics.unread.add(tally.unread);
                ship.ready = ready.into();
                if !ship.parked.is_empty() {
                    self.stand_in(ship);
                }
            }
            Ok(Taken::Lost { first, count, place }) => {
                if let Some(place) = place {
                    let spool = ship.id();
                    tracing::error!(%spool, first, place, "records are lost on disk; events go in their place");
                }
                for seq in first..first + count {
                    metrics.count_parked("lost");
                    // When it was written nobody knows.
                    let stand_in = self.parked(ship.id(), seq, "lost", 0, None);
                    ship.ready.push_back(stand_in);
                }
            }
            Err(error) => {
                let spool = ship.id();
                // What is there is not known: nothing is called lost, however long that lasts.
                metrics.count_error(if is_shortage(&error) { "shortage" } else { "disk" });
                ship.read_again();
                let doublings = (ship.read_failures - 1).min(READ_DOUBLINGS);
                ship.retry_at = Some(Instant::now() + READ_AGAIN * (1 << doublings));
                self.looked.complain(spool, || tracing::error!(%spool, %error, "cannot be read; trying again"));
            }
        }
    }

    /// Events in place of the records that are parked.
    fn stand_in(&self, ship: &mut Ship) {
        let spool = ship.id();
        let Ship { ready, parked, .. } = ship;
        for ready in ready.iter_mut() {
            if let Some(why) = parked.get(&ready.seq) {
                *ready = self.parked(spool, ready.seq, why, ready.value.len(), ready.at);
            }
        }
    }

    /// `at`: when the record was written in whose place it stands.
    fn parked(&self, spool: SpoolId, seq: u64, why: &str, bytes: usize, at: Option<TimeMs>) -> Ready {
        let parked_at_ms = self.parts.clock.now();
        let parked = Parked { spool: spool.0, seq, why: why.to_owned(), bytes: bytes as u64, parked_at_ms };
        let key = Key::Text(spool.to_string().into());
        Ready { seq, key, value: Event::parked(&parked).into_bytes().into(), at }
    }
}
