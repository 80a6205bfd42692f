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
/// first, then the publisher of the later latest touch, then the lower publisher ID. The contract's "publisher of the
/// latest touch" is read among those who tie, like the "later touch" of its example and of M18.
pub fn split(amount: MinorUnits, parts: &[Part]) -> Vec<MinorUnits> {
    let exact = |part: &Part| i128::from(amount.max(0)) * i128::from(part.parts);
    let all = i128::from(ALL_PARTS);
    let mut shares: Vec<MinorUnits> = parts.iter().map(|part| (exact(part) / all) as MinorUnits).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&index| {
        let part = &parts[index];
        (Reverse(exact(part) % all), Reverse(part.parts), Reverse(part.latest), part.publisher_id)
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

    #[test]
    fn m33_units_left_go_to_remainders_then_parts_then_the_lower_id() {
        assert_eq!(split(121, &[part(1, 333_333), part(2, 333_333), part(3, 333_334)]), [40, 40, 41]);
        assert_eq!(split(1, &[part(1, 500_000), part(2, 500_000)]), [1, 0]);
        assert_eq!(split(1, &[part(2, 500_000), part(1, 500_000)]), [0, 1]);
        // 2 x 250,000 and 2 x 750,000: remainders are equal, parts are not.
        assert_eq!(split(2, &[part(1, 250_000), part(2, 750_000)]), [0, 2]);
    }

    #[test]
    fn shares_add_up_at_the_edge_of_64_bits() {
        let parts = [part(1, 333_333), part(2, 333_333), part(3, 333_334)];
        for amount in [0, 1, 2, MinorUnits::MAX - 1, MinorUnits::MAX] {
            let shares = split(amount, &parts);
            assert_eq!(shares.iter().map(|share| i128::from(*share)).sum::<i128>(), i128::from(amount));
        }
        assert_eq!(split(-5, &parts), [0, 0, 0]);
    }
}
