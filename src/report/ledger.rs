//! `afflux ledger cat` and `afflux ledger check` (contract P1).

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use serde::Serialize;

use super::command::{CommandError, Verdict};
use crate::attribution::{Decision, MAX_TOLD_REFUNDS, decide};
use crate::catalog::Rulebook;
use crate::commission::RefundSum;
use crate::event::Conversion;
use crate::ledger;
use crate::money::MinorUnits;
use crate::store::{BookLine, ConversionRow, DecisionRow, Reader, RowId, StoreError, View};
use crate::time::TimeMs;

/// Conversions read at once.
const STEP: usize = 256;

/// Violations that are written out; all are counted.
const MAX_TOLD: usize = 100;

/// Writes what each account holds of each conversion, an object a line: by the facts received up to `until`, or by all.
/// Sorted, without history, numbers of the database or clocks: two stores that know the same facts write the same bytes,
/// whatever order they learned them in.
pub fn cat(reader: &mut Reader, until: Option<TimeMs>, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    #[derive(Serialize)]
    struct Line<'l> {
        merchant_id: u32,
        order_id: &'l str,
        r#type: &'l str,
        conversion_id: &'l str,
        account: &'l str,
        amount: MinorUnits,
        currency: &'l str,
    }
    reader.view(|view| {
        view.books(until.unwrap_or(TimeMs(i64::MAX)), |line: BookLine| {
            let line = Line {
                merchant_id: line.merchant_id.0,
                order_id: &line.order_id,
                r#type: &line.kind,
                conversion_id: &line.conversion_id,
                account: &line.account,
                amount: line.amount,
                currency: &line.currency,
            };
            // Strings and numbers only: it serialises.
            writeln!(out, "{}", serde_json::to_string(&line).unwrap_or_default())?;
            Ok::<(), CommandError>(())
        })
    })?;
    Ok(Verdict::Good)
}

/// Checks every invariant there is, and says what is broken: all entries balance and belong to somebody; the balances of
/// each conversion are what its decision says; every decision comes out again from its stored facts, byte for byte;
/// what reports show is what was decided; no refund waits for an order that is there.
pub fn check(reader: &mut Reader, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let mut check = Check { violations: 0, told: Vec::new(), rulebooks: BTreeMap::new(), entries: 0, decisions: 0 };
    let mut conversions = 0;
    reader.view(|view| {
        check.whole(view)?;
        let mut after = RowId(0);
        loop {
            let rows = view.conversions_after(after, STEP)?;
            let Some(last) = rows.last() else { return Ok::<(), StoreError>(()) };
            after = last.id;
            conversions += rows.len();
            rows.iter().try_for_each(|row| check.conversion(view, row))?;
        }
    })?;
    for line in &check.told {
        writeln!(out, "{line}")?;
    }
    let Check { violations, entries, decisions, .. } = check;
    let verdict = if violations == 0 { "no invariant is broken".into() } else { format!("{violations} violations") };
    writeln!(out, "{conversions} conversions, {decisions} decisions, {entries} entries: {verdict}")?;
    Ok(Verdict::good_if(violations == 0))
}

struct Check {
    violations: usize,
    told: Vec<String>,
    rulebooks: BTreeMap<String, Option<Rulebook>>,
    entries: usize,
    decisions: usize,
}

impl Check {
    fn whole(&mut self, view: View<'_>) -> Result<(), StoreError> {
        for entry_id in view.stray_entries()? {
            self.broken(format!("entry {entry_id} belongs to no conversion of that ID"));
        }
        for (currency, sum) in view.imbalance()? {
            self.broken(format!("all entries in {currency} sum to {sum}, not to 0"));
        }
        for refund_id in view.refunds_forgotten()? {
            self.broken(format!(
                "refund {refund_id:?} waits for an order that is there, or does not wait for one that is not"
            ));
        }
        match view.impossible_rollups()? {
            0 => {}
            rows => {
                self.broken(format!("{rows} rows of clicks have more billable clicks than clicks, or less than none"))
            }
        }
        Ok(())
    }

