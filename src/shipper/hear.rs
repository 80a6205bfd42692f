//! What the client reports.

use std::time::Duration;

use super::Shipper;
use super::failure::Trouble;
use super::ship::Seal;
use crate::kafka::producer::{Report, Ticket};
use crate::time::TimeMs;

/// A ticket is the slot of a spool above these bits, and a number below: numbers of spools have 48 bits.
const SEQ_BITS: u32 = 48;
const SEQ_MASK: u64 = (1 << SEQ_BITS) - 1;
/// More spools wait until nothing does any more.
pub const MAX_SLOTS: usize = u16::MAX as usize;

const _: () = assert!(usize::BITS == 64, "a ticket has 64 bits");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Record(u64),
    Heartbeat,
    Seal,
}

pub fn ticket(slot: u16, sent: Sent) -> Ticket {
    let low = match sent {
        Sent::Record(seq) => seq & SEQ_MASK,
        Sent::Heartbeat => SEQ_MASK,
        Sent::Seal => SEQ_MASK - 1,
    };
    (u64::from(slot) << SEQ_BITS | low) as usize
}

fn sent(ticket: Ticket) -> (u16, Sent) {
    let (slot, low) = ((ticket as u64 >> SEQ_BITS) as u16, ticket as u64 & SEQ_MASK);
    let sent = match low {
        SEQ_MASK => Sent::Heartbeat,
        low if low == SEQ_MASK - 1 => Sent::Seal,
        seq => Sent::Record(seq),
    };
    (slot, sent)
}

impl Shipper {
    /// Takes the reports that come within `at_most`, and does what they ask for.
    pub(super) fn hear(&mut self, at_most: Duration) {
        self.hear_by(|producer, reports| producer.poll(at_most, reports));
    }

    /// The same without lingering: what waits is sent at once.
    pub(super) fn hear_at_once(&mut self, at_most: Duration) {
        self.hear_by(|producer, reports| {
            // What is still waiting then is heard of later.
            let _ = producer.flush(at_most, reports);
        });
    }

    fn hear_by(&mut self, listen: impl Fn(&crate::kafka::producer::Producer, &mut Vec<Report>)) {
        let Some(producer) = &self.producer else { return };
        let mut reports = std::mem::take(&mut self.reports);
        listen(producer, &mut reports);
        let mut trouble = Trouble::default();
        self.settle_reports(&mut reports, &mut trouble);
        self.reports = reports;
        if !trouble.is_none() {
            self.recover(trouble);
        }
        self.look_for_brokers();
    }

    pub(super) fn settle_reports(&mut self, reports: &mut Vec<Report>, trouble: &mut Trouble) {
        let now = self.parts.clock.now();
        for report in reports.drain(..) {
            self.settle_report(report, now, trouble);
        }
    }

    fn settle_report(&mut self, report: Report, now: TimeMs, trouble: &mut Trouble) {
        let (slot, sent) = sent(report.ticket);
        let spool = self.slots.get(usize::from(slot)).copied();
        let Some(ship) = spool.and_then(|spool| self.ships.get_mut(&spool)) else { return };
        let Some(cursor) = ship.cursor else { return };
        let (topic, place) = (ship.topic(), (ship.topic(), cursor.partition));
        self.homes.at(place).end_waiting(1, 0);
        if sent == Sent::Heartbeat {
            ship.heartbeat_waits = false;
        }
        let delivered = match report.result {
            Ok(delivered) => delivered,
            Err(fault) => {
                let seq = if let Sent::Record(seq) = sent { Some(seq) } else { None };
                if sent == Sent::Seal {
                    ship.seal = Seal::Open;
                }
                return trouble.add(fault, ship.id(), topic, seq);
            }
        };
        let record = if let Sent::Record(seq) = sent { Some((ship.id(), seq)) } else { None };
        if let Some(offset) = delivered.offset
            && !self.homes.deliver(place, offset, record, now)
        {
            let end = trouble.lost.entry(place).or_insert(offset);
            *end = (*end).min(offset);
        }
        self.remake.reset();
        match sent {
            Sent::Record(seq) => {
                let is_parked = ship.parked.contains_key(&seq);
                if let Some(bytes) = ship.deliver(seq, delivered.offset) {
                    self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
                    self.homes.at(place).end_waiting(0, bytes);
                    self.parts.metrics.delivered[topic as usize].add(1);
                    if !is_parked {
                        self.parked_in_a_row = 0;
                    }
                } else if seq > ship.acked {
                    trouble.overtook = Some(topic);
                }
            }
            Sent::Heartbeat => {}
            Sent::Seal => {
                ship.seal = Seal::Delivered;
                ship.moved_at.get_or_insert_with(std::time::Instant::now);
                self.parts.metrics.seals.add(1);
            }
        }
        if let Some(why) = self.routes[topic as usize].reopen() {
            self.parts.metrics.outage[topic as usize].set(0);
            tracing::info!(topic = self.routes[topic as usize].topic, why, "Kafka takes this topic again");
        }
    }

    /// Whether the brokers can be reached at all: said once, and shown.
    fn look_for_brokers(&mut self) {
        let trouble = self.producer.as_ref().and_then(|producer| producer.trouble());
        if trouble == self.unreachable {
            return;
        }
        match trouble {
            Some(why) => {
                self.parts.metrics.count_error(why);
                tracing::error!(why, "no broker of Kafka can be used; all stays in the spools");
            }
            None => tracing::info!("Kafka's brokers can be used again"),
        }
        self.unreachable = trouble;
        for (route, gauge) in self.routes.iter().zip(&self.parts.metrics.outage) {
            gauge.set((trouble.is_some() || route.outage.is_some()).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_reads_back() {
        for slot in [0, 1, u16::MAX] {
            for what in [Sent::Record(0), Sent::Record(SEQ_MASK - 2), Sent::Heartbeat, Sent::Seal] {
                assert_eq!(sent(ticket(slot, what)), (slot, what));
            }
        }
    }
}
