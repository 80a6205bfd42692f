//! What an order must earn, worked out from what was sent and apart from the server: contract M3, M5, M16-M18, M20, M28,
//! M32, M33, M36-M38, for the catalogs that this program writes.

use crate::click_id::ClickId;

/// Clicks of one offer and publisher less than this after the first are one touch (`dedupe.window_ms`).
const TOUCH_MS: i64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    LastClick,
    FirstClick,
    Linear,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub publisher_id: u32,
    /// Of a million.
    pub parts: i64,
}

/// Who earns, and by which offer's terms (M16): by the visitor's clicks at one merchant, none of them out of its window or
/// behind the order; who sends the load sees to that. `model` tells that of an offer. `None` without a click.
pub fn shares(clicks: &[ClickId], model: impl Fn(u32) -> Model) -> Option<(u32, Vec<Share>)> {
    let touches = touches(clicks);
    let (first, last) = (touches.first()?, touches.last()?);
    let whole = |touch: &ClickId| vec![Share { publisher_id: touch.publisher_id(), parts: 1_000_000 }];
    let shares = match model(last.offer_id()) {
        Model::LastClick => whole(last),
        Model::FirstClick => whole(first),
        Model::Linear => linear(&touches),
    };
    Some((last.offer_id(), shares))
}

/// The first click of each group (M3), earliest first (M5).
fn touches(clicks: &[ClickId]) -> Vec<ClickId> {
    let mut sorted = clicks.to_vec();
    sorted.sort_by_key(|click| (click.clicked_at_ms(), *click));
    let mut touches: Vec<ClickId> = Vec::with_capacity(sorted.len());
    for click in sorted {
        let own =
            |touch: &&ClickId| (touch.offer_id(), touch.publisher_id()) == (click.offer_id(), click.publisher_id());
        let group = touches.iter().rev().find(own);
        if group.is_none_or(|first| click.clicked_at_ms() - first.clicked_at_ms() >= TOUCH_MS) {
            touches.push(click);
        }
    }
    touches
}

/// Equal parts; what is left over goes to the later touches (M17, M18). Those of one publisher add up, and the publishers
/// stand in the order in which a unit of money that is left over is given out, but for its remainder: more parts, then the
/// publisher of the latest touch, then the lower ID (M33).
fn linear(touches: &[ClickId]) -> Vec<Share> {
    let count = touches.len() as i64;
    let (each, left) = (1_000_000 / count, 1_000_000 % count);
    let mut shares: Vec<Share> = Vec::new();
    for (back, touch) in touches.iter().rev().enumerate() {
        let parts = each + i64::from((back as i64) < left);
        match shares.iter_mut().find(|share| share.publisher_id == touch.publisher_id()) {
            Some(share) => share.parts += parts,
            None => shares.push(Share { publisher_id: touch.publisher_id(), parts }),
        }
    }
    let latest = touches.last().map(ClickId::publisher_id);
    shares
        .sort_by_key(|share| (std::cmp::Reverse(share.parts), Some(share.publisher_id) != latest, share.publisher_id));
    shares
}

/// Half to even (M32).
pub fn rounded(millionths: i128) -> i64 {
    let (whole, rest) = (millionths.div_euclid(1_000_000), millionths.rem_euclid(1_000_000));
    let up = match (rest * 2).cmp(&1_000_000) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Greater => 1,
        std::cmp::Ordering::Equal => whole % 2,
    };
    (whole + up) as i64
}

/// What is left of a commission, in millionths, after some of the amount came back (M36-M38).
pub fn kept(total_millionths: i128, amount: i64, refunded: i64) -> i128 {
    if refunded >= amount {
        return 0;
    }
    total_millionths - total_millionths * i128::from(refunded) / i128::from(amount)
}

