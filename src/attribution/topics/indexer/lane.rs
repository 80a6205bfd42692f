//! One partition of clicks on its way into the touch index.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::attribution::topics::{IndexerMetrics, fingerprint};
use crate::click::{ClickId, Keys, Verdict};
use crate::event::{Click, Event};
use crate::rollup::cut;
use crate::touch::Touched;
use crate::touch::shared::Position;

/// The pause before a click whose key is not listed is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// An offset that does not follow the last is sought again so often before it is believed: transactions and compaction,
/// which the topic has not, would leave such holes.
const MAX_PASSED_OVER: u32 = 5;
const SEEK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Lane {
    /// False until it is known where to go on; what is read before that is not wanted.
    pub is_placed: bool,
    /// Nothing behind `to` was taken, and nothing is: it goes on there when it is placed again.
    pub has_stopped: bool,
    /// As the index has it.
    pub at: Option<Position>,
    /// After `touches` are in.
    pub to: Option<Position>,
    pub touches: Vec<Owned>,
    /// The offset that has to come next.
    pub expected: i64,
    /// How often in a row another came.
    pub passed_over: u32,
    pub not_before: Option<Instant>,
}

pub struct Owned {
    click_id: ClickId,
    link: Option<String>,
    source: Option<String>,
    sub1: Option<String>,
}

/// Since when keys are waited for that are not listed, of all partitions: there are sixteen numbers.
pub struct KeyWaits {
    at_most: Duration,
    since: BTreeMap<u8, Instant>,
}

impl KeyWaits {
    pub fn new(at_most: Duration) -> KeyWaits {
        KeyWaits { at_most, since: BTreeMap::new() }
    }

    /// A click whose key is not listed is waited for: skipped, it would be missing for ever. Not for longer than orders
    /// wait for a key, and once for each key: after that all its clicks are passed until it is listed.
    fn holds_up(&mut self, key: u8, now: Instant) -> bool {
        let since = *self.since.entry(key).or_insert_with(|| {
            tracing::error!(key, "a click is signed with a key that is not listed; the touch index waits for it");
            now
        });
        now.saturating_duration_since(since) < self.at_most
    }
}

impl Lane {
    /// Goes on at `position`, or at `low` where that is the oldest that is there.
    pub fn at(position: Position, low: i64) -> Lane {
        let (at, expected) = (Some(position), position.next.max(low));
        Lane { is_placed: true, at, to: at, expected, ..Lane::default() }
    }

    pub fn reads(&self) -> bool {
        self.is_placed && !self.has_stopped
    }

    pub fn take(
        &mut self,
        offset: i64,
        record: &[u8],
        (keys, waits, metrics): (&Keys, &mut KeyWaits, &IndexerMetrics),
        now: Instant,
    ) {
        if self.has_stopped || offset < self.expected {
            return;
        }
        if offset > self.expected && self.passed_over < MAX_PASSED_OVER {
            // What was fetched before a seek may still come after it: taken, it would make a hole in the index that its
            // position does not show. So it is sought again, until it is certain that nothing lies in between.
            self.passed_over += 1;
            self.has_stopped = true;
            self.not_before = Some(now + SEEK_AGAIN);
            metrics.passed_over.add(1);
            return;
        }
        self.passed_over = 0;
        if let Ok(Event::Click(click)) = Event::parse(record)
            && let Some(text) = click.click_id.as_deref()
        {
            let click_id = ClickId::decode(text);
            match click_id.map(|click_id| (click_id.key_number(), click_id.check(keys))) {
                Some((_, Verdict::Verified(click_id))) => self.touches.push(Owned::of(click_id, &click)),
                Some((key, Verdict::UnknownKey)) if waits.holds_up(key, now) => {
                    metrics.key_waits.add(1);
                    self.has_stopped = true;
                    self.not_before = Some(now + LOOK_AGAIN);
                    return;
                }
                _ => metrics.unverified.add(1),
            }
        }
        self.expected = offset + 1;
        self.to = Some(Position { next: self.expected, last: fingerprint(record) });
    }
}

