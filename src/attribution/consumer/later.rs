//! Decisions that wait for touches that others index.
//!
//! A report is stored undecided and waits as a row. Whoever decides it asks, after that is committed, where the clicks'
//! topic ends, and looks its touches up once the index has got there. A click below that end is in the index; one beyond
//! it was applied after the commit, and whoever applied it found the conversion here and had it looked at again. So no
//! click is missed, in whatever order index, clicks and reports get on. A fact that is left out, as it makes no difference
//! to those known, has the end asked for anew: the index may know others.

use std::collections::BTreeMap;

use super::gather::{Looks, Span};
use super::judge::{Judge, NotApplied, Place, own_click};
use super::record::{Past, Ruling};
use crate::attribution::{Clicks, Extent, OwnClick, Touch, reduce};
use crate::click::VisitorKey;
use crate::event::Conversion;
use crate::store::{
    Batch, ConversionRow, NewConversion, OpenUntil, RowId, Stand, StatusFact, StoreError, View, Waiting,
};
use crate::time::TimeMs;

/// Conversions that the clicks of one transaction are looked for in one question; more are looked for by visitor.
const MAX_OPEN: usize = 4_096;

/// Conversions of one visitor read at once.
const PAGE: usize = 64;

impl Judge<'_> {
    /// The first report of its order: stored, and decided later.
    pub fn first_report_waits(
        &mut self,
        batch: &Batch<'_>,
        report: &Conversion,
        status: Option<StatusFact>,
        Place { spool, seq, .. }: Place,
    ) -> Result<(), NotApplied> {
        let own = own_click(report, self.keys);
        let stand = if own.is_some() { Stand::New } else { Stand::ForKey };
        let own_click = own.unwrap_or(OwnClick::None);
        self.waiting -= batch.end_refunds_waiting(&report.conversion_id)? as i64;
        let (catalog, settings, clicks) = (&*self.terms.hash, self.settings, &Clicks::default());
        let new = NewConversion { report, spool, seq, own_click, clicks, status, catalog, settings };
        let id = batch.add_conversion(&new)?;
        let visitors = self.visitors(report, own_click, self.terms);
        self.watch(batch, &visitors, Span::of(report, self.terms, self.settings), id)?;
        Ok(batch.put_waiting(&[Waiting { id, since: self.now, stand }])?)
    }

    /// Its touches are looked up anew. One that waits already may have been told where the clicks end before what is
    /// written now: it begins to wait anew.
    pub fn look_again(&self, batch: &Batch<'_>, id: RowId) -> Result<(), StoreError> {
        let known = batch.lock_waiting(&[id])?.first().copied();
        if known.is_some_and(|known| known.stand == Stand::ForKey) {
            // It has not been told anything yet.
            return Ok(());
        }
        let since = known.map_or(self.now, |known| self.now.max(TimeMs(known.since.0 + 1)));
        batch.put_waiting(&[Waiting { id, since, stand: known.map_or(Stand::New, |known| known.stand) }])
    }

    /// Clicks that conversions of their visitors may take as facts: those are looked at again.
    pub fn late_clicks_of_many(
        &mut self,
        batch: &Batch<'_>,
        late: &BTreeMap<VisitorKey, Vec<Touch>>,
        unlisted: &BTreeMap<VisitorKey, Vec<TimeMs>>,
    ) -> Result<(), StoreError> {
        let mut spans: BTreeMap<VisitorKey, (TimeMs, TimeMs)> = BTreeMap::new();
        let verified =
            late.iter().flat_map(|(visitor, clicks)| clicks.iter().map(|click| (*visitor, click.clicked_at())));
        let unverified = unlisted.iter().flat_map(|(visitor, times)| times.iter().map(|time| (*visitor, *time)));
        for (visitor, at) in verified.chain(unverified) {
            let span = spans.entry(visitor).or_insert((at, at));
            *span = (span.0.min(at), span.1.max(at));
        }
        let open = open_to(batch, &spans)?;
        let ids: Vec<RowId> = open.iter().map(|(_, open)| open.id).collect();
        batch.lock_rows(&ids)?;
        for (visitor, OpenUntil { id, .. }) in open {
            let clicks = late.get(&visitor).map_or(&[][..], Vec::as_slice);
            let times = unlisted.get(&visitor).map_or(&[][..], Vec::as_slice);
            self.try_conversion(batch, id, |judge, batch| judge.note_clicks(batch, id, clicks, times))?;
        }
        Ok(())
    }

    /// The clicks are kept as facts at once, in case the index is not to be had.
    fn note_clicks(
        &mut self,
        batch: &Batch<'_>,
        id: RowId,
        clicks: &[Touch],
        unlisted: &[TimeMs],
    ) -> Result<(), NotApplied> {
        let Some(row) = batch.view().conversion_row(id)? else { return Ok(()) };
        let terms = self.terms_of(batch.view(), &row.catalog)?;
        let span = Span::of(&row.report, &terms, row.settings);
        let new = |click: &&Touch| span.contains(click.clicked_at()) && !row.clicks.touches.contains(click);
        let new: Vec<Touch> = clicks.iter().filter(new).copied().collect();
        let mut all = row.clicks.clone();
        all.touches.extend(&new);
        let noted = span.bounds(row.own_click).map_or_else(Clicks::default, |bounds| reduce(all.clone(), &bounds));
        let is_news = !new.is_empty() && noted != row.clicks;
        if is_news {
            self.metrics.late_clicks.add(new.len() as u64);
            batch.record_clicks(id, &noted)?;
        }
        // A click that makes no difference to what is known may make one to what is in the index.
        let is_left_out = !new.is_empty() && leaves_out(&noted, &all);
        // What cannot be verified here is in the index once its key is listed.
        let is_unlisted = unlisted.iter().any(|at| span.contains(*at));
        if is_unlisted || is_left_out || (is_news && batch.lock_waiting(&[id])?.is_empty()) {
            self.look_again(batch, id)?;
        }
        Ok(())
    }

    /// The clicks that are facts of a conversion: those known and those found.
    pub fn gather_again(
        &mut self,
        batch: &Batch<'_>,
        row: &ConversionRow,
        is_complete: bool,
    ) -> Result<Clicks, NotApplied> {
        let terms = self.terms_of(batch.view(), &row.catalog)?;
        let span = Span::of(&row.report, &terms, row.settings);
        let visitors = self.visitors(&row.report, row.own_click, &terms);
        // A complete index says by itself whether it was cut.
        let extent = if is_complete { Extent::Whole } else { row.clicks.extent };
        let known = Clicks { touches: row.clicks.touches.clone(), extent };
        Ok(self.gather(batch.view(), &mut Looks::default(), &visitors, (span, row.own_click), known)?)
    }

    /// Whom to look up for a conversion, and since when.
    pub fn look_ups(
        &mut self,
        batch: &Batch<'_>,
        row: &ConversionRow,
    ) -> Result<Vec<(VisitorKey, TimeMs)>, NotApplied> {
        let terms = self.terms_of(batch.view(), &row.catalog)?;
        let span = Span::of(&row.report, &terms, row.settings);
        if span.clicks_until().is_none() {
            return Ok(Vec::new());
        }
        let visitors = self.visitors(&row.report, row.own_click, &terms).into_iter();
        Ok(visitors.map(|visitor| (visitor, span.since)).collect())
    }

    /// Decides a conversion that waits, by the clicks that were gathered for it. Nothing is written yet.
    pub fn rule_waiting(
        &mut self,
        view: View<'_>,
        row: &ConversionRow,
        clicks: &Clicks,
        past: &mut Past,
    ) -> Result<Ruling, NotApplied> {
        let row = ConversionRow { clicks: clicks.clone(), ..row.clone() };
        let mut latest = row.report.received_at_ms;
        row.status.iter().for_each(|status| latest = latest.max(status.at));
        if past.has_refunds(&row.report) {
            let every = (0, u64::MAX);
            let id = &row.report.conversion_id;
            view.each_refund(id, every, |refund| latest = latest.max(refund.received_at_ms))?;
        }
        self.rule(view, &row, past, latest)
    }

    /// The key of its click ID is listed now, or is waited for no longer.
    pub fn settle_own_click(&mut self, batch: &Batch<'_>, row: &ConversionRow) -> Result<(), NotApplied> {
        let own_click = own_click(&row.report, self.keys).unwrap_or(OwnClick::Invalid);
        batch.record_own_click(row.id, own_click)?;
        let terms = self.terms_of(batch.view(), &row.catalog)?;
        let visitors = self.visitors(&row.report, own_click, &terms);
        self.watch(batch, &visitors, Span::of(&row.report, &terms, row.settings), row.id)?;
        Ok(batch.put_waiting(&[Waiting { id: row.id, since: self.now, stand: Stand::New }])?)
    }
}

/// Whether some of these clicks are not among what was made of them.
pub fn leaves_out(reduced: &Clicks, all: &Clicks) -> bool {
    all.touches.iter().any(|click| !reduced.touches.contains(click))
}

fn open_to(
    batch: &Batch<'_>,
    spans: &BTreeMap<VisitorKey, (TimeMs, TimeMs)>,
) -> Result<Vec<(VisitorKey, OpenUntil)>, StoreError> {
    if spans.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<(VisitorKey, TimeMs, TimeMs)> =
        spans.iter().map(|(visitor, (first, last))| (*visitor, *first, *last)).collect();
    let open = batch.conversions_open_to_many(&asked, MAX_OPEN)?;
    if open.len() < MAX_OPEN {
        return Ok(open);
    }
    let mut open = Vec::new();
    for (visitor, first, last) in asked {
        let mut after = None;
        loop {
            let page = batch.view().conversions_open_to(visitor, (first, last), after, PAGE)?;
            open.extend(page.iter().map(|one| (visitor, *one)));
            if page.len() < PAGE {
                break;
            }
            after = page.last().copied();
        }
    }
    Ok(open)
}
