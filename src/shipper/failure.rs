//! What is done about a failure. Always the same first: what waits is given up, and every spool goes back to its cursor.
//! Then by kind: a topic that takes nothing is left alone for a while, a client that is not to be trusted is made anew, a
//! record that was refused is looked for, sent alone, and parked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Shipper;
use super::homes::Place;
use crate::kafka::producer::{Fault, UNKNOWN_TOPIC};
use crate::shipper::parked;
use crate::spool::{SpoolId, Topic};

/// How long the client may take to give up what waits; then it is made anew.
const PURGE_WAIT: Duration = Duration::from_secs(2);

/// Records of a suspicious spool that are sent together at first; half of them after each refusal.
const MOST_SUSPECTS: usize = 64;

/// Records that are parked without one that was taken between them. Past it the records are not at fault, and it is an
/// outage of their topic.
const MAX_PARKED_IN_A_ROW: u32 = 100;

/// The pause after a failure: doubled each time up to the longest, and up to half of it shorter, so that machines that
/// failed together do not try again together.
const SHORTEST: Duration = Duration::from_millis(100);
const DOUBLINGS: u32 = 6;

pub struct Pause {
    failures: u32,
    until: Option<Instant>,
    random: u64,
}

impl Pause {
    pub fn new(random: u64) -> Pause {
        Pause { failures: 0, until: None, random }
    }

    /// True for the first failure in a row.
    pub fn fail(&mut self) -> bool {
        let whole = SHORTEST * (1 << self.failures.min(DOUBLINGS));
        // A linear congruential step: it only has to differ between machines.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let less = (whole.as_millis() as u64 / 2 * (self.random >> 48)) >> 16;
        self.until = Some(Instant::now() + whole - Duration::from_millis(less));
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    pub fn is_over(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }

    pub fn reset(&mut self) {
        self.failures = 0;
        self.until = None;
    }
}

/// Somewhere below `until` in this spool is a record that was refused.
pub struct Suspect {
    pub spool: SpoolId,
    pub until: u64,
    /// Records that are sent together while it is looked for.
    pub most: usize,
}

/// What went wrong since it was last taken care of.
#[derive(Default)]
pub struct Trouble {
    /// The last number that was refused, and why.
    pub refused: BTreeMap<SpoolId, (u64, &'static str)>,
    pub outages: BTreeMap<Topic, &'static str>,
    pub no_partition: BTreeSet<SpoolId>,
    /// Kafka no longer has what it acknowledged: where the partition ended.
    pub lost: BTreeMap<Place, i64>,
    /// A record came back by no fault of its own: another one that went with it was refused.
    pub purged: bool,
    /// A record of this topic was delivered before an earlier one of its spool, as when its partition has a new leader and
    /// the old one was still to answer. A reader that takes the number that is due needs it once more, behind that one.
    pub overtook: Option<Topic>,
    pub client: bool,
}

impl Trouble {
    pub fn is_none(&self) -> bool {
        let Trouble { refused, outages, no_partition, lost, purged, overtook, client } = self;
        let is_still = refused.is_empty() && outages.is_empty() && no_partition.is_empty() && lost.is_empty();
        is_still && !purged && overtook.is_none() && !client
    }

    /// `seq` of a record; a heartbeat or seal has none and is sent again in its time.
    pub fn add(&mut self, fault: Fault, spool: SpoolId, topic: Topic, seq: Option<u64>) {
        match (fault, seq) {
            (Fault::Record(why), Some(seq)) => {
                let refused = self.refused.entry(spool).or_insert((seq, why));
                refused.0 = refused.0.max(seq);
            }
            (Fault::Purged, Some(_)) => self.purged = true,
            (Fault::Record(_) | Fault::Purged, _) => {}
            (Fault::Outage(why), _) => {
                self.outages.insert(topic, why);
            }
            (Fault::NoPartition, _) => {
                self.no_partition.insert(spool);
            }
            (Fault::Client, _) => self.client = true,
        }
    }
}

impl Shipper {
    pub(super) fn recover(&mut self, mut trouble: Trouble) {
        if let Some(topic) = trouble.overtook {
            self.parts.metrics.count_error("overtook");
            let topic = &self.routes[topic as usize].topic;
            tracing::warn!(topic, "records were delivered before earlier ones; all spools go on from their cursors");
        }
        self.give_up(&mut trouble);
        for (topic, why) in std::mem::take(&mut trouble.outages) {
            self.close(topic, why);
        }
        for spool in std::mem::take(&mut trouble.no_partition) {
            self.parts.metrics.count_error("no_partition");
            self.find_home_again(spool);
        }
        for (spool, (seq, why)) in std::mem::take(&mut trouble.refused) {
            self.parts.metrics.count_error(why);
            self.suspect(spool, seq, why);
        }
        for (place, end) in std::mem::take(&mut trouble.lost) {
            self.resend_lost(place, end);
        }
    }