    fn conversion(&mut self, view: View<'_>, row: &ConversionRow) -> Result<(), StoreError> {
        let report = &row.report;
        let (entries, decisions) = (view.entries(row.id)?, view.decisions(row.id)?);
        self.entries += entries.len();
        self.decisions += decisions.len();
        let latest = decisions.last().map(|row| &row.decision);
        for violation in ledger::check(&report.conversion_id, report.merchant_id, report.currency, &entries, latest) {
            self.broken(violation.to_string());
        }
        self.revisions(row, &decisions);
        self.made_again(view, row, &decisions)?;
        if let Some(decision) = latest {
            self.shares(view, row, decision)?;
        }
        Ok(())
    }

    fn revisions(&mut self, row: &ConversionRow, decisions: &[DecisionRow]) {
        let id = &row.report.conversion_id;
        if decisions.is_empty() {
            self.broken(format!("conversion {id}: was never decided"));
        }
        if !decisions.iter().map(|decision| decision.revision).eq(1..=row.revision) {
            self.broken(format!("conversion {id}: its decisions are not those from 1 to {}", row.revision));
        }
    }

    fn made_again(&mut self, view: View<'_>, row: &ConversionRow, stored: &[DecisionRow]) -> Result<(), StoreError> {
        let id = &row.report.conversion_id;
        if !self.rulebooks.contains_key(&row.catalog) {
            self.rulebooks.insert(row.catalog.clone(), view.rulebook(&row.catalog)?);
        }
        let Some(Some(rulebook)) = self.rulebooks.get(&row.catalog) else {
            self.broken(format!("conversion {id}: its catalog {} is not there", row.catalog));
            return Ok(());
        };
        // Rows of before tell up to 1,000 one by one.
        let refunds = view.refunds(id, 1_000)?;
        let mut sum = RefundSum::default();
        let mut differing = Vec::new();
        for stored in stored {
            let facts = stored.facts.complete(row.report.clone(), &refunds);
            let text = serde_json::to_string(&decide(&facts, rulebook, &row.settings)).unwrap_or_default();
            add_refunds(&mut sum, view, &row.report, stored.facts.more_refunds.count)?;
            let count = facts.refunds.len() as u64 + sum.count;
            if text != stored.text || sum != facts.more_refunds || count != stored.facts.refund_count() {
                differing.push(stored.revision);
            }
        }
        for revision in differing {
            self.broken(format!("conversion {id}: revision {revision} does not come out again from its facts"));
        }
        let counted = stored.last().map_or(0, |stored| stored.facts.refund_count());
        if view.refund_count(id, counted + 1)? != counted {
            self.broken(format!("conversion {id}: its decision counts {counted} refunds and there are others"));
        }
        Ok(())
    }

    /// What reports add up is what was decided and posted.
    fn shares(&mut self, view: View<'_>, row: &ConversionRow, decision: &Decision) -> Result<(), StoreError> {
        let mut decided: Vec<_> = (decision.shares.iter())
            .map(|share| (Some(share.publisher_id), share.commission, share.reversed, decision.kept_amount))
            .collect();
        if decided.is_empty() {
            decided.push((None, 0, 0, decision.kept_amount));
        }
        decided.sort();
        let rows = view.shares(row.id)?;
        let mut shown: Vec<_> =
            rows.iter().map(|share| (share.publisher_id, share.commission, share.reversed, share.amount)).collect();
        shown.sort();
        if shown != decided || rows.iter().any(|share| share.occurred != row.report.occurred_at_ms) {
            self.broken(format!(
                "conversion {}: reports show other shares than its decision",
                row.report.conversion_id
            ));
        }
        Ok(())
    }

    fn broken(&mut self, what: String) {
        self.violations += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push(what);
        }
    }
}

/// Reads on until the sum is of `count` refunds, or of all there are.
fn add_refunds(sum: &mut RefundSum, view: View<'_>, report: &Conversion, count: u64) -> Result<(), StoreError> {
    let skus: HashSet<&str> = report.items.iter().filter_map(|item| item.sku.as_deref()).collect();
    let unread = (MAX_TOLD_REFUNDS as u64 + sum.count, count.saturating_sub(sum.count));
    view.each_refund(&report.conversion_id, unread, |refund| sum.add(&refund, |sku| skus.contains(sku)))
}
