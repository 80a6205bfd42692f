//! Double clicks among all edges: the first of each window is remembered in Redis (contract E28-E30).
//!
//! The clicks' times decide, not the order in which edges ask. Unlike in one process a click that is late by more than
//! another's way takes nothing back: what was shipped stays, and both are billable. A hint, outside of all promises about
//! money: slow or down, clicks go on without it.

use std::borrow::Cow;
use std::time::Instant;

use ::redis::{Cmd, Value};
use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_128;

use crate::event::Glance;
use crate::redis::{Link, Script, Unavailable};

/// How long a first click is remembered at least: as long as a batch may be sent again, to know it for itself.
const REMEMBERED_MS: i64 = 600_000;

/// Clicks asked about at once. `dedupe.timeout_ms` is for one question: a full batch of the shipper takes longer than it on
/// a slow machine, with a Redis that answers all the time.
const AT_ONCE: usize = 512;

/// Remembers what is new and tells what stood there, which is little: one text of place, length and value each. A reply
/// for each name would cost us more than all the rest of a click. What is longer is not ours.
const REMEMBER: &str = "
local found = {}
for place, name in ipairs(KEYS) do
  local stood = redis.call('SET', name, ARGV[place + 1], 'NX', 'GET', 'PX', ARGV[1])
  if stood and #stood < 256 then
    found[#found + 1] = struct.pack('>HH', place - 1, #stood)
    found[#found + 1] = stood
  end
end
return table.concat(found)
";

/// Of each click the ID of the one that it repeats.
pub type Judged = Vec<Option<String>>;

pub struct SharedDedupe {
    link: Link,
    remember: Script,
    window_ms: i64,
}

/// 128 bits of what makes clicks alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name(u128);

impl Name {
    /// As it is called in Redis: `d:` and the bits.
    fn key(self) -> [u8; 18] {
        let mut key = *b"d:0123456789abcdef";
        key[2..].copy_from_slice(&self.0.to_be_bytes());
        key
    }
}

/// The click that began a window.
#[derive(Clone, Debug, PartialEq, Eq)]
struct First<'c> {
    at_ms: i64,
    click_id: Cow<'c, str>,
}

/// A click that takes part: otherwise billable (contract E29).
struct Candidate<'c> {
    place: usize,
    own: First<'c>,
    lookup: Name,
    /// Without a cookie it is remembered under its new visitor too (contract E30).
    visitor: Option<Name>,
}

impl SharedDedupe {
    pub fn new(link: Link, window_ms: i64) -> SharedDedupe {
        SharedDedupe { link, remember: Script::new(REMEMBER), window_ms }
    }

    /// Which of these clicks repeat another, or each other. A click that is judged again is told the same, within ten
    /// minutes; but a duplicate may be told to be none once a later click began the next window, as only the latest window
    /// is remembered. That counts one click too many where its first copy never reached Kafka.
    pub fn judge(&mut self, clicks: &[Glance<'_>]) -> Result<Judged, Unavailable> {
        let mut judged = vec![None; clicks.len()];
        let mut text = Vec::new();
        let candidate = |(place, click)| Candidate::of(place, click, &mut text);
        let candidates: Vec<Candidate<'_>> = clicks.iter().enumerate().filter_map(candidate).collect();
        let firsts = HashMap::with_capacity(candidates.len() * 2);
        let mut windows = Windows { window_ms: self.window_ms, firsts, due: HashSet::new() };
        for candidates in candidates.chunks(AT_ONCE) {
            self.judge_part(candidates, &mut windows, &mut judged)?;
        }
        Ok(judged)
    }

    fn judge_part<'c>(
        &mut self,
        candidates: &[Candidate<'c>],
        windows: &mut Windows<'c>,
        judged: &mut Judged,
    ) -> Result<(), Unavailable> {
        let deadline = self.link.deadline();
        let answer = self.remember(candidates, deadline)?;
        let mut stood = Stood(&answer).peekable();
        let names = candidates.iter().flat_map(|click| click.names().map(move |name| (name, click)));
        for (place, (name, click)) in names.enumerate() {
            let first = stood.next_if(|(at, _)| *at == place).and_then(|(_, value)| First::of(value));
            windows.stood(name, first, &click.own);
        }
        for click in candidates {
            judged[click.place] = windows.judge(click).map(|first| first.click_id.into_owned());
        }
        let due = std::mem::take(&mut windows.due);
        let due = due.iter().filter_map(|name| Some((name, windows.firsts.get(name)?)));
        let corrections: Vec<Cmd> = due.map(|(name, first)| self.correction(name, first)).collect();
        if !corrections.is_empty() {
            // What was judged stands. Later ones will be judged by an older window: more are billable.
            let _ = self.link.ask_until(&corrections, deadline);
        }
        Ok(())
    }

    fn remember(&mut self, candidates: &[Candidate<'_>], deadline: Instant) -> Result<Vec<u8>, Unavailable> {
        let names = || candidates.iter().flat_map(|click| click.names().map(move |name| (name, click)));
        let mut command = self.remember.call(names().count());
        for (name, _) in names() {
            command.arg(&name.key()[..]);
        }
        command.arg(self.remembered_ms());
        let mut value = Vec::with_capacity(64);
        for (_, click) in names() {
            click.own.write_to(&mut value);
            command.arg(&value[..]);
        }
        match self.link.call_until(&self.remember, &command, deadline)? {
            Value::BulkString(answer) => Ok(answer),
            // What is not ours tells nothing.
            _ => Ok(Vec::new()),
        }
    }

    fn correction(&self, name: &Name, first: &First<'_>) -> Cmd {
        let mut value = Vec::new();
        first.write_to(&mut value);
        let mut command = ::redis::cmd("SET");
        command.arg(&name.key()[..]).arg(&value[..]).arg("PX").arg(self.remembered_ms());
        command
    }

    fn remembered_ms(&self) -> i64 {
        self.window_ms.max(REMEMBERED_MS)
    }
}

/// What the script answered: places of names, in order, and what stood there.
struct Stood<'a>(&'a [u8]);

impl<'a> Iterator for Stood<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<(usize, &'a [u8])> {
        let (place, rest) = self.0.split_first_chunk().map(|(bytes, rest)| (u16::from_be_bytes(*bytes), rest))?;
        let (length, rest) = rest.split_first_chunk().map(|(bytes, rest)| (u16::from_be_bytes(*bytes), rest))?;
        let (value, rest) = rest.split_at_checked(length.into())?;
        self.0 = rest;
        Some((place.into(), value))
    }
}

