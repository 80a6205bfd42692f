//! A rounded commission over publishers, by parts (contract M33).

use std::cmp::Reverse;

use crate::catalog::PublisherId;
use crate::money::{ALL_PARTS, MinorUnits};

/// A publisher's part of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub publisher_id: PublisherId,
    /// Parts per million; all of one conversion add up to 1,000,000.
    pub parts: u32,
    /// Place of the publisher's latest touch that has a part, among all counting ones, earliest first; none by coupon
    /// alone.
    pub latest: Option<usize>,
}

/// Floors each share, then gives the units left to the largest fractional remainders; equal remainders: more parts
/// first, then `latest`, then the lower publisher ID. `latest` is the one publisher of the latest counting touch of all:
/// where it does not tie, no other touch's time says anything.
pub fn split(amount: MinorUnits, parts: &[Part], latest: Option<PublisherId>) -> Vec<MinorUnits> {
    let exact = |part: &Part| i128::from(amount.max(0)) * i128::from(part.parts);
    let all = i128::from(ALL_PARTS);
    let mut shares: Vec<MinorUnits> = parts.iter().map(|part| (exact(part) / all) as MinorUnits).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&index| {
        let part = &parts[index];
        let is_latest = Some(part.publisher_id) == latest;
        (Reverse(exact(part) % all), Reverse(part.parts), Reverse(is_latest), part.publisher_id)
    });
    let left = amount.max(0).saturating_sub(shares.iter().sum());
    // Fewer units are left than there are parts: each floor took less than one.
    for &index in order.iter().take(usize::try_from(left).unwrap_or(0)) {
        shares[index] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(publisher: u32, parts: u32) -> Part {
        Part { publisher_id: PublisherId(publisher), parts, latest: None }
    }

    fn shares(amount: MinorUnits, parts: &[(u32, u32)], latest: u32) -> Vec<MinorUnits> {
        let parts: Vec<Part> = parts.iter().map(|(publisher, parts)| part(*publisher, *parts)).collect();
        split(amount, &parts, Some(PublisherId(latest)))
    }

    #[test]
    fn m33_units_left_go_to_remainders_then_parts_then_the_latest_then_the_lower_id() {
        let three = [(1, 333_333), (2, 333_333), (3, 333_334)];
        assert_eq!(shares(121, &three, 3), [40, 40, 41]);
        let halves = [(1, 500_000), (2, 500_000)];
        assert_eq!((shares(1, &halves, 1), shares(1, &halves, 2)), (vec![1, 0], vec![0, 1]));
        assert_eq!(shares(1, &[(2, 500_000), (1, 500_000)], 9), [0, 1]);
        // 2 x 250,000 and 2 x 750,000: remainders are equal, parts are not.
        assert_eq!(shares(2, &[(1, 250_000), (2, 750_000)], 1), [0, 2]);
    }

    #[test]
    fn m33_only_the_latest_touch_of_all_breaks_a_tie() {
        // Publishers 1 and 2 tie behind 3, who has the latest touch: the lower ID, not the later click.
        let three = [(1, 333_333), (2, 333_333), (3, 333_334)];
        assert_eq!((shares(101, &three, 3), shares(2, &three, 3)), (vec![34, 33, 34], vec![1, 0, 1]));
        let four = [(1, 250_000), (2, 250_000), (3, 250_000), (4, 250_000)];
        assert_eq!(shares(102, &four, 4), [26, 25, 25, 26]);
        let position = [(1, 400_000), (2, 100_000), (3, 100_000), (4, 400_000)];
        assert_eq!(shares(13, &position, 4), [5, 2, 1, 5]);
    }

    #[test]
    fn shares_add_up_at_the_edge_of_64_bits() {
        let parts = [(1, 333_333), (2, 333_333), (3, 333_334)];
        for amount in [0, 1, 2, MinorUnits::MAX - 1, MinorUnits::MAX] {
            let shares = shares(amount, &parts, 3);
            assert_eq!(shares.iter().map(|share| i128::from(*share)).sum::<i128>(), i128::from(amount));
        }
        assert_eq!(shares(-5, &parts, 3), [0, 0, 0]);
    }
}
