//! How many bytes the segments of a directory take and how many they may (contract P18), known at every moment: what this
//! process makes and deletes is added and taken off at once, what other processes do is seen when the keeper counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Default)]
pub struct Room {
    used: AtomicU64,
    limit: AtomicU64,
    /// Everything that was ever made: what is made while files are counted would else be forgotten.
    made: AtomicU64,
}

impl Room {
    pub fn make(&self, bytes: u64) {
        self.made.fetch_add(bytes, Relaxed);
        self.used.fetch_add(bytes, Relaxed);
    }

    /// The same where it is within the limit; false otherwise.
    pub fn make_within(&self, bytes: u64) -> bool {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit());
        let within = self.used.fetch_update(Relaxed, Relaxed, add).is_ok();
        if within {
            self.made.fetch_add(bytes, Relaxed);
        }
        within
    }

    pub fn delete(&self, bytes: u64) {
        // More than was counted is another process' work; the next count sets it right.
        let _ = self.used.fetch_update(Relaxed, Relaxed, |used| Some(used.saturating_sub(bytes)));
    }

    /// For `count`: take it before looking at the files.
    pub fn made(&self) -> u64 {
        self.made.load(Relaxed)
    }

    /// `bytes` of files were found by somebody who began when `made` was made. What was made meanwhile may stand in both:
    /// too much for a moment rather than too little.
    pub fn count(&self, bytes: u64, made: u64) {
        self.used.store(bytes + self.made().saturating_sub(made), Relaxed);
    }

    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    /// Whether `bytes` more are within the limit.
    pub fn has(&self, bytes: u64) -> bool {
        self.used().saturating_add(bytes) <= self.limit()
    }

    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p18_what_is_made_while_files_are_counted_is_not_forgotten() {
        let room = Room::default();
        room.set_limit(100);
        assert!(room.make_within(60) && room.has(40) && !room.has(41) && !room.make_within(41));
        let made = room.made();
        room.make(10);
        room.count(50, made);
        assert_eq!(room.used(), 60);
        room.delete(70);
        assert_eq!(room.used(), 0);
    }
}
