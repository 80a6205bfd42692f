//! Decides what waits for touches that others index: fully once the index has got where the clicks ended when it was asked,
//! provisionally after the grace.
//!
//! It knows nothing but the rows that wait, so a restart, another process that died, and a database that came back are all
//! the same to it. Of two processes at one row the second finds that it waits no more.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::judge::{Judge, NotApplied};
use super::later::leaves_out;
use super::later_metrics::WaitingMetrics;
use super::memory::{Memory, Terms};
use super::shared::{Offsets, SharedTouches, Sharing, covers, is_below};
use super::touches::{Fetched, Touches};
use super::{AttributionMetrics, Rules};
use crate::attribution::Clicks;
use crate::click::{ClickId, Verdict, VisitorKey};
use crate::store::{Batch, ConversionRow, DeadLetter, Place, RowId, Stand, Store, StoreError, Waiting};
use crate::time::TimeMs;

/// Rows that are looked at in one round, the oldest first; more wait for these.
const MAX_WAITING: usize = 100_000;

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
}

struct Barrier {
    since: TimeMs,
    ends: Rc<Offsets>,
}

/// By what a conversion is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// All touches up to its barrier.
    WholeIndex,
    /// What is known.
    Known,
}

/// A conversion at hand, with what there is of its clicks.
struct Case {
    waiting: Waiting,
    row: ConversionRow,
    clicks: Clicks,
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
        })
    }

    /// Decides what can be decided now. Returns how many conversions that was. After an error drop it and make a new one.
    pub fn round(&mut self) -> Result<usize, StoreError> {
        let now = self.rules.clock.now();
        let waiting = self.store.view().waiting(MAX_WAITING)?;
        self.show(&waiting, now);
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
        for (some, by) in [(whole, By::WholeIndex), (known, By::Known)] {
            for chunk in some.chunks(MAX_DECIDED) {
                decided += self.decide(chunk, by)?;
            }
        }
        Ok(decided)
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
        let mut judge = Judge {
            memory: &mut self.memory,
            keys: &self.rules.keys,
            settings: self.rules.settings,
            terms: &self.terms,
            metrics: self.metrics,
            now: self.rules.clock.now(),
            waiting: 0,
            undecided: BTreeMap::new(),
        };
        judge.memory.touches = Touches::Shared(Fetched::default());
        let mut cases = cases(&batch, some)?;
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
        for case in &cases {
            conclude(&mut judge, &batch, case, by, self.waiting_metrics)?;
        }
        batch.commit()?;
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
            let row = self.store.view().conversion_row(one.id)?;
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
        let mut judge = Judge {
            memory: &mut self.memory,
            keys: &self.rules.keys,
            settings: self.rules.settings,
            terms: &self.terms,
            metrics: self.metrics,
            now,
            waiting: 0,
            undecided: BTreeMap::new(),
        };
        for case in cases(&batch, &settled)? {
            judge.try_conversion(&batch, case.row.id, |judge, batch| judge.settle_own_click(batch, &case.row))?;
        }
        batch.commit()?;
        Ok(settled.len())
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
        self.waiting_metrics.oldest_ms.set(waiting.first().map_or(0, |oldest| (now - oldest.since).max(0)));
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
}

/// Decides until `stop` says so; begun anew after every failure of the store.
pub fn decide(mut parts: DeciderParts, stop: impl Fn() -> bool) {
    let mut said = None;
    while !stop() {
        if let Err(why) = decide_until_it_fails(&mut parts, &stop) {
            parts.waiting_metrics.store_errors.add(1);
            if said.replace(why.clone()) != Some(why.clone()) {
                tracing::error!(why, "deciding begins anew");
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn decide_until_it_fails(parts: &mut DeciderParts, stop: &dyn Fn() -> bool) -> Result<(), String> {
    let DeciderParts { touches, place, rules, sharing, metrics, waiting_metrics } = parts;
    let store = Store::open(place).map_err(|error| error.to_string())?;
    let decider = Decider::new(store, rules, sharing, &mut **touches, metrics, waiting_metrics);
    let mut decider = decider.map_err(|error| error.to_string())?;
    while !stop() {
        let began = Instant::now();
        decider.round().map_err(|error| error.to_string())?;
        // What takes long is done less often: a long list of those that wait is not read all the time.
        std::thread::sleep(PACE.max(began.elapsed().min(PAUSE)));
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

enum Failed {
    Store(StoreError),
    Unavailable(super::shared::Unavailable),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Store(error)
    }
}

/// Those that still wait as they were seen, now this transaction's.
fn cases(batch: &Batch<'_>, some: &[Waiting]) -> Result<Vec<Case>, StoreError> {
    let ids: Vec<RowId> = some.iter().map(|one| one.id).collect();
    // In the order in which everybody locks: conversions, then what waits.
    batch.lock_rows(&ids)?;
    let mut cases = Vec::new();
    for waiting in batch.lock_waiting(&ids)? {
        if !some.contains(&waiting) {
            continue;
        }
        match batch.view().conversion_row(waiting.id)? {
            Some(row) => cases.push(Case { waiting, row, clicks: Clicks::default() }),
            None => batch.end_waiting(waiting.id)?,
        }
    }
    Ok(cases)
}

/// Fetches the clicks of all visitors in one look-up. Cases that the index does not cover after all are left waiting.
fn look_up(
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
fn gather(
    judge: &mut Judge<'_>,
    batch: &Batch<'_>,
    cases: &mut [Case],
    touches: &mut dyn SharedTouches,
    by: By,
) -> Result<(), Failed> {
    let mut ids: Vec<ClickId> = Vec::new();
    for case in cases.iter_mut() {
        let gathered = about_the_record(judge.gather_again(batch, &case.row, by == By::WholeIndex))?;
        case.clicks = gathered.unwrap_or_else(|| case.row.clicks.clone());
        ids.extend(case.clicks.touches.iter().map(|touch| touch.0));
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

/// It waits on. What was left out of its facts may not be below the end that it was told: it is told another.
fn provisional(case: &Case, now: TimeMs) -> Waiting {
    let Waiting { id, since, .. } = case.waiting;
    let is_left_out = leaves_out(&case.clicks, &case.row.clicks);
    let since = if is_left_out { now.max(TimeMs(since.0 + 1)) } else { since };
    Waiting { id, since, stand: Stand::Provisional }
}

/// Decides one; it waits on only where it was decided by what is known. One that cannot be decided waits no more: it is
/// kept as a dead letter, told and counted.
fn conclude(
    judge: &mut Judge<'_>,
    batch: &Batch<'_>,
    case: &Case,
    by: By,
    metrics: &WaitingMetrics,
) -> Result<(), StoreError> {
    let Case { row, clicks, .. } = case;
    let work = |batch: &Batch<'_>| {
        judge.decide_waiting(batch, row, clicks.clone())?;
        match by {
            By::WholeIndex => batch.end_waiting(row.id)?,
            By::Known => batch.put_waiting(&provisional(case, judge.now))?,
        }
        Ok::<(), NotApplied>(())
    };
    match batch.attempt(work) {
        Ok(()) => {
            match by {
                By::WholeIndex => metrics.decided.add(1),
                By::Known => metrics.decided_provisionally.add(1),
            }
            Ok(())
        }
        Err(NotApplied::Store(error)) if !error.is_about_the_record() => Err(error),
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
            batch.end_waiting(row.id)
        }
    }
}
