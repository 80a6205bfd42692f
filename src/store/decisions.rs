//! Decisions by revision, each with the facts it was made from. The report and the refunds stand in their own tables:
//! they never change.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::connection::{ManyKeys, Table};
use super::value::{Row, Value, params};
use super::{Batch, RowId, StoreError, View, numbers, read_json, write_json};
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

/// A decision to be written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'w> {
    pub id: RowId,
    pub revision: u32,
    pub facts: &'w StoredFacts,
    pub decision: &'w Decision,
}

const DECISIONS: Table<4> = Table {
    name: "decisions",
    columns: [("conversion", "bigint"), ("revision", "bigint"), ("facts", "text"), ("decision", "text")],
};

impl Batch<'_> {
    /// Adds the next revision of each. `record_decided` says of each conversion which that is.
    pub fn add_decisions(&self, decisions: &[Written<'_>]) -> Result<(), StoreError> {
        let texts = texts(decisions)?;
        let rows = decisions.iter().zip(&texts).map(values);
        self.connection.insert(&DECISIONS, rows, "")
    }

    /// The same decisions by more facts: only their explanations differ.
    pub fn reword_decisions(&self, decisions: &[Written<'_>]) -> Result<(), StoreError> {
        let texts = texts(decisions)?;
        self.connection.execute_many(
            "UPDATE decisions SET facts = ?3, decision = ?4 WHERE conversion = ?1 AND revision = ?2",
            "UPDATE decisions SET facts = new.facts, decision = new.decision
             FROM unnest(?1::bigint[], ?2::bigint[], ?3::text[], ?4::text[]) AS new (conversion, revision, facts, decision)
             WHERE decisions.conversion = new.conversion AND decisions.revision = new.revision",
            decisions.iter().zip(&texts).map(values),
        )
    }
}

/// Facts and decision of each.
fn texts(decisions: &[Written<'_>]) -> Result<Vec<(String, String)>, StoreError> {
    let text = |one: &Written<'_>| Ok((write_json("facts", one.facts)?, write_json("decision", one.decision)?));
    decisions.iter().map(text).collect()
}

fn values<'t>((one, (facts, decision)): (&Written<'_>, &'t (String, String))) -> [Value<'t>; 4] {
    [Value::Int(one.id.0), Value::Int(i64::from(one.revision)), Value::Text(facts), Value::Text(decision)]
}

impl View<'_> {
    pub fn latest_decision(&self, id: RowId) -> Result<Option<DecisionRow>, StoreError> {
        let sql =
            "SELECT revision, facts, decision FROM decisions WHERE conversion = ?1 ORDER BY revision DESC LIMIT 1";
        self.connection.first(sql, params![id.0], decision_row)
    }

    /// The latest ones of many conversions, where there is one.
    pub fn latest_decisions(&self, ids: &[RowId]) -> Result<Vec<(RowId, DecisionRow)>, StoreError> {
        let one = "SELECT revision, facts, decision, conversion FROM decisions
             WHERE conversion = ?1 ORDER BY revision DESC LIMIT 1";
        let all = "SELECT revision, facts, decision, conversion FROM unnest(?1::bigint[]) AS asked (wanted)
             CROSS JOIN LATERAL (SELECT * FROM decisions WHERE conversion = wanted ORDER BY revision DESC LIMIT 1) AS latest";
        let read = |row: &Row<'_>| Ok((RowId(row.get(3)?), decision_row(row)?));
        self.connection.rows_of(one, all, ManyKeys::Ints(&numbers(ids)), read)
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
