//! What time it is. Wall time anchored to the monotonic clock: a step of the system's clock does not throw clicks into
//! the future or the past; the difference is worn down slowly, shown, and past a minute the node is not ready.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::TimeMs;

/// Two real implementations: `WallClock`, and `ManualClock` in tests.
pub trait Clock: Send + Sync {
    fn now(&self) -> TimeMs;
}

/// How often a sleep looks whether to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Sleeps for `pause`, or until `stop` says so.
pub fn sleep(pause: Duration, stop: &impl Fn() -> bool) {
    let until = Instant::now() + pause;
    while !stop() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// The largest part of a second by which a second of ours may be longer or shorter: 1 %.
const SLEW_NS_PER_S: i64 = 10_000_000;

/// A step towards the system's clock is at most 10 ms: who needs times that never go back holds on to its latest, as the
/// edge does.
pub struct WallClock {
    started: Instant,
    /// Nanoseconds since 1970 at `started`, corrected by slewing.
    anchor_ns: AtomicI64,
    /// System clock minus ours at the last look, nanoseconds.
    difference_ns: AtomicI64,
}

impl WallClock {
    pub fn start() -> WallClock {
        WallClock { started: Instant::now(), anchor_ns: AtomicI64::new(system_ns()), difference_ns: AtomicI64::new(0) }
    }

    /// Compares with the system's clock and moves towards it. Call it once a second; more often would slew faster.
    pub fn discipline(&self) {
        let difference = system_ns() - self.now_ns();
        self.difference_ns.store(difference, Relaxed);
        let step = difference.clamp(-SLEW_NS_PER_S, SLEW_NS_PER_S);
        self.anchor_ns.fetch_add(step, Relaxed);
    }

    /// System clock minus ours at the last `discipline`, milliseconds.
    pub fn difference_ms(&self) -> i64 {
        self.difference_ns.load(Relaxed) / 1_000_000
    }

    fn now_ns(&self) -> i64 {
        // 292 years of nanoseconds fit.
        self.anchor_ns.load(Relaxed) + self.started.elapsed().as_nanos() as i64
    }
}

impl Clock for WallClock {
    fn now(&self) -> TimeMs {
        TimeMs(self.now_ns() / 1_000_000)
    }
}

fn system_ns() -> i64 {
    // A clock before 1970 is read as 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// A clock that stands until it is told otherwise.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn at(now: TimeMs) -> ManualClock {
        ManualClock(AtomicI64::new(now.0))
    }

    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimeMs {
        TimeMs(self.0.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_worn_down_by_one_percent_of_a_second() {
        let clock = WallClock::start();
        clock.anchor_ns.fetch_sub(3_600_000_000_000, Relaxed);
        let before = clock.now();
        clock.discipline();
        assert!((3_599_000..=3_600_100).contains(&clock.difference_ms()));
        let moved = clock.now() - before;
        assert!((10..1_000).contains(&moved), "{moved}");
    }
}
