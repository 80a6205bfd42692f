//! Gaps that an operator had passed by command: a mark was moved from outside, and nothing else tells of it.

use std::time::{Duration, Instant};

use super::Rules;
use super::shared::Layout;
use crate::store::{Store, StoreError, View};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(2);

pub struct Passes {
    known: u64,
    looked: Instant,
}

impl Passes {
    pub fn known(view: View<'_>) -> Result<Passes, StoreError> {
        Ok(Passes { known: view.passed_count()?, looked: Instant::now() })
    }

    /// Whether there are others than at the last look.
    pub fn have_changed(&mut self, view: View<'_>) -> Result<bool, StoreError> {
        if self.looked.elapsed() < EVERY {
            return Ok(false);
        }
        self.looked = Instant::now();
        let known = std::mem::replace(&mut self.known, view.passed_count()?);
        Ok(known != self.known)
    }
}

/// From now on it is waited anew for what is missing: nothing is passed before that has taken long enough.
pub fn wait_anew(store: &mut Store, rules: &Rules) -> Result<(), StoreError> {
    if matches!(rules.layout, Layout::Shared(_)) {
        let batch = store.begin()?;
        batch.record_running(true)?;
        batch.commit()?;
    }
    Ok(())
}
