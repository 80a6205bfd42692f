//! Decides a conversion by all of its facts, and writes down what changed: decision, books, and what reports show.

use std::collections::{HashMap, HashSet};

use super::judge::{Judge, NotApplied};
use crate::attribution::{Clicks, Decision, Facts, MAX_TOLD_REFUNDS, Share, decide};
use crate::click::ClickId;
use crate::commission::RefundSum;
use crate::event::{Conversion, Refund};
use crate::ledger::{self, Balances, Entry, Occasion};
use crate::store::{
    Batch, ConversionRow, Decided, DecisionRow, RowId, ShareRow, StoreError, StoredFacts, View, Written,
};
use crate::time::TimeMs;
use crate::touch::Labels;

/// What is known of conversions from before they are decided, read of many at once.
#[derive(Default)]
pub struct Past {
    decisions: HashMap<RowId, DecisionRow>,
    entries: HashMap<RowId, Vec<Entry>>,
    shares: HashMap<RowId, Vec<ShareRow>>,
    refunded: HashSet<String>,
}

/// What a conversion's decision changes, all of it found out and nothing of it written.
pub struct Ruling {
    id: RowId,
    /// Clicks, revision and the time of the latest fact, where they are not stored like this.
    row: Option<(Clicks, u32, TimeMs)>,
    change: Change,
    revision: u32,
    facts: StoredFacts,
    decision: Decision,
    entries: Vec<Entry>,
    /// None: those that are there stay.
    shares: Option<Vec<ShareRow>>,
    has_shares: bool,
    /// Outcome and reason are news.
    is_counted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    Words,
    /// A new revision.
    Decision,
}

impl Past {
    pub fn read<'r>(view: View<'_>, rows: impl Iterator<Item = &'r ConversionRow> + Clone) -> Result<Past, StoreError> {
        let conversion_ids: Vec<&str> = rows.clone().map(|row| row.report.conversion_id.as_str()).collect();
        let decided: Vec<RowId> = rows.filter(|row| row.revision > 0).map(|row| row.id).collect();
        let mut past = Past { refunded: view.refunded(&conversion_ids)?, ..Past::default() };
        past.decisions = view.latest_decisions(&decided)?.into_iter().collect();
        for (id, entry) in view.entries_of(&decided)? {
            past.entries.entry(id).or_default().push(entry);
        }
        for share in view.shares_of(&decided)? {
            past.shares.entry(share.conversion).or_default().push(share);
        }
        Ok(past)
    }

    pub fn has_refunds(&self, report: &Conversion) -> bool {
        self.refunded.contains(&report.conversion_id)
    }
}