/// What stands in Redis under each name of a batch, and which of it is to be written there yet.
struct Windows<'c> {
    window_ms: i64,
    firsts: HashMap<Name, First<'c>>,
    due: HashSet<Name>,
}

impl<'c> Windows<'c> {
    /// What Redis answered about a name, unless this batch knows better already. Nothing: `own` stands there now.
    fn stood(&mut self, name: &Name, answer: Option<First<'c>>, own: &First<'c>) {
        self.firsts.entry(*name).or_insert_with(|| answer.unwrap_or_else(|| own.clone()));
    }

    fn judge(&mut self, click: &Candidate<'c>) -> Option<First<'c>> {
        let own = &click.own;
        let found = self.firsts.get(&click.lookup)?;
        if found.click_id == own.click_id {
            return None;
        }
        let repeats = self.covers(found, own).then(|| found.clone());
        for name in click.names() {
            let stands = self.firsts.get(name)?;
            // A name that is in a window of its own keeps it; one that is ahead of this click does too.
            let its_own = stands.click_id == own.click_id && repeats.is_some();
            if its_own || own.at_ms - stands.at_ms >= self.window_ms {
                self.firsts.insert(*name, repeats.as_ref().unwrap_or(own).clone());
                self.due.insert(*name);
            }
        }
        repeats
    }

    fn covers(&self, first: &First<'_>, click: &First<'_>) -> bool {
        (0..self.window_ms).contains(&(click.at_ms - first.at_ms))
    }
}

impl<'c> Candidate<'c> {
    fn of(place: usize, click: &'c Glance<'_>, text: &mut Vec<u8>) -> Option<Candidate<'c>> {
        let click_id = click.click_id.as_deref().filter(|_| click.billable)?;
        let own = First { at_ms: click.clicked_at_ms.0, click_id: click_id.into() };
        let visitor = name(text, b"visitor", &click.visitor_key.0.to_le_bytes(), b"", click);
        let (lookup, visitor) = match click.visitor_new {
            true => (name(text, b"address", &click.ip_key, &click.user_agent, click), Some(visitor)),
            false => (visitor, None),
        };
        Some(Candidate { place, own, lookup, visitor })
    }

    fn names(&self) -> impl Iterator<Item = &Name> {
        [Some(&self.lookup), self.visitor.as_ref()].into_iter().flatten()
    }
}

/// `text` is scratch: all of it is hashed at once, which costs half of what a state does that is fed piece by piece.
fn name(text: &mut Vec<u8>, kind: &[u8], who: &[u8], browser: &[u8], click: &Glance<'_>) -> Name {
    text.clear();
    for part in [kind, who, browser, &click.url] {
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part);
    }
    text.extend_from_slice(&click.offer_id.0.to_le_bytes());
    text.extend_from_slice(&click.publisher_id.map_or(0, |id| id.0).to_le_bytes());
    Name(xxh3_128(text))
}

impl First<'_> {
    fn write_to(&self, value: &mut Vec<u8>) {
        value.clear();
        value.extend_from_slice(&self.at_ms.to_be_bytes());
        value.extend_from_slice(self.click_id.as_bytes());
    }

    /// What is not ours is none.
    fn of(value: &[u8]) -> Option<First<'static>> {
        let (at_ms, click_id) = value.split_first_chunk()?;
        let click_id = std::str::from_utf8(click_id).ok()?.to_owned().into();
        Some(First { at_ms: i64::from_be_bytes(*at_ms), click_id })
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
