//! From clicks to touches: double clicks become one, and a bounded choice of a visitor's touches is kept (contract M3,
//! M4). A function of the set of clicks, whatever order they come in.

use std::collections::{BTreeMap, BTreeSet};

use super::Touch;
use crate::catalog::{OfferId, PublisherId};
use crate::click::{LABEL_NON_NAVIGATION, VisitorKey};

const LATEST_PER_OFFER_AND_PUBLISHER: usize = 3;
const NAVIGATED_PER_VISITOR: usize = 64;
const OTHERS_PER_VISITOR: usize = 8;

/// A group of clicks that count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Merged {
    /// The first click of the group: its time and ID are the touch's.
    pub first: Touch,
    pub clicks: usize,
    /// True if any click of the group was a visitor's navigation (M3).
    pub navigated: bool,
    /// Of all its clicks; only shown (M7).
    pub labels: u8,
    /// The report's own click is one of them.
    pub own: bool,
}

impl Merged {
    pub fn alone(click: Touch, own: bool) -> Merged {
        Merged { first: click, clicks: 1, navigated: click.0.navigated(), labels: click.0.labels(), own }
    }

    fn absorb(&mut self, click: Merged) {
        self.clicks += click.clicks;
        self.navigated |= click.navigated;
        self.labels |= click.labels;
        self.own |= click.own;
        if self.navigated {
            self.labels &= !LABEL_NON_NAVIGATION;
        }
    }

    fn stream(&self) -> (VisitorKey, OfferId, PublisherId) {
        (self.first.0.visitor_key(), self.first.offer_id(), self.first.publisher_id())
    }
}

/// Merges the clicks of one visitor, offer and publisher that came less than `window_ms` after the first of their group.
/// The result is in order (M5).
pub fn merge(clicks: &BTreeSet<Touch>, own: Option<Touch>, window_ms: i64) -> Vec<Merged> {
    let mut streams: BTreeMap<_, Vec<Merged>> = BTreeMap::new();
    for &click in clicks {
        let click = Merged::alone(click, own == Some(click));
        let groups = streams.entry(click.stream()).or_default();
        match groups.last_mut() {
            Some(group) if click.first.clicked_at() - group.first.clicked_at() < window_ms => group.absorb(click),
            _ => groups.push(click),
        }
    }
    let mut merged: Vec<Merged> = streams.into_values().flatten().collect();
    merged.sort();
    merged
}

/// What M4 keeps of touches in order; the rest is dropped. Both results are in order.
pub fn keep(touches: Vec<Merged>) -> (Vec<Merged>, Vec<Merged>) {
    let mut streams: BTreeMap<_, Vec<Merged>> = BTreeMap::new();
    for touch in &touches {
        streams.entry(touch.stream()).or_default().push(*touch);
    }
    let mut visitors: BTreeMap<VisitorKey, Vec<Merged>> = BTreeMap::new();
    for ((visitor_key, ..), stream) in streams {
        let latest = stream.len().saturating_sub(LATEST_PER_OFFER_AND_PUBLISHER).max(1);
        let chosen = stream.first().into_iter().chain(stream.iter().skip(latest));
        visitors.entry(visitor_key).or_default().extend(chosen);
    }
    let mut kept = BTreeSet::new();
    for mut chosen in visitors.into_values() {
        chosen.sort();
        let latest = |navigated: bool, most: usize| {
            chosen.iter().rev().filter(move |touch| touch.navigated == navigated).take(most).copied()
        };
        kept.extend(latest(true, NAVIGATED_PER_VISITOR));
        kept.extend(latest(false, OTHERS_PER_VISITOR));
    }
    touches.into_iter().partition(|touch| kept.contains(touch))
}
