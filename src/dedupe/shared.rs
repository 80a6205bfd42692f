//! Double clicks among all edges: the first of each window is remembered in Redis (contract E28-E30).
//!
//! The clicks' times decide, not the order in which edges ask. Unlike in one process a click that is late by more than
//! another's way takes nothing back: what was shipped stays, and both are billable. A hint, outside of all promises about
//! money: slow or down, clicks go on without it.

use std::collections::{HashMap, HashSet};

use ::redis::{Cmd, Value};
use xxhash_rust::xxh3::Xxh3;

use crate::event::Click;
use crate::redis::{Link, Unavailable};

/// How long a first click is remembered at least: as long as a batch may be sent again, to know it for itself.
const REMEMBERED_MS: i64 = 600_000;

/// Clicks asked about at once. `dedupe.timeout_ms` is for one question: a full batch of the shipper takes longer than it on
/// a slow machine, with a Redis that answers all the time.
const AT_ONCE: usize = 512;

/// Of each click the ID of the one that it repeats.
pub type Judged = Vec<Option<String>>;

pub struct SharedDedupe {
    link: Link,
    window_ms: i64,
}

/// `d:` and 128 bits of what makes clicks alike.
type Name = [u8; 18];

/// The click that began a window.
#[derive(Clone, Debug, PartialEq, Eq)]
struct First {
    at_ms: i64,
    click_id: String,
}

/// A click that takes part: otherwise billable (contract E29).
struct Candidate {
    place: usize,
    own: First,
    lookup: Name,
    /// Without a cookie it is remembered under its new visitor too (contract E30).
    visitor: Option<Name>,
}

impl SharedDedupe {
    pub fn new(link: Link, window_ms: i64) -> SharedDedupe {
        SharedDedupe { link, window_ms }
    }

    /// Which of these clicks repeat another, or each other. A click that is judged again is told the same, within ten
    /// minutes.
    pub fn judge(&mut self, clicks: &[Click<'_>]) -> Result<Judged, Unavailable> {
        let mut judged = vec![None; clicks.len()];
        let candidates: Vec<Candidate> =
            clicks.iter().enumerate().filter_map(|(place, click)| Candidate::of(place, click)).collect();
        let mut windows = Windows { window_ms: self.window_ms, ..Windows::default() };
        for candidates in candidates.chunks(AT_ONCE) {
            self.judge_part(candidates, &mut windows, &mut judged)?;
        }
        Ok(judged)
    }

    fn judge_part(
        &mut self,
        candidates: &[Candidate],
        windows: &mut Windows,
        judged: &mut Judged,
    ) -> Result<(), Unavailable> {
        let deadline = self.link.deadline();
        let remember: Vec<Cmd> = candidates
            .iter()
            .flat_map(|click| click.names().map(|name| self.remember(name, &click.own, true)))
            .collect();
        let mut answers = self.link.ask_until(&remember, deadline)?.into_iter().map(First::of);
        for click in candidates {
            for name in click.names() {
                windows.stood(name, answers.next().flatten(), &click.own);
            }
            judged[click.place] = windows.judge(click).map(|first| first.click_id);
        }
        let due = std::mem::take(&mut windows.due);
        let due = due.iter().filter_map(|name| Some((name, windows.firsts.get(name)?)));
        let corrections: Vec<Cmd> = due.map(|(name, first)| self.remember(name, first, false)).collect();
        if !corrections.is_empty() {
            // What was judged stands. Later ones will be judged by an older window: more are billable.
            let _ = self.link.ask_until(&corrections, deadline);
        }
        Ok(())
    }

    fn remember(&self, name: &Name, first: &First, if_new: bool) -> Cmd {
        let mut command = ::redis::cmd("SET");
        command.arg(&name[..]).arg(first.to_bytes());
        if if_new {
            command.arg("NX").arg("GET");
        }
        command.arg("PX").arg(self.window_ms.max(REMEMBERED_MS));
        command
    }
}

/// What stands in Redis under each name of a batch, and which of it is to be written there yet.
#[derive(Default)]
struct Windows {
    window_ms: i64,
    firsts: HashMap<Name, First>,
    due: HashSet<Name>,
}

impl Windows {
    /// What Redis answered about a name, unless this batch knows better already. Nothing: `own` stands there now.
    fn stood(&mut self, name: &Name, answer: Option<First>, own: &First) {
        self.firsts.entry(*name).or_insert_with(|| answer.unwrap_or_else(|| own.clone()));
    }

    fn judge(&mut self, click: &Candidate) -> Option<First> {
        let own = &click.own;
        let found = self.firsts.get(&click.lookup)?.clone();
        if found.click_id == own.click_id {
            return None;
        }
        let repeats = self.covers(&found, own).then_some(found);
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

    fn covers(&self, first: &First, click: &First) -> bool {
        (0..self.window_ms).contains(&(click.at_ms - first.at_ms))
    }
}

impl Candidate {
    fn of(place: usize, click: &Click<'_>) -> Option<Candidate> {
        let click_id = click.click_id.as_deref().filter(|_| click.billable)?;
        let own = First { at_ms: click.clicked_at_ms.0, click_id: click_id.to_owned() };
        let visitor = name(b"visitor", &click.visitor_key.0.to_le_bytes(), "", click);
        let address = |click: &Click<'_>| {
            let (ip_key, browser) = (click.ip_key.as_deref(), click.user_agent.as_deref());
            name(b"address", ip_key.unwrap_or_default().as_bytes(), browser.unwrap_or_default(), click)
        };
        let (lookup, visitor) = if click.visitor_new { (address(click), Some(visitor)) } else { (visitor, None) };
        Some(Candidate { place, own, lookup, visitor })
    }

    fn names(&self) -> impl Iterator<Item = &Name> {
        [Some(&self.lookup), self.visitor.as_ref()].into_iter().flatten()
    }
}

fn name(kind: &[u8], who: &[u8], browser: &str, click: &Click<'_>) -> Name {
    let mut hasher = Xxh3::new();
    for part in [kind, who, browser.as_bytes(), click.url.as_deref().unwrap_or_default().as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(&click.offer_id.0.to_le_bytes());
    hasher.update(&click.publisher_id.map_or(0, |id| id.0).to_le_bytes());
    let mut name = *b"d:0123456789abcdef";
    name[2..].copy_from_slice(&hasher.digest128().to_be_bytes());
    name
}

impl First {
    fn to_bytes(&self) -> Vec<u8> {
        [&self.at_ms.to_be_bytes(), self.click_id.as_bytes()].concat()
    }

    /// Nothing, or what is not ours, is none.
    fn of(answer: Value) -> Option<First> {
        let Value::BulkString(bytes) = answer else { return None };
        let (at_ms, click_id) = bytes.split_first_chunk()?;
        let click_id = String::from_utf8(click_id.to_vec()).ok()?;
        Some(First { at_ms: i64::from_be_bytes(*at_ms), click_id })
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
