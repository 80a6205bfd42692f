//! A seam for disks that fail: in tests an order book of faults, otherwise nothing.

use std::io;

#[cfg(not(test))]
#[derive(Clone, Default)]
pub struct Faults {}

#[cfg(not(test))]
impl Faults {
    pub fn before_sync(&self) -> io::Result<()> {
        Ok(())
    }

    pub fn before_create(&self) -> io::Result<()> {
        Ok(())
    }

    pub fn before_directory_sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// A place at which a process may be killed.
    pub fn at(&self, _place: Place) {}

    /// Most bytes of copies in memory.
    pub fn most_copies(&self, bytes: usize) -> usize {
        bytes
    }
}

/// Places at which a test looks at the disk as a kill -9 would leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All records are in the new segments, whose headers are empty.
    Copied,
    /// One more of the new segments has its header.
    Headed,
    /// The control file says that old records are deleted; their segments are still there.
    Disowned,
    /// What a killed process left half-made is about to be removed.
    Untidy,
}

#[cfg(test)]
pub use ordered::Faults;

#[cfg(test)]
mod ordered {
    use super::{Place, io};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use std::sync::{Arc, Mutex};

    /// What the next operations meet.
    #[derive(Clone, Default)]
    pub struct Faults(Arc<Orders>);

    type Visitor = Box<dyn FnMut(Place) + Send>;

    #[derive(Default)]
    struct Orders {
        syncs_to_fail: AtomicU64,
        directory_syncs_to_fail: AtomicU64,
        hang: Mutex<()>,
        hang_creation: Mutex<()>,
        disk_full: AtomicBool,
        no_copies: AtomicBool,
        visitor: Mutex<Option<Visitor>>,
    }

    impl Faults {
        pub fn fail_syncs(&self, count: u64) {
            self.0.syncs_to_fail.store(count, SeqCst);
        }

        pub fn fail_directory_syncs(&self, count: u64) {
            self.0.directory_syncs_to_fail.store(count, SeqCst);
        }

        pub fn disk_full(&self, full: bool) {
            self.0.disk_full.store(full, SeqCst);
        }

        /// Spools made from now on hold no copies in memory, as if the bound were reached.
        pub fn no_copies(&self) {
            self.0.no_copies.store(true, SeqCst);
        }

        pub fn most_copies(&self, bytes: usize) -> usize {
            if self.0.no_copies.load(SeqCst) { 0 } else { bytes }
        }

        /// Every fdatasync hangs until the guard is dropped.
        pub fn hang(&self) -> std::sync::MutexGuard<'_, ()> {
            self.0.hang.lock().unwrap()
        }

        /// Making a segment hangs until the guard is dropped.
        pub fn hang_creation(&self) -> std::sync::MutexGuard<'_, ()> {
            self.0.hang_creation.lock().unwrap()
        }

        /// Is told each place that is passed.
        pub fn visit(&self, visitor: impl FnMut(Place) + Send + 'static) {
            *self.0.visitor.lock().unwrap() = Some(Box::new(visitor));
        }

        pub fn before_sync(&self) -> io::Result<()> {
            drop(self.0.hang.lock());
            failing(&self.0.syncs_to_fail)
        }

        pub fn before_create(&self) -> io::Result<()> {
            drop(self.0.hang_creation.lock());
            if self.0.disk_full.load(SeqCst) { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
        }

        pub fn before_directory_sync(&self) -> io::Result<()> {
            failing(&self.0.directory_syncs_to_fail)
        }

        pub fn at(&self, place: Place) {
            if let Some(visitor) = &mut *self.0.visitor.lock().unwrap() {
                visitor(place);
            }
        }
    }

    fn failing(left: &AtomicU64) -> io::Result<()> {
        let failing = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if failing.is_ok() { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}
