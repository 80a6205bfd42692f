//! Which of a visitor's clicks are kept as facts. A visitor may click a million times; a conversion keeps those that
//! can make a difference to it.
//!
//! Grouping depends on every click (M3), so nothing is left out before all are known: a publisher who floods the visitor
//! with clicks must not push out another's (M4). What is left out never changes a decision: deciding by the reduced clicks
//! is deciding by all of them. The caps per visitor (M4) are not applied here: what comes later may make room under them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Touch;
use super::touches::{Merged, first_and_latest, groups, latest, merge, streams};
use crate::time::TimeMs;

/// Up to this many clicks are kept one and all: their explanation tells each of them.
const MAX_WHOLE: usize = 256;

/// Touches of one visitor that are kept at most, navigated and others apart, in time and too late apart. Reached only by
/// somebody who clicks through hundreds of publishers; the latest are kept, as by M4, which keeps far fewer.
const MAX_PER_VISITOR: usize = 1_024;

/// How much of the visitor's clicks the facts hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    #[default]
    Whole,
    /// Only clicks that may make a difference; there were too many to tell each.
    Reduced,
    /// There were more clicks than are read: those stored first are missing.
    Cut,
}

impl Extent {
    pub fn is_whole(&self) -> bool {
        *self == Extent::Whole
    }
}

/// The visitor's clicks of one conversion, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clicks {
    pub touches: Vec<Touch>,
    pub extent: Extent,
}

/// What a conversion makes of the visitor's clicks.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The report's own click: its touch is kept in any case (M4).
    pub own: Option<Touch>,
    /// `dedupe.window_ms`.
    pub window_ms: i64,
    /// A touch after it never counts (M10, M11).
    pub latest: TimeMs,
    /// A touch after it is not even told: it came after the report.
    pub until: TimeMs,
}

/// Leaves out what makes no difference. Takes clicks in any order, any number of times each.
pub fn reduce(mut clicks: Clicks, bounds: &Bounds) -> Clicks {
    let own_is_known = bounds.own.is_some_and(|own| clicks.touches.contains(&own));
    clicks.touches.extend(bounds.own);
    clicks.touches.sort_unstable();
    clicks.touches.dedup();
    if clicks.touches.len() > MAX_WHOLE {
        clicks.extent = clicks.extent.max(Extent::Reduced);
    }
    clicks.touches = match clicks.extent {
        Extent::Whole => told(clicks.touches, bounds),
        Extent::Reduced | Extent::Cut => differing(&clicks.touches, bounds),
    };
    // Until the own click itself has come, the report alone speaks of it.
    clicks.touches.retain(|touch| own_is_known || Some(*touch) != bounds.own);
    clicks
}

/// All clicks of touches that began in time to be told.
fn told(clicks: Vec<Touch>, bounds: &Bounds) -> Vec<Touch> {
    if clicks.last().is_none_or(|last| last.clicked_at() <= bounds.until) {
        return clicks;
    }
    let streams = streams(&clicks);
    let groups = streams.values().flat_map(|clicks| groups(clicks, bounds.window_ms));
    let is_told = |group: &&[Touch]| Merged::of(group, bounds.own).is_some_and(|touch| bounds.tells(&touch));
    let mut told: Vec<Touch> = groups.filter(is_told).flatten().copied().collect();
    told.sort_unstable();
    told
}

/// The first click of each touch that M4 may keep, and where another click of its group makes it navigated, that one.
fn differing(clicks: &[Touch], bounds: &Bounds) -> Vec<Touch> {
    let touches = merge(clicks, bounds.own, bounds.window_ms).into_iter().filter(|touch| bounds.tells(touch));
    // As the decision does: those too late to count must not push out others.
    let (in_time, too_late): (Vec<Merged>, Vec<Merged>) =
        touches.partition(|touch| touch.first.clicked_at() <= bounds.latest);
    let mut kept: BTreeSet<Touch> = bounds.own.into_iter().collect();
    let own_stream = bounds.own.map(|own| Merged::alone(own, true).stream());
    for touches in [in_time, too_late] {
        let chosen = first_and_latest(&touches);
        // Whole, or the own touch would stand as the first of its stream and take a place among the latest (M4).
        let of_own = chosen.iter().filter(|touch| Some(touch.stream()) == own_stream);
        let own = touches.iter().filter(|touch| touch.own);
        let most = latest(&chosen, MAX_PER_VISITOR, MAX_PER_VISITOR);
        for touch in most.iter().chain(of_own).chain(own) {
            kept.insert(touch.first);
            kept.extend(touch.navigated_by);
        }
    }
    kept.into_iter().collect()
}

impl Bounds {
    fn tells(&self, touch: &Merged) -> bool {
        touch.own || touch.first.clicked_at() <= self.until
    }
}
