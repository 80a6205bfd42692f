//! What grows and is of no use any more leaves the store, bit by bit between two rounds: a bounded piece of each table a
//! minute, by one of all processes at a time. A piece that fails is counted and left for the next time; nothing waits.
//!
//! No fact that may still change money leaves but those of clicks that come more than a year late, and no mark ever does:
//! of spools that are done with they are not kept in memory any more, and looked up when such a spool is read again.

use super::{AttributionMetrics, Consumer, Source, SpoolReach};
use crate::spool::SpoolId;
use crate::store::{Aged, Store, StoreError};
use crate::time::{DAY_MS, TimeMs};

/// For so long `afflux reconcile` lists a spool that is applied to its end.
const FINISHED_SPOOLS_MS: i64 = 30 * DAY_MS;

/// A click that comes later than this changes no conversion any more. It is counted.
pub const LATE_CLICKS_MS: i64 = 400 * DAY_MS;

/// Rows of a table in one go: some ten milliseconds. Seven million a day are more than may be added.
const PIECE: usize = 5_000;

impl<S: Source> Consumer<'_, S> {
    pub(super) fn prune(&mut self, now: TimeMs) {
        let before = |kept_ms: i64| TimeMs(now.0.saturating_sub(kept_ms));
        let kept = self.rules.keep_click_counts_days;
        let personal = self.rules.keep_personal_days;
        let personal = (personal > 0).then(|| before(i64::from(personal) * DAY_MS));
        let pieces = [
            (Aged::Marks, Some(before(FINISHED_SPOOLS_MS))),
            (Aged::SpoolStates, Some(before(FINISHED_SPOOLS_MS))),
            (Aged::Visitors, Some(before(LATE_CLICKS_MS))),
            (Aged::ClickRollups, (kept > 0).then(|| before(i64::from(kept) * DAY_MS))),
            (Aged::Reports, personal),
            (Aged::Conflicts, personal),
            (Aged::DeadLetters, personal),
        ];
        for (aged, before) in pieces {
            let Some(before) = before else { continue };
            if let Err(error) = prune(&mut self.store, aged, (before, now), self.metrics) {
                self.metrics.prune_errors.add(1);
                tracing::warn!(?aged, %error, "old rows cannot be pruned now");
            }
        }
    }

    /// Spools that are retired are not in memory. Before anything is read of one that is not known it is looked for, or
    /// its records would be tried again, and fail at the mark again and again. A mark that is there and not retired was
    /// made by somebody else meanwhile: that one has to fail, as then more than this is not known here.
    pub(super) fn recall(&mut self, reaches: &[SpoolReach]) -> Result<(), StoreError> {
        let may_be_applied = |reach: &SpoolReach| reach.until > 0 || reach.sealed.is_some();
        let is_unknown = |reach: &&SpoolReach| may_be_applied(reach) && !self.memory.marks.contains_key(&reach.spool);
        let unknown: Vec<SpoolId> = reaches.iter().filter(is_unknown).map(|reach| reach.spool).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        for mark in self.store.view().retired_of(&unknown)? {
            self.metrics.recalled_spools.add(1);
            self.source.recall(&mark);
            self.memory.marks.insert(mark.spool, mark);
        }
        Ok(())
    }
}

fn prune(
    store: &mut Store,
    aged: Aged,
    (before, now): (TimeMs, TimeMs),
    metrics: &AttributionMetrics,
) -> Result<(), StoreError> {
    let batch = store.begin()?;
    if !batch.begin_pruning()? {
        return Ok(());
    }
    if aged == Aged::DeadLetters {
        batch.date_dead_letters(now)?;
    }
    // Reports are read and written one by one: fewer of them, to be as quick.
    let most = if aged == Aged::Reports { PIECE / 10 } else { PIECE };
    let pruned = batch.prune(aged, before, most)?;
    batch.commit()?;
    metrics.count_pruned(aged, pruned as u64);
    Ok(())
}
