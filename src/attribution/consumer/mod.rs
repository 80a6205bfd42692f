//! The batch loop: reads spools, applies what it reads exactly once, and decides.
//!
//! A round: how far the conversions' spools are on disk is looked at first, then how far the clicks' spools are; all
//! clicks up to there are applied, merged by their times, then the conversions. So a decision knows every click that was
//! answered before its conversion was posted. Each transaction takes the effects and the marks together. After any
//! failure of the store nothing that is remembered counts any more: it is loaded again, and the round with it.

mod arrivals;
mod cases;
mod clicks;
mod decider;
mod gather;
mod judge;
mod lanes;
mod later;
mod later_metrics;
mod memory;
mod metrics;
mod passes;
mod pruning;
mod record;
mod run;
pub mod shared;
pub mod source;
mod touches;
mod watched;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use clicks::ClickBatch;
pub use decider::{Decider, DeciderParts, decide};
use judge::{Judge, NotApplied, Place};
use lanes::{Lanes, MAX_HELD, Moves, Step, What};
pub use later_metrics::WaitingMetrics;
pub use memory::kept_ms;
use memory::{Memory, Terms};
pub use metrics::AttributionMetrics;
use passes::Passes;
pub use run::{Parts, run};
pub use source::{Item, Reach, Records, Source, SpoolReach};

use shared::Layout;

use super::Settings;
use crate::catalog::Snapshot;
use crate::click::Keys;
use crate::clock::Clock;
use crate::event::Event;
use crate::spool::{SpoolId, Topic};
use crate::store::{Batch, DeadLetter, Fate, Quarantine, Store, StoreError};
use crate::time::{DAY_MS, TimeMs};

/// A transaction ends after this many records, or after this time.
const MAX_BATCH: usize = 16_384;
const MAX_BATCH_TIME: Duration = Duration::from_millis(200);

/// Steps between two looks at the time. Of reports so many are stored together.
const PIECE: usize = 64;

/// How often a record is tried before it goes to the dead letters.
const MAX_TRIES: u32 = 5;

/// How often what is old is looked for, and gauges counted anew.
const TIDY_EVERY_MS: i64 = 60_000;

/// How often it is looked which catalog is the active one, where others may change it.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Reports and refunds of one transaction where others decide too: each holds a lock, and a database has some thousands.
const MAX_LOCKED: usize = 256;
const MAX_HELD_LOCKED: usize = 4 * MAX_LOCKED;

/// Where others consume too, each topic's part of a round ends after this time: who does not ask for more for minutes
/// loses its partitions.
const MAX_CONSUMING: Duration = Duration::from_secs(20);

/// What decisions are made with.
pub struct Rules {
    pub keys: Arc<Keys>,
    pub settings: Settings,
    pub catalog: Arc<ArcSwap<Snapshot>>,
    pub clock: Arc<dyn Clock>,
    pub layout: Layout,
    /// Rollups of clicks that are older are pruned; 0 is for ever.
    pub keep_click_counts_days: u32,
    /// What reports say of buyers is kept so long; 0 is for ever.
    pub keep_personal_days: u32,
}

pub struct Consumer<'p, S> {
    source: &'p mut S,
    store: Store,
    rules: &'p Rules,
    metrics: &'p AttributionMetrics,
    memory: Memory,
    terms: Terms,
    tidied: TimeMs,
    followed: Instant,
    passes: Passes,
    /// Spools of this round that wait for a number.
    gaps: usize,
    /// Whether the round before found nothing either.
    was_idle: bool,
}

