//! The files that labels are found with, `edge.bots_file` and `edge.datacenters_file`: read before the start, and again
//! when they change or when asked (SIGHUP), like the catalog. A bad file leaves the running lists.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;

use super::bots::{BadBots, Bots};
use super::networks::Networks;
use crate::files::{Files, Reloaded};
use crate::metrics::{Counter, Page};

/// Largest file that is read: a million networks with a remark behind each.
const MOST_BYTES: u64 = 128 << 20;

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// What labels are found with.
pub struct Lists {
    pub bots: Bots,
    pub datacenters: Networks,
    /// No other lists of the process have it: what is remembered of these is not taken for what others say.
    pub number: u64,
}

/// Where the lists lie. `None`: the bots that come with Afflux, and no data centres.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub bots: Option<PathBuf>,
    pub datacenters: Option<PathBuf>,
}

/// Why a list was not read.
#[derive(Debug, thiserror::Error)]
pub enum BadList {
    #[error("{}: {error}; a file that can be read is allowed", file.display())]
    Unreadable { file: PathBuf, error: std::io::Error },
    #[error("{}:{line}: {message}", file.display())]
    Wrong { file: PathBuf, line: usize, message: String },
    #[error("the built-in list: {0}")]
    BuiltIn(#[from] BadBots),
}

impl Places {
    pub fn bots(&self, files: &mut Files) -> Result<Bots, BadList> {
        let Some(file) = &self.bots else { return Ok(Bots::built_in()?) };
        Bots::parse(&text(file, files)?).map_err(|error| wrong(file, error.line(), &error))
    }

    pub fn datacenters(&self, files: &mut Files) -> Result<Networks, BadList> {
        let Some(file) = &self.datacenters else { return Ok(Networks::default()) };
        Networks::parse(&text(file, files)?).map_err(|error| wrong(file, error.line(), &error))
    }

    /// Both, or all that is wrong. `files` notes both however the first went: a look then sees either change.
    fn load(&self, files: &mut Files) -> Result<Lists, Vec<BadList>> {
        match (self.bots(files), self.datacenters(files)) {
            (Ok(bots), Ok(datacenters)) => Ok(Lists { bots, datacenters, number: NEXT_NUMBER.fetch_add(1, Relaxed) }),
            (bots, datacenters) => Err(bots.err().into_iter().chain(datacenters.err()).collect()),
        }
    }
}

fn text(file: &Path, files: &mut Files) -> Result<String, BadList> {
    files.read(file, MOST_BYTES).map_err(|error| BadList::Unreadable { file: file.to_owned(), error })
}

fn wrong(file: &Path, line: usize, error: &dyn std::error::Error) -> BadList {
    BadList::Wrong { file: file.to_owned(), line, message: error.to_string() }
}

/// The running lists: read by every click without a lock, replaced whole.
pub struct CurrentLists {
    lists: Arc<ArcSwap<Lists>>,
    places: Places,
    /// What the last reading looked at, also one that was refused.
    files: Mutex<Files>,
    /// Replaced, and still held by a worker that had no click since: its memory is given back here, never by a click.
    replaced: Mutex<Vec<Arc<Lists>>>,
    last_failed: AtomicBool,
    succeeded: Counter,
    failed: Counter,
}

impl CurrentLists {
    pub fn load(places: Places) -> Result<CurrentLists, Vec<BadList>> {
        let mut files = Files::default();
        let lists = places.load(&mut files)?;
        Ok(CurrentLists {
            lists: Arc::new(ArcSwap::from_pointee(lists)),
            places,
            files: Mutex::new(files),
            replaced: Mutex::default(),
            last_failed: AtomicBool::new(false),
            succeeded: Counter::new(),
            failed: Counter::new(),
        })
    }

    /// Where the lists stand; a worker keeps it and looks.
    pub fn handle(&self) -> Arc<ArcSwap<Lists>> {
        self.lists.clone()
    }

    /// Reads again and logs what came of it; with built-in lists there is nothing to read.
    pub fn reload(&self) -> bool {
        if self.places.bots.is_none() && self.places.datacenters.is_none() {
            return true;
        }
        let mut files = Files::default();
        let read = self.places.load(&mut files);
        *lock(&self.files) = files;
        let taken = match read {
            Ok(lists) => {
                let (names, networks) = (lists.bots.names(), lists.datacenters.count());
                let before = self.lists.swap(Arc::new(lists));
                lock(&self.replaced).push(before);
                self.succeeded.add_shared(1);
                tracing::info!(names, networks, "the lists of bots and data centres were read again");
                true
            }
            Err(bad) => {
                self.failed.add_shared(1);
                let bad = bad.iter().map(BadList::to_string).collect::<Vec<_>>().join("\n");
                tracing::error!("the lists of bots and data centres were not read, the running ones stay:\n{bad}");
                false
            }
        };
        self.last_failed.store(!taken, Relaxed);
        taken
    }

