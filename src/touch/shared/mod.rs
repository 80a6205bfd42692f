//! The touch index in Redis: a cache over the clicks topic that knows how far it goes.
//!
//! Touches and the position up to which they are complete are written by one script, and read at one moment, so that an
//! index that was wiped, went back to a snapshot or lost its last second shows it by its position and is caught up from
//! the topic. With several buckets each has its own position, and the least counts. Where it is too small for a visitor
//! it says so (`cut`). Losing all of it delays money and never changes it, but only under `noeviction`.
//!
//! Layout: `layout.lua` tells it, by what each form costs. Keys bear the number of buckets, so another number begins
//! anew and leaves the old keys to expire.

mod packing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use ::redis::{Cmd, Value};

use super::{Found, Labels, Touched};
use crate::click::{ClickId, VisitorKey};
use crate::metrics::{Counter, Page};
pub use crate::redis::Unavailable;
use crate::redis::{Link, NoAnswer, Script};
use crate::time::TimeMs;

/// Touches that one script writes: Redis answers nobody else meanwhile, and duplicates are asked for within 20 ms.
const ADD_AT_ONCE: usize = 500;
/// Visitors that one script looks up.
const FIND_AT_ONCE: usize = 16;
/// Clicks whose labels one script looks up.
const LABELS_AT_ONCE: usize = 256;
/// Visitors that one script erases.
const ERASE_AT_ONCE: usize = 16;
/// Touches of one visitor that are read, the latest days first; beyond it the look-up is `cut`.
const MAX_READ: usize = 65_536;

/// How far the clicks of a partition are indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first offset that is not indexed.
    pub next: i64,
    /// Of the record before it: its xxh3; 0 when there is none. Another topic has another.
    pub last: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// The position is not what the writer believes: ask for `positions` and go on from there.
    #[error("the touch index stands elsewhere")]
    Moved,
    #[error("Redis is full")]
    Full,
    #[error("Redis is unavailable")]
    Unavailable,
}

impl From<NoAnswer> for AddError {
    fn from(why: NoAnswer) -> AddError {
        match why {
            NoAnswer::Unavailable => AddError::Unavailable,
            NoAnswer::Full => AddError::Full,
        }
    }
}

/// Touches of visitors, and how far the index went at that moment.
#[derive(Debug, Default)]
pub struct Looked {
    /// In the order of the visitors asked for.
    pub found: Vec<Found>,
    pub positions: BTreeMap<i32, Position>,
}

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// `touch.buckets`.
    pub buckets: u32,
    /// `touch.visitor_day_touches`.
    pub visitor_day_touches: u32,
    /// A day's touches are dropped this long after its end.
    pub kept_ms: i64,
}

/// Shared by the threads that use the index.
#[derive(Debug, Default)]
pub struct SharedTouchesMetrics {
    /// Touches left out beyond `touch.visitor_day_touches`.
    pub left_out: Counter,
    /// Times that the position was not where the writer left it.
    pub moved: Counter,
}

impl SharedTouchesMetrics {
    pub fn write(&self, page: &mut Page) {
        let help = "Touches left out, of visitors with more than touch.visitor_day_touches in a day.";
        page.counter("afflux_touch_left_out_total", help, &[(&[], self.left_out.value())]);
        let help = "Times that the shared index was not where its writer left it.";
        page.counter("afflux_touch_index_moved_total", help, &[(&[], self.moved.value())]);
    }
}

pub struct SharedTouches {
    link: Link,
    kept: Kept,
    metrics: Arc<SharedTouchesMetrics>,
    add: Script,
    find: Script,
    labels: Script,
    erase: Script,
    /// Touches of a part.
    at_once: usize,
    /// Parts written: each has a mark that no other process gives.
    parts: u64,
    process: u64,
}

/// A part of what is added to a bucket: behind which it comes, and what it leaves. The first comes behind nothing; the last
/// leaves nothing, and moves the position.
#[derive(Default)]
struct Part {
    behind: String,
    leaves: String,
}

/// Keys of one bucket share its tag, so that a script may touch them all in a cluster.
struct Bucket {
    tag: String,
    positions: String,
    days: String,
}

impl SharedTouches {
    pub fn new(link: Link, kept: Kept, metrics: Arc<SharedTouchesMetrics>) -> SharedTouches {
        let kept = Kept { buckets: kept.buckets.max(1), ..kept };
        let add = Script::new(concat!(include_str!("layout.lua"), include_str!("add.lua")));
        let find = Script::new(concat!(include_str!("layout.lua"), include_str!("find.lua")));
        let labels = Script::new(concat!(include_str!("layout.lua"), include_str!("labels.lua")));
        let erase = Script::new(concat!(include_str!("layout.lua"), include_str!("erase.lua")));
        let process = std::hash::RandomState::new().build_hasher().finish();
        SharedTouches { link, kept, metrics, add, find, labels, erase, at_once: ADD_AT_ONCE, parts: 0, process }
    }

    /// The longest window may change with the catalog. Days that are begun already keep theirs.
    pub fn keep(&mut self, kept_ms: i64) {
        self.kept.kept_ms = kept_ms;
    }

