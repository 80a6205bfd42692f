//! `afflux explain`: a decision in words, then as JSON (contract P1).

use std::io::{self, Write};

use serde::Serialize;

use super::command::{CommandError, Verdict};
use super::conversion::Answer;
use crate::attribution::{Settings, Step};
use crate::catalog::MerchantId;
use crate::ledger::Entry;
use crate::store::{ConversionRow, Reader, StoreError, View};
use crate::time::TimeMs;

/// Types of one order; offers have a handful.
const MAX_OF_ORDER: usize = 1_000;

/// Which conversion is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    Id(String),
    Order { merchant_id: MerchantId, order_id: String, kind: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not MERCHANT/ORDER or MERCHANT/ORDER/TYPE")]
pub struct NotAnOrder(String);

/// All that is known of a conversion.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    answer: Answer,
    revision: u32,
    received_at_ms: TimeMs,
    hold_until_ms: Option<TimeMs>,
    /// Hash of the terms that hold for it.
    catalog: String,
    settings: Settings,
    /// Reports of the order or its refunds that differed from the one that won.
    conflicts: u64,
    entries: Vec<Entry>,
}

impl Which {
    /// Reads `MERCHANT/ORDER` or `MERCHANT/ORDER/TYPE`. An order's number may hold a `/` itself: what follows the last
    /// one is a type only where no order has the whole as its number.
    pub fn order(text: &str) -> Result<Which, NotAnOrder> {
        let wrong = || NotAnOrder(text.to_owned());
        let (merchant, order_id) = text.split_once('/').ok_or_else(wrong)?;
        let merchant_id = merchant.parse().map(MerchantId).map_err(|_| wrong())?;
        if order_id.is_empty() {
            return Err(wrong());
        }
        Ok(Which::Order { merchant_id, order_id: order_id.to_owned(), kind: None })
    }

    /// All that are meant.
    pub fn find(&self, view: View<'_>) -> Result<Vec<ConversionRow>, StoreError> {
        match self {
            Which::Id(id) => Ok(view.conversion(id)?.into_iter().collect()),
            Which::Order { merchant_id, order_id, kind } => {
                let mut found = view.conversions_of_order(order_id, Some(*merchant_id), MAX_OF_ORDER)?;
                found.retain(|row| kind.as_ref().is_none_or(|kind| row.report.kind == *kind));
                match (order_id.rsplit_once('/'), kind) {
                    (Some((order_id, kind)), None) if found.is_empty() => {
                        let (order_id, kind) = (order_id.to_owned(), Some(kind.to_owned()));
                        Which::Order { merchant_id: *merchant_id, order_id, kind }.find(view)
                    }
                    _ => Ok(found),
                }
            }
        }
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Which::Id(id) => write!(out, "conversion {id:?}"),
            Which::Order { merchant_id, order_id, kind } => {
                let kind = kind.as_ref().map(|kind| format!(" of type {kind}")).unwrap_or_default();
                write!(out, "order {order_id:?}{kind} of merchant {merchant_id}")
            }
        }
    }
}

/// Explains every conversion that is meant, each with a line of JSON; `json_only` leaves the words out.
pub fn explain(
    reader: &mut Reader,
    which: &Which,
    json_only: bool,
    out: &mut dyn Write,
) -> Result<Verdict, CommandError> {
    let explained: Vec<Explained> = reader.view(|view| {
        let found = which.find(view)?;
        found.into_iter().map(|row| Explained::of(view, row)).collect::<Result<_, StoreError>>()
    })?;
    for conversion in &explained {
        if !json_only {
            conversion.write_words(out)?;
        }
        // Strings, numbers and lists of them under string keys: it serialises.
        writeln!(out, "{}", serde_json::to_string(conversion).unwrap_or_default())?;
    }
    Ok(Verdict::good_if(!explained.is_empty()))
}

impl Explained {
    fn of(view: View<'_>, row: ConversionRow) -> Result<Explained, StoreError> {
        let decision = view.latest_decision(row.id)?;
        Ok(Explained {
            revision: row.revision,
            received_at_ms: row.report.received_at_ms,
            hold_until_ms: decision.and_then(|row| row.decision.hold_until_ms),
            catalog: row.catalog.clone(),
            settings: row.settings,
            conflicts: view.conflict_count(&row.report.conversion_id)?,
            entries: view.entries(row.id)?,
            answer: Answer::of(view, row)?,
        })
    }

    fn write_words(&self, out: &mut dyn Write) -> io::Result<()> {
        let answer = &self.answer;
        writeln!(out, "Conversion {} of merchant {}", answer.conversion_id, answer.merchant_id)?;
        if let Some(known) = &answer.known {
            writeln!(out, "{known}")?;
        }
        let reason = answer.reason.map(|reason| format!(", {}", name_of(&reason))).unwrap_or_default();
        let state = answer.state.map(|state| format!(", {}", name_of(&state))).unwrap_or_default();
        writeln!(out, "Outcome: {}{reason}{state} (revision {})", answer.outcome, self.revision)?;
        for step in answer.steps() {
            write_step(step, out)?;
        }
        if self.conflicts > 0 {
            writeln!(out, "{} later reports of it differed; the first one stands.", self.conflicts)?;
        }
        for entry in &self.entries {
            let (id, account) = (entry.id().0, entry.account);
            writeln!(out, "Posted {id}: {account} {:+} {}", entry.amount, entry.currency)?;
        }
        Ok(())
    }
}

/// As it stands in the JSON.
fn name_of(word: &impl Serialize) -> String {
    serde_json::to_value(word).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn write_step(step: &Step, out: &mut dyn Write) -> io::Result<()> {
    let mark = match step.kept {
        Some(true) => "+",
        Some(false) => "-",
        None => " ",
    };
    writeln!(out, " {mark} {:<10} {}", step.rule, step.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_named_by_merchant_and_number() {
        let order = |text: &str| Which::order(text);
        let expected = Which::Order { merchant_id: MerchantId(1), order_id: "A/2".into(), kind: None };
        assert_eq!(order("1/A/2"), Ok(expected));
        for text in ["", "1", "1/", "x/A-1", "/A-1"] {
            assert_eq!(order(text), Err(NotAnOrder(text.into())));
        }
    }
}