impl Owned {
    fn of(click_id: ClickId, click: &Click<'_>) -> Owned {
        let label =
            |label: &Option<Cow<'_, str>>| label.as_deref().map(cut).filter(|text| !text.is_empty()).map(str::to_owned);
        Owned { click_id, link: label(&click.link), source: label(&click.source), sub1: label(&click.sub1) }
    }

    pub fn touched(&self) -> Touched<'_> {
        let Owned { click_id, link, source, sub1 } = self;
        Touched { click_id: *click_id, link: link.as_deref(), source: source.as_deref(), sub1: sub1.as_deref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{OfferId, PublisherId};
    use crate::click::VisitorKey;
    use crate::time::TimeMs;

    const WAIT: Duration = Duration::from_secs(600);

    fn keys(number: u8) -> Keys {
        Keys::parse(&Keys::file_text(&[number; 64]).replace("\n0:", &format!("\n{number}:"))).unwrap()
    }

    fn click(keys: &Keys, seq: i64) -> String {
        let id =
            ClickId::sign(keys, TimeMs(1_767_225_600_000), OfferId(1), PublisherId(1), VisitorKey(7), 0, seq as u32);
        format!(
            r#"{{"event":"click","schema":1,"spool":"00000000000000ff","seq":{seq},"click_id":"{id}","clicked_at_ms":1767225600000,"publisher_id":1,"offer_id":1,"merchant_id":1,"visitor_key":"0000000000000007","flags":[],"billable":true}}"#
        )
    }

    /// One click whose key was retired stands behind one that verifies: it is waited for once, and never again.
    #[test]
    fn an_unlisted_key_is_waited_for_once_and_what_stands_before_it_is_kept() {
        let (listed, retired) = (keys(1), keys(2));
        let (mut waits, metrics, began) = (KeyWaits::new(WAIT), IndexerMetrics::default(), Instant::now());
        let topic: Vec<String> =
            [(&listed, 0), (&retired, 1), (&listed, 2), (&retired, 3)].map(|(keys, seq)| click(keys, seq)).into();
        let mut lane = Lane::at(Position { next: 0, last: 0 }, 0);
        let mut touches = 0;
        let mut stands = Vec::new();
        // As the indexer does: reads, writes what was taken, places what has stopped where the index is.
        for seconds in [0, 1, 300, 599, 600, 601] {
            for (offset, record) in (0..).zip(&topic) {
                let now = began + Duration::from_secs(seconds);
                lane.take(offset, record.as_bytes(), (&listed, &mut waits, &metrics), now);
            }
            touches += lane.touches.len();
            let at = lane.to.unwrap();
            stands.push(at.next);
            assert!(lane.reads() == (seconds >= 600) && lane.is_placed);
            lane = Lane::at(at, 0);
        }
        assert_eq!((stands, touches), (vec![1, 1, 1, 1, 4, 4], 2));
        assert_eq!((metrics.key_waits.value(), metrics.unverified.value()), (4, 2));
        // Another key is waited for again.
        lane.take(4, click(&keys(3), 4).as_bytes(), (&listed, &mut waits, &metrics), began + 2 * WAIT);
        assert!(lane.has_stopped);
    }

    #[test]
    fn an_offset_that_was_passed_over_is_looked_for_and_then_passed() {
        let (keys, metrics, now) = (keys(1), IndexerMetrics::default(), Instant::now());
        let mut waits = KeyWaits::new(WAIT);
        let mut lane = Lane::at(Position { next: 0, last: 0 }, 0);
        lane.take(0, click(&keys, 0).as_bytes(), (&keys, &mut waits, &metrics), now);
        let mut looks = 0;
        while lane.to.unwrap().next == 1 {
            // What is held of it is written meanwhile.
            lane = Lane { passed_over: lane.passed_over, ..Lane::at(lane.to.unwrap(), 0) };
            lane.take(2, click(&keys, 2).as_bytes(), (&keys, &mut waits, &metrics), now);
            looks += 1;
        }
        assert_eq!((looks, metrics.passed_over.value()), (1 + MAX_PASSED_OVER, MAX_PASSED_OVER.into()));
        assert_eq!((lane.has_stopped, lane.to.unwrap().next), (false, 3));
    }
}