    /// Nothing waits any more, and every spool is where its cursor is.
    pub(super) fn give_up(&mut self, trouble: &mut Trouble) {
        if let Some(producer) = &self.producer {
            let mut reports = std::mem::take(&mut self.reports);
            // What does not come back in time would come back under numbers that mean something else by then.
            trouble.client |= !producer.purge(PURGE_WAIT, &mut reports);
            self.settle_reports(&mut reports, trouble);
            self.reports = reports;
        }
        if std::mem::take(&mut trouble.client) {
            self.producer = None;
            self.parts.metrics.count_error("client");
            if self.remake.fail() {
                tracing::error!("Kafka's client failed; it is made anew, and all spools go on from their cursors");
            }
        }
        let resent: u64 = self.ships.values_mut().map(|ship| ship.rewind()).sum();
        self.parts.metrics.resent.add(resent);
        self.slots.clear();
        self.waiting_bytes = 0;
        self.homes.nothing_waits();
    }

    /// Nothing of the topic is taken: it is left alone for a while.
    pub(super) fn close(&mut self, topic: Topic, why: &'static str) {
        self.parts.metrics.count_error(why);
        self.parts.metrics.outage[topic as usize].set(1);
        if why == UNKNOWN_TOPIC {
            // When it is there again it may be another one.
            let witnesses = self.ships.values().filter(|ship| ship.topic() == topic).filter_map(|ship| ship.witness());
            witnesses.for_each(|(place, witness)| self.homes.doubt(place, witness));
        }
        let route = &mut self.routes[topic as usize];
        route.forget_partitions();
        if route.close(why) {
            tracing::error!(topic = route.topic, why, "Kafka takes nothing of this topic; all stays in the spools");
        }
    }

    /// A record of the spool, `seq` at most, was refused. Sent alone, it is parked; else it is looked for.
    fn suspect(&mut self, spool: SpoolId, seq: u64, why: &'static str) {
        let Some(topic) = self.ships.get(&spool).map(|ship| ship.topic()) else { return };
        let known = self.suspects.iter().position(|suspect| suspect.spool == spool);
        if let Some(known) = known.filter(|known| self.alone == Some(spool) && self.suspects[*known].most == 1) {
            self.park(spool, seq, why);
            // Of those behind it none is under suspicion more than another.
            if self.routes[topic as usize].is_open() {
                self.suspects[known].most = MOST_SUSPECTS;
            }
            return;
        }
        match self.suspects.iter_mut().find(|suspect| suspect.spool == spool) {
            Some(suspect) => suspect.most = (suspect.most / 2).max(1),
            None => self.suspects.push(Suspect { spool, until: seq + 1, most: MOST_SUSPECTS }),
        }
    }

    /// Puts the record into the file of those that Kafka will not take; an event goes in its place.
    pub(super) fn park(&mut self, spool: SpoolId, seq: u64, why: &'static str) {
        let Some(ship) = self.ships.get_mut(&spool) else { return };
        let topic = ship.topic();
        if ship.parked.contains_key(&seq) || self.parked_in_a_row >= MAX_PARKED_IN_A_ROW {
            // Even its stand-in is refused, or nothing is taken any more: it is not the records' fault.
            return self.close(topic, why);
        }
        let record = ship.record_at(seq);
        let kept = record.and_then(|record| match record {
            Some(record) => parked::park(&ship.known.directory, spool, seq, &record).map(|()| record.len()),
            None => Ok(0),
        });
        match kept {
            Ok(bytes) => {
                ship.parked.insert(seq, why);
                self.parked_in_a_row += 1;
                self.parts.metrics.count_parked(why);
                tracing::error!(%spool, seq, bytes, why, "parked: Kafka will not take this record");
            }
            Err(error) => {
                self.parts.metrics.count_error("disk");
                self.looked.complain(spool, || tracing::error!(%spool, seq, %error, "a record cannot be parked"));
                self.close(topic, why);
            }
        }
    }
}