impl<'p, S: Source> Consumer<'p, S> {
    /// Takes over a store: remembers what is in it. Valid until the first error.
    pub fn new(
        source: &'p mut S,
        mut store: Store,
        rules: &'p Rules,
        metrics: &'p AttributionMetrics,
    ) -> Result<Consumer<'p, S>, StoreError> {
        passes::wait_anew(&mut store, rules)?;
        source.begin(store.view())?;
        let memory = Memory::load(store.view(), rules)?;
        // What earlier lifetimes applied may be deleted when its time comes.
        for mark in memory.marks.values() {
            source.applied(mark.spool, mark.next);
        }
        let catalog = rules.catalog.load();
        let terms = Terms::new(&catalog.hash, Arc::clone(&catalog.rulebook));
        metrics.refunds_waiting.set(store.view().refunds_waiting()? as i64);
        metrics.dead_letters.set(store.view().dead_letter_count()? as i64);
        let tidied = TimeMs(i64::MIN);
        let followed = Instant::now().checked_sub(FOLLOW_EVERY).unwrap_or_else(Instant::now);
        let passes = Passes::known(store.view())?;
        let (gaps, was_idle) = (0, false);
        Ok(Consumer { source, store, rules, metrics, memory, terms, tidied, followed, passes, gaps, was_idle })
    }

    /// Applies what is readable now. Returns how many records that was. After an error this consumer may remember what
    /// is not in the store: drop it and make a new one.
    pub fn round(&mut self, stop: &dyn Fn() -> bool) -> Result<usize, StoreError> {
        let has_changed = self.source.has_changed();
        if has_changed {
            passes::wait_anew(&mut self.store, self.rules)?;
        }
        if has_changed || self.passes.have_changed(self.store.view())? {
            self.begin_source()?;
        }
        let reach = match self.source.reach() {
            Ok(reach) => reach,
            Err(error) => {
                self.metrics.source_errors.add(1);
                tracing::warn!(%error, "the spools cannot be listed; trying again");
                return Ok(0);
            }
        };
        // After it was looked how far to read: no click in there was made by a newer catalog than this one.
        self.activate_catalog()?;
        self.gaps = 0;
        let mut behind = None;
        let mut applied = self.consume(Topic::Clicks, &reach.clicks, &mut behind, stop)?;
        applied += self.consume(Topic::Conversions, &reach.conversions, &mut behind, stop)?;
        self.record_source()?;
        self.tidy()?;
        self.show(behind, applied);
        Ok(applied)
    }

    /// What others applied meanwhile is applied.
    fn begin_source(&mut self) -> Result<(), StoreError> {
        let view = self.store.view();
        self.source.begin(view)?;
        self.memory.marks = view.marks()?.into_iter().map(|mark| (mark.spool, mark)).collect();
        self.memory.marks.values().for_each(|mark| self.source.applied(mark.spool, mark.next));
        Ok(())
    }

    /// Where the source is, also when no record says so.
    fn record_source(&mut self) -> Result<(), StoreError> {
        if self.source.has_news() {
            let batch = self.store.begin()?;
            self.source.record(&batch, &[])?;
            batch.commit()?;
        }
        Ok(())
    }

    /// Returns when there may be something new, or after `at_most`.
    pub fn wait(&mut self, at_most: Duration) {
        self.source.wait(at_most);
    }

    #[cfg(test)]
    fn source_mut(&mut self, change: impl FnOnce(&mut S)) {
        change(self.source);
    }

    /// Where several share a store, a catalog is made the active one when it is new: to the store, or in the files of this
    /// process while it runs. A process that starts with one that another has taken the place of follows that one: so a
    /// restart with old files changes nothing for the others.
    fn activate_catalog(&mut self) -> Result<(), StoreError> {
        let catalog = self.rules.catalog.load();
        if let Layout::Shared(sharing) = &self.rules.layout {
            if sharing.has_offered(&catalog.hash) {
                return self.follow_catalog(&catalog.hash);
            }
            if sharing.is_first() && self.is_superseded(&catalog.hash)? {
                tracing::warn!(catalog = catalog.hash, "the store has a later catalog than the files; it is followed");
                sharing.offer(&catalog.hash);
                return self.follow_catalog(&catalog.hash);
            }
        }
        if *self.terms.hash != *catalog.hash {
            self.terms = Terms::new(&catalog.hash, Arc::clone(&catalog.rulebook));
        }
        if self.memory.active.as_deref() != Some(&*catalog.hash) {
            let batch = self.store.begin()?;
            batch.activate_catalog(&catalog.hash, &catalog.rulebook)?;
            batch.commit()?;
            self.memory.active = Some(catalog.hash.clone());
        }
        if let Layout::Shared(sharing) = &self.rules.layout {
            sharing.offer(&catalog.hash);
        }
        self.metrics.follows.set(0);
        Ok(())
    }

    fn is_superseded(&self, hash: &str) -> Result<bool, StoreError> {
        let view = self.store.view();
        let active = view.active_catalog()?;
        Ok(active.is_some_and(|active| active != hash) && view.rulebook(hash)?.is_some())
    }

    /// Decides with the catalog that is the active one, whoever made it that. `own`: that of the files.
    fn follow_catalog(&mut self, own: &str) -> Result<(), StoreError> {
        if self.followed.elapsed() < FOLLOW_EVERY {
            return Ok(());
        }
        self.followed = Instant::now();
        if let Some(active) = self.store.view().active_catalog()?
            && active != *self.terms.hash
        {
            self.terms = self.memory.terms(self.store.view(), &active)?;
            self.memory.active = Some(active);
        }
        self.metrics.follows.set(i64::from(*self.terms.hash != *own));
        Ok(())
    }

    fn consume(
        &mut self,
        topic: Topic,
        reaches: &[SpoolReach],
        behind: &mut Option<TimeMs>,
        stop: &dyn Fn() -> bool,
    ) -> Result<usize, StoreError> {
        self.recall(reaches)?;
        let is_shared = self.memory.touches.are_shared();
        let held = if is_shared && topic == Topic::Conversions { MAX_HELD_LOCKED } else { MAX_HELD };
        let mut lanes = Lanes::new(reaches, held, |spool| self.memory.mark(spool, topic));
        let longest = if is_shared && topic == Topic::Conversions { MAX_LOCKED } else { MAX_BATCH };
        let (mut applied, mut most, began) = (0, longest, Instant::now());
        // Alone, all clicks go before the conversions (contract M50); shared, decisions wait by themselves.
        while !(stop() || is_shared && began.elapsed() > MAX_CONSUMING) {
            for (spool, error) in lanes.fill(self.source) {
                self.metrics.source_errors.add(1);
                tracing::error!(spool = %format_args!("{:016x}", spool.0), %error, "a spool cannot be read");
            }
            let steps = lanes.steps(most);
            if steps.is_empty() {
                break;
            }
            let (count, moves) = self.batch(topic, &lanes, &steps)?;
            // What there was no time for was looked at in vain.
            most = if count < steps.len() { count.max(PIECE) } else { longest.min(2 * most) };
            lanes.applied(&moves);
            applied += count;
        }
        self.close_round(reaches, topic, &lanes, behind)?;
        Ok(applied)
    }

    /// One transaction: as many of the steps as there is time for, with their marks.
    fn batch(&mut self, topic: Topic, lanes: &Lanes, steps: &[Step<'_>]) -> Result<(usize, Moves), StoreError> {
        let began = Instant::now();
        let now = self.rules.clock.now();
        let mut batch = self.store.begin()?;
        let is_shared = self.memory.touches.are_shared();
        if is_shared {
            lock_conversions(&batch, steps)?;
        }
        let mut judge = Judge::new(&mut self.memory, self.rules, &self.terms, self.metrics, now);
        let mut clicks = ClickBatch::default();
        let mut count = 0;
        for piece in steps.chunks(PIECE) {
            let stored = judge.store_together(&batch, piece)?;
            for (place, step) in piece.iter().enumerate() {
                if !stored.contains(&place) {
                    apply(&mut judge, &mut batch, &mut clicks, topic, step)?;
                }
            }
            count += piece.len();
            if began.elapsed() > MAX_BATCH_TIME {
                break;
            }
        }
        clicks.write(&mut judge, &mut batch, self.source.lane())?;
        judge.decide_undecided(&batch)?;
        let moves = lanes.moves(&steps[..count]);
        let mut moved = Vec::new();
        for (mark, from) in moves.marks(lanes) {
            batch.move_mark(mark, from)?;
            moved.push(*mark);
        }
        self.source.record(&batch, &moved)?;
        let waiting = judge.waiting;
        if !is_shared {
            batch.record_horizon(self.memory.horizon)?;
        }
        batch.commit()?;
        self.metrics.refunds_waiting.add(waiting);
        for mark in moved {
            self.memory.marks.insert(mark.spool, mark);
            self.source.applied(mark.spool, mark.next);
        }
        let latest = steps[..count].iter().filter_map(|step| step.time).next_back();
        latest.into_iter().for_each(|latest| self.metrics.lag_ms.set((now - latest).max(0)));
        self.metrics.batches.add_shared(1);
        self.metrics.batch_seconds.record_shared(began.elapsed());
        Ok((count, moves))
    }

    /// Writes down what changed without a record: gaps, and spools that get no more.
    fn close_round(
        &mut self,
        reaches: &[SpoolReach],
        topic: Topic,
        lanes: &Lanes,
        behind: &mut Option<TimeMs>,
    ) -> Result<(), StoreError> {
        let gaps: std::collections::HashMap<SpoolId, Option<u64>> =
            lanes.marks().map(|mark| (mark.spool, mark.gap)).collect();
        let mut changed = Vec::new();
        for reach in reaches {
            let known = self.memory.marks.get(&reach.spool).copied();
            let mut mark = self.memory.mark(reach.spool, topic);
            // Who reads a sealed spool again may not have come to its seal yet.
            mark.sealed = reach.sealed.or(mark.sealed);
            // What was not looked at here has the gap that it is known to have.
            mark.gap = gaps.get(&reach.spool).copied().unwrap_or(mark.gap);
            self.gaps += usize::from(mark.gap.is_some());
            if mark.next < reach.until {
                let since = mark.last.unwrap_or_else(|| self.rules.clock.now());
                *behind = Some(behind.map_or(since, |other| other.min(since)));
            }
            let news = known.is_some() || mark.sealed.is_some() || mark.gap.is_some();
            if news && known != Some(mark) {
                changed.push(mark);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let batch = self.store.begin()?;
        changed.iter().try_for_each(|mark| batch.move_mark(mark, mark.next))?;
        self.source.record(&batch, &changed)?;
        batch.commit()?;
        for mark in changed {
            if let Some(gap) = mark.gap {
                let spool = format!("{:016x}", mark.spool.0);
                tracing::error!(%spool, due = mark.next, found = gap, "records are missing; this spool waits");
            }
            self.memory.marks.insert(mark.spool, mark);
            self.source.applied(mark.spool, mark.next);
        }
        Ok(())
    }

    /// Drops the tables of touches that no report can reach any more, by the clocks of clicks and of this machine: a day
    /// more than they are kept for, as conversions may lie unread a little longer than clicks.
    fn tidy(&mut self) -> Result<(), StoreError> {
        let now = self.rules.clock.now();
        if now.0 < self.tidied.0.saturating_add(TIDY_EVERY_MS) {
            return Ok(());
        }
        let kept_ms = self.terms.kept_ms(self.rules.settings.max_report_delay_days) + DAY_MS;
        let oldest = TimeMs(self.memory.horizon.click.min(now).0.saturating_sub(kept_ms));
        let batch = self.store.begin()?;
        self.memory.touches.drop_older(&batch, oldest)?;
        if matches!(self.rules.layout, Layout::Shared(_)) {
            batch.record_running(false)?;
        }
        batch.commit()?;
        self.memory.watched.forget_before(TimeMs(self.memory.horizon.click.0.saturating_sub(TIDY_EVERY_MS)));
        self.metrics.refunds_waiting.set(self.store.view().refunds_waiting()? as i64);
        self.metrics.dead_letters.set(self.store.view().dead_letter_count()? as i64);
        self.prune(now);
        self.tidied = now;
        Ok(())
    }

    /// `behind`: since when something readable waits. Of Kafka only a little is readable here: as long as something came,
    /// the age of the latest says how far behind it is.
    fn show(&mut self, behind: Option<TimeMs>, applied: usize) {
        let now = self.rules.clock.now();
        let is_shared = self.memory.touches.are_shared();
        let is_idle = applied == 0;
        match behind {
            Some(since) => self.metrics.lag_ms.set((now - since).max(0)),
            // Between two rounds that found nothing it was waited for more.
            None if !is_shared || (is_idle && self.was_idle) => self.metrics.lag_ms.set(0),
            None => {}
        }
        self.was_idle = is_idle;
        let known = || self.memory.marks.values().filter(|mark| mark.gap.is_some()).count();
        // Of spools that others read they tell.
        self.metrics.gaps.set(if is_shared { self.gaps } else { known() } as i64);
        let (touches, tables) = self.memory.touches.size();
        self.metrics.touches.set(touches as i64);
        self.metrics.touch_tables.set(tables as i64);
        self.metrics.folded_labels.set(self.memory.labels.folded as i64);
    }
}

/// Nobody else decides these orders until the transaction ends: their reports and refunds may be in other partitions.
fn lock_conversions(batch: &Batch<'_>, steps: &[Step<'_>]) -> Result<(), StoreError> {
    let ids: Vec<&str> = steps.iter().filter_map(|step| step.conversion_id()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    batch.lock_conversions(&ids)
}

/// Applies one step; what cannot be applied is kept as a dead letter and the next one follows.
fn apply<'c>(
    judge: &mut Judge<'_>,
    batch: &mut Batch<'_>,
    clicks: &mut ClickBatch<'c>,
    topic: Topic,
    step: &'c Step<'_>,
) -> Result<(), StoreError> {
    let place = Place { spool: step.spool, seq: step.seq, at: step.at };
    match (&step.what, topic) {
        (What::Event(Event::Click(click)), Topic::Clicks) => clicks.take(judge, batch, click),
        (What::Event(Event::Conversion(report)), Topic::Conversions) => {
            judge.metrics.conversions.add(1);
            attempt(judge, batch, step, |judge, batch| judge.report(batch, report, place))
        }
        (What::Event(Event::Refund(refund)), Topic::Conversions) => {
            judge.metrics.refunds.add(1);
            attempt(judge, batch, step, |judge, batch| judge.refund(batch, refund, place))
        }
        (What::Event(Event::Other(_) | Event::Heartbeat(_) | Event::Seal(_)), _) => Ok(()),
        (What::Event(Event::Parked(parked)), _) => {
            judge.metrics.quarantined_records.add(1);
            let fate = if parked.why == "lost" { Fate::Lost } else { Fate::Parked };
            batch.quarantine(&Quarantine { spool: step.spool, first: parked.seq, last: parked.seq, fate })
        }
        (What::Event(Event::Unparked(unparked)), _) => batch.unpark(SpoolId(unparked.of_spool), unparked.of_seq),
        (What::Event(_), _) => bury(judge, batch, step, "an event of another topic"),
        // Reading it again gives the same bytes, so one try is as good as five.
        (What::Poison { why }, _) => bury(judge, batch, step, why),
        (What::Lost { first, last }, _) => {
            judge.metrics.quarantined_records.add(last - first + 1);
            batch.quarantine(&Quarantine { spool: step.spool, first: *first, last: *last, fate: Fate::Lost })
        }
    }
}

fn attempt(
    judge: &mut Judge<'_>,
    batch: &mut Batch<'_>,
    step: &Step<'_>,
    work: impl Fn(&mut Judge<'_>, &Batch<'_>) -> Result<(), NotApplied>,
) -> Result<(), StoreError> {
    let mut tries = 0;
    let waiting = judge.waiting;
    loop {
        tries += 1;
        // A try that failed has put in nothing.
        judge.waiting = waiting;
        match batch.attempt(|batch| work(judge, batch)) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_about_the_record() && tries < MAX_TRIES => {}
            Err(NotApplied::Store(error)) if !error.is_about_the_record() => return Err(error),
            Err(error) => {
                judge.waiting = waiting;
                return bury(judge, batch, step, &error.to_string());
            }
        }
    }
}

fn bury(judge: &Judge<'_>, batch: &Batch<'_>, step: &Step<'_>, why: &str) -> Result<(), StoreError> {
    let spool = format!("{:016x}", step.spool.0);
    tracing::error!(%spool, seq = step.seq, why, "a record could not be applied and is kept as a dead letter");
    judge.metrics.dead_letters.add(1);
    batch.bury(&DeadLetter { spool: step.spool, seq: step.seq, why: why.to_owned(), record: step.record.to_vec() })
}
