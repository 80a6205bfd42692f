//! Applies reports, refunds and late clicks: each changes a fact, then the conversion is decided again and the books get
//! the difference.

use super::memory::{Memory, Terms};
use super::metrics::AttributionMetrics;
use crate::attribution::{Decision, Facts, Outcome, OwnClick, Reason, Settings, Touch, decide};
use crate::click::{ClickId, Keys, Verdict, VisitorId, VisitorKey};
use crate::event::{Conversion, Refund};
use crate::ledger::{self, Balances, NotPosted, Occasion};
use crate::spool::SpoolId;
use crate::store::{
    Batch, ConversionRow, NewConversion, RefundInsert, RowId, ShareRow, StatusFact, StoreError, StoredFacts,
};
use crate::time::{DAY_MS, TimeMs};

/// Conversions of one visitor that a late click has decided again. A person does not come near it.
const MAX_DECIDED_AGAIN: usize = 64;

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

    /// A click that came after decisions of its visitor's conversions. Those it is a fact of are decided again.
    pub fn late_click(&mut self, batch: &Batch<'_>, click_id: ClickId) -> Result<(), NotApplied> {
        let visitor = click_id.visitor_key();
        let reach_ms = self.terms.kept_ms(self.settings.max_report_delay_days) + self.settings.clock_skew_ms + DAY_MS;
        let view = batch.view();
        let found = view.conversions_after_click(visitor, click_id.clicked_at(), reach_ms, MAX_DECIDED_AGAIN + 1)?;
        if found.len() > MAX_DECIDED_AGAIN {
            self.metrics.unread_conversions.add(1);
        }
        for id in found.into_iter().take(MAX_DECIDED_AGAIN) {
            let Some(mut row) = batch.view().conversion_row(id)? else { continue };
            let terms = self.memory.terms(batch.view(), &row.catalog)?;
            let span = Span::of(&row.report, &terms, row.settings);
            if !span.contains(click_id.clicked_at()) || row.touches.contains(&Touch(click_id)) {
                continue;
            }
            row.touches = sorted(row.touches.iter().copied().chain([Touch(click_id)]).collect());
            batch.record_touches(id, &row.touches)?;
            self.metrics.late_clicks.add(1);
            self.decide_again(batch, &row, click_id.clicked_at())?;
        }
        Ok(())
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
        let row = batch.view().conversion_row(id)?.ok_or_else(|| not_there("conversion"))?;
        self.decide_again(batch, &row, report.received_at_ms)
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

    /// Decides by all facts there are, with the terms of the first decision. `at`: when the new fact was received.
    fn decide_again(&mut self, batch: &Batch<'_>, row: &ConversionRow, at: TimeMs) -> Result<(), NotApplied> {
        let facts = Facts {
            report: row.report.clone(),
            own_click: row.own_click,
            touches: row.touches.clone(),
            refunds: batch.view().refunds(&row.report.conversion_id)?,
            merchant_status: row.status.map(|fact| fact.status),
            late_click_ignored: false,
        };
        let terms = if *row.catalog == *self.terms.hash {
            self.terms.clone()
        } else {
            self.memory.terms(batch.view(), &row.catalog)?
        };
        let decided = || decide(&facts, &terms.rulebook, &row.settings);
        // Pure, so nothing is left half done; a panic of one conversion must not stop all others.
        let decision =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(decided)).map_err(|_| NotApplied::Panicked)?;
        let stored = StoredFacts::of(&facts);
        let before = batch.view().latest_decision(row.id)?;
        if before.as_ref().is_some_and(|before| before.facts == stored && before.decision == decision) {
            return Ok(());
        }
        let at = at.max(row.booked);
        batch.add_decision(row.id, row.revision + 1, &stored, &decision, at)?;
        post(batch, row, &decision, at)?;
        let rows = self.share_rows(batch, row, &decision)?;
        batch.replace_shares(row.id, &rows)?;
        let same = before.is_some_and(|before| {
            (before.decision.outcome, before.decision.reason) == (decision.outcome, decision.reason)
        });
        if !same {
            self.metrics.count_outcome(decision.outcome, decision.reason);
        }
        Ok(())
    }

    /// The decision as reports group it.
    fn share_rows(
        &self,
        batch: &Batch<'_>,
        row: &ConversionRow,
        decision: &Decision,
    ) -> Result<Vec<ShareRow>, StoreError> {
        let report = &row.report;
        let whole = ShareRow {
            conversion: row.id,
            occurred: report.occurred_at_ms,
            merchant_id: report.merchant_id,
            offer_id: decision.offer_id,
            publisher_id: None,
            link: None,
            source: None,
            sub1: None,
            kind: report.kind.clone(),
            coupon_code: report
                .coupon_code
                .as_deref()
                .map(str::trim)
                .filter(|code| !code.is_empty())
                .map(str::to_owned),
            currency: report.currency,
            amount: decision.kept_amount,
            commission: 0,
            reversed: 0,
        };
        if decision.shares.is_empty() {
            return Ok(vec![whole]);
        }
        let before = if row.revision == 0 { Vec::new() } else { batch.view().shares(row.id)? };
        let mut rows = Vec::with_capacity(decision.shares.len());
        for share in &decision.shares {
            let found = match share.click_id {
                Some(click_id) => self.memory.touches.labels(batch.view(), click_id)?,
                None => None,
            };
            let mut line = ShareRow {
                publisher_id: Some(share.publisher_id),
                commission: share.commission,
                reversed: share.reversed,
                ..whole.clone()
            };
            if let Some(labels) = found {
                (line.link, line.source, line.sub1) = (labels.link, labels.source, labels.sub1);
            } else if let Some(old) = before.iter().find(|old| old.publisher_id == line.publisher_id) {
                // The touch is dropped by now; its labels are not.
                (line.link, line.source, line.sub1) = (old.link.clone(), old.source.clone(), old.sub1.clone());
            }
            rows.push(line);
        }
        Ok(rows)
    }
}

/// From when to when a visitor's click is a fact of a conversion.
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
        let until = received.max(occurred.saturating_add(settings.clock_skew_ms));
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

/// The books get the difference between the decision and what is posted.
fn post(batch: &Batch<'_>, row: &ConversionRow, decision: &Decision, at: TimeMs) -> Result<(), NotApplied> {
    let entries = if row.revision == 0 { Vec::new() } else { batch.view().entries(row.id)? };
    let occasion = Occasion {
        conversion_id: &row.report.conversion_id,
        revision: entries.last().map_or(0, |entry| entry.revision) + 1,
        merchant_id: row.report.merchant_id,
        currency: row.report.currency,
        at,
    };
    let entries = ledger::post(&occasion, &Balances::of(&entries), decision)?;
    Ok(batch.add_entries(row.id, &entries)?)
}

fn not_there(what: &'static str) -> StoreError {
    StoreError::Unreadable { what, why: "not there".into() }
}
