//! Signs that Kafka lost what it had acknowledged, or that a topic was made anew: an offset that is not above an earlier
//! one of its partition, or, looked at with every heartbeat, a partition that ends below what was delivered there. After
//! a start, after a topic was not there, and now and then, it may be another one that has grown since: then a record that
//! was delivered is looked for where it was.
//!
//! Then the spools at home there go back ten minutes, or as far as records are kept where even older ones are gone.
//! Readers drop what they have.

use std::time::{Duration, Instant};

use super::Shipper;
use super::failure::Trouble;
use super::feed::ASK_WAIT;
use super::homes::Place;
use crate::kafka::consumer;
use crate::spool::{SpoolId, Topic};

/// A suspicion is looked at again after this: a new leader may not know its own end yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Without a suspicion witnesses are asked for this often: other edges may fill a topic that was made anew so fast that
/// nothing else shows.
const WITNESSES_EVERY: Duration = Duration::from_secs(20);

/// Questions that nobody answers, in one look: each may hold everything up for `ASK_WAIT`.
const MAX_FAILURES: usize = 3;

/// Witnesses that are asked for in one look; others in the next.
const MAX_WITNESSES: usize = 8;

/// When the ends are looked at.
#[derive(Default)]
pub struct Ends {
    looked: Option<Instant>,
    witnessed: Option<Instant>,
    /// Which partition is asked first.
    turn: usize,
}

impl Shipper {
    /// Asks for the ends of all partitions with something delivered, and how many partitions there are.
    pub(super) fn check_ends(&mut self) {
        let is_urgent = self.homes.homes.values().any(|home| home.suspicious || home.witness.is_some());
        let heartbeat = self.parts.settings.heartbeat;
        let every = if is_urgent { LOOK_AGAIN } else { WITNESSES_EVERY }.min(heartbeat);
        let is_quiet = self.suspects.is_empty() && self.unreachable.is_none();
        if !is_quiet || self.ends.looked.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.ends.looked = Some(Instant::now());
        if self.ends.witnessed.is_none_or(|at| at.elapsed() >= WITNESSES_EVERY) {
            self.ends.witnessed = Some(Instant::now());
            [Topic::Clicks, Topic::Conversions].into_iter().for_each(|topic| self.homes.doubt_all(topic));
        }
        let (answered, mut lost, failures) = self.ask_for_ends();
        lost.extend(self.ask_for_witnesses(&answered).into_iter().map(|place| (place, 0)));
        if !lost.is_empty() {
            let mut trouble = Trouble { lost: lost.into_iter().collect(), ..Trouble::default() };
            self.give_up(&mut trouble);
            self.recover(trouble);
        }
        for topic in [Topic::Clicks, Topic::Conversions] {
            if failures == 0 && self.ships.values().any(|ship| ship.topic() == topic && ship.homeless) {
                self.routes[topic as usize].forget_partitions();
                self.look_for_homes(topic);
            }
        }
    }

    /// The partitions that answered, those that end below what was delivered, seen twice, with their ends, and how many
    /// did not answer.
    fn ask_for_ends(&mut self) -> (Vec<Place>, Vec<(Place, i64)>, usize) {
        let (mut answered, mut lost, mut failures) = (Vec::new(), Vec::new(), 0);
        let Some(producer) = &self.producer else { return (answered, lost, failures) };
        let mut places: Vec<Place> = self.homes.homes.keys().copied().collect();
        places.sort_unstable();
        let first = self.ends.turn.checked_rem(places.len()).unwrap_or(0);
        places.rotate_left(first);
        for (asked, place) in places.into_iter().enumerate() {
            let (route, home) = (&self.routes[place.0 as usize], self.homes.at(place));
            let Some(delivered) = home.delivered.filter(|_| route.outage.is_none()) else { continue };
            let Ok(end) = producer.end_offset(&route.topic, place.1, ASK_WAIT) else {
                // One broker may be away; those behind it are asked all the same, or first in the next look.
                failures += 1;
                if failures == MAX_FAILURES {
                    self.ends.turn += asked + 1;
                    break;
                }
                continue;
            };
            let is_below = end <= delivered;
            if is_below && home.suspicious {
                lost.push((place, end));
            }
            home.suspicious = is_below;
            answered.push(place);
        }
        (answered, lost, failures)
    }

    /// Partitions in which another record stands where ours was delivered: the topic was made anew, and has grown past
    /// it since.
    fn ask_for_witnesses(&mut self, answered: &[Place]) -> Vec<Place> {
        let witness = |place: &Place| Some((*place, self.homes.homes.get(place)?.witness?));
        let mut asked: Vec<_> = answered.iter().filter_map(witness).take(MAX_WITNESSES).collect();
        asked.sort_unstable_by_key(|(place, _)| *place);
        let mut others = Vec::new();
        for of_topic in asked.chunk_by(|one, other| one.0.0 == other.0.0) {
            let topic = self.routes[of_topic[0].0.0 as usize].topic.clone();
            let Ok(client) = consumer::Ends::of(&self.parts.cluster, topic) else { continue };
            for (place, witness) in of_topic {
                // Not answered: asked again in the next look.
                let Ok(found) = client.record(place.1, witness.offset) else { break };
                self.homes.at(*place).witness = None;
                // One that is gone is too old, or the end lies below it, which is seen by itself.
                if found.is_some_and(|record| witness.is_contradicted_by(&record)) {
                    others.push(*place);
                }
            }
        }
        others
    }

    /// Nothing waits when it is called.
    pub(super) fn resend_lost(&mut self, place: Place, end: i64) {
        let now = self.parts.clock.now();
        let all = self.homes.forget(place, end, now);
        self.parts.metrics.lost_acks.add(1);
        let (topic, partition) = (&self.routes[place.0 as usize].topic, place.1);
        let from = if all { "the oldest kept" } else { "ten minutes before" };
        tracing::error!(topic, partition, end, from, "Kafka lost what it had acknowledged; it is sent again");
        // What befell one partition of a topic may have befallen all of them.
        self.homes.doubt_all(place.0);
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
