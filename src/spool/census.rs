//! The spools of the directory as this process knows them: its own from memory, sealed ones as they were sealed, and only
//! the rest is looked at again. A machine may hold thousands of old spools.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::chain::Chain;
use super::shelf::{self, Entry, Known};
use super::shortage::is_shortage;
use super::spools::Inner;

/// Between looks for directories of other processes.
const SCAN_EVERY: Duration = Duration::from_millis(500);

#[derive(Default)]
pub struct Census {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scanned: Option<Instant>,
    /// Sealed, and not known to be consumed to the end.
    sealed: BTreeMap<PathBuf, Known>,
    drained: BTreeMap<PathBuf, Known>,
    /// Not sealed, not ours, or not readable.
    others: HashSet<PathBuf>,
    /// What was said of a directory.
    told: HashMap<PathBuf, String>,
}

/// Which spools are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those that hold, or may get, records that are not consumed.
    Unconsumed,
}

impl Census {
    pub fn list(&self, inner: &Inner, which: Which) -> io::Result<Vec<Known>> {
        let mut state = self.state();
        state.scan(inner, SCAN_EVERY)?;
        let mut known = state.look(inner)?;
        state.sort_out(inner);
        known.extend(state.sealed.values().cloned());
        if which == Which::All {
            known.extend(state.drained.values().cloned());
        }
        known.sort_by(|one, other| one.directory.cmp(&other.directory));
        Ok(known)
    }

    /// Directories that a process may have left unsealed, by a fresh look.
    pub fn unsealed(&self, inner: &Inner) -> io::Result<Vec<PathBuf>> {
        let mut state = self.state();
        state.scan(inner, Duration::ZERO)?;
        state.look(inner)?;
        Ok(state.others.iter().cloned().collect())
    }

    /// Says once what is wrong with a directory, and counts it.
    pub fn tell(&self, inner: &Inner, directory: &Path, why: &str) {
        self.state().tell(inner, directory, why);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes note of directories that came and went, if the last look is older than `age`.
    fn scan(&mut self, inner: &Inner, age: Duration) -> io::Result<()> {
        if self.scanned.is_some_and(|at| at.elapsed() < age) {
            return Ok(());
        }
        let found = shelf::directories(&inner.options.directory)?;
        self.scanned = Some(Instant::now());
        let there: HashSet<&PathBuf> = found.iter().collect();
        self.sealed.retain(|path, _| there.contains(path));
        self.drained.retain(|path, _| there.contains(path));
        self.others.retain(|path| there.contains(path));
        self.told.retain(|path, _| there.contains(path));
        let own: HashSet<PathBuf> = inner.chains().iter().map(|chain| chain.directory.clone()).collect();
        for path in found {
            if !self.sealed.contains_key(&path) && !self.drained.contains_key(&path) && !own.contains(&path) {
                self.others.insert(path);
            }
        }
        Ok(())
    }

    /// Looks at what is not settled. Returns the spools that are written now, here or elsewhere.
    /// Where one cannot be looked at for a shortage there is no answer: none that leaves it out would be true.
    fn look(&mut self, inner: &Inner) -> io::Result<Vec<Known>> {
        let chains = inner.chains();
        let position_of_own = |chain: &Arc<Chain>| {
            let position = chain.control.position().ok()?;
            Some(Known { directory: chain.directory.clone(), position })
        };
        let mut open: Vec<Known> = chains.iter().filter_map(position_of_own).collect();
        let own = open.len();
        let mut short = None;
        for path in std::mem::take(&mut self.others) {
            if open[..own].iter().any(|known| known.directory == path) {
                continue;
            }
            match shelf::examine(&path) {
                None => {}
                Some(Entry::Stranger(stranger)) => self.tell(inner, &path, &stranger.why),
                Some(Entry::Spool(known)) if known.position.sealed.is_some() => {
                    self.sealed.insert(path, known);
                }
                Some(Entry::Spool(known)) => {
                    open.push(known);
                    self.others.insert(path);
                }
                Some(Entry::Broken { .. }) => {
                    self.others.insert(path);
                }
                Some(Entry::Unread { error, .. }) => {
                    if is_shortage(&error) {
                        short = Some(error);
                    } else {
                        self.tell(inner, &path, &shelf::unread(&error));
                    }
                    self.others.insert(path);
                }
            }
        }
        short.map_or(Ok(open), Err)
    }

    /// Moves what is consumed to its end out of the way.
    fn sort_out(&mut self, inner: &Inner) {
        let consumed = inner.consumed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_drained = |known: &Known| {
            let next = consumed.get(&known.id()).copied().unwrap_or(0);
            known.position.sealed.is_some_and(|(records, _)| records <= next)
        };
        let drained: Vec<PathBuf> =
            self.sealed.iter().filter(|(_, known)| is_drained(known)).map(|(path, _)| path.clone()).collect();
        for path in drained {
            if let Some(known) = self.sealed.remove(&path) {
                self.drained.insert(path, known);
            }
        }
    }

    fn tell(&mut self, inner: &Inner, directory: &Path, why: &str) {
        if self.told.get(directory).is_none_or(|told| told != why) {
            inner.found.unreadable.add_shared(1);
            tracing::error!(directory = %directory.display(), why, "not readable as a spool of this directory");
            self.told.insert(directory.to_owned(), why.to_owned());
        }
    }
}