impl Judge<'_> {
    /// Decides by all facts there are, with the terms of the first decision, and writes it down. `at`: when the new fact was
    /// received.
    pub fn decide_again(&mut self, batch: &Batch<'_>, row: &ConversionRow, at: TimeMs) -> Result<(), NotApplied> {
        let mut past = Past::read(batch.view(), std::iter::once(row))?;
        let ruling = self.rule(batch.view(), row, &mut past, at)?;
        self.write(batch, &[ruling])
    }

    /// Decides. What is known from before of this conversion is taken out of `past`.
    pub fn rule(
        &mut self,
        view: View<'_>,
        row: &ConversionRow,
        past: &mut Past,
        at: TimeMs,
    ) -> Result<Ruling, NotApplied> {
        let before = past.decisions.remove(&row.id);
        let (refunds, more_refunds) = match past.has_refunds(&row.report) {
            true => refunds(view, &row.report, before.as_ref().map(|row| &row.facts))?,
            false => (Vec::new(), RefundSum::default()),
        };
        let facts = Facts {
            report: row.report.clone(),
            own_click: row.own_click,
            touches: row.clicks.touches.clone(),
            extent: row.clicks.extent,
            refunds,
            more_refunds,
            merchant_status: row.status.map(|fact| fact.status),
            late_click_ignored: false,
        };
        let decision = self.decided(view, row, &facts)?;
        let facts = StoredFacts::of(&facts);
        let change = change(before.as_ref(), &facts, &decision);
        let is_new = change == Change::Decision;
        let revision = if is_new { row.revision + 1 } else { row.revision };
        let posted = past.entries.remove(&row.id).unwrap_or_default();
        let at = at.max(row.booked);
        let entries = if is_new { difference(row, &posted, &decision, at)? } else { Vec::new() };
        // With a shared index labels may be known now that were not before.
        let is_shown_anew = change != Change::Nothing || self.memory.touches.are_shared();
        let shares = past.shares.remove(&row.id).unwrap_or_default();
        let verdict = |decision: &Decision| (decision.outcome, decision.reason);
        Ok(Ruling {
            id: row.id,
            row: is_new.then(|| (row.clicks.clone(), revision, at)),
            change,
            revision,
            entries,
            shares: if is_shown_anew { Some(self.share_rows(view, row, &decision, &shares)?) } else { None },
            has_shares: before.is_some(),
            is_counted: before.is_none_or(|before| verdict(&before.decision) != verdict(&decision)),
            facts,
            decision,
        })
    }

    /// Writes many decisions, each kind of row in one statement where there is a network.
    pub fn write(&self, batch: &Batch<'_>, rulings: &[Ruling]) -> Result<(), NotApplied> {
        let of = |change: Change| rulings.iter().filter(move |ruling| ruling.change == change);
        let written = |change: Change| of(change).map(Ruling::written).collect::<Vec<_>>();
        batch.reword_decisions(&written(Change::Words))?;
        batch.add_decisions(&written(Change::Decision))?;
        batch.record_decided(&rulings.iter().filter_map(Ruling::decided).collect::<Vec<_>>())?;
        let entries = rulings.iter().flat_map(|ruling| ruling.entries.iter().map(|entry| (ruling.id, entry)));
        batch.add_entries(&entries.collect::<Vec<_>>())?;
        if self.memory.touches.are_shared() {
            let told = of(Change::Decision).map(|ruling| (ruling.id, ruling.revision));
            batch.tell(&told.collect::<Vec<_>>())?;
        }
        let shown = || rulings.iter().filter(|ruling| ruling.shares.is_some());
        let replaced = shown().filter(|ruling| ruling.has_shares).map(|ruling| ruling.id);
        batch.remove_shares(&replaced.collect::<Vec<_>>())?;
        let shares = shown().flat_map(|ruling| ruling.shares.iter().flatten().cloned());
        batch.add_shares(&shares.collect::<Vec<_>>())?;
        for ruling in rulings {
            self.metrics.imbalance.add(ruling.entries.iter().map(|entry| entry.amount).sum());
            if ruling.is_counted {
                self.metrics.count_outcome(ruling.decision.outcome, ruling.decision.reason);
            }
        }
        Ok(())
    }

    /// The clicks of publishers who earn by these clicks, refunds aside: a report shows what is known of them.
    pub fn earning(
        &mut self,
        view: View<'_>,
        row: &ConversionRow,
        clicks: &Clicks,
    ) -> Result<Vec<ClickId>, NotApplied> {
        let facts = Facts {
            report: row.report.clone(),
            own_click: row.own_click,
            touches: clicks.touches.clone(),
            extent: clicks.extent,
            refunds: Vec::new(),
            more_refunds: RefundSum::default(),
            merchant_status: row.status.map(|fact| fact.status),
            late_click_ignored: false,
        };
        let decision = self.decided(view, row, &facts)?;
        Ok(decision.shares.iter().filter_map(|share| share.click_id).collect())
    }

    fn decided(&mut self, view: View<'_>, row: &ConversionRow, facts: &Facts) -> Result<Decision, NotApplied> {
        let terms = self.terms_of(view, &row.catalog)?;
        let decided = || decide(facts, &terms.rulebook, &row.settings);
        // Pure, so nothing is left half done; a panic of one conversion must not stop all others.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(decided)).map_err(|_| NotApplied::Panicked)
    }

    /// The decision as reports group it: a row per share, or one without publisher. `before`: those of the decision before.
    fn share_rows(
        &self,
        view: View<'_>,
        row: &ConversionRow,
        decision: &Decision,
        before: &[ShareRow],
    ) -> Result<Vec<ShareRow>, StoreError> {
        let whole = without_publisher(row, decision);
        if decision.shares.is_empty() {
            return Ok(vec![whole]);
        }
        let line = |share: &Share| {
            let Labels { link, source, sub1 } = self.labels(view, share, before)?;
            let (commission, reversed) = (share.commission, share.reversed);
            let publisher_id = Some(share.publisher_id);
            Ok(ShareRow { publisher_id, link, source, sub1, commission, reversed, ..whole.clone() })
        };
        decision.shares.iter().map(line).collect()
    }

    /// Of the share's touch. When the index has dropped it, or does not have it yet: what stood there before.
    fn labels(&self, view: View<'_>, share: &Share, before: &[ShareRow]) -> Result<Labels, StoreError> {
        let found = match share.click_id {
            Some(click_id) => self.memory.touches.labels(view, click_id)?,
            None => None,
        };
        let known = || before.iter().find(|old| old.publisher_id == Some(share.publisher_id));
        let kept =
            || known().map(|old| Labels { link: old.link.clone(), source: old.source.clone(), sub1: old.sub1.clone() });
        Ok(found.or_else(kept).unwrap_or_default())
    }
}

