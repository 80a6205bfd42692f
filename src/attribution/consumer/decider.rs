//! Decides what waits for touches that others index: fully once the index has got where the clicks ended when it was asked,
//! provisionally after the grace.
//!
//! It knows nothing but the rows that wait, so a restart, another process that died, and a database that came back are all
//! the same to it. Of two processes at one row the second finds that it waits no more.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cases::{By, Failed, cases, conclude, gather, look_up, told_unreadable};
use super::judge::Judge;
use super::later_metrics::WaitingMetrics;
use super::memory::{Memory, Terms};
use super::shared::{Offsets, SharedTouches, Sharing, covers, is_below};
use super::touches::{Fetched, Touches};
use super::{AttributionMetrics, Rules};
use crate::click::{ClickId, Verdict};
use crate::store::{Place, RowId, Stand, Store, StoreError, Waiting};
use crate::time::TimeMs;

/// Rows that are looked at in one round, the oldest first; more wait for these. Of each stand apart: many of one do not
/// crowd out those of another.
const MAX_WAITING: usize = 100_000;
const STANDS: [Stand; 3] = [Stand::New, Stand::Provisional, Stand::ForKey];

/// A round decides for at most so long; what is left finds the world as it is then.
const MAX_ROUND: Duration = Duration::from_secs(1);

/// One that could not be decided, but keeps waiting, is tried again after this time, or by another process.
const PUT_OFF: Duration = Duration::from_secs(600);

/// Conversions of one transaction: all of them are locked, and their touches are one look-up.
const MAX_DECIDED: usize = 64;

/// Conversions that wait for a key are looked at this often, and so many of them.
const KEYS_EVERY: Duration = Duration::from_secs(1);
const MAX_FOR_KEY: usize = 256;

/// A topic that was made anew ends before the ends that were asked for: they are compared this often.
const COMPARE_EVERY: Duration = Duration::from_secs(30);

/// Between rounds, and after a failure.
const PACE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(1);

pub struct Decider<'p> {
    store: Store,
    rules: &'p Rules,
    sharing: &'p Sharing,
    touches: &'p mut dyn SharedTouches,
    metrics: &'p AttributionMetrics,
    waiting_metrics: &'p WaitingMetrics,
    memory: Memory,
    terms: Terms,
    /// Where the clicks ended after each of these began to wait.
    barriers: HashMap<RowId, Barrier>,
    compared: Instant,
    keys_looked: Option<Instant>,
    /// Until when they are left alone; no more than wait.
    put_off: HashMap<RowId, Instant>,
    place: u64,
}

pub struct Barrier {
    since: TimeMs,
    pub ends: Rc<Offsets>,
}

