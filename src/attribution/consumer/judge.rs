//! Applies reports, refunds and late clicks: each changes a fact, then the conversion is decided again and the books get
//! the difference.

use std::collections::BTreeMap;

use super::Rules;
use super::gather::{Looks, Span};
use super::memory::{Memory, Terms};
use super::metrics::AttributionMetrics;
use crate::attribution::{Clicks, MAX_TOLD_REFUNDS, Outcome, OwnClick, Reason, Settings, Touch};
use crate::click::{ClickId, Keys, Verdict, VisitorId, VisitorKey};
use crate::event::{Conversion, Refund};
use crate::ledger::NotPosted;
use crate::spool::SpoolId;
use crate::store::{
    Batch, ConversionRow, NewConversion, RefundInsert, RowId, StatusFact, StoreError, View, WatchedVisitor,
};
use crate::time::TimeMs;

/// Conversions of one visitor that are read at once when a late click has them decided again.
const PAGE: usize = 64;

/// From so many refunds of an order on it is decided once a transaction and not once a refund: a shop that sends them by
/// the thousand does not hold up the others, however long the history of its order is.
const MANY_REFUNDS: u64 = MAX_TOLD_REFUNDS as u64 + 1;

#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Posting(#[from] NotPosted),
    #[error("the decision panicked")]
    Panicked,
}

impl NotApplied {
    /// Whether the record at hand is to blame, and not the store.
    pub fn is_about_the_record(&self) -> bool {
        match self {
            NotApplied::Store(error) => error.is_about_the_record(),
            NotApplied::Posting(_) | NotApplied::Panicked => true,
        }
    }
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub spool: SpoolId,
    pub seq: u64,
    /// The latest time of its spool up to it.
    pub at: TimeMs,
}

pub struct Judge<'j> {
    pub memory: &'j mut Memory,
    pub keys: &'j Keys,
    pub settings: Settings,
    /// Of the active catalog.
    pub terms: &'j Terms,
    pub metrics: &'j AttributionMetrics,
    pub now: TimeMs,
    /// Refunds that wait since this transaction began, less those that wait no more.
    pub waiting: i64,
    /// Conversions that get a decision at the end of the transaction, by the time of their latest fact.
    pub undecided: BTreeMap<RowId, TimeMs>,
}

impl<'j> Judge<'j> {
    /// For one transaction.
    pub fn new(
        memory: &'j mut Memory,
        rules: &'j Rules,
        terms: &'j Terms,
        metrics: &'j AttributionMetrics,
        now: TimeMs,
    ) -> Judge<'j> {
        let (keys, settings) = (&*rules.keys, rules.settings);
        Judge { memory, keys, settings, terms, metrics, now, waiting: 0, undecided: BTreeMap::new() }
    }
}

