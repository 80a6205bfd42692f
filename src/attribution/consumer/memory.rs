//! What the consumer remembers of the store. All of it can be loaded again, and is after every failed transaction.

use std::collections::HashMap;
use std::sync::Arc;

use super::Rules;
use super::shared::Layout;
use super::touches::{Fetched, Touches};
use super::watched::Watched;
use crate::catalog::{Rulebook, Snapshot};
use crate::dedupe::Dedupe;
use crate::rollup::Labels;
use crate::spool::{SpoolId, Topic};
use crate::store::{Horizon, Mark, StoreError, View};
use crate::time::DAY_MS;
use crate::touch::TouchIndex;

/// Rulebooks of first decisions kept at hand; past it all are read again as needed.
const MAX_RULEBOOKS: usize = 16;

pub struct Memory {
    pub marks: HashMap<SpoolId, Mark>,
    pub touches: Touches,
    pub labels: Labels,
    /// None where double clicks were found before.
    pub dedupe: Option<Dedupe>,
    pub watched: Watched,
    pub horizon: Horizon,
    /// Hash of the catalog that the store has as the active one.
    pub active: Option<String>,
    rulebooks: HashMap<String, Terms>,
}

/// A rulebook under its hash.
#[derive(Clone, Debug)]
pub struct Terms {
    pub hash: Arc<str>,
    pub rulebook: Arc<Rulebook>,
    longest_window_days: u32,
}

impl Terms {
    pub fn new(hash: &str, rulebook: Arc<Rulebook>) -> Terms {
        let windows = rulebook.offers.values().flat_map(|offer| &offer.terms).map(|terms| terms.window_days);
        Terms { hash: hash.into(), longest_window_days: windows.max().unwrap_or(0), rulebook }
    }

    /// For how long a touch is kept: the longest window and the longest delay of a report.
    pub fn kept_ms(&self, max_report_delay_days: u32) -> i64 {
        (i64::from(self.longest_window_days) + i64::from(max_report_delay_days)) * DAY_MS
    }
}

/// For how long a touch may earn something by this catalog, and a day more: conversions may lie unread for a while.
pub fn kept_ms(catalog: &Snapshot, max_report_delay_days: u32) -> i64 {
    Terms::new(&catalog.hash, Arc::clone(&catalog.rulebook)).kept_ms(max_report_delay_days) + DAY_MS
}

impl Memory {
    pub fn load(view: View<'_>, rules: &Rules) -> Result<Memory, StoreError> {
        let horizon = view.horizon()?;
        let (touches, dedupe) = match rules.layout {
            Layout::Alone => {
                (Touches::Stored(TouchIndex::load(view)?), Some(Dedupe::new(rules.settings.dedupe_window_ms)))
            }
            Layout::Shared(_) => (Touches::Shared(Fetched::default()), None),
        };
        Ok(Memory {
            marks: view.marks()?.into_iter().map(|mark| (mark.spool, mark)).collect(),
            touches,
            labels: Labels::default(),
            dedupe,
            watched: Watched::new(horizon.until),
            horizon,
            active: view.active_catalog()?,
            rulebooks: HashMap::new(),
        })
    }

    pub fn mark(&self, spool: SpoolId, topic: Topic) -> Mark {
        self.marks.get(&spool).copied().unwrap_or_else(|| Mark::new(spool, topic))
    }

    /// The terms that a decision was made with.
    pub fn terms(&mut self, view: View<'_>, hash: &str) -> Result<Terms, StoreError> {
        if let Some(terms) = self.rulebooks.get(hash) {
            return Ok(terms.clone());
        }
        let missing = || StoreError::Unreadable { what: "catalog", why: format!("{hash} is not there") };
        let terms = Terms::new(hash, Arc::new(view.rulebook(hash)?.ok_or_else(missing)?));
        if self.rulebooks.len() >= MAX_RULEBOOKS {
            self.rulebooks.clear();
        }
        self.rulebooks.insert(hash.to_owned(), terms.clone());
        Ok(terms)
    }
}
