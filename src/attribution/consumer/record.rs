//! Decides a conversion by all of its facts, and writes down what changed: decision, books, and what reports show.

use std::collections::HashSet;

use super::judge::{Judge, NotApplied};
use crate::attribution::{Clicks, Decision, Facts, MAX_TOLD_REFUNDS, Share, decide};
use crate::click::ClickId;
use crate::commission::RefundSum;
use crate::event::{Conversion, Refund};
use crate::ledger::{self, Balances, Occasion};
use crate::store::{Batch, ConversionRow, DecisionRow, ShareRow, StoreError, StoredFacts, View};
use crate::time::TimeMs;
use crate::touch::Labels;

impl Judge<'_> {
    /// Decides by all facts there are, with the terms of the first decision. `at`: when the new fact was received.
    pub fn decide_again(&mut self, batch: &Batch<'_>, row: &ConversionRow, at: TimeMs) -> Result<(), NotApplied> {
        let before = if row.revision == 0 { None } else { batch.view().latest_decision(row.id)? };
        let (refunds, more_refunds) = refunds(batch.view(), &row.report, before.as_ref().map(|row| &row.facts))?;
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
        let decision = self.decided(batch.view(), row, &facts)?;
        self.record(batch, row, before, &StoredFacts::of(&facts), &decision, at.max(row.booked))
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

    /// A decision that differs in more than its words is a new revision and moves the books.
    fn record(
        &mut self,
        batch: &Batch<'_>,
        row: &ConversionRow,
        before: Option<DecisionRow>,
        facts: &StoredFacts,
        decision: &Decision,
        at: TimeMs,
    ) -> Result<(), NotApplied> {
        match &before {
            // With a shared index labels may be known now that were not before.
            Some(before) if before.facts == *facts && before.decision == *decision => {
                if !self.memory.touches.are_shared() {
                    return Ok(());
                }
            }
            Some(before) if without_words(&before.decision) == without_words(decision) => {
                batch.reword_decision(row.id, before.revision, facts, decision)?;
            }
            _ => {
                batch.add_decision(row.id, row.revision + 1, facts, decision, at)?;
                self.post(batch, row, decision, at)?;
                if self.memory.touches.are_shared() {
                    batch.tell(row.id, row.revision + 1)?;
                }
            }
        }
        let rows = self.share_rows(batch, row, decision)?;
        if before.is_some() {
            batch.remove_shares(row.id)?;
        }
        batch.add_shares(&rows)?;
        let verdict = |decision: &Decision| (decision.outcome, decision.reason);
        if before.is_none_or(|before| verdict(&before.decision) != verdict(decision)) {
            self.metrics.count_outcome(decision.outcome, decision.reason);
        }
        Ok(())
    }

    /// The books get the difference between the decision and what is posted.
    fn post(&self, batch: &Batch<'_>, row: &ConversionRow, decision: &Decision, at: TimeMs) -> Result<(), NotApplied> {
        let entries = if row.revision == 0 { Vec::new() } else { batch.view().entries(row.id)? };
        let occasion = Occasion {
            conversion_id: &row.report.conversion_id,
            revision: entries.last().map_or(0, |entry| entry.revision) + 1,
            merchant_id: row.report.merchant_id,
            currency: row.report.currency,
            at,
        };
        let entries = ledger::post(&occasion, &Balances::of(&entries), decision)?;
        self.metrics.imbalance.add(entries.iter().map(|entry| entry.amount).sum());
        Ok(batch.add_entries(row.id, &entries)?)
    }

    /// The decision as reports group it: a row per share, or one without publisher.
    fn share_rows(
        &self,
        batch: &Batch<'_>,
        row: &ConversionRow,
        decision: &Decision,
    ) -> Result<Vec<ShareRow>, StoreError> {
        let whole = without_publisher(row, decision);
        if decision.shares.is_empty() {
            return Ok(vec![whole]);
        }
        let before = if row.revision == 0 { Vec::new() } else { batch.view().shares(row.id)? };
        let line = |share: &Share| {
            let Labels { link, source, sub1 } = self.labels(batch, share, &before)?;
            let (commission, reversed) = (share.commission, share.reversed);
            let publisher_id = Some(share.publisher_id);
            Ok(ShareRow { publisher_id, link, source, sub1, commission, reversed, ..whole.clone() })
        };
        decision.shares.iter().map(line).collect()
    }

    /// Of the share's touch. When the index has dropped it, or does not have it yet: what stood there before.
    fn labels(&self, batch: &Batch<'_>, share: &Share, before: &[ShareRow]) -> Result<Labels, StoreError> {
        let found = match share.click_id {
            Some(click_id) => self.memory.touches.labels(batch.view(), click_id)?,
            None => None,
        };
        let known = || before.iter().find(|old| old.publisher_id == Some(share.publisher_id));
        let kept =
            || known().map(|old| Labels { link: old.link.clone(), source: old.source.clone(), sub1: old.sub1.clone() });
        Ok(found.or_else(kept).unwrap_or_default())
    }
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
