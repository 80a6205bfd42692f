//! The running catalog: read by everybody without a lock, replaced whole, watched for changes (contract P9, P21, P22).
//!
//! Who answers clicks keeps an `arc_swap::Cache` of the handle: looking at the running snapshot is then one load and one
//! comparison, and nothing shared is written. Everybody else loads from the handle. A snapshot may be a gigabyte, and
//! giving that back to the kernel takes long: replaced ones are kept until nobody else holds them and are dropped here,
//! never by a reader.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use super::Snapshot;
use super::changed_terms::{ChangedTerms, changed_terms};
use super::load::{Loaded, load_noting};
use crate::files::Files;
use crate::metrics::{Counter, Gauge, Page};
use crate::time::TimeMs;
use crate::toml_reader::{Violation, Violations};

pub struct Current {
    snapshot: Arc<ArcSwap<Snapshot>>,
    path: Option<PathBuf>,
    allow_changed_terms: bool,
    /// What was looked at by the last load, also by one that was refused; held while reloading.
    files: Mutex<Files>,
    /// Replaced, and still held by a reader that has not looked since.
    replaced: Mutex<Vec<Arc<Snapshot>>>,
    last_reload_successful: AtomicBool,
    succeeded: Counter,
    failed: Counter,
    loaded_at_s: Gauge,
}

#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    #[error("loading it panicked, told above")]
    Panicked,
    #[error("{0}")]
    Violations(#[from] Violations),
    /// Contract P22.
    #[error("{0}")]
    ChangedTerms(Violations),
}

impl Current {
    /// Loads the catalog at `path`; without one nothing is known.
    pub fn load(path: Option<&Path>, allow_changed_terms: bool) -> Result<Current, Violations> {
        let mut files = Files::default();
        let snapshot = match path {
            None => Snapshot::empty(),
            Some(path) => load_noting(path, &mut files)?.snapshot,
        };
        let current = Current {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            path: path.map(Path::to_owned),
            allow_changed_terms,
            files: Mutex::new(files),
            replaced: Mutex::default(),
            last_reload_successful: AtomicBool::new(true),
            succeeded: Counter::new(),
            failed: Counter::new(),
            loaded_at_s: Gauge::new(0),
        };
        current.note_time();
        Ok(current)
    }

    /// Where the snapshot stands; readers keep it and look.
    pub fn handle(&self) -> Arc<ArcSwap<Snapshot>> {
        self.snapshot.clone()
    }

    /// Loads again and logs what came of it. A bad catalog leaves the running one. `now` tells which terms are in force.
    pub fn reload(&self, now: TimeMs) -> Result<(), NotReloaded> {
        let result = unless_it_panics(|| self.try_reload(now));
        self.last_reload_successful.store(result.is_ok(), Relaxed);
        match &result {
            Ok(()) => {
                self.succeeded.add_shared(1);
                tracing::info!(hash = %self.snapshot.load().hash, "the catalog was reloaded");
            }
            Err(refused) => {
                self.failed.add_shared(1);
                tracing::error!("the catalog was not reloaded, the running one stays:\n{refused}");
            }
        }
        self.drop_replaced();
        result
    }

    /// What lies there now, when a file is not what the last load read, whether that was taken or refused.
    pub fn changed(&self) -> Option<Files> {
        lock(&self.files).changed_to()
    }

    /// Drops replaced snapshots that nobody else holds; false when one is still held.
    pub fn drop_replaced(&self) -> bool {
        let mut replaced = lock(&self.replaced);
        // Nobody can get hold of one again: it is in no `ArcSwap` any more.
        replaced.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        replaced.is_empty()
    }

    pub fn write_metrics(&self, page: &mut Page) {
        let successful = u8::from(self.last_reload_successful.load(Relaxed));
        page.gauge("afflux_catalog_last_reload_successful", "1 when the last reload was taken.", &[(&[], successful)]);
        page.counter(
            "afflux_catalog_reloads_total",
            "Reloads by result.",
            &[(&[("result", "success")], self.succeeded.value()), (&[("result", "failure")], self.failed.value())],
        );
        let loaded_at = self.loaded_at_s.value();
        page.gauge(
            "afflux_catalog_loaded_timestamp_seconds",
            "When the running catalog was loaded.",
            &[(&[], loaded_at)],
        );
        let counts = self.snapshot.load().counts();
        let labels = counts.map(|(kind, _)| [("kind", kind)]);
        let entries: [_; 5] = std::array::from_fn(|at| (&labels[at][..], counts[at].1));
        page.gauge("afflux_catalog_entries", "Entries of the running catalog by kind.", &entries);
    }

    fn try_reload(&self, now: TimeMs) -> Result<(), NotReloaded> {
        let Some(path) = &self.path else { return Ok(()) };
        // Held all along: of two reloads at once the second sees what the first has done.
        let mut files = lock(&self.files);
        *files = Files::default();
        let loaded = load_noting(path, &mut files)?;
        self.check_terms(path, &loaded, now)?;
        let replaced = self.snapshot.swap(Arc::new(loaded.snapshot));
        lock(&self.replaced).push(replaced);
        self.note_time();
        Ok(())
    }

    fn check_terms(&self, path: &Path, loaded: &Loaded, now: TimeMs) -> Result<(), NotReloaded> {
        if self.allow_changed_terms {
            return Ok(());
        }
        let mut violations = Violations::default();
        for change in changed_terms(&self.snapshot.load().rulebook, &loaded.snapshot.rulebook, now) {
            violations.add(refusal(path, loaded, &change));
        }
        violations.none().map_err(NotReloaded::ChangedTerms)
    }

    fn note_time(&self) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.loaded_at_s.set(since.as_secs() as i64);
    }
}

fn refusal(path: &Path, loaded: &Loaded, change: &ChangedTerms) -> Violation {
    let ChangedTerms { offer_id, at, what } = change;
    let allowed = "terms in force may be closed and others added, or catalog.allow_changed_terms set";
    let place = loaded.offer_places.get(offer_id);
    Violation {
        file: place.map_or_else(|| path.to_owned(), |place| place.file.clone()),
        line: place.map_or(1, |place| place.line_of("terms")),
        key: "offers.terms".into(),
        message: format!("offer {offer_id}, in force at {at}: {what}; {allowed}"),
    }
}

/// A panic refuses what was loaded, as an error does: edges that meet the same files would all end of them at once, and
/// not start again.
fn unless_it_panics(load: impl FnOnce() -> Result<(), NotReloaded>) -> Result<(), NotReloaded> {
    std::panic::catch_unwind(AssertUnwindSafe(load)).unwrap_or(Err(NotReloaded::Panicked))
}

/// A panic while one of these is held leaves it as it was or empty: both may be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p9_a_reload_that_panics_is_refused() {
        let refused = unless_it_panics(|| panic!("on purpose")).unwrap_err();
        assert!(matches!(refused, NotReloaded::Panicked));
        assert!(unless_it_panics(|| Ok(())).is_ok());
    }
}
