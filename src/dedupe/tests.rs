use proptest::prelude::*;

use super::*;
use crate::catalog::MerchantId;

const WINDOW: i64 = 10_000;

#[derive(Clone, Debug)]
struct Sample {
    at: i64,
    tie: u64,
    visitor: u64,
    had_cookie: bool,
    address: u8,
    page: u8,
}

fn row(number: usize) -> Rc<ClickKey> {
    Rc::new(ClickKey {
        quarter: TimeMs(number as i64),
        publisher_id: PublisherId(1),
        merchant_id: MerchantId(1),
        offer_id: OfferId(1),
        link: "".into(),
        source: "".into(),
        sub1: "".into(),
    })
}

fn take(dedupe: &mut Dedupe, sample: &Sample, number: usize) -> Corrections {
    let (ip_key, page) = (sample.address.to_string(), sample.page.to_string());
    let click = Billable {
        clicked_at: TimeMs(sample.at),
        tie: sample.tie,
        visitor: VisitorKey(sample.visitor),
        had_cookie: sample.had_cookie,
        ip_key: &ip_key,
        user_agent: "browser",
        offer_id: OfferId(1),
        publisher_id: PublisherId(1),
        page: &page,
    };
    dedupe.take(&click, row(number))
}

/// Which samples are billable after all came in, in the order given.
fn billable(samples: &[Sample], order: &[usize]) -> Vec<i64> {
    billable_within(WINDOW, samples, order)
}

fn billable_within(window_ms: i64, samples: &[Sample], order: &[usize]) -> Vec<i64> {
    let mut dedupe = Dedupe::new(window_ms);
    let mut counts = vec![0; samples.len()];
    for &number in order {
        for (row, change) in take(&mut dedupe, &samples[number], number) {
            counts[row.quarter.0 as usize] += change;
        }
    }
    counts
}

fn click(at: i64, visitor: u64) -> Sample {
    Sample { at, tie: at as u64, visitor, had_cookie: true, address: 1, page: 1 }
}

#[test]
fn e28_the_window_is_fixed_from_the_first() {
    let samples = [click(0, 1), click(9_999, 1), click(10_000, 1), click(19_999, 1), click(20_000, 1)];
    assert_eq!(billable(&samples, &[0, 1, 2, 3, 4]), [1, 0, 1, 0, 1]);
}

#[test]
fn e28_another_visitor_or_page_is_no_duplicate() {
    let samples = [click(0, 1), click(1, 2), Sample { page: 2, ..click(2, 1) }];
    assert_eq!(billable(&samples, &[0, 1, 2]), [1, 1, 1]);
}

#[test]
fn e30_without_a_cookie_address_and_browser_tell() {
    let new = |at, visitor, address| Sample { had_cookie: false, address, ..click(at, visitor) };
    // A second click without cookie, then one with the cookie of each; then one from elsewhere.
    let samples = [new(0, 1, 1), new(100, 2, 1), click(200, 1), click(300, 2), new(400, 3, 2)];
    assert_eq!(billable(&samples, &[0, 1, 2, 3, 4]), [1, 0, 0, 0, 1]);
}

#[test]
fn a_late_click_takes_billable_from_the_one_behind_it() {
    let samples = [click(0, 1), click(5_000, 1), click(12_000, 1)];
    // In order: 0 and 12,000 count. Without the first: 5,000 counts alone.
    assert_eq!(billable(&samples, &[1, 2, 0]), [1, 0, 1]);
    assert_eq!(billable(&samples, &[1, 2]), [0, 1, 0]);
}

#[test]
fn what_is_forgotten_still_holds_its_window() {
    let mut dedupe = Dedupe::with_bound(WINDOW, 2);
    assert_eq!(take(&mut dedupe, &click(0, 1), 0).len(), 1);
    assert!(take(&mut dedupe, &click(1, 1), 1).is_empty());
    assert!(take(&mut dedupe, &click(2, 1), 2).is_empty());
    assert!(take(&mut dedupe, &click(3, 1), 3).is_empty());
    assert_eq!(dedupe.clicks.len(), 2);
    // All windows over: nothing is left but the last.
    assert_eq!(take(&mut dedupe, &click(100_000, 2), 4).len(), 1);
    assert_eq!((dedupe.clicks.len(), dedupe.groups.len()), (1, 1));
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    // All within the time by which a click may be late.
    let sample = (0i64..LATE_MS + 1_000, 0u64..4, any::<bool>(), 0u8..3, 0u8..2);
    let sample = sample.prop_map(|(at, visitor, had_cookie, address, page)| Sample {
        at,
        tie: 0,
        visitor,
        had_cookie,
        address,
        page,
    });
    proptest::collection::vec(sample, 1..30).prop_map(|mut samples| {
        samples.iter_mut().zip(0..).for_each(|(sample, tie)| sample.tie = tie);
        samples
    })
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(samples in samples(), seed in any::<u64>()) {
        let mut in_time: Vec<usize> = (0..samples.len()).collect();
        in_time.sort_by_key(|n| (samples[*n].at, samples[*n].tie));
        let mut shuffled = in_time.clone();
        let mut state = seed;
        for place in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(place, (state >> 33) as usize % (place + 1));
        }
        prop_assert_eq!(billable_within(1_000, &samples, &in_time), billable_within(1_000, &samples, &shuffled));
    }
}
