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
}

#[cfg(test)]
pub use ordered::Faults;

#[cfg(test)]
mod ordered {
    use super::io;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    use std::sync::{Arc, Mutex};

    /// What the next operations meet.
    #[derive(Clone, Default)]
    pub struct Faults(Arc<Orders>);

    #[derive(Default)]
    struct Orders {
        syncs_to_fail: AtomicU64,
        hang: Mutex<()>,
        disk_full: AtomicBool,
    }

    impl Faults {
        pub fn fail_syncs(&self, count: u64) {
            self.0.syncs_to_fail.store(count, SeqCst);
        }

        pub fn disk_full(&self, full: bool) {
            self.0.disk_full.store(full, SeqCst);
        }

        /// Every fdatasync hangs until the guard is dropped.
        pub fn hang(&self) -> std::sync::MutexGuard<'_, ()> {
            self.0.hang.lock().unwrap()
        }

        pub fn before_sync(&self) -> io::Result<()> {
            drop(self.0.hang.lock());
            let failing = self.0.syncs_to_fail.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
            if failing.is_ok() { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
        }

        pub fn before_create(&self) -> io::Result<()> {
            if self.0.disk_full.load(SeqCst) { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
        }
    }
}