    pub fn write_metrics(&self, page: &mut Page) {
        let successful = u8::from(!self.last_failed.load(Relaxed));
        let help = "1 when the lists of bots and data centres were taken when they were last read.";
        page.gauge("afflux_edge_lists_last_reload_successful", help, &[(&[], successful)]);
        let results =
            [(&[("result", "success")][..], self.succeeded.value()), (&[("result", "failure")], self.failed.value())];
        page.counter("afflux_edge_lists_reloads_total", "Times that the lists were read again, by result.", &results);
        let lists = self.lists.load();
        let entries =
            [(&[("list", "bots")][..], lists.bots.names()), (&[("list", "datacenters")], lists.datacenters.count())];
        page.gauge("afflux_edge_list_entries", "Entries of the running lists.", &entries);
    }
}

impl Reloaded for CurrentLists {
    fn changed(&self) -> Option<Files> {
        lock(&self.files).changed_to()
    }

    fn reload(&self) {
        // It has logged and counted what came of it.
        let _ = CurrentLists::reload(self);
    }

    fn drop_replaced(&self) -> bool {
        let mut replaced = lock(&self.replaced);
        replaced.retain(|lists| Arc::strong_count(lists) > 1);
        replaced.is_empty()
    }
}

/// A panic while one of these is held leaves it as it was: both may be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::mpsc::sync_channel;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::files;

    const BROWSER: &[u8] = b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 Acme/1";
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    struct World {
        home: tempfile::TempDir,
        current: Arc<CurrentLists>,
    }

    impl World {
        fn new() -> World {
            let home = tempfile::tempdir().unwrap();
            let places =
                Places { bots: Some(home.path().join("bots")), datacenters: Some(home.path().join("networks")) };
            std::fs::write(home.path().join("bots"), "nobody\n").unwrap();
            std::fs::write(home.path().join("networks"), "198.51.100.0/24\n").unwrap();
            World { current: Arc::new(CurrentLists::load(places).unwrap()), home }
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.home.path().join(name), text).unwrap();
        }

        /// Is a bot, is in a data centre.
        fn found(&self) -> (bool, bool) {
            let lists = self.current.handle().load_full();
            (lists.bots.matches(BROWSER), lists.datacenters.contains(ADDRESS))
        }
    }

    #[test]
    fn p9_lists_are_read_again_and_bad_ones_leave_the_running() {
        let world = World::new();
        assert_eq!(world.found(), (false, false));
        world.write("bots", "acme/\n");
        world.write("networks", "192.0.2.0/24\n");
        assert!(world.current.reload());
        assert_eq!(world.found(), (true, true));

        // One bad file: neither is taken, and both are still looked at.
        world.write("networks", "# none\ncloud\n");
        world.write("bots", "nobody\n");
        assert!(!world.current.reload());
        assert_eq!(world.found(), (true, true));
        let bad = world.current.places.load(&mut Files::default()).err().unwrap();
        assert!(bad[0].to_string().ends_with("networks:2: \"cloud\" is no network; ADDRESS/BITS without bits behind them is allowed, as 192.0.2.0/24 or 2001:db8::/32, or an address alone"), "{}", bad[0]);
        world.write("bots", "fine\n^\n");
        let bad = world.current.places.load(&mut Files::default()).err().unwrap();
        assert!(bad[0].to_string().contains("bots:2: not a name"), "{}", bad[0]);
        assert_eq!(bad.len(), 2);

        world.write("bots", "nobody\n");
        world.write("networks", "");
        assert!(world.current.reload());
        assert_eq!(world.found(), (false, false));
        assert!(world.current.drop_replaced());
    }

    #[test]
    fn p9_a_changed_file_is_found_by_looking_and_a_good_one_after_a_bad_one_too() {
        let world = World::new();
        let (ask, asked) = sync_channel::<()>(1);
        let watched = world.current.clone();
        let thread = std::thread::spawn(move || files::watch(&[&*watched], Some(Duration::from_millis(5)), &asked));
        let until = |what: &dyn Fn() -> bool| {
            let started = Instant::now();
            while !what() {
                assert!(started.elapsed() < Duration::from_secs(60));
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        world.write("bots", "acme/\n");
        until(&|| world.found() == (true, false));
        world.write("bots", "!\n");
        until(&|| world.current.failed.value() == 1);
        assert_eq!(world.found(), (true, false));
        world.write("networks", "192.0.2.1\n");
        world.write("bots", "nobody\n");
        until(&|| world.found() == (false, true));
        drop(ask);
        thread.join().unwrap();
    }
}
