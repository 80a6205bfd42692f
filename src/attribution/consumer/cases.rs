//! The conversions of one transaction of decisions: locked, their touches looked up together, each decided by itself.

use std::collections::{BTreeMap, HashMap};

use super::decider::Barrier;
use super::judge::{Judge, NotApplied};
use super::later::leaves_out;
use super::later_metrics::WaitingMetrics;
use super::record::Past;
use super::shared::{SharedTouches, covers};
use super::touches::{Fetched, Touches};
use crate::attribution::Clicks;
use crate::click::{ClickId, VisitorKey};
use crate::store::{Batch, ConversionRow, DeadLetter, RowId, Stand, StoreError, Waiting};
use crate::time::TimeMs;

/// By what a conversion is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// All touches up to its barrier.
    WholeIndex,
    /// What is known.
    Known,
}

/// A conversion at hand, with what there is of its clicks.
pub struct Case {
    waiting: Waiting,
    pub row: ConversionRow,
    clicks: Clicks,
}

/// Whether it is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concluded {
    Done,
    PutOff,
}

pub enum Failed {
    Store(StoreError),
    Unavailable(super::shared::Unavailable),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Store(error)
    }
}

/// Those that still wait as they were seen, now this transaction's; and those that do not read back. What others are at is
/// left to them.
pub fn cases(batch: &Batch<'_>, some: &[Waiting]) -> Result<(Vec<Case>, Vec<RowId>), StoreError> {
    let ids: Vec<RowId> = some.iter().map(|one| one.id).collect();
    // In the order in which everybody locks: conversions, then what waits.
    let mut rows: BTreeMap<RowId, _> = batch.lock_free_conversions(&ids)?.into_iter().collect();
    let ids: Vec<RowId> = rows.keys().copied().collect();
    let (mut cases, mut unreadable) = (Vec::new(), Vec::new());
    for waiting in batch.lock_waiting(&ids)?.into_iter().filter(|waiting| some.contains(waiting)) {
        match rows.remove(&waiting.id) {
            Some(Ok(row)) => cases.push(Case { waiting, row, clicks: Clicks::default() }),
            Some(Err(error)) if error.is_about_the_record() => {
                told_unreadable(waiting.id, &error);
                unreadable.push(waiting.id);
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    Ok((cases, unreadable))
}

/// Its row was changed by something else: it waits on, and holds up nobody.
pub fn told_unreadable(id: RowId, error: &StoreError) {
    tracing::error!(conversion = id.0, %error, "a conversion that waits does not read back");
}

/// Fetches the clicks of all visitors in one look-up. Cases that the index does not cover after all are left waiting.
pub fn look_up(
    judge: &mut Judge<'_>,
    batch: &Batch<'_>,
    cases: &mut Vec<Case>,
    touches: &mut dyn SharedTouches,
    by: By,
    barriers: &HashMap<RowId, Barrier>,
) -> Result<(), Failed> {
    let mut since: BTreeMap<VisitorKey, TimeMs> = BTreeMap::new();
    for case in cases.iter() {
        for (visitor, at) in about_the_record(judge.look_ups(batch, &case.row))?.unwrap_or_default() {
            let earliest = since.entry(visitor).or_insert(at);
            *earliest = at.min(*earliest);
        }
    }
    let visitors: Vec<(VisitorKey, TimeMs)> = since.into_iter().collect();
    let looked = match touches.find(&visitors) {
        Ok(looked) => looked,
        Err(_) if by == By::Known => return Ok(()),
        Err(error) => return Err(Failed::Unavailable(error)),
    };
    if by == By::WholeIndex {
        let is_covered = |id: &RowId| barriers.get(id).is_some_and(|barrier| covers(&looked.positions, &barrier.ends));
        cases.retain(|case| is_covered(&case.row.id));
    }
    let clicks = visitors.into_iter().map(|(visitor, _)| visitor).zip(looked.found).collect();
    judge.memory.touches = Touches::Shared(Fetched { clicks, labels: HashMap::new() });
    Ok(())
}

/// Gathers the clicks of each case, and fetches what reports show of them.
pub fn gather(
    judge: &mut Judge<'_>,
    batch: &Batch<'_>,
    cases: &mut [Case],
    touches: &mut dyn SharedTouches,
    by: By,
) -> Result<(), Failed> {
    let mut ids: Vec<ClickId> = Vec::new();
    for case in cases.iter_mut() {
        let gathered = about_the_record(caught(|| judge.gather_again(batch, &case.row, by == By::WholeIndex)))?;
        case.clicks = gathered.unwrap_or_else(|| case.row.clicks.clone());
        let earning = about_the_record(caught(|| judge.earning(batch.view(), &case.row, &case.clicks)))?;
        ids.extend(earning.unwrap_or_default());
    }
    let labels = match touches.labels(&ids) {
        Ok(labels) => labels,
        Err(_) if by == By::Known => Vec::new(),
        Err(error) => return Err(Failed::Unavailable(error)),
    };
    if let Touches::Shared(fetched) = &mut judge.memory.touches {
        fetched.labels = ids.into_iter().zip(labels).filter_map(|(id, labels)| Some((id, labels?))).collect();
    }
    Ok(())
}

/// What one conversion cannot be is found again, and told, when it is decided.
fn about_the_record<T>(result: Result<T, NotApplied>) -> Result<Option<T>, Failed> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(NotApplied::Store(error)) if !error.is_about_the_record() => Err(Failed::Store(error)),
        Err(_) => Ok(None),
    }
}

/// A panic is about the one at hand, like a decision that cannot be: what it wrote is undone, and the others are decided.
fn caught<T>(work: impl FnOnce() -> Result<T, NotApplied>) -> Result<T, NotApplied> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(Err(NotApplied::Panicked))
}

