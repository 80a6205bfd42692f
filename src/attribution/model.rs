//! How a model shares 1,000,000 parts among the counting touches, exactly (contract M17-M19).

use std::cmp::Reverse;

use crate::catalog::rulebook::Model;
use crate::money::ALL_PARTS;
use crate::time::TimeMs;

const MINUTE_MS: i64 = 60_000;
/// Half-life of `time_decay`: 7 days.
const HALF_LIFE_MINUTES: i64 = 10_080;
const ENDS_OF_POSITION: u32 = 400_000;

/// Parts of each touch; `clicked_at` in the order of M5, the latest last. They add up to 1,000,000, unless there is no
/// touch.
pub fn parts(model: Model, clicked_at: &[TimeMs], occurred_at: TimeMs) -> Vec<u32> {
    let count = clicked_at.len();
    match model {
        Model::LastClick => one_takes_all(count, count.saturating_sub(1)),
        Model::FirstClick => one_takes_all(count, 0),
        Model::Linear => share_out(ALL_PARTS, &vec![1; count]),
        Model::Position if count <= 2 => share_out(ALL_PARTS, &vec![1; count]),
        Model::Position => {
            let middle = share_out(ALL_PARTS - 2 * ENDS_OF_POSITION, &vec![1; count - 2]);
            [ENDS_OF_POSITION].into_iter().chain(middle).chain([ENDS_OF_POSITION]).collect()
        }
        Model::TimeDecay => {
            let weights: Vec<u64> = clicked_at.iter().map(|clicked_at| weight(occurred_at - *clicked_at)).collect();
            if weights.iter().all(|weight| *weight == 0) {
                return one_takes_all(count, count.saturating_sub(1));
            }
            share_out(ALL_PARTS, &weights)
        }
    }
}

fn one_takes_all(count: usize, winner: usize) -> Vec<u32> {
    (0..count).map(|index| if index == winner { ALL_PARTS } else { 0 }).collect()
}

/// floor(2^40 x (20,160 - r) / 20,160) >> q: halved every half-life, straight in between (M19).
fn weight(age_ms: i64) -> u64 {
    let age = age_ms.max(0) / MINUTE_MS;
    let (halvings, rest) = (age / HALF_LIFE_MINUTES, age % HALF_LIFE_MINUTES);
    let full = 2 * HALF_LIFE_MINUTES;
    // 2^40 x 20,160 is below 2^55, and the rest is below 10,080.
    let weight = ((1i64 << 40) * (full - rest) / full) as u64;
    u32::try_from(halvings).ok().and_then(|halvings| weight.checked_shr(halvings)).unwrap_or(0)
}

/// Floors each weight's part of `parts`; those left go one by one to the largest remainders, ties to the later (M18).
fn share_out(parts: u32, weights: &[u64]) -> Vec<u32> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |index: usize| u128::from(parts) * u128::from(weights[index]);
    // A part is at most `parts`, which is 32 bit.
    let mut shares: Vec<u32> = (0..weights.len()).map(|index| (exact(index) / sum) as u32).collect();
    let left = parts - shares.iter().sum::<u32>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&index| Reverse((exact(index) % sum, index)));
    for &index in order.iter().take(left as usize) {
        shares[index] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(ages: &[i64]) -> Vec<TimeMs> {
        ages.iter().map(|age| TimeMs(-age * MINUTE_MS)).collect()
    }

    #[test]
    fn m17_every_example_of_the_table() {
        let three = minutes(&[3, 2, 1]);
        let five = minutes(&[5, 4, 3, 2, 1]);
        let week = minutes(&[10_080, 0]);
        let now = TimeMs(0);
        assert_eq!(parts(Model::LastClick, &three, now), [0, 0, 1_000_000]);
        assert_eq!(parts(Model::FirstClick, &three, now), [1_000_000, 0, 0]);
        assert_eq!(parts(Model::Linear, &three, now), [333_333, 333_333, 333_334]);
        assert_eq!(parts(Model::Position, &five, now), [400_000, 66_666, 66_667, 66_667, 400_000]);
        assert_eq!(parts(Model::TimeDecay, &week, now), [333_333, 666_667]);
    }

    #[test]
    fn m17_a_single_candidate_has_all() {
        for model in [Model::LastClick, Model::FirstClick, Model::Linear, Model::Position, Model::TimeDecay] {
            assert_eq!(parts(model, &minutes(&[1_000_000]), TimeMs(0)), [1_000_000]);
            assert_eq!(parts(model, &[], TimeMs(0)), [0; 0]);
        }
        assert_eq!(parts(Model::Position, &minutes(&[2, 1]), TimeMs(0)), [500_000, 500_000]);
    }

    #[test]
    fn m19_half_of_a_half_life_is_three_quarters() {
        assert_eq!(weight(5_040 * MINUTE_MS), 824_633_720_832);
        assert_eq!(weight(0), 1_099_511_627_776);
        assert_eq!(parts(Model::TimeDecay, &minutes(&[5_040, 0]), TimeMs(0)), [428_571, 571_429]);
    }

    #[test]
    fn m19_ages_are_whole_minutes_never_negative_and_fade_to_nothing() {
        assert_eq!(weight(MINUTE_MS - 1), weight(0));
        assert_eq!(weight(-5), weight(0));
        assert_eq!(weight(i64::MIN), weight(0));
        assert_eq!(weight(40 * 10_080 * MINUTE_MS), 1);
        assert_eq!(weight(41 * 10_080 * MINUTE_MS), 0);
        assert_eq!(weight(i64::MAX), 0);
        let ancient = minutes(&[50 * 10_080, 45 * 10_080]);
        assert_eq!(parts(Model::TimeDecay, &ancient, TimeMs(0)), [0, 1_000_000]);
    }

    #[test]
    fn m18_ties_go_to_the_later_touch() {
        assert_eq!(share_out(2, &[1, 1, 1]), [0, 1, 1]);
        assert_eq!(share_out(5, &[1, 2, 1]), [1, 3, 1]);
        assert_eq!(share_out(1_000_000, &[1; 7]).iter().sum::<u32>(), 1_000_000);
    }
}