    /// How far each partition is indexed in all buckets. A partition that one of them does not know has no position.
    pub fn positions(&mut self) -> Result<BTreeMap<i32, Position>, Unavailable> {
        let ask = |bucket: Bucket| {
            let mut command = ::redis::cmd("HGETALL");
            command.arg(bucket.positions);
            command
        };
        let commands: Vec<Cmd> = self.buckets().map(ask).collect();
        let answers = self.link.ask(&commands)?;
        Ok(least(answers.into_iter().map(packing::positions)))
    }

    /// Adds the touches of the records from `from` up to `to` and moves the position, if it still is where this writer
    /// left it. Adding what is there already changes nothing; after an error the same may be added again.
    pub fn add(
        &mut self,
        partition: i32,
        from: Option<Position>,
        to: Position,
        touches: &[Touched<'_>],
    ) -> Result<(), AddError> {
        let mut parts: Vec<Vec<&Touched<'_>>> = vec![Vec::new(); self.kept.buckets as usize];
        for touch in touches {
            parts[self.bucket_of(touch.click_id.visitor_key())].push(touch);
        }
        let buckets: Vec<Bucket> = self.buckets().collect();
        for (bucket, touches) in buckets.iter().zip(parts) {
            let mut parts = touches.chunks(self.at_once).peekable();
            let mut part = Part::default();
            // A bucket without touches is moved too.
            loop {
                let now = parts.next().unwrap_or_default();
                part.leaves = if parts.peek().is_some() { self.mark() } else { String::new() };
                self.add_to(bucket, (partition, from, to), &part, now)?;
                if part.leaves.is_empty() {
                    break;
                }
                part.behind = part.leaves;
            }
        }
        Ok(())
    }

    fn mark(&mut self) -> String {
        self.parts += 1;
        format!("{:016x}{:x}", self.process, self.parts)
    }

    fn add_to(
        &mut self,
        bucket: &Bucket,
        (partition, from, to): (i32, Option<Position>, Position),
        part: &Part,
        touches: &[&Touched<'_>],
    ) -> Result<(), AddError> {
        let mut command = self.add.call(2);
        command.arg(&bucket.positions).arg(&bucket.days).arg(&bucket.tag).arg(partition);
        command.arg(from.map(packing::position).unwrap_or_default()).arg(packing::position(to));
        command.arg(&part.behind).arg(&part.leaves).arg(u8::from(self.kept.buckets == 1));
        // Not beyond a thousand years: Redis refuses a time of expiry that overflows.
        let kept_s = self.kept.kept_ms.clamp(0, 31_536_000_000_000) / 1_000;
        command.arg(self.kept.visitor_day_touches.max(1)).arg(kept_s);
        for touch in touches {
            let id = touch.click_id;
            command.arg(id.clicked_at().day_number()).arg(&id.visitor_key().0.to_be_bytes()[..]);
            command.arg(packing::record(touch));
        }
        match packing::added(self.link.call(&self.add, &command)?) {
            Some(left_out) => self.metrics.left_out.add_shared(left_out),
            None => {
                self.metrics.moved.add_shared(1);
                return Err(AddError::Moved);
            }
        }
        Ok(())
    }

    /// The touches of visitors since a time each, and the positions at the moment at which they were read.
    pub fn find(&mut self, visitors: &[(VisitorKey, TimeMs)]) -> Result<Looked, Unavailable> {
        let mut looked = Looked::default();
        looked.found.resize_with(visitors.len(), Found::default);
        let mut parts: Vec<Vec<usize>> = vec![Vec::new(); self.kept.buckets as usize];
        for (place, (visitor, _)) in visitors.iter().enumerate() {
            parts[self.bucket_of(*visitor)].push(place);
        }
        let mut seen = Vec::new();
        let buckets: Vec<Bucket> = self.buckets().collect();
        for (bucket, places) in buckets.iter().zip(parts) {
            let mut rest = &places[..];
            // A bucket without visitors is asked too: its position counts.
            loop {
                let asked = &rest[..rest.len().min(FIND_AT_ONCE)];
                let (positions, answers) = self.find_in(bucket, asked.iter().map(|place| visitors[*place]))?;
                seen.push(positions);
                // A script answers no more after it has read enough, but always one.
                let answered = answers.len().min(asked.len());
                if answered == 0 && !asked.is_empty() {
                    return Err(Unavailable);
                }
                for (place, found) in asked.iter().zip(answers) {
                    looked.found[*place] = found;
                }
                rest = &rest[answered..];
                if rest.is_empty() {
                    break;
                }
            }
        }
        looked.positions = least(seen.into_iter());
        Ok(looked)
    }

    fn find_in(
        &mut self,
        bucket: &Bucket,
        visitors: impl Iterator<Item = (VisitorKey, TimeMs)> + Clone,
    ) -> Result<(BTreeMap<i32, Position>, Vec<Found>), Unavailable> {
        let mut command = self.find.call(2);
        command.arg(&bucket.positions).arg(&bucket.days).arg(&bucket.tag).arg(MAX_READ);
        for (visitor, since) in visitors.clone() {
            command.arg(&visitor.0.to_be_bytes()[..]).arg(since.day_number());
        }
        let answer = self.link.call(&self.find, &command)?;
        packing::found(answer, visitors).ok_or(Unavailable)
    }

    /// What reports show of touches, as far as they are still known.
    pub fn labels(&mut self, click_ids: &[ClickId]) -> Result<Vec<Option<Labels>>, Unavailable> {
        let mut labels = vec![None; click_ids.len()];
        let mut parts: Vec<Vec<usize>> = vec![Vec::new(); self.kept.buckets as usize];
        for (place, id) in click_ids.iter().enumerate() {
            parts[self.bucket_of(id.visitor_key())].push(place);
        }
        let buckets: Vec<Bucket> = self.buckets().collect();
        for (bucket, places) in buckets.iter().zip(parts) {
            for places in places.chunks(LABELS_AT_ONCE) {
                let mut command = self.labels.call(2);
                command.arg(&bucket.positions).arg(&bucket.days).arg(&bucket.tag);
                for id in places.iter().map(|place| click_ids[*place]) {
                    command.arg(id.clicked_at().day_number()).arg(&id.visitor_key().0.to_be_bytes()[..]);
                    command.arg(packing::id(id));
                }
                let answer = self.link.call(&self.labels, &command)?;
                for (place, found) in places.iter().zip(packing::values(answer)) {
                    labels[*place] = packing::labels(found, click_ids[*place]);
                }
            }
        }
        Ok(labels)
    }

    /// Takes all touches of these visitors out; with `dry` they are only counted. An index that is made anew from its topic
    /// has again what the topic still holds.
    pub fn erase(&mut self, visitors: &[VisitorKey], dry: bool) -> Result<u64, Unavailable> {
        let mut erased = 0;
        for (number, bucket) in self.buckets().enumerate() {
            let here: Vec<&VisitorKey> =
                visitors.iter().filter(|visitor| self.bucket_of(**visitor) == number).collect();
            for some in here.chunks(ERASE_AT_ONCE) {
                let mut command = self.erase.call(2);
                command.arg(&bucket.positions).arg(&bucket.days).arg(&bucket.tag).arg(u8::from(!dry));
                for visitor in some {
                    command.arg(&visitor.0.to_be_bytes()[..]);
                }
                match self.link.call(&self.erase, &command)? {
                    Value::Int(count) => erased += u64::try_from(count).unwrap_or_default(),
                    _ => return Err(Unavailable),
                }
            }
        }
        Ok(erased)
    }

    /// A partition's clicks are to be indexed from the beginning again. Its touches stay.
    pub fn forget(&mut self, partition: i32) -> Result<(), Unavailable> {
        let ask = |bucket: Bucket| {
            let mut command = ::redis::cmd("HDEL");
            command.arg(bucket.positions).arg(partition);
            command
        };
        let commands: Vec<Cmd> = self.buckets().map(ask).collect();
        self.link.ask(&commands)?;
        Ok(())
    }

    /// Whether the server keeps what it is told. One that evicts would lose touches and not show it: warned of, counted.
    pub fn check_policy(&mut self) -> Result<bool, Unavailable> {
        let mut command = ::redis::cmd("INFO");
        command.arg("memory");
        let answer = self.link.ask(&[command])?;
        let text = answer.into_iter().next().and_then(packing::bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let said = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let (limit, policy) = (said("maxmemory"), said("maxmemory_policy"));
        let keeps = limit == Some("0") || policy == Some("noeviction");
        let metrics = self.link.metrics();
        if !keeps && metrics.evicting.value() == 0 {
            tracing::warn!(policy, "Redis may evict touches without a trace: set maxmemory-policy to noeviction");
        }
        metrics.evicting.set(i64::from(!keeps));
        Ok(keeps)
    }

    fn buckets(&self) -> impl Iterator<Item = Bucket> + use<> {
        let count = self.kept.buckets;
        (0..count).map(move |number| {
            let tag = format!("{{{number}.{count}}}");
            Bucket { positions: format!("w:{tag}"), days: format!("g:{tag}"), tag }
        })
    }

    /// By the key's high half; groups within a bucket go by its low bytes.
    fn bucket_of(&self, visitor: VisitorKey) -> usize {
        ((visitor.0 >> 32) % u64::from(self.kept.buckets)) as usize
    }
}

/// The least position of each partition; none where somebody has none.
fn least(all: impl Iterator<Item = BTreeMap<i32, Position>>) -> BTreeMap<i32, Position> {
    let lower = |mut low: BTreeMap<i32, Position>, other: BTreeMap<i32, Position>| {
        low.retain(|partition, position| {
            other.get(partition).is_some_and(|other| {
                if other.next < position.next {
                    *position = *other;
                }
                // Two that end behind different records do not know the same topic.
                other.next != position.next || other.last == position.last
            })
        });
        low
    };
    all.reduce(lower).unwrap_or_default()
}

/// An answer of an unexpected shape is none.
fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}