impl Ruling {
    /// The clicks that it was decided by are not stored yet.
    pub fn with_clicks(mut self, clicks: Clicks, row: &ConversionRow) -> Ruling {
        self.row.get_or_insert((clicks, row.revision, row.booked));
        self
    }

    fn written(&self) -> Written<'_> {
        Written { id: self.id, revision: self.revision, facts: &self.facts, decision: &self.decision }
    }

    fn decided(&self) -> Option<Decided<'_>> {
        let (clicks, revision, booked) = self.row.as_ref()?;
        Some(Decided { id: self.id, clicks, revision: *revision, booked: *booked })
    }
}

/// A decision that differs in more than its words is a new revision and moves the books.
fn change(before: Option<&DecisionRow>, facts: &StoredFacts, decision: &Decision) -> Change {
    match before {
        Some(before) if before.facts == *facts && before.decision == *decision => Change::Nothing,
        Some(before) if without_words(&before.decision) == without_words(decision) => Change::Words,
        _ => Change::Decision,
    }
}

/// The books get the difference between the decision and what is posted.
fn difference(
    row: &ConversionRow,
    posted: &[Entry],
    decision: &Decision,
    at: TimeMs,
) -> Result<Vec<Entry>, NotApplied> {
    let occasion = Occasion {
        conversion_id: &row.report.conversion_id,
        revision: posted.last().map_or(0, |entry| entry.revision) + 1,
        merchant_id: row.report.merchant_id,
        currency: row.report.currency,
        at,
    };
    Ok(ledger::post(&occasion, &Balances::of(posted), decision)?)
}

/// The refunds of an order: the first are told one by one, those behind them are added up. Each is read once: the decision
/// before has the sum so far.
fn refunds(
    view: View<'_>,
    report: &Conversion,
    before: Option<&StoredFacts>,
) -> Result<(Vec<Refund>, RefundSum), StoreError> {
    let id = &report.conversion_id;
    let told = view.refunds(id, MAX_TOLD_REFUNDS)?;
    let mut sum = RefundSum::default();
    if told.len() == MAX_TOLD_REFUNDS {
        sum = before.map(|facts| facts.more_refunds.clone()).unwrap_or_default();
        let skus: HashSet<&str> = report.items.iter().filter_map(|item| item.sku.as_deref()).collect();
        let unread = (MAX_TOLD_REFUNDS as u64 + sum.count, u64::MAX);
        view.each_refund(id, unread, |refund| sum.add(&refund, |sku| skus.contains(sku)))?;
    }
    Ok((told, sum))
}

fn without_publisher(row: &ConversionRow, decision: &Decision) -> ShareRow {
    let report = &row.report;
    let coupon_code = report.coupon_code.as_deref().map(str::trim).filter(|code| !code.is_empty());
    ShareRow {
        conversion: row.id,
        occurred: report.occurred_at_ms,
        merchant_id: report.merchant_id,
        offer_id: decision.offer_id,
        publisher_id: None,
        link: None,
        source: None,
        sub1: None,
        kind: report.kind.clone(),
        coupon_code: coupon_code.map(str::to_owned),
        currency: report.currency,
        amount: decision.kept_amount,
        commission: 0,
        reversed: 0,
    }
}

/// What is decided, without how it is explained.
fn without_words(decision: &Decision) -> Decision {
    Decision { explanation: Vec::new(), ..decision.clone() }
}
