//! Where the touches of visitors are: in the store, for one consumer; or shared by many, and looked up before deciding.

use std::collections::HashMap;

use crate::click::{ClickId, VisitorKey};
use crate::store::{Batch, StoreError, View};
use crate::time::TimeMs;
use crate::touch::{Found, Labels, TouchIndex, Touched};

pub enum Touches {
    /// Written in the transaction of the mark: complete up to the marks.
    Stored(TouchIndex),
    /// Somewhere else; this is what was fetched for the decisions at hand.
    Shared(Fetched),
}

/// What was looked up in a shared index.
#[derive(Default)]
pub struct Fetched {
    pub clicks: HashMap<VisitorKey, Found>,
    pub labels: HashMap<ClickId, Labels>,
}

impl Touches {
    pub fn are_shared(&self) -> bool {
        matches!(self, Touches::Shared(_))
    }

    pub fn add(&mut self, batch: &Batch<'_>, touches: &[Touched<'_>], now: TimeMs) -> Result<(), StoreError> {
        match self {
            Touches::Stored(index) => index.add(batch, touches, now),
            Touches::Shared(_) => Ok(()),
        }
    }

    pub fn find(&self, view: View<'_>, visitor: VisitorKey, since: TimeMs) -> Result<Found, StoreError> {
        match self {
            Touches::Stored(index) => index.find(view, visitor, since),
            Touches::Shared(fetched) => {
                let found = fetched.clicks.get(&visitor);
                let click_ids = found.iter().flat_map(|found| &found.click_ids).copied();
                let click_ids = click_ids.filter(|click| click.clicked_at() >= since).collect();
                Ok(Found { click_ids, cut: found.is_some_and(|found| found.cut) })
            }
        }
    }

    /// What reports show of a touch, if it is known.
    pub fn labels(&self, view: View<'_>, click_id: ClickId) -> Result<Option<Labels>, StoreError> {
        match self {
            Touches::Stored(index) => index.labels(view, click_id),
            Touches::Shared(fetched) => Ok(fetched.labels.get(&click_id).cloned()),
        }
    }

    pub fn drop_older(&mut self, batch: &Batch<'_>, oldest: TimeMs) -> Result<(), StoreError> {
        match self {
            Touches::Stored(index) => index.drop_older(batch, oldest).map(drop),
            Touches::Shared(_) => Ok(()),
        }
    }

    /// How many there are here, in how many tables.
    pub fn size(&self) -> (u64, usize) {
        match self {
            Touches::Stored(index) => (index.len(), index.tables()),
            Touches::Shared(_) => (0, 0),
        }
    }
}
