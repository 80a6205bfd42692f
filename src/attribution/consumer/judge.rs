//! Applies reports, refunds and late clicks: each changes a fact, then the conversion is decided again and the books get
//! the difference.

use super::memory::{Memory, Terms};
use super::metrics::AttributionMetrics;
use crate::attribution::{Outcome, OwnClick, Reason, Settings, Touch};
use crate::click::{ClickId, Keys, Verdict, VisitorId, VisitorKey};
use crate::event::{Conversion, Refund};
use crate::ledger::NotPosted;
use crate::spool::SpoolId;
use crate::store::{Batch, ConversionRow, NewConversion, RefundInsert, RowId, StatusFact, StoreError};
use crate::time::{DAY_MS, TimeMs};
use crate::touch::MAX_TOUCHES;

/// Conversions of one visitor that a late click has decided again. A person does not come near it.
const MAX_DECIDED_AGAIN: usize = 64;

/// Refunds of one order: as many as it may have items. Each is decided with all before it.
const MAX_REFUNDS: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Posting(#[from] NotPosted),
    #[error("the decision panicked")]
    Panicked,
    #[error("its order has {MAX_REFUNDS} refunds already")]
    TooManyRefunds,
}

impl NotApplied {
    /// Whether the record at hand is to blame, and not the store.
    pub fn is_about_the_record(&self) -> bool {
        match self {
            NotApplied::Store(error) => error.is_about_the_record(),
            NotApplied::Posting(_) | NotApplied::Panicked | NotApplied::TooManyRefunds => true,
        }
    }
}

pub struct Judge<'j> {
    pub memory: &'j mut Memory,
    pub keys: &'j Keys,
    pub settings: Settings,
    /// Of the active catalog.
    pub terms: &'j Terms,
    pub metrics: &'j AttributionMetrics,
}

