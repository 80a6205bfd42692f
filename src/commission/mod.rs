//! How much an order earns, what refunds take back, and how the rest is split.
//!
//! Pure integer arithmetic. Lines are exact, in millionths of a minor unit; the sum is rounded once (contract M32) and
//! only then split (M33). Nothing here overflows: amounts are held within what intake accepts, sums are 128 bit.

mod earning;
mod lines;
mod numbers;
mod refund;
mod split;

pub use earning::{CannotEarn, Earning, RateSource, Rated, earn};
pub use lines::{Line, lines, order_amount};
pub use numbers::{exact, grouped};
pub use refund::{RefundSum, Refunded, refunded};
pub use split::{Part, split};

use crate::money::{Millionths, MinorUnits, round_half_even};

/// What is left of an order's commission. The exact line commissions are rounded as one sum; fixed rates are whole
/// already and are added after it (contract M32, M33), so that a fixed sum never decides which way a half goes.
pub(crate) fn rounded(millionths: Millionths, fixed: MinorUnits) -> MinorUnits {
    // No order that intake accepts comes near the end of 64 bits; a broken one stops there.
    round_half_even(millionths).unwrap_or(MinorUnits::MAX).saturating_add(fixed)
}

/// floor(whole x part / all), exactly, for 0 <= part <= all: the product alone may need more than 128 bits.
fn proportion(whole: Millionths, part: i128, all: i128) -> Millionths {
    debug_assert!((0..=all).contains(&part) && whole >= 0);
    if part >= all {
        return whole;
    }
    // `all` is at most 2^63, so is the remainder; their product with `part` stays below 2^126.
    whole / all * part + whole % all * part / all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::MAX_AMOUNT;

    #[test]
    fn proportions_are_exact_where_the_product_would_not_fit() {
        let all = i128::from(MAX_AMOUNT) * 1_000;
        let whole = all * 1_000_000;
        assert_eq!(proportion(whole, all, all), whole);
        assert_eq!(proportion(whole, all - 1, all), whole - 1_000_000);
        assert_eq!(proportion(120_000_000, 333, 1_000), 39_960_000);
        assert_eq!(proportion(5, 0, 0), 5);
    }

    #[test]
    fn m32_fixed_rates_do_not_turn_a_half() {
        for (millionths, fixed, units) in [(2_500_000, 700, 702), (2_500_000, 701, 703), (3_500_000, 701, 705)] {
            assert_eq!(rounded(millionths, fixed), units);
        }
        assert_eq!(rounded(i128::MAX, i64::MAX), i64::MAX);
    }
}
