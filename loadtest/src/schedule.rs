//! When arrivals are due: known before the first is sent, whatever the server does. That is what an open loop is.

use std::time::Duration;

/// A rate that is constant, or goes evenly from one to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    pub from_per_s: f64,
    pub to_per_s: f64,
    pub seconds: f64,
}

impl Slope {
    pub fn arrivals(&self) -> u64 {
        ((self.from_per_s + self.to_per_s) / 2.0 * self.seconds).round() as u64
    }

    /// A lane's part of it.
    pub fn divided(&self, lanes: usize) -> Slope {
        let lanes = lanes.max(1) as f64;
        Slope { from_per_s: self.from_per_s / lanes, to_per_s: self.to_per_s / lanes, seconds: self.seconds }
    }

    /// When as many arrivals as `count` are due: the area under the slope is solved for time.
    fn at(&self, count: f64) -> f64 {
        let growth = (self.to_per_s - self.from_per_s) / self.seconds;
        if growth.abs() < 1e-9 {
            return count / self.from_per_s.max(1e-9);
        }
        let root = (self.from_per_s * self.from_per_s + 2.0 * growth * count).max(0.0).sqrt();
        // The form that does not subtract two numbers that are almost the same.
        2.0 * count / (self.from_per_s + root).max(1e-9)
    }
}

/// The arrivals of one lane, one after the other; several lanes stand a part of an arrival apart.
#[derive(Debug, Clone)]
pub struct Schedule {
    slope: Slope,
    phase: f64,
    taken: u64,
    total: u64,
}

impl Schedule {
    /// `phase` from 0 to 1: how much of an arrival this lane stands behind the first.
    pub fn new(slope: Slope, phase: f64) -> Schedule {
        Schedule { slope, phase, taken: 0, total: slope.arrivals() }
    }

    /// From the begin of the stage; `None` when all have been taken.
    pub fn due(&self) -> Option<Duration> {
        (self.taken < self.total)
            .then(|| Duration::from_secs_f64(self.slope.at(self.taken as f64 + self.phase).min(self.slope.seconds)))
    }

    pub fn take(&mut self) {
        self.taken += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(slope: Slope, phase: f64) -> Vec<f64> {
        let mut schedule = Schedule::new(slope, phase);
        let mut times = Vec::new();
        while let Some(due) = schedule.due() {
            times.push(due.as_secs_f64());
            schedule.take();
        }
        times
    }

    #[test]
    fn a_constant_rate_is_due_at_even_times() {
        let times = all(Slope { from_per_s: 4.0, to_per_s: 4.0, seconds: 2.0 }, 0.0);
        assert_eq!(times, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]);
        assert_eq!(all(Slope { from_per_s: 4.0, to_per_s: 4.0, seconds: 0.5 }, 0.5), [0.125, 0.375]);
    }

    #[test]
    fn a_ramp_has_as_many_arrivals_as_the_area_under_it() {
        let times = all(Slope { from_per_s: 0.0, to_per_s: 1_000.0, seconds: 10.0 }, 0.0);
        assert_eq!(times.len(), 5_000);
        assert!(times.is_sorted() && times.iter().all(|time| (0.0..=10.0).contains(time)));
        // A quarter of the area lies in the first half.
        let first_half = times.iter().filter(|time| **time < 5.0).count();
        assert!((1_249..=1_251).contains(&first_half), "{first_half}");
        let falling = all(Slope { from_per_s: 1_000.0, to_per_s: 0.0, seconds: 10.0 }, 0.0);
        let first_half = falling.iter().filter(|time| **time < 5.0).count();
        assert!((3_749..=3_751).contains(&first_half), "{first_half}");
    }

    #[test]
    fn lanes_together_have_the_whole_rate() {
        let slope = Slope { from_per_s: 900.0, to_per_s: 300.0, seconds: 3.0 };
        assert_eq!(slope.divided(3).arrivals() * 3, slope.arrivals());
    }
}