/// It waits on. What was left out of its facts may not be below the end that it was told: it is told another.
fn provisional(case: &Case, now: TimeMs) -> Waiting {
    let Waiting { id, since, .. } = case.waiting;
    let is_left_out = leaves_out(&case.clicks, &case.row.clicks);
    let since = if is_left_out { now.max(TimeMs(since.0 + 1)) } else { since };
    Waiting { id, since, stand: Stand::Provisional }
}

/// Decides all of them together, in a few statements; where that fails for one, each by itself. Returns those that wait on
/// undecided, for a while.
pub fn conclude(
    judge: &mut Judge<'_>,
    batch: &Batch<'_>,
    cases: &[Case],
    by: By,
    metrics: &WaitingMetrics,
) -> Result<Vec<RowId>, StoreError> {
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    match batch.attempt(|batch| caught(|| decide(judge, batch, cases, by))) {
        Ok(()) => {
            count(metrics, by, cases.len());
            Ok(Vec::new())
        }
        Err(NotApplied::Store(error)) if !error.is_about_the_record() => Err(error),
        Err(_) => {
            let mut put_off = Vec::new();
            for case in cases {
                if conclude_one(judge, batch, case, by, metrics)? == Concluded::PutOff {
                    put_off.push(case.row.id);
                }
            }
            Ok(put_off)
        }
    }
}

/// They wait on only where they were decided by what is known.
fn decide(judge: &mut Judge<'_>, batch: &Batch<'_>, cases: &[Case], by: By) -> Result<(), NotApplied> {
    let mut past = Past::read(batch.view(), cases.iter().map(|case| &case.row))?;
    let mut rulings = Vec::with_capacity(cases.len());
    for Case { row, clicks, .. } in cases {
        let ruling = judge.rule_waiting(batch.view(), row, clicks, &mut past)?;
        rulings.push(if row.clicks == *clicks { ruling } else { ruling.with_clicks(clicks.clone(), row) });
    }
    // What is counted when it is written counts once: nothing behind it is about a record.
    match by {
        By::WholeIndex => batch.end_waiting(&cases.iter().map(|case| case.row.id).collect::<Vec<_>>())?,
        By::Known => {
            batch.put_waiting(&cases.iter().map(|case| provisional(case, judge.now)).collect::<Vec<_>>())?;
        }
    }
    judge.write(batch, &rulings)
}

fn count(metrics: &WaitingMetrics, by: By, decided: usize) {
    let counter = match by {
        By::WholeIndex => &metrics.decided,
        By::Known => &metrics.decided_provisionally,
    };
    counter.add(decided as u64);
}

/// One that cannot be decided is told and counted. If it never was, it waits no more and is kept as a dead letter; if it was,
/// by less than there is now, that must not become final: it waits on, and is tried again after a while.
fn conclude_one(
    judge: &mut Judge<'_>,
    batch: &Batch<'_>,
    case: &Case,
    by: By,
    metrics: &WaitingMetrics,
) -> Result<Concluded, StoreError> {
    let row = &case.row;
    match batch.attempt(|batch| caught(|| decide(judge, batch, std::slice::from_ref(case), by))) {
        Ok(()) => {
            count(metrics, by, 1);
            Ok(Concluded::Done)
        }
        Err(NotApplied::Store(error)) if !error.is_about_the_record() => Err(error),
        Err(error) if row.revision > 0 => {
            let conversion = &row.report.conversion_id;
            tracing::error!(conversion, %error, "a conversion could not be decided again and waits on");
            Ok(Concluded::PutOff)
        }
        Err(error) => {
            let conversion = &row.report.conversion_id;
            tracing::error!(conversion, %error, "a conversion could not be decided and is kept as a dead letter");
            metrics.undecidable.add(1);
            batch.bury(&DeadLetter {
                spool: row.spool,
                seq: row.seq,
                why: error.to_string(),
                // As it was read from a record.
                record: serde_json::to_vec(&row.report).unwrap_or_default(),
            })?;
            batch.end_waiting(&[row.id])?;
            Ok(Concluded::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_about_the_conversion_at_hand() {
        let panicked = caught(|| -> Result<(), NotApplied> { panic!("a defect") });
        assert!(matches!(panicked, Err(NotApplied::Panicked)));
        assert!(matches!(about_the_record(panicked), Ok(None)));
    }
}
