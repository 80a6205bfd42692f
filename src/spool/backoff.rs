//! Growing pauses between tries of what fails.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The first failure is tried again at once; after the second comes 100 ms, and twice as long each time up to 5 s.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    pub failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Another failure; how long to pause.
    pub fn fail(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = match self.failures {
            1 => Duration::ZERO,
            more => LONGEST.min(FIRST * (1 << (more - 2).min(6))),
        };
        self.until = Some(Instant::now() + pause);
        pause
    }

    /// Something has changed: the next try need not wait.
    pub fn hurry(&mut self) {
        self.until = None;
    }

    /// The pause is over.
    pub fn is_due(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds() {
        let mut backoff = Backoff::default();
        assert!(backoff.is_due());
        let pauses: Vec<u128> = (0..10).map(|_| backoff.fail().as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert!(!backoff.is_due());
    }
}
