//! The running catalog: read by everybody without a lock, replaced whole, watched for changes (contract P9, P21, P22).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use super::load::load;
use super::rulebook::{Rulebook, Terms};
use super::{OfferId, Snapshot};
use crate::metrics::{Counter, Gauge, Page};
use crate::time::TimeMs;
use crate::toml_reader::Violations;

pub struct Current {
    snapshot: Arc<ArcSwap<Snapshot>>,
    path: Option<PathBuf>,
    allow_changed_terms: bool,
    /// The files of the running snapshot and what they looked like; held while reloading.
    files: Mutex<Vec<(PathBuf, Look)>>,
    last_reload_successful: AtomicBool,
    succeeded: Counter,
    failed: Counter,
    loaded_at_s: Gauge,
}

/// What tells a changed file from an unchanged one.
type Look = Option<(SystemTime, u64, u64)>;

#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    #[error("{0}")]
    Violations(#[from] Violations),
    /// Contract P22.
    #[error(
        "terms already in force would change: {0}; close terms and add others instead, or set catalog.allow_changed_terms"
    )]
    ChangedTerms(String),
}

impl Current {
    /// Loads the catalog at `path`; without one nothing is known.
    pub fn load(path: Option<&Path>, allow_changed_terms: bool) -> Result<Current, Violations> {
        let (snapshot, files) = match path {
            None => (Snapshot::empty(), Vec::new()),
            Some(path) => {
                let loaded = load(path)?;
                (loaded.snapshot, looked_at(path, &loaded.files))
            }
        };
        let current = Current {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            path: path.map(Path::to_owned),
            allow_changed_terms,
            files: Mutex::new(files),
            last_reload_successful: AtomicBool::new(true),
            succeeded: Counter::new(),
            failed: Counter::new(),
            loaded_at_s: Gauge::new(0),
        };
        current.note_time();
        Ok(current)
    }

    /// Where the snapshot stands; readers keep it and load from it.
    pub fn handle(&self) -> Arc<ArcSwap<Snapshot>> {
        self.snapshot.clone()
    }

    /// Loads again. A bad catalog leaves the running one. `now` tells which terms are in force.
    pub fn reload(&self, now: TimeMs) -> Result<(), NotReloaded> {
        let result = self.try_reload(now);
        self.last_reload_successful.store(result.is_ok(), Relaxed);
        if result.is_ok() { &self.succeeded } else { &self.failed }.add_shared(1);
        result
    }

    /// True when a file of the running catalog changed since it was loaded or last refused.
    pub fn has_changed(&self) -> bool {
        let files = self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        files.iter().any(|(file, seen)| look(file) != *seen)
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
        let snapshot = self.snapshot.load();
        let entries: [(&[(&str, &str)], usize); 4] = [
            (&[("kind", "merchants")], snapshot.merchants.len()),
            (&[("kind", "offers")], snapshot.offers.len()),
            (&[("kind", "publishers")], snapshot.rulebook.publishers.len()),
            (&[("kind", "links")], snapshot.links.len()),
        ];
        page.gauge("afflux_catalog_entries", "Entries of the running catalog by kind.", &entries);
    }

    fn try_reload(&self, now: TimeMs) -> Result<(), NotReloaded> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut files = self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // What is looked at now is remembered even if it is refused: a bad file is not tried again each second.
        for (file, seen) in files.iter_mut() {
            *seen = look(file);
        }
        let (snapshot, changed) = self.checked(path, now)?;
        self.snapshot.store(Arc::new(snapshot));
        self.note_time();
        *files = looked_at(path, &changed);
        Ok(())
    }

    fn checked(&self, path: &Path, now: TimeMs) -> Result<(Snapshot, Vec<PathBuf>), NotReloaded> {
        let loaded = load(path)?;
        let running = self.snapshot.load();
        match changed_terms(&running.rulebook, &loaded.snapshot.rulebook, now) {
            Some(change) if !self.allow_changed_terms => Err(NotReloaded::ChangedTerms(change)),
            _ => Ok((loaded.snapshot, loaded.files)),
        }
    }

    fn note_time(&self) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.loaded_at_s.set(since.as_secs() as i64);
    }
}

/// The files, and the directory when the catalog is one: a new file in it is a change.
fn looked_at(path: &Path, files: &[PathBuf]) -> Vec<(PathBuf, Look)> {
    let directory = path.is_dir().then(|| path.to_owned());
    directory.iter().chain(files).map(|file| (file.clone(), look(file))).collect()
}

fn look(file: &Path) -> Look {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// The first change of terms that hold or held: an entry that began by `now` may only get an `until` that lies ahead.
pub fn changed_terms(running: &Rulebook, new: &Rulebook, now: TimeMs) -> Option<String> {
    for (offer_id, offer) in &running.offers {
        let begun = |terms: &&Terms| terms.from <= now;
        let Some(replacement) = new.offers.get(offer_id) else { continue };
        for terms in offer.terms.iter().filter(begun) {
            match replacement.terms.iter().find(|other| other.from == terms.from) {
                None => return Some(change(*offer_id, terms, "left out")),
                Some(other) if !same_but_for_a_later_end(terms, other, now) => {
                    return Some(change(*offer_id, terms, "changed"));
                }
                Some(_) => {}
            }
        }
        let added = |terms: &&Terms| begun(terms) && !offer.terms.iter().any(|known| known.from == terms.from);
        if let Some(terms) = replacement.terms.iter().find(added) {
            return Some(change(*offer_id, terms, "added in the past"));
        }
    }
    None
}

fn same_but_for_a_later_end(terms: &Terms, other: &Terms, now: TimeMs) -> bool {
    let end_is_ahead = |end: Option<TimeMs>| end.is_none_or(|end| end > now);
    let ends_agree = terms.until == other.until || (end_is_ahead(terms.until) && end_is_ahead(other.until));
    ends_agree && Terms { until: terms.until, ..other.clone() } == *terms
}

fn change(offer_id: OfferId, terms: &Terms, what: &str) -> String {
    format!("offer {offer_id}, terms from {}: {what}", terms.from)
}
