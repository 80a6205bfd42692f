//! What a spool says beside its records, in its partition and behind them (contract V10): a heartbeat each minute, and a
//! seal when it is shipped for good. They are how everybody else knows what is missing.

use std::time::Instant;

use super::Shipper;
use super::failure::Trouble;
use super::hear::Sent;
use super::ship::{Seal, Ship};
use crate::event::{Event, SpoolState};
use crate::kafka::producer::NotSent;
use crate::spool::SpoolId;
use crate::time::TimeMs;

impl Shipper {
    /// Sends the heartbeats and seals that are due. Nothing while a record that was refused is looked for: it is sent
    /// alone.
    pub(super) fn tell(&mut self) {
        if self.open_suspect().is_some() {
            return;
        }
        for (spool, sent) in self.due() {
            let Some(mut ship) = self.ships.remove(&spool) else { continue };
            let told = self.tell_of(&mut ship, sent);
            self.ships.insert(spool, ship);
            match told {
                Ok(true) => {}
                // Too much waits: it is told in the next round.
                Ok(false) => return,
                Err(trouble) => return self.recover(trouble),
            }
        }
    }

    fn due(&self) -> Vec<(SpoolId, Sent)> {
        let every = self.parts.settings.heartbeat;
        let due = |ship: &Ship| {
            let is_sealed = ship.known.position.sealed.is_some();
            if ship.is_done() || ship.homeless || !self.routes[ship.topic() as usize].is_open() {
                return None;
            }
            if is_sealed && ship.lag() == 0 && ship.cursor.is_some() {
                return (ship.seal == Seal::Open).then_some(Sent::Seal);
            }
            // Thousands of old spools get a home when their turn comes.
            let may_tell = (ship.cursor.is_some() || !is_sealed) && !ship.heartbeat_waits;
            (may_tell && ship.heartbeat_at.is_none_or(|at| at.elapsed() >= every)).then_some(Sent::Heartbeat)
        };
        self.ships.values().filter_map(|ship| Some((ship.id(), due(ship)?))).collect()
    }

    /// False: too much waits.
    fn tell_of(&mut self, ship: &mut Ship, sent: Sent) -> Result<bool, Trouble> {
        let Some(partition) = self.home_of(ship)? else { return Ok(true) };
        let Some(slot) = self.slot_of(ship) else { return Ok(false) };
        let state = self.state_of(ship);
        let event = if sent == Sent::Seal { Event::seal(&state) } else { Event::heartbeat(&state) };
        let Some(producer) = &self.producer else { return Ok(true) };
        let topic = &self.routes[ship.topic() as usize].topic;
        let key = ship.id().to_string();
        match producer.send(topic, partition, key.as_bytes(), event.as_bytes(), super::hear::ticket(slot, sent)) {
            Ok(()) => {}
            Err(NotSent::Full) => return Ok(false),
            Err(NotSent::Fault(fault)) => {
                let mut trouble = Trouble::default();
                trouble.add(fault, ship.id(), ship.topic(), None);
                // Without a number a refusal asks for nothing: it is told in the next round.
                return if trouble.is_none() { Ok(false) } else { Err(trouble) };
            }
        }
        self.homes.at((ship.topic(), partition)).waiting += 1;
        if sent == Sent::Seal {
            ship.seal = Seal::Sent;
        } else {
            ship.heartbeat_at = Some(Instant::now());
            ship.heartbeat_waits = true;
            self.parts.metrics.heartbeats.add(1);
        }
        Ok(true)
    }

    pub(super) fn state_of(&self, ship: &mut Ship) -> SpoolState {
        let oldest = ship.oldest(true);
        let position = &ship.known.position;
        let (unspooled, late) = (position.unspooled, position.undurable.saturating_sub(position.unspooled));
        let has_more = position.sealed.is_none() && position.written > position.synced;
        // What is written and not on disk yet is not older than the newest that is.
        let unsynced = has_more.then_some(TimeMs(position.newest_ms));
        SpoolState {
            spool: ship.id().0,
            seq: ship.until().checked_sub(1),
            topic: ship.topic().name().to_owned(),
            edge: self.parts.settings.edge.clone(),
            // When the spools were looked at: what was written since is not in the numbers here.
            at_ms: self.looked.at,
            shipped: ship.acked,
            oldest_unshipped_ms: oldest.into_iter().chain(unsynced).min(),
            unspooled,
            late,
        }
    }
}