impl Judge<'_> {
    /// A report: the first of its order, the same again, or a conflict (contract M48).
    pub fn report(&mut self, batch: &Batch<'_>, report: &Conversion, place: Place) -> Result<(), NotApplied> {
        let Place { spool, seq, at } = place;
        let status = report.merchant_status.map(|status| StatusFact { status, at, spool, seq });
        match batch.view().conversion(&report.conversion_id)? {
            None if self.memory.touches.are_shared() => self.first_report_waits(batch, report, status, place),
            None => self.first_report(batch, report, status, place),
            Some(known) if known.report.is_same_report(report) => self.same_report(batch, known, report, status, place),
            Some(_) => {
                batch.add_conversion_conflict(spool, seq, report)?;
                self.metrics.count_outcome(Outcome::Unattributed, Some(Reason::Conflict));
                Ok(())
            }
        }
    }

    pub fn refund(&mut self, batch: &Batch<'_>, refund: &Refund, place: Place) -> Result<(), NotApplied> {
        let known = batch.view().conversion(&refund.conversion_id)?;
        match batch.add_refund(refund, known.is_none())? {
            RefundInsert::Exact => Ok(()),
            RefundInsert::Conflict => Ok(batch.add_refund_conflict(place.spool, place.seq, refund)?),
            RefundInsert::New => match known {
                Some(known) if batch.view().refund_count(&refund.conversion_id, MANY_REFUNDS)? == MANY_REFUNDS => {
                    let at = self.undecided.entry(known.id).or_insert(refund.received_at_ms);
                    *at = refund.received_at_ms.max(*at);
                    Ok(())
                }
                Some(known) => self.fact_changed(batch, &known, refund.received_at_ms),
                None => {
                    self.waiting += 1;
                    Ok(())
                }
            },
        }
    }

    /// Decides what was put off to the end of the transaction.
    pub fn decide_undecided(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        for (id, at) in std::mem::take(&mut self.undecided) {
            self.try_conversion(batch, id, |judge, batch| match batch.view().conversion_row(id)? {
                Some(row) => judge.fact_changed(batch, &row, at),
                None => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Decides again; what waits for its first decision is decided then, by all facts there will be.
    fn fact_changed(&mut self, batch: &Batch<'_>, row: &ConversionRow, at: TimeMs) -> Result<(), NotApplied> {
        if self.memory.touches.are_shared() && row.revision == 0 {
            return Ok(());
        }
        self.decide_again(batch, row, at)
    }

    /// One that cannot be decided is left as it is, told and counted.
    pub fn try_conversion(
        &mut self,
        batch: &Batch<'_>,
        id: RowId,
        work: impl FnOnce(&mut Self, &Batch<'_>) -> Result<(), NotApplied>,
    ) -> Result<(), StoreError> {
        match batch.attempt(|batch| work(self, batch)) {
            Err(NotApplied::Store(error)) if !error.is_about_the_record() => Err(error),
            Err(error) => {
                self.metrics.unread_conversions.add_shared(1);
                tracing::error!(conversion = id.0, %error, "a conversion could not be decided again");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Clicks of one visitor that came after decisions of their conversions. Those that the clicks are facts of are
    /// decided again, once for all of the clicks. One that cannot be decided is left as it is.
    pub fn late_clicks(&mut self, batch: &Batch<'_>, clicks: &[Touch]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (clicks.iter().min(), clicks.iter().max()) else { return Ok(()) };
        let (visitor, between) = (first.0.visitor_key(), (first.clicked_at(), last.clicked_at()));
        let mut looks = Looks::default();
        let mut after = None;
        loop {
            let page = batch.view().conversions_open_to(visitor, between, after, PAGE)?;
            for open in &page {
                self.try_conversion(batch, open.id, |judge, batch| {
                    judge.add_clicks(batch, open.id, clicks, &mut looks)
                })?;
            }
            if page.len() < PAGE {
                return Ok(());
            }
            after = page.last().copied();
        }
    }

    /// Grouping is a function of all clicks (contract M3), so all are looked at again and not only the new ones.
    fn add_clicks(
        &mut self,
        batch: &Batch<'_>,
        id: RowId,
        clicks: &[Touch],
        looks: &mut Looks,
    ) -> Result<(), NotApplied> {
        let Some(mut row) = batch.view().conversion_row(id)? else { return Ok(()) };
        let terms = self.terms_of(batch.view(), &row.catalog)?;
        let span = Span::of(&row.report, &terms, row.settings);
        let new = |click: &&Touch| span.contains(click.clicked_at()) && !row.clicks.touches.contains(click);
        let new: Vec<Touch> = clicks.iter().filter(new).copied().collect();
        let Some(latest) = new.iter().max().copied() else { return Ok(()) };
        let mut known = row.clicks.clone();
        known.touches.extend(&new);
        let visitors = self.visitors(&row.report, row.own_click, &terms);
        let gathered = self.gather(batch.view(), looks, &visitors, (span, row.own_click), known)?;
        if gathered == row.clicks {
            return Ok(());
        }
        self.metrics.late_clicks.add(new.len() as u64);
        row.clicks = gathered;
        batch.record_clicks(row.id, &row.clicks)?;
        self.decide_again(batch, &row, latest.clicked_at())
    }

    fn first_report(
        &mut self,
        batch: &Batch<'_>,
        report: &Conversion,
        status: Option<StatusFact>,
        Place { spool, seq, .. }: Place,
    ) -> Result<(), NotApplied> {
        // In one process an unlisted key number is refused at once (contract E46).
        let own_click = own_click(report, self.keys).unwrap_or(OwnClick::Invalid);
        let visitors = self.visitors(report, own_click, self.terms);
        let span = Span::of(report, self.terms, self.settings);
        let known = Clicks::default();
        let clicks = self.gather(batch.view(), &mut Looks::default(), &visitors, (span, own_click), known)?;
        let waited = batch.end_refunds_waiting(&report.conversion_id)?;
        self.waiting -= waited as i64;
        let (catalog, settings) = (&*self.terms.hash, self.settings);
        let new = NewConversion { report, spool, seq, own_click, clicks: &clicks, status, catalog, settings };
        let id = batch.add_conversion(&new)?;
        self.watch(batch, &visitors, span, id)?;
        self.decide_again(batch, &new.row(id), report.received_at_ms)
    }

    /// The same report again: nothing, but that the earliest received stands, and that the merchant's latest status
    /// counts (contract M44). So it does not matter in which order the copies came in.
    fn same_report(
        &mut self,
        batch: &Batch<'_>,
        mut known: ConversionRow,
        report: &Conversion,
        status: Option<StatusFact>,
        Place { spool, seq, .. }: Place,
    ) -> Result<(), NotApplied> {
        let mut changed = false;
        let earlier = (report.received_at_ms, spool, seq) < (known.report.received_at_ms, known.spool, known.seq);
        if earlier {
            batch.replace_report(known.id, report, spool, seq)?;
            known.report = report.clone();
            let terms = self.terms_of(batch.view(), &known.catalog)?;
            let span = Span::of(report, &terms, known.settings);
            let visitors = self.visitors(report, known.own_click, &terms);
            self.watch(batch, &visitors, span, known.id)?;
            if self.memory.touches.are_shared() {
                if let Some(status) =
                    status.filter(|status| known.status.is_none_or(|stored| status.is_later_than(&stored)))
                {
                    batch.record_status(known.id, &status)?;
                }
                return Ok(self.look_again(batch, known.id)?);
            }
            let at = (span, known.own_click);
            known.clicks = self.gather(batch.view(), &mut Looks::default(), &visitors, at, known.clicks)?;
            batch.record_clicks(known.id, &known.clicks)?;
            changed = true;
        }
        if let Some(status) = status
            && known.status.is_none_or(|stored| status.is_later_than(&stored))
        {
            batch.record_status(known.id, &status)?;
            known.status = Some(status);
            changed = true;
        }
        if changed { self.fact_changed(batch, &known, report.received_at_ms) } else { Ok(()) }
    }

    /// Who may have clicked: the visitor of the own click and the one that the merchant names (contract M1).
    pub fn visitors(&self, report: &Conversion, own_click: OwnClick, terms: &Terms) -> Vec<VisitorKey> {
        let named = report.visitor_id.as_deref().and_then(|id| VisitorId::parse(id.as_bytes()));
        let mut visitors: Vec<VisitorKey> = named.map(|id| id.key(report.merchant_id, self.keys)).into_iter().collect();
        if let OwnClick::Verified(click_id) = own_click {
            // Another merchant's visitor has another key; what is found under it would be that merchant's.
            let offer = terms.rulebook.offers.get(&click_id.offer_id());
            if offer.is_none_or(|offer| offer.merchant_id == report.merchant_id) {
                visitors.push(click_id.visitor_key());
            }
        }
        visitors.sort_unstable();
        visitors.dedup();
        visitors
    }

    /// From now on their late clicks find the conversion.
    pub fn watch(
        &mut self,
        batch: &Batch<'_>,
        visitors: &[VisitorKey],
        span: Span,
        id: RowId,
    ) -> Result<(), StoreError> {
        let Some(until) = span.clicks_until() else { return Ok(()) };
        batch.watch_visitors(&watched(visitors, span, id))?;
        if self.memory.touches.are_shared() {
            return Ok(());
        }
        for visitor in visitors {
            self.memory.watched.watch(*visitor, until);
        }
        self.memory.horizon.until = self.memory.horizon.until.max(until);
        Ok(())
    }

    /// The terms that a conversion is decided by.
    pub fn terms_of(&mut self, view: View<'_>, catalog: &str) -> Result<Terms, StoreError> {
        if *catalog == *self.terms.hash { Ok(self.terms.clone()) } else { self.memory.terms(view, catalog) }
    }
}

/// Whose late clicks find a conversion.
pub fn watched(visitors: &[VisitorKey], span: Span, id: RowId) -> Vec<WatchedVisitor> {
    let Some(until) = span.clicks_until() else { return Vec::new() };
    visitors.iter().map(|visitor| WatchedVisitor { visitor: *visitor, since: span.since, until, id }).collect()
}

/// None for a key number that is not listed here.
pub fn own_click(report: &Conversion, keys: &Keys) -> Option<OwnClick> {
    match report.click_id.as_deref() {
        None => Some(OwnClick::None),
        Some(text) => match ClickId::verify(text, keys) {
            Verdict::Verified(click_id) => Some(OwnClick::Verified(click_id)),
            Verdict::Malformed | Verdict::WrongTag => Some(OwnClick::Invalid),
            Verdict::UnknownKey => None,
        },
    }
}
