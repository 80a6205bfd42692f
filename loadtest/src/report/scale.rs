//! From values to places on a picture, with round ticks.

/// Values from `low` to `high` lie between `from` and `to` (pixels; `to` may be the smaller).
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// From 0 to a round number that is not below `most`.
    pub fn linear(most: f64, from: f64, to: f64) -> Scale {
        let step = step(most);
        let high = (most / step).ceil().max(1.0) * step;
        Scale { low: 0.0, high, from, to, logarithmic: false }
    }

    /// As it is, without a round end.
    pub fn exact(low: f64, high: f64, from: f64, to: f64) -> Scale {
        Scale { low, high: if high > low { high } else { low + 1.0 }, from, to, logarithmic: false }
    }

    /// From the power of ten below `least` to the one above `most`.
    pub fn logarithmic(least: f64, most: f64, from: f64, to: f64) -> Scale {
        let low = least.max(1.0).log10().floor();
        let high = most.max(10.0).log10().ceil().max(low + 1.0);
        Scale { low, high, from, to, logarithmic: true }
    }

    pub fn at(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(1.0).log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    pub fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            return (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power)).collect();
        }
        let step = step(self.high - self.low);
        let count = ((self.high - self.low) / step + 1e-9).floor() as u32;
        (0..=count).map(|tick| self.low + f64::from(tick) * step).collect()
    }
}

/// 1, 2 or 5 times a power of ten, so that there are four to ten of them.
fn step(span: f64) -> f64 {
    if !span.is_finite() || span <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf((span / 4.0).log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|times| times * power).find(|step| span / step >= 4.0).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_everything() {
        let scale = Scale::linear(23.5, 0.0, 100.0);
        assert_eq!(scale.ticks(), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
        assert_eq!((scale.at(0.0), scale.at(25.0)), (0.0, 100.0));
        let scale = Scale::logarithmic(40.0, 7_000.0, 100.0, 0.0);
        assert_eq!(scale.ticks(), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!((scale.at(10.0), scale.at(10_000.0)), (100.0, 0.0));
    }

    #[test]
    fn nothing_at_all_is_drawn_too() {
        let scale = Scale::linear(0.0, 0.0, 100.0);
        assert_eq!(scale.at(0.0), 0.0);
        assert!(scale.ticks().len() > 1);
        assert!(Scale::exact(3.0, 3.0, 0.0, 100.0).at(3.0).is_finite());
    }
}
