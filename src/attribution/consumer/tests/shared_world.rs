//! A network whose touches are indexed elsewhere: a model of Kafka's ends and of Redis beside the store.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use super::world::{SETTINGS, T0, World};
use crate::attribution::consumer::shared::{Layout, Looked, Offsets, SharedTouches, Sharing, Unavailable};
use crate::attribution::consumer::{Decider, Rules, WaitingMetrics};
use crate::click::{ClickId, Keys, Verdict, VisitorKey};
use crate::clock::ManualClock;
use crate::spool::Topic;
use crate::store::{Store, Waiting};
use crate::time::{HOUR_MS, TimeMs};
use crate::touch::{Found, Labels};

pub const GRACE_MS: i64 = 60_000;
pub const KEY_WAIT_MS: i64 = 600_000;

/// Records of others that a partition begins with, until it is made anew.
const OTHERS: usize = 4;

/// Each clicks spool is a partition of its own.
#[derive(Default)]
pub struct Index {
    /// What lies in the topic.
    topic: BTreeMap<i32, Vec<Option<ClickId>>>,
    /// Partitions that were made anew.
    anew: BTreeSet<i32>,
    touches: HashMap<VisitorKey, Vec<ClickId>>,
    positions: Offsets,
    /// Partitions whose position is one of the topic before, which nobody has found yet.
    stale: BTreeSet<i32>,
    /// As they were told last.
    told_ends: Offsets,
    pub is_down: bool,
    pub asked: usize,
    pub labels_asked: usize,
}

/// What Redis kept at some time.
#[derive(Clone, Default)]
pub struct Backup {
    touches: HashMap<VisitorKey, Vec<ClickId>>,
    positions: Offsets,
    anew: BTreeSet<i32>,
}

impl Index {
    fn push(&mut self, partition: i32, click: Option<ClickId>) {
        let topic = self.topic.entry(partition).or_insert_with(|| vec![None; OTHERS]);
        topic.push(click);
        // The indexer finds that what it reads next is not there, long before as much is there again.
        if topic.len() as i64 >= self.positions.get(&partition).copied().unwrap_or(0) {
            self.find_out(partition);
        }
    }

    /// The topic is deleted and made again; what edges keep is sent again, and has other offsets.
    pub fn make_anew(&mut self, partition: i32) {
        let Some(topic) = self.topic.get_mut(&partition).filter(|_| self.anew.insert(partition)) else { return };
        topic.drain(..OTHERS);
        if self.positions.contains_key(&partition) {
            self.stale.insert(partition);
        }
        if self.positions.get(&partition).is_some_and(|next| *next <= topic.len() as i64) {
            self.find_out(partition);
        }
    }

    /// An index of another topic is begun anew.
    fn find_out(&mut self, partition: i32) {
        if self.stale.remove(&partition) {
            self.positions.remove(&partition);
        }
    }

    /// Indexes exactly what is below the ends that somebody waits for.
    pub fn advance_to_told_ends(&mut self) {
        for (partition, end) in self.told_ends.clone() {
            self.find_out(partition);
            let next = self.positions.get(&partition).copied().unwrap_or(0);
            self.advance(partition, (end - next).max(0) as usize);
        }
    }

    /// Indexes up to `records` more of a partition.
    pub fn advance(&mut self, partition: i32, records: usize) {
        self.find_out(partition);
        let Some(topic) = self.topic.get(&partition) else { return };
        let next = self.positions.entry(partition).or_insert(0);
        let until = (*next as usize + records).min(topic.len());
        for click in topic[*next as usize..until].iter().flatten() {
            let known = self.touches.entry(click.visitor_key()).or_default();
            if !known.contains(click) {
                known.push(*click);
            }
        }
        *next = until as i64;
    }

    pub fn catch_up(&mut self) {
        let partitions: Vec<i32> = self.topic.keys().copied().collect();
        partitions.into_iter().for_each(|partition| self.advance(partition, usize::MAX / 2));
    }

    pub fn backup(&self) -> Backup {
        // What is of another topic is found out before anything is restored.
        let mut positions = self.positions.clone();
        positions.retain(|partition, _| !self.stale.contains(partition));
        Backup { touches: self.touches.clone(), positions, anew: self.anew.clone() }
    }

    pub fn restore(&mut self, backup: Backup) {
        (self.touches, self.positions) = (backup.touches, backup.positions);
        self.stale.clear();
        let anew = &self.anew;
        self.positions.retain(|partition, _| anew.contains(partition) == backup.anew.contains(partition));
    }

    fn up(&mut self) -> Result<(), Unavailable> {
        self.asked += 1;
        if self.is_down { Err(Unavailable("down".into())) } else { Ok(()) }
    }
}

