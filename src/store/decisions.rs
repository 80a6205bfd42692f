//! Decisions by revision, each with the facts it was made from. The report and the refunds stand in their own tables:
//! they never change.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::value::{Row, params};
use super::{Batch, RowId, StoreError, View, read_json, write_json};
use crate::attribution::{Decision, Extent, Facts, OwnClick, Touch};
use crate::commission::RefundSum;
use crate::event::{Conversion, MerchantStatus, Refund};
use crate::time::TimeMs;

/// `Facts` without what has a row of its own: enough to make the decision again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFacts {
    /// The times of the copy of the report that stood then: one received earlier may have taken its place since.
    pub received_at_ms: TimeMs,
    pub occurred_at_ms: TimeMs,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub occurred_at_whole_seconds: bool,
    pub own_click: OwnClick,
    pub touches: Vec<Touch>,
    #[serde(default, skip_serializing_if = "Extent::is_whole")]
    pub extent: Extent,
    /// The first so many refunds in the order in which they were stored, and the sum of those behind them. `None` in rows
    /// of before, which list their IDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refunds: Option<usize>,
    #[serde(default, skip_serializing_if = "RefundSum::is_empty")]
    pub more_refunds: RefundSum,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refund_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant_status: Option<MerchantStatus>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late_click_ignored: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionRow {
    pub revision: u32,
    pub facts: StoredFacts,
    /// The decision's JSON, byte for byte as it was made.
    pub text: String,
    pub decision: Decision,
}

impl StoredFacts {
    pub fn of(facts: &Facts) -> StoredFacts {
        StoredFacts {
            received_at_ms: facts.report.received_at_ms,
            occurred_at_ms: facts.report.occurred_at_ms,
            occurred_at_whole_seconds: facts.report.occurred_at_whole_seconds,
            own_click: facts.own_click,
            touches: facts.touches.clone(),
            extent: facts.extent,
            refunds: Some(facts.refunds.len()),
            more_refunds: facts.more_refunds.clone(),
            refund_ids: Vec::new(),
            merchant_status: facts.merchant_status,
            late_click_ignored: facts.late_click_ignored,
        }
    }

    /// How many refunds were known.
    pub fn refund_count(&self) -> u64 {
        self.refunds.unwrap_or(self.refund_ids.len()) as u64 + self.more_refunds.count
    }

    /// Puts the facts together again. `refunds`: the first of the conversion that were stored, in that order.
    pub fn complete(&self, report: Conversion, refunds: &[Refund]) -> Facts {
        let listed: HashSet<&str> = self.refund_ids.iter().map(String::as_str).collect();
        let known = |refund: &&Refund| self.refunds.is_some() || listed.contains(refund.refund_id.as_str());
        let report = Conversion {
            received_at_ms: self.received_at_ms,
            occurred_at_ms: self.occurred_at_ms,
            occurred_at_whole_seconds: self.occurred_at_whole_seconds,
            ..report
        };
        Facts {
            report,
            own_click: self.own_click,
            touches: self.touches.clone(),
            extent: self.extent,
            refunds: refunds.iter().take(self.refunds.unwrap_or(refunds.len())).filter(known).cloned().collect(),
            more_refunds: self.more_refunds.clone(),
            merchant_status: self.merchant_status,
            late_click_ignored: self.late_click_ignored,
        }
    }
}

impl Batch<'_> {
    /// Adds the next revision. `booked` is the time of the latest fact.
    pub fn add_decision(
        &self,
        id: RowId,
        revision: u32,
        facts: &StoredFacts,
        decision: &Decision,
        booked: TimeMs,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO decisions (conversion, revision, facts, decision) VALUES (?1, ?2, ?3, ?4)",
            params![id.0, revision, write_json("facts", facts)?, write_json("decision", decision)?],
        )?;
        self.execute(
            "UPDATE conversions SET revision = ?2, booked_ms = ?3 WHERE id = ?1",
            params![id.0, revision, booked.0],
        )?;
        Ok(())
    }
}

impl Batch<'_> {
    /// The same decision by more facts: only its explanation differs.
    pub fn reword_decision(
        &self,
        id: RowId,
        revision: u32,
        facts: &StoredFacts,
        decision: &Decision,
    ) -> Result<(), StoreError> {
        self.execute(
            "UPDATE decisions SET facts = ?3, decision = ?4 WHERE conversion = ?1 AND revision = ?2",
            params![id.0, revision, write_json("facts", facts)?, write_json("decision", decision)?],
        )?;
        Ok(())
    }
}

impl View<'_> {
    pub fn latest_decision(&self, id: RowId) -> Result<Option<DecisionRow>, StoreError> {
        let sql =
            "SELECT revision, facts, decision FROM decisions WHERE conversion = ?1 ORDER BY revision DESC LIMIT 1";
        self.connection.first(sql, params![id.0], decision_row)
    }

    /// All revisions, the first one first.
    pub fn decisions(&self, id: RowId) -> Result<Vec<DecisionRow>, StoreError> {
        let sql = "SELECT revision, facts, decision FROM decisions WHERE conversion = ?1 ORDER BY revision";
        self.connection.rows(sql, params![id.0], decision_row)
    }
}

fn decision_row(row: &Row<'_>) -> Result<DecisionRow, StoreError> {
    let (facts, text) = (read_json("facts", row.text(1)?)?, row.get::<String>(2)?);
    let decision = read_json("decision", &text)?;
    Ok(DecisionRow { revision: row.get(0)?, facts, text, decision })
}
