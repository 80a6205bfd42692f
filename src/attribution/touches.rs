//! From clicks to touches: double clicks become one, and a bounded choice of a visitor's touches is kept (contract M3,
//! M4). A function of the set of clicks, whatever order they come in.

use std::collections::{BTreeMap, BTreeSet};

use super::Touch;
use crate::catalog::{OfferId, PublisherId};
use crate::click::{LABEL_NON_NAVIGATION, VisitorKey};

const LATEST_PER_OFFER_AND_PUBLISHER: usize = 3;
const NAVIGATED_PER_VISITOR: usize = 64;
const OTHERS_PER_VISITOR: usize = 8;

/// Whose clicks may be one touch.
pub type Stream = (VisitorKey, OfferId, PublisherId);

/// A group of clicks that count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Merged {
    /// The first click of the group: its time and ID are the touch's.
    pub first: Touch,
    pub clicks: usize,
    /// True if any click of the group was a visitor's navigation (M3).
    pub navigated: bool,
    /// The earliest click that makes it navigated, where the first one does not.
    pub navigated_by: Option<Touch>,
    /// Of all its clicks; only shown (M7).
    pub labels: u8,
    /// The report's own click is one of them.
    pub own: bool,
}

impl Merged {
    pub fn alone(click: Touch, own: bool) -> Merged {
        let (navigated, labels) = (click.0.navigated(), click.0.labels());
        Merged { first: click, clicks: 1, navigated, navigated_by: None, labels, own }
    }

    /// `None` for an empty group.
    pub fn of(group: &[Touch], own: Option<Touch>) -> Option<Merged> {
        let clicks = group.iter().map(|click| Merged::alone(*click, own == Some(*click)));
        clicks.reduce(|mut group, click| {
            group.absorb(click);
            group
        })
    }

    fn absorb(&mut self, click: Merged) {
        if click.navigated && !self.navigated {
            self.navigated_by = Some(click.first);
        }
        self.clicks += click.clicks;
        self.navigated |= click.navigated;
        self.labels |= click.labels;
        self.own |= click.own;
        if self.navigated {
            self.labels &= !LABEL_NON_NAVIGATION;
        }
    }

    pub fn stream(&self) -> Stream {
        stream(self.first)
    }
}

fn stream(click: Touch) -> Stream {
    (click.0.visitor_key(), click.offer_id(), click.publisher_id())
}

/// Clicks in order by stream, each in order too.
pub fn streams(clicks: &[Touch]) -> BTreeMap<Stream, Vec<Touch>> {
    let mut streams: BTreeMap<Stream, Vec<Touch>> = BTreeMap::new();
    for click in clicks {
        streams.entry(stream(*click)).or_default().push(*click);
    }
    streams
}

/// The groups of one stream's clicks: each takes what came less than `window_ms` after its first click.
pub fn groups(clicks: &[Touch], window_ms: i64) -> impl Iterator<Item = &[Touch]> {
    let mut rest = clicks;
    std::iter::from_fn(move || {
        let first = rest.first()?.clicked_at();
        let length = rest.partition_point(|click| click.clicked_at() - first < window_ms).max(1);
        let (group, later) = rest.split_at(length);
        rest = later;
        Some(group)
    })
}

/// Merges the clicks of one visitor, offer and publisher that came less than `window_ms` after the first of their group.
/// Clicks must be in order, each once; the result is in order (M5).
pub fn merge(clicks: &[Touch], own: Option<Touch>, window_ms: i64) -> Vec<Merged> {
    let streams = streams(clicks);
    let merged = streams.values().flat_map(|clicks| groups(clicks, window_ms));
    let mut merged: Vec<Merged> = merged.filter_map(|group| Merged::of(group, own)).collect();
    merged.sort_unstable();
    merged
}

/// What M4 keeps of touches in order; the rest is dropped. Both results are in order.
pub fn keep(touches: Vec<Merged>) -> (Vec<Merged>, Vec<Merged>) {
    let kept = latest(&first_and_latest(&touches), NAVIGATED_PER_VISITOR, OTHERS_PER_VISITOR);
    touches.into_iter().partition(|touch| kept.contains(touch))
}

/// Per offer and publisher the first and the latest three. The touches and the result are in order.
pub fn first_and_latest(touches: &[Merged]) -> Vec<Merged> {
    let mut streams: BTreeMap<Stream, Vec<Merged>> = BTreeMap::new();
    for touch in touches {
        streams.entry(touch.stream()).or_default().push(*touch);
    }
    let mut chosen = Vec::new();
    for stream in streams.into_values() {
        let latest = stream.len().saturating_sub(LATEST_PER_OFFER_AND_PUBLISHER).max(1);
        chosen.extend(stream.first().into_iter().chain(stream.iter().skip(latest)));
    }
    chosen.sort_unstable();
    chosen
}

/// Per visitor the latest `navigated` touches that were a navigation, and the latest `others`. `touches` is in order.
pub fn latest(touches: &[Merged], navigated: usize, others: usize) -> BTreeSet<Merged> {
    let mut left: BTreeMap<(VisitorKey, bool), usize> = BTreeMap::new();
    let mut takes = |touch: &&Merged| {
        let most = if touch.navigated { navigated } else { others };
        let left = left.entry((touch.first.0.visitor_key(), touch.navigated)).or_insert(most);
        let takes = *left > 0;
        *left = left.saturating_sub(1);
        takes
    };
    touches.iter().rev().filter(|touch| takes(touch)).copied().collect()
}