impl Judge<'_> {
    /// A report: the first of its order, the same again, or a conflict (contract M48).
    pub fn report(&mut self, batch: &Batch<'_>, report: &Conversion, at: (SpoolId, u64)) -> Result<(), NotApplied> {
        let (spool, seq) = at;
        let status =
            report.merchant_status.map(|status| StatusFact { status, received: report.received_at_ms, spool, seq });
        match batch.view().conversion(&report.conversion_id)? {
            None => self.first_report(batch, report, status, at),
            Some(known) if known.report.content_hash == report.content_hash => {
                self.same_report(batch, known, report, status, at)
            }
            Some(_) => {
                batch.add_conversion_conflict(spool, seq, report)?;
                self.metrics.count_outcome(Outcome::Unattributed, Some(Reason::Conflict));
                Ok(())
            }
        }
    }

    pub fn refund(&mut self, batch: &Batch<'_>, refund: &Refund, at: (SpoolId, u64)) -> Result<(), NotApplied> {
        let known = batch.view().conversion(&refund.conversion_id)?;
        if batch.view().refund_count(&refund.conversion_id, MAX_REFUNDS)? >= MAX_REFUNDS {
            return Err(NotApplied::TooManyRefunds);
        }
        match batch.add_refund(refund, known.is_none())? {
            RefundInsert::Exact => Ok(()),
            RefundInsert::Conflict => Ok(batch.add_refund_conflict(at.0, at.1, refund)?),
            RefundInsert::New => match known {
                Some(known) => self.decide_again(batch, &known, refund.received_at_ms),
                None => {
                    self.metrics.refunds_waiting.add(1);
                    Ok(())
                }
            },
        }
    }

    /// Clicks of one visitor that came after decisions of their conversions. Those that the clicks are facts of are
    /// decided again, once for all of the clicks.
    pub fn late_clicks(&mut self, batch: &Batch<'_>, clicks: &[Touch]) -> Result<(), NotApplied> {
        let (Some(first), Some(last)) = (clicks.iter().min(), clicks.iter().max()) else { return Ok(()) };
        let reach_ms = self.terms.kept_ms(self.settings.max_report_delay_days) + self.settings.clock_skew_ms + DAY_MS;
        let (from, to) = (first.clicked_at(), last.clicked_at() + reach_ms);
        let found = batch.view().conversions_open_between(first.0.visitor_key(), from, to, MAX_DECIDED_AGAIN + 1)?;
        if found.len() > MAX_DECIDED_AGAIN {
            self.metrics.unread_conversions.add(1);
        }
        for id in found.into_iter().take(MAX_DECIDED_AGAIN) {
            if let Some(row) = batch.view().conversion_row(id)? {
                self.add_clicks(batch, row, clicks)?;
            }
        }
        Ok(())
    }

    fn add_clicks(&mut self, batch: &Batch<'_>, mut row: ConversionRow, clicks: &[Touch]) -> Result<(), NotApplied> {
        let terms = self.memory.terms(batch.view(), &row.catalog)?;
        let span = Span::of(&row.report, &terms, row.settings);
        let new = |click: &&Touch| span.contains(click.clicked_at()) && !row.touches.contains(click);
        let mut new: Vec<Touch> = clicks.iter().filter(new).copied().collect();
        if row.touches.len() + new.len() > MAX_TOUCHES {
            self.metrics.cut_lookups.add(1);
            new.truncate(MAX_TOUCHES.saturating_sub(row.touches.len()));
        }
        let Some(latest) = new.iter().max().copied() else { return Ok(()) };
        self.metrics.late_clicks.add(new.len() as u64);
        row.touches = sorted(row.touches.into_iter().chain(new).collect());
        batch.record_touches(row.id, &row.touches)?;
        self.decide_again(batch, &row, latest.clicked_at())
    }

    fn first_report(
        &mut self,
        batch: &Batch<'_>,
        report: &Conversion,
        status: Option<StatusFact>,
        (spool, seq): (SpoolId, u64),
    ) -> Result<(), NotApplied> {
        let own_click = own_click(report, self.keys);
        let visitors = self.visitors(report, own_click);
        let span = Span::of(report, self.terms, self.settings);
        let touches = self.touches(batch, &visitors, span)?;
        let waited = batch.end_waiting(&report.conversion_id)?;
        self.metrics.refunds_waiting.add(-(waited as i64));
        let (catalog, settings) = (&*self.terms.hash, self.settings);
        let new = NewConversion { report, spool, seq, own_click, touches: &touches, status, catalog, settings };
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
        (spool, seq): (SpoolId, u64),
    ) -> Result<(), NotApplied> {
        let mut changed = false;
        if report.received_at_ms < known.report.received_at_ms {
            batch.replace_report(known.id, report, spool, seq)?;
            known.report = report.clone();
            let terms = self.memory.terms(batch.view(), &known.catalog)?;
            let span = Span::of(report, &terms, known.settings);
            let visitors = self.visitors(report, known.own_click);
            self.watch(batch, &visitors, span, known.id)?;
            let mut touches = self.touches(batch, &visitors, span)?;
            touches.extend(known.touches.iter().filter(|touch| span.contains(touch.clicked_at())));
            known.touches = sorted(touches);
            batch.record_touches(known.id, &known.touches)?;
            changed = true;
        }
        if let Some(status) = status
            && known.status.is_none_or(|stored| status.is_later_than(&stored))
        {
            batch.record_status(known.id, &status)?;
            known.status = Some(status);
            changed = true;
        }
        if changed { self.decide_again(batch, &known, report.received_at_ms) } else { Ok(()) }
    }

    /// Who may have clicked: the visitor of the own click and the one that the merchant names (contract M1).
    fn visitors(&self, report: &Conversion, own_click: OwnClick) -> Vec<VisitorKey> {
        let named = report.visitor_id.as_deref().and_then(|id| VisitorId::parse(id.as_bytes()));
        let mut visitors: Vec<VisitorKey> = named.map(|id| id.key(report.merchant_id, self.keys)).into_iter().collect();
        if let OwnClick::Verified(click_id) = own_click {
            // Another merchant's visitor has another key; what is found under it would be that merchant's.
            let offer = self.terms.rulebook.offers.get(&click_id.offer_id());
            if offer.is_none_or(|offer| offer.merchant_id == report.merchant_id) {
                visitors.push(click_id.visitor_key());
            }
        }
        visitors.sort_unstable();
        visitors.dedup();
        visitors
    }

    /// From now on their late clicks find the conversion.
    fn watch(&mut self, batch: &Batch<'_>, visitors: &[VisitorKey], span: Span, id: RowId) -> Result<(), StoreError> {
        let Some(until) = span.until else { return Ok(()) };
        for visitor in visitors {
            batch.watch_visitor(*visitor, until, id)?;
            self.memory.watched.watch(*visitor, until);
        }
        self.memory.horizon.until = self.memory.horizon.until.max(until);
        Ok(())
    }

    fn touches(&self, batch: &Batch<'_>, visitors: &[VisitorKey], span: Span) -> Result<Vec<Touch>, StoreError> {
        let mut touches = Vec::new();
        if span.until.is_some() {
            for visitor in visitors {
                let found = self.memory.touches.find(batch.view(), *visitor, span.since)?;
                self.metrics.cut_lookups.add(u64::from(found.cut));
                touches.extend(found.click_ids.into_iter().filter(|id| span.contains(id.clicked_at())).map(Touch));
            }
        }
        Ok(sorted(touches))
    }
}

/// From when to when a visitor's click is a fact of a conversion. A report of whole seconds may mean the last millisecond
/// of its second (contract M10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    since: TimeMs,
    /// None for a late report: only its own click counts (contract M6).
    until: Option<TimeMs>,
}

impl Span {
    /// What is older is not kept for certain (contract M4). What was clicked after the report and after any window can
    /// only have come later, and never counts.
    fn of(report: &Conversion, terms: &Terms, settings: Settings) -> Span {
        let (occurred, received) = (report.occurred_at_ms.0, report.received_at_ms.0);
        let late = received.saturating_sub(occurred) > i64::from(settings.max_report_delay_days) * DAY_MS;
        let until = received.max(occurred.saturating_add(settings.clock_skew_ms + 999));
        Span {
            since: TimeMs(received.saturating_sub(terms.kept_ms(settings.max_report_delay_days))),
            until: (!late).then_some(TimeMs(until)),
        }
    }

    fn contains(&self, at: TimeMs) -> bool {
        self.until.is_some_and(|until| self.since <= at && at <= until)
    }
}

/// The set counts, not the order: the same touches are always written alike.
fn sorted(mut touches: Vec<Touch>) -> Vec<Touch> {
    touches.sort_unstable();
    touches.dedup();
    touches
}

fn own_click(report: &Conversion, keys: &Keys) -> OwnClick {
    match report.click_id.as_deref() {
        None => OwnClick::None,
        Some(text) => match ClickId::verify(text, keys) {
            Verdict::Verified(click_id) => OwnClick::Verified(click_id),
            // In one process an unlisted key number is refused at once (contract E46).
            Verdict::Malformed | Verdict::WrongTag | Verdict::UnknownKey => OwnClick::Invalid,
        },
    }
}
