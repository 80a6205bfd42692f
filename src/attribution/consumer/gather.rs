//! Which clicks are facts of a conversion: all of the visitor's that the index knows, of its time, reduced to those that
//! can make a difference.

use std::collections::BTreeMap;

use super::judge::Judge;
use super::memory::Terms;
use crate::attribution::{Bounds, Clicks, Extent, OwnClick, Settings, Touch, reduce};
use crate::click::VisitorKey;
use crate::event::Conversion;
use crate::store::{StoreError, View};
use crate::time::{DAY_MS, TimeMs};

/// From when to when a visitor's click is a fact of a conversion. A report of whole seconds may mean the last millisecond
/// of its second (contract M10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub since: TimeMs,
    /// Touches begin up to here. None for a late report: only its own click counts (contract M6).
    until: Option<TimeMs>,
    /// Later touches never count.
    latest: TimeMs,
    window_ms: i64,
}

/// What was looked up of visitors, for as long as no click is added. One look-up may read a million clicks; a visitor who
/// has that many has them looked at once for all of their conversions.
#[derive(Default)]
pub struct Looks(BTreeMap<VisitorKey, Look>);

struct Look {
    since: TimeMs,
    clicks: Vec<Touch>,
    cut: bool,
}

impl Span {
    /// What is older is not kept for certain (contract M4). What was clicked after the report and after any window can
    /// only have come later, and never counts.
    pub fn of(report: &Conversion, terms: &Terms, settings: Settings) -> Span {
        let (occurred, received) = (report.occurred_at_ms.0, report.received_at_ms.0);
        let late = received.saturating_sub(occurred) > i64::from(settings.max_report_delay_days) * DAY_MS;
        let until = received.max(occurred.saturating_add(settings.clock_skew_ms + 999));
        Span {
            since: TimeMs(received.saturating_sub(terms.kept_ms(settings.max_report_delay_days))),
            until: (!late).then_some(TimeMs(until)),
            latest: settings.latest_clicked_at(report),
            window_ms: settings.dedupe_window_ms,
        }
    }

    /// Up to here a click may still belong to a touch, and make it a navigated one (contract M3).
    pub fn clicks_until(&self) -> Option<TimeMs> {
        self.until.map(|until| TimeMs(until.0.saturating_add(self.window_ms)))
    }

    pub fn contains(&self, at: TimeMs) -> bool {
        self.clicks_until().is_some_and(|until| self.since <= at && at <= until)
    }

    pub fn bounds(&self, own_click: OwnClick) -> Option<Bounds> {
        let own = match own_click {
            OwnClick::Verified(click_id) => Some(Touch(click_id)),
            OwnClick::None | OwnClick::Invalid => None,
        };
        Some(Bounds { own, window_ms: self.window_ms, latest: self.latest, until: self.until? })
    }
}

impl Judge<'_> {
    /// The clicks of these visitors in the span, and those that are `known` already: the index may have dropped them.
    pub fn gather(
        &self,
        view: View<'_>,
        looks: &mut Looks,
        visitors: &[VisitorKey],
        (span, own_click): (Span, OwnClick),
        known: Clicks,
    ) -> Result<Clicks, StoreError> {
        let Some(bounds) = span.bounds(own_click) else { return Ok(Clicks::default()) };
        let mut clicks = known;
        for visitor in visitors {
            let look = self.look(view, looks, *visitor, span.since)?;
            if look.cut {
                clicks.extent = Extent::Cut;
            }
            clicks.touches.extend_from_slice(&look.clicks);
        }
        clicks.touches.retain(|touch| span.contains(touch.clicked_at()));
        Ok(reduce(clicks, &bounds))
    }

    /// A look-up that was cut holds for no other time: another one might reach further back.
    fn look<'l>(
        &self,
        view: View<'_>,
        looks: &'l mut Looks,
        visitor: VisitorKey,
        since: TimeMs,
    ) -> Result<&'l Look, StoreError> {
        let usable = |look: &Look| look.since == since || (look.since < since && !look.cut);
        if !looks.0.get(&visitor).is_some_and(usable) {
            let found = self.memory.touches.find(view, visitor, since)?;
            self.metrics.cut_lookups.add_shared(u64::from(found.cut));
            let clicks = found.click_ids.into_iter().map(Touch).collect();
            looks.0.insert(visitor, Look { since, clicks, cut: found.cut });
        }
        let missing = || StoreError::Unreadable { what: "touch", why: "its look-up is gone".into() };
        looks.0.get(&visitor).ok_or_else(missing)
    }
}
