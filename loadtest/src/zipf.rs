//! Few links and publishers get most clicks: Zipf's law over any number of them, without a table.
//!
//! Rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
//! distributions", 1996).

use crate::random::Random;

#[derive(Debug, Clone)]
pub struct Zipf {
    count: f64,
    exponent: f64,
    /// Integrals of the hat function at the two ends, and how far from a whole number one is accepted at once.
    first: f64,
    last: f64,
    accepted: f64,
}

impl Zipf {
    /// Over 0 to `count` - 1, the first the most frequent; `exponent` 0 is an even spread.
    pub fn new(count: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf { count: count.max(1) as f64, exponent, first: 0.0, last: 0.0, accepted: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(zipf.count + 0.5);
        zipf.accepted = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    pub fn draw(&self, random: &mut Random) -> u64 {
        // Accepted at least every second time on average; the bound is for a machine whose floats are broken.
        for _ in 0..1_000 {
            let height = self.last + random.unit() * (self.first - self.last);
            let at = self.inverse(height);
            let rank = at.round().clamp(1.0, self.count);
            if rank - at <= self.accepted || height >= self.integral(rank + 0.5) - self.density(rank) {
                return rank as u64 - 1;
            }
        }
        0
    }

    fn density(&self, at: f64) -> f64 {
        (-self.exponent * at.ln()).exp()
    }

    fn integral(&self, at: f64) -> f64 {
        let ln = at.ln();
        growth((1.0 - self.exponent) * ln) * ln
    }

    fn inverse(&self, height: f64) -> f64 {
        let at = (height * (1.0 - self.exponent)).max(-1.0);
        (flattened(at) * height).exp()
    }
}

/// (e^x - 1) / x, also where x is 0.
fn growth(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// ln(1 + x) / x, also where x is 0.
fn flattened(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_those_of_the_law() {
        for exponent in [0.0, 0.8, 1.0, 1.3] {
            let (zipf, mut random) = (Zipf::new(50, exponent), Random::new(3));
            let mut counts = [0u64; 50];
            (0..400_000).for_each(|_| counts[zipf.draw(&mut random) as usize] += 1);
            let weights: Vec<f64> = (1..=50).map(|rank| f64::from(rank).powf(-exponent)).collect();
            let whole: f64 = weights.iter().sum();
            for (rank, (count, weight)) in counts.iter().zip(&weights).enumerate() {
                let expected = weight / whole * 400_000.0;
                let off = (*count as f64 - expected).abs() / expected.sqrt();
                assert!(off < 6.0, "exponent {exponent}, rank {rank}: {count}, expected {expected:.0}");
            }
        }
    }

    #[test]
    fn one_and_ten_million_are_counts_as_well() {
        let mut random = Random::new(9);
        assert_eq!(Zipf::new(1, 1.0).draw(&mut random), 0);
        let zipf = Zipf::new(10_000_000, 1.0);
        assert!((0..10_000).all(|_| zipf.draw(&mut random) < 10_000_000));
    }
}