/// The index as all hold it.
#[derive(Clone, Default)]
pub struct Held(Rc<RefCell<Index>>);

impl Held {
    pub fn index(&self) -> RefMut<'_, Index> {
        self.0.borrow_mut()
    }
}

impl SharedTouches for Held {
    fn ends(&mut self) -> Result<Offsets, Unavailable> {
        let mut index = self.index();
        let ends: Offsets = index.topic.iter().map(|(partition, records)| (*partition, records.len() as i64)).collect();
        index.told_ends = ends.clone();
        Ok(ends)
    }

    fn positions(&mut self) -> Result<Offsets, Unavailable> {
        let mut index = self.index();
        index.up()?;
        Ok(index.positions.clone())
    }

    fn find(&mut self, visitors: &[(VisitorKey, TimeMs)]) -> Result<Looked, Unavailable> {
        let mut index = self.index();
        index.up()?;
        let found = |(visitor, since): &(VisitorKey, TimeMs)| {
            let clicks = index.touches.get(visitor).into_iter().flatten();
            Found { click_ids: clicks.filter(|click| click.clicked_at() >= *since).copied().collect(), cut: false }
        };
        let found = visitors.iter().map(found).collect();
        Ok(Looked { found, positions: index.positions.clone() })
    }

    fn labels(&mut self, clicks: &[ClickId]) -> Result<Vec<Option<Labels>>, Unavailable> {
        self.index().up()?;
        self.index().labels_asked += clicks.len();
        let labels = Labels { link: Some("phone".into()), source: Some("newsletter".into()), sub1: Some("a".into()) };
        Ok(clicks.iter().map(|_| Some(labels.clone())).collect())
    }
}

pub struct SharedWorld {
    pub world: World,
    pub held: Held,
    pub clock: Arc<ManualClock>,
    /// What the deciding thread is told; the same, but for keys that a test may hold back.
    pub rules: Rules,
    pub metrics: WaitingMetrics,
}

fn rules(like: &Rules, clock: &Arc<ManualClock>, keys: Arc<Keys>) -> Rules {
    Rules {
        keys,
        settings: SETTINGS,
        catalog: Arc::clone(&like.catalog),
        clock: Arc::clone(clock) as _,
        layout: Layout::Shared(Arc::new(Sharing::new(GRACE_MS, KEY_WAIT_MS))),
        keep_click_counts_days: 0,
        keep_personal_days: 0,
    }
}

impl SharedWorld {
    pub fn new() -> SharedWorld {
        let mut world = World::new();
        let keys = Arc::clone(&world.keys);
        SharedWorld::with_keys(&mut world, keys)
    }

    /// All processes have these keys; the world's own sign.
    fn with_keys(world: &mut World, keys: Arc<Keys>) -> SharedWorld {
        let mut world = std::mem::replace(world, World::new());
        let clock = Arc::new(ManualClock::at(TimeMs(T0 + HOUR_MS)));
        world.rules = rules(&world.rules, &clock, Arc::clone(&keys));
        let own = rules(&world.rules, &clock, keys);
        SharedWorld { world, held: Held::default(), clock, rules: own, metrics: WaitingMetrics::default() }
    }

    /// Whose processes know other keys than those that sign.
    pub fn knowing(keys: Arc<Keys>) -> SharedWorld {
        SharedWorld::with_keys(&mut World::new(), keys)
    }

    /// Into the topic; readable at once.
    pub fn append(&mut self, spool: u64, topic: Topic, event: &Value) {
        self.world.append(spool, topic, event);
        if topic == Topic::Clicks {
            let signed = event.get("click_id").and_then(Value::as_str);
            let click = signed.and_then(|text| match ClickId::verify(text, &self.world.keys) {
                Verdict::Verified(click) => Some(click),
                _ => None,
            });
            self.held.index().push(spool as i32, click);
        }
    }

    pub fn decider<'w>(
        rules: &'w Rules,
        world: &'w World,
        held: &'w mut Held,
        metrics: &'w WaitingMetrics,
    ) -> Decider<'w> {
        let Layout::Shared(sharing) = &rules.layout else { panic!("a shared world") };
        let store = Store::open(&world.place()).unwrap();
        Decider::new(store, rules, sharing, held, &world.metrics, metrics).unwrap()
    }

    /// A process that decides is started and looks once.
    pub fn decide(&mut self) -> usize {
        let SharedWorld { world, held, rules, metrics, .. } = self;
        SharedWorld::decider(rules, world, held, metrics).round(&|| false).unwrap()
    }

    pub fn waiting(&self) -> Vec<Waiting> {
        self.world.look(|view| view.waiting(1_000))
    }
}