impl<'p> Decider<'p> {
    pub fn new(
        store: Store,
        rules: &'p Rules,
        sharing: &'p Sharing,
        touches: &'p mut dyn SharedTouches,
        metrics: &'p AttributionMetrics,
        waiting_metrics: &'p WaitingMetrics,
    ) -> Result<Decider<'p>, StoreError> {
        let memory = Memory::load(store.view(), rules)?;
        let catalog = rules.catalog.load();
        let terms = Terms::new(&catalog.hash, catalog.rulebook.clone());
        Ok(Decider {
            store,
            rules,
            sharing,
            touches,
            metrics,
            waiting_metrics,
            memory,
            terms,
            barriers: HashMap::new(),
            compared: Instant::now(),
            keys_looked: None,
            put_off: HashMap::new(),
            place: 0,
        })
    }

    /// Those who decide at the same time begin at different places of the list: each has a random number.
    pub fn beginning_at(self, place: u64) -> Decider<'p> {
        Decider { place, ..self }
    }

    /// Decides what can be decided now. Returns how many conversions that was. After an error drop it and make a new one.
    /// `stop` ends it early.
    pub fn round(&mut self, stop: &dyn Fn() -> bool) -> Result<usize, StoreError> {
        let now = self.rules.clock.now();
        let waiting = self.waiting(now)?;
        let positions = match self.touches.positions() {
            Ok(positions) => Some(positions),
            Err(error) => {
                self.unavailable(&error);
                None
            }
        };
        self.set_barriers(&waiting, positions.as_ref());
        let is_covered = |one: &Waiting| {
            positions.as_ref().zip(self.barriers.get(&one.id)).is_some_and(|(at, barrier)| covers(at, &barrier.ends))
        };
        let (mut whole, mut known, mut for_key) = (Vec::new(), Vec::new(), Vec::new());
        for one in waiting {
            match one.stand {
                Stand::ForKey => for_key.push(one),
                _ if is_covered(&one) => whole.push(one),
                Stand::New if now - one.since >= self.sharing.grace_ms => known.push(one),
                Stand::New | Stand::Provisional => {}
            }
        }
        let mut decided = self.settle_keys(&for_key, now)?;
        for (mut some, by) in [(whole, By::WholeIndex), (known, By::Known)] {
            let began = Instant::now();
            let chunks = some.len().div_ceil(MAX_DECIDED).max(1);
            some.rotate_left((self.place % chunks as u64) as usize * MAX_DECIDED);
            for chunk in some.chunks(MAX_DECIDED) {
                decided += self.decide(chunk, by)?;
                if stop() || began.elapsed() > MAX_ROUND {
                    break;
                }
            }
        }
        Ok(decided)
    }

    /// What waits and is not left alone for a while.
    fn waiting(&mut self, now: TimeMs) -> Result<Vec<Waiting>, StoreError> {
        let mut waiting = Vec::new();
        for stand in STANDS {
            waiting.extend(self.store.view().waiting_at(stand, MAX_WAITING)?);
        }
        self.show(&waiting, now);
        let instant = Instant::now();
        self.put_off.retain(|_, until| *until > instant);
        waiting.retain(|one| !self.put_off.contains_key(&one.id));
        Ok(waiting)
    }

    fn put_off(&mut self, id: RowId) {
        self.waiting_metrics.undecidable.add(1);
        self.put_off.insert(id, Instant::now() + PUT_OFF);
    }

    /// Asks where the clicks end for those that were not there at the last look: they are committed, so what comes behind
    /// these ends finds them. An index that was beyond such an end before is one of another topic, that was made anew
    /// since: it would seem to cover everything, so nobody is told an end until it is forgotten.
    fn set_barriers(&mut self, waiting: &[Waiting], positions: Option<&Offsets>) {
        let by_id: HashMap<RowId, TimeMs> = waiting.iter().map(|one| (one.id, one.since)).collect();
        self.barriers.retain(|id, barrier| by_id.get(id) == Some(&barrier.since));
        let Some(positions) = positions else { return };
        let new = |one: &&Waiting| one.stand != Stand::ForKey && !self.barriers.contains_key(&one.id);
        let new: Vec<Waiting> = waiting.iter().filter(new).copied().collect();
        let is_to_compare = !self.barriers.is_empty() && self.compared.elapsed() >= COMPARE_EVERY;
        if new.is_empty() && !is_to_compare {
            return;
        }
        let ends = match self.touches.ends() {
            Ok(ends) => Rc::new(ends),
            Err(error) => return self.unavailable(&error),
        };
        if !is_below(positions, &ends) {
            return;
        }
        if is_to_compare {
            self.compared = Instant::now();
            self.barriers.values_mut().for_each(|barrier| barrier.lower(&ends));
        }
        self.barriers.extend(new.into_iter().map(|one| (one.id, Barrier { since: one.since, ends: ends.clone() })));
    }

    /// One transaction.
    fn decide(&mut self, some: &[Waiting], by: By) -> Result<usize, StoreError> {
        let began = Instant::now();
        let batch = self.store.begin()?;
        let mut judge = Judge::new(&mut self.memory, self.rules, &self.terms, self.metrics, self.rules.clock.now());
        judge.memory.touches = Touches::Shared(Fetched::default());
        let (mut cases, mut put_off) = cases(&batch, some)?;
        let looked = look_up(&mut judge, &batch, &mut cases, self.touches, by, &self.barriers);
        let looked = looked.and_then(|()| gather(&mut judge, &batch, &mut cases, self.touches, by));
        match looked {
            Ok(()) => {}
            Err(Failed::Store(error)) => return Err(error),
            Err(Failed::Unavailable(error)) => {
                self.waiting_metrics.unavailable.add(1);
                tracing::debug!(%error, "touches cannot be looked up");
                return Ok(0);
            }
        }
        put_off.extend(conclude(&mut judge, &batch, &cases, by, self.waiting_metrics)?);
        batch.commit()?;
        put_off.into_iter().for_each(|id| self.put_off(id));
        self.metrics.batches.add_shared(1);
        self.metrics.batch_seconds.record_shared(began.elapsed());
        Ok(cases.len())
    }

    /// Conversions whose click ID names a key that is not listed, as soon as it is, or is waited for no longer.
    fn settle_keys(&mut self, for_key: &[Waiting], now: TimeMs) -> Result<usize, StoreError> {
        if for_key.is_empty() || self.keys_looked.is_some_and(|at| at.elapsed() < KEYS_EVERY) {
            return Ok(0);
        }
        self.keys_looked = Some(Instant::now());
        let mut settled = Vec::new();
        for one in &for_key[..for_key.len().min(MAX_FOR_KEY)] {
            let row = match self.store.view().conversion_row(one.id) {
                Ok(row) => row,
                Err(error) if error.is_about_the_record() => {
                    told_unreadable(one.id, &error);
                    self.put_off(one.id);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let text = row.as_ref().and_then(|row| row.report.click_id.as_deref()).unwrap_or_default();
            let is_listed = ClickId::verify(text, &self.rules.keys) != Verdict::UnknownKey;
            if is_listed || now - one.since >= self.sharing.unknown_key_wait_ms {
                settled.push(*one);
            }
        }
        if settled.is_empty() {
            return Ok(0);
        }
        let batch = self.store.begin()?;
        let mut judge = Judge::new(&mut self.memory, self.rules, &self.terms, self.metrics, now);
        let (cases, put_off) = cases(&batch, &settled)?;
        for case in &cases {
            judge.try_conversion(&batch, case.row.id, |judge, batch| judge.settle_own_click(batch, &case.row))?;
        }
        batch.commit()?;
        put_off.into_iter().for_each(|id| self.put_off(id));
        Ok(cases.len())
    }

    fn unavailable(&self, error: &super::shared::Unavailable) {
        self.waiting_metrics.unavailable.add(1);
        tracing::debug!(%error, "touches cannot be looked up");
    }

    fn show(&self, waiting: &[Waiting], now: TimeMs) {
        let count = |stand| waiting.iter().filter(|one| one.stand == stand).count() as i64;
        self.waiting_metrics.new.set(count(Stand::New));
        self.waiting_metrics.provisional.set(count(Stand::Provisional));
        self.waiting_metrics.for_key.set(count(Stand::ForKey));
        let oldest = waiting.iter().map(|one| one.since).min();
        self.waiting_metrics.oldest_ms.set(oldest.map_or(0, |since| (now - since).max(0)));
    }
}

/// What the deciding thread needs.
pub struct DeciderParts {
    pub touches: Box<dyn SharedTouches + Send>,
    pub place: Place,
    pub rules: Rules,
    pub sharing: Arc<Sharing>,
    pub metrics: Arc<AttributionMetrics>,
    pub waiting_metrics: Arc<WaitingMetrics>,
    /// Another in each process.
    pub random: u64,
}

/// Decides until `stop` says so; begun anew after every failure of the store, and after a panic.
pub fn decide(mut parts: DeciderParts, stop: impl Fn() -> bool) {
    let mut said = None;
    while !stop() {
        // What a panic left half done ends with the transaction and with what was remembered.
        let decided = std::panic::catch_unwind(AssertUnwindSafe(|| decide_until_it_fails(&mut parts, &stop)));
        if let Err(why) = decided.unwrap_or_else(|_| Err("a panic, told above".to_owned())) {
            parts.waiting_metrics.store_errors.add(1);
            if said.replace(why.clone()) != Some(why.clone()) {
                tracing::error!(why, "deciding begins anew");
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn decide_until_it_fails(parts: &mut DeciderParts, stop: &dyn Fn() -> bool) -> Result<(), String> {
    let DeciderParts { touches, place, rules, sharing, metrics, waiting_metrics, random } = parts;
    let store = Store::open(place).map_err(|error| error.to_string())?;
    let decider = Decider::new(store, rules, sharing, &mut **touches, metrics, waiting_metrics);
    let mut decider = decider.map_err(|error| error.to_string())?.beginning_at(*random);
    while !stop() {
        let began = Instant::now();
        let decided = decider.round(stop).map_err(|error| error.to_string())?;
        // A long list of those that wait is not read all the time when there is nothing to do.
        let pause = if decided > 0 { PACE } else { PACE.max(began.elapsed().min(PAUSE)) };
        std::thread::sleep(pause);
    }
    Ok(())
}

impl Barrier {
    /// What ends earlier now was made anew: what it held before is in no index any more, nor to be read.
    fn lower(&mut self, ends: &Rc<Offsets>) {
        let is_lower = self.ends.iter().any(|(partition, end)| ends.get(partition).is_none_or(|now| now < end));
        if is_lower {
            self.ends = ends.clone();
        }
    }
}
