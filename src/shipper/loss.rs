//! Signs that Kafka lost what it had acknowledged, or that a topic was made anew: an offset that is not above an earlier
//! one of its partition, or, looked at with every heartbeat, a partition that ends below what was delivered there.
//!
//! Then the spools at home there go back ten minutes, or as far as records are kept where even older ones are gone.
//! Readers drop what they have.

use std::time::{Duration, Instant};

use super::Shipper;
use super::failure::Trouble;
use super::feed::ASK_WAIT;
use super::homes::Place;
use crate::spool::{SpoolId, Topic};

/// A suspicion is looked at again after this: a new leader may not know its own end yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// When the ends are looked at.
#[derive(Default)]
pub struct Ends {
    looked: Option<Instant>,
}

impl Shipper {
    /// Asks for the ends of all partitions with something delivered, and how many partitions there are.
    pub(super) fn check_ends(&mut self) {
        let is_suspicious = self.homes.homes.values().any(|home| home.suspicious);
        let heartbeat = self.parts.settings.heartbeat;
        let every = if is_suspicious { LOOK_AGAIN.min(heartbeat) } else { heartbeat };
        let is_quiet = self.suspects.is_empty() && self.unreachable.is_none();
        if !is_quiet || self.ends.looked.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.ends.looked = Some(Instant::now());
        let Some(lost) = self.ask_for_ends() else { return };
        if !lost.is_empty() {
            let mut trouble = Trouble { lost: lost.into_iter().collect(), ..Trouble::default() };
            self.give_up(&mut trouble);
            self.recover(trouble);
        }
        for topic in [Topic::Clicks, Topic::Conversions] {
            if self.ships.values().any(|ship| ship.topic() == topic && ship.homeless) {
                self.routes[topic as usize].forget_partitions();
                self.look_for_homes(topic);
            }
        }
    }

    /// Partitions that end below what was delivered, seen twice, with their ends. `None`: nobody answers now.
    fn ask_for_ends(&mut self) -> Option<Vec<(Place, i64)>> {
        let producer = self.producer.as_ref()?;
        let mut lost = Vec::new();
        for (place, home) in &mut self.homes.homes {
            let route = &self.routes[place.0 as usize];
            let Some(delivered) = home.delivered.filter(|_| route.outage.is_none()) else { continue };
            let end = producer.end_offset(&route.topic, place.1, ASK_WAIT).ok()?;
            let is_below = end <= delivered;
            if is_below && home.suspicious {
                lost.push((*place, end));
            }
            home.suspicious = is_below;
        }
        Some(lost)
    }

    /// Nothing waits when it is called.
    pub(super) fn resend_lost(&mut self, place: Place, end: i64) {
        let now = self.parts.clock.now();
        let all = self.homes.forget(place, end, now);
        self.parts.metrics.lost_acks.add(1);
        let (topic, partition) = (&self.routes[place.0 as usize].topic, place.1);
        let from = if all { "the oldest kept" } else { "ten minutes before" };
        tracing::error!(topic, partition, end, from, "Kafka lost what it had acknowledged; it is sent again");
        let at_home = self.ships.values().filter(|ship| {
            let partition = ship.cursor.map(|cursor| cursor.partition);
            (ship.topic(), partition) == (place.0, Some(place.1))
        });
        let back: Vec<(SpoolId, u64)> = at_home.map(|ship| (ship.id(), if all { 0 } else { ship.back(now) })).collect();
        for (spool, from) in back {
            self.set_back(spool, from);
        }
    }
}