/// Floors, and the units left to the largest remainders; equal ones in the order of `shares` (M33).
pub fn split(commission: i64, shares: &[Share]) -> Vec<i64> {
    let product = |share: &Share| i128::from(commission) * i128::from(share.parts);
    let mut parts: Vec<i64> = shares.iter().map(|share| (product(share) / 1_000_000) as i64).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(product(&shares[*index]) % 1_000_000));
    let left = commission - parts.iter().sum::<i64>();
    for index in order.into_iter().take(left as usize) {
        parts[index] += 1;
    }
    parts
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn click(at_ms: i64, offer: u32, publisher: u32) -> ClickId {
        let mut bytes = [0; 36];
        bytes[0] = 0x10;
        bytes[1..7].copy_from_slice(&at_ms.to_be_bytes()[2..]);
        bytes[7..11].copy_from_slice(&offer.to_be_bytes());
        bytes[11..15].copy_from_slice(&publisher.to_be_bytes());
        ClickId(bytes)
    }

    fn of(clicks: &[ClickId], model: Model) -> Vec<(u32, i64)> {
        shares(clicks, |_| model).unwrap().1.iter().map(|share| (share.publisher_id, share.parts)).collect()
    }

    #[test]
    fn m3_clicks_of_one_offer_and_publisher_within_ten_seconds_are_the_touch_of_the_first() {
        // The second click of 1 belongs to its first, so 2 was there last.
        let clicks = [click(0, 1, 1), click(5_000, 1, 2), click(9_999, 1, 1)];
        assert_eq!(of(&clicks, Model::LastClick), [(2, 1_000_000)]);
        assert_eq!(of(&clicks, Model::Linear).len(), 2);
        let apart = [click(0, 1, 1), click(5_000, 1, 2), click(10_000, 1, 1)];
        assert_eq!(of(&apart, Model::LastClick), [(1, 1_000_000)]);
        let other_offer = [click(0, 1, 1), click(5_000, 1, 2), click(9_999, 2, 1)];
        assert_eq!(of(&other_offer, Model::LastClick), [(1, 1_000_000)]);
    }

    #[test]
    fn m17_m18_parts_of_the_models() {
        let clicks = [click(0, 1, 7), click(20_000, 1, 8), click(40_000, 1, 9)];
        assert_eq!(of(&clicks, Model::FirstClick), [(7, 1_000_000)]);
        assert_eq!(of(&clicks, Model::Linear), [(9, 333_334), (7, 333_333), (8, 333_333)]);
        let again = [click(0, 1, 7), click(20_000, 1, 8), click(40_000, 1, 7)];
        assert_eq!(of(&again, Model::Linear), [(7, 666_667), (8, 333_333)]);
    }

    #[test]
    fn m16_the_offer_of_the_latest_touch_gives_the_model() {
        let clicks = [click(0, 1, 7), click(20_000, 2, 8)];
        let model = |offer| if offer == 2 { Model::FirstClick } else { Model::LastClick };
        assert_eq!(shares(&clicks, model), Some((2, vec![Share { publisher_id: 7, parts: 1_000_000 }])));
        assert_eq!(shares(&[], model), None);
    }

    #[test]
    fn m32_half_to_even() {
        let cases = [(12_480_000, 12), (2_500_000, 2), (3_500_000, 4), (2_500_001, 3), (0, 0)];
        cases.iter().for_each(|(millionths, money)| assert_eq!(rounded(*millionths), *money));
    }

    #[test]
    fn m33_m38_splits_and_refunds_as_in_the_contract() {
        // Four publishers have equal parts: a unit goes to the one of the latest touch, the next to the lowest ID.
        let four = [click(0, 1, 6), click(20_000, 1, 8), click(40_000, 1, 7), click(60_000, 1, 9)];
        let (_, four) = shares(&four, |_| Model::Linear).unwrap();
        assert_eq!(four.iter().map(|share| share.publisher_id).collect::<Vec<_>>(), [9, 6, 7, 8]);
        assert_eq!(split(102, &four), [26, 26, 25, 25]);
        let half = |publisher_id| Share { publisher_id, parts: 500_000 };
        assert_eq!(split(101, &[half(2), half(1)]), [51, 50]);
        let uneven = [Share { publisher_id: 1, parts: 666_667 }, Share { publisher_id: 2, parts: 333_333 }];
        assert_eq!(split(100, &uneven), [67, 33]);
        assert_eq!(split(0, &uneven), [0, 0]);
        assert_eq!(kept(120_000_000, 1_000, 333), 80_040_000);
        assert_eq!(kept(120_000_000, 1_000, 1_000), 0);
    }
}
