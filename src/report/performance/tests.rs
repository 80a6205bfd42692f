use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::catalog::{OfferId, PublisherId};
use crate::report::query::Format;
use crate::rollup::{ClickKey, Counts, quarter};
use crate::store::testing::{self, Home};
use crate::store::{RowId, Store};

const QUARTER: i64 = crate::rollup::QUARTER_MS;
/// 2026-11-21T20:30:00Z, the start of a day in Tehran.
const MIDNIGHT: i64 = 1_795_293_000_000;

fn irr() -> Currency {
    Currency::parse("IRR").unwrap()
}

fn soon() -> Instant {
    Instant::now() + std::time::Duration::from_secs(60)
}

fn share(conversion: i64, at: i64, publisher: Option<u32>, commission: i64) -> ShareRow {
    ShareRow {
        conversion: RowId(conversion),
        occurred: TimeMs(at),
        merchant_id: MerchantId(1),
        offer_id: publisher.map(|_| OfferId(12)),
        publisher_id: publisher.map(PublisherId),
        link: publisher.map(|_| "phone".into()),
        source: None,
        sub1: None,
        kind: "sale".into(),
        coupon_code: None,
        currency: irr(),
        amount: 1_000,
        commission,
        reversed: 0,
    }
}

fn click_key(at: i64, publisher: u32, sub1: &str) -> ClickKey {
    ClickKey {
        quarter: quarter(TimeMs(at)),
        publisher_id: PublisherId(publisher),
        merchant_id: MerchantId(1),
        offer_id: OfferId(12),
        link: "phone".into(),
        source: "".into(),
        sub1: sub1.into(),
    }
}

/// The same rows in each kind of store.
struct Filled {
    stores: [(Store, Home); 2],
}

fn report(filled: &Filled, from: i64, to: i64, group_by: &[GroupKey], merchant: Option<u32>) -> Performance {
    let question = Question { from: TimeMs(from), to: TimeMs(to), group_by: group_by.to_vec(), format: Format::Json };
    let zone = TimeZone::get("Asia/Tehran").unwrap();
    let currency_of = |_| Some(irr());
    let frame =
        Frame { merchant_id: merchant.map(MerchantId), zone: &zone, currency_of: &currency_of, deadline: soon() };
    let [file, database] =
        filled.stores.each_ref().map(|(store, _)| Performance::of(store.view(), &question, &frame).unwrap());
    assert_eq!(file.rows, database.rows);
    file
}

fn filled(shares: &[ShareRow], clicks: &[(ClickKey, Counts)]) -> Filled {
    let stores = testing::homes().map(|home| {
        let mut store = Store::open(&home.place).unwrap();
        let batch = store.begin().unwrap();
        // Clicks count together, on however many lanes they were counted.
        for (lane, chunk) in clicks.chunks(clicks.len().div_ceil(2).max(1)).enumerate() {
            batch.add_clicks(chunk.iter().map(|(key, counts)| (key, *counts)), lane as i32).unwrap();
        }
        batch.add_shares(shares).unwrap();
        batch.commit().unwrap();
        (store, home)
    });
    Filled { stores }
}

#[test]
fn i45_shared_and_unattributed_conversions_by_publisher() {
    let shares = [share(1, MIDNIGHT, Some(1), 60), share(1, MIDNIGHT, Some(2), 54), share(2, MIDNIGHT + 1, None, 0)];
    let counts = Counts { clicks: 3, billable: 2, rejected: 1 };
    let filled = filled(&shares, &[(click_key(MIDNIGHT, 1, "a"), counts)]);
    let json = report(&filled, MIDNIGHT, MIDNIGHT + 2, &[GroupKey::Publisher], None).to_json();
    assert_eq!(
        json,
        r#"{"rows":[{"publisher":null,"clicks":0,"billable_clicks":0,"rejected_clicks":0,"conversions":1,"amount":1000,"commission":0,"reversed":0,"currency":"IRR"},{"publisher":1,"clicks":3,"billable_clicks":2,"rejected_clicks":1,"conversions":1,"amount":1000,"commission":60,"reversed":0,"currency":"IRR"},{"publisher":2,"clicks":0,"billable_clicks":0,"rejected_clicks":0,"conversions":1,"amount":1000,"commission":54,"reversed":0,"currency":"IRR"}]}"#
    );
    // Without publishers a shared conversion is one.
    let csv = report(&filled, MIDNIGHT, MIDNIGHT + 2, &[GroupKey::Merchant], None).to_csv();
    assert_eq!(
        csv,
        "merchant,clicks,billable_clicks,rejected_clicks,conversions,amount,commission,reversed,currency\n\
         1,3,2,1,2,2000,114,0,IRR\n"
    );
    // Nothing asked for: one row; another merchant: none.
    assert_eq!(report(&filled, MIDNIGHT, MIDNIGHT + 2, &[], None).rows.len(), 1);
    assert_eq!(report(&filled, MIDNIGHT, MIDNIGHT + 2, &[], Some(2)).to_json(), r#"{"rows":[]}"#);
}

#[test]
fn i42_from_is_inclusive_and_to_exclusive() {
    let filled = filled(&[share(1, MIDNIGHT, Some(1), 60)], &[]);
    assert_eq!(report(&filled, MIDNIGHT, MIDNIGHT + 1, &[], None).rows.len(), 1);
    assert_eq!(report(&filled, MIDNIGHT - 1, MIDNIGHT, &[], None).rows.len(), 0);
    assert_eq!(report(&filled, MIDNIGHT + 1, MIDNIGHT + 2, &[], None).rows.len(), 0);
}

#[test]
fn i42_days_and_hours_are_those_of_the_zone() {
    let one = Counts { clicks: 1, billable: 1, rejected: 0 };
    let clicks: Vec<_> = [-QUARTER, 0, 4 * QUARTER].map(|by| (click_key(MIDNIGHT + by, 1, "a"), one)).into();
    let filled = filled(&[share(1, MIDNIGHT - 1, Some(1), 5)], &clicks);
    let csv = report(&filled, MIDNIGHT - QUARTER, MIDNIGHT + 8 * QUARTER, &[GroupKey::Day], None).to_csv();
    let lines: Vec<&str> = csv.lines().skip(1).collect();
    assert_eq!(lines, ["2026-11-21,1,1,0,1,1000,5,0,IRR", "2026-11-22,2,2,0,0,0,0,0,IRR"]);
    let csv = report(&filled, MIDNIGHT - QUARTER, MIDNIGHT + 8 * QUARTER, &[GroupKey::Hour], None).to_csv();
    let hours: Vec<&str> = csv.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(hours, ["2026-11-21T23:00:00+03:30", "2026-11-22T00:00:00+03:30", "2026-11-22T01:00:00+03:30"]);
}

#[test]
fn i43_too_many_rows_are_refused() {
    let one = Counts { clicks: 1, billable: 1, rejected: 0 };
    let clicks: Vec<_> = (0..=MAX_ROWS).map(|n| (click_key(MIDNIGHT, 1, &n.to_string()), one)).collect();
    let filled = filled(&[], &clicks);
    let zone = TimeZone::UTC;
    let frame = Frame { merchant_id: None, zone: &zone, currency_of: &|_| None, deadline: soon() };
    let question = Question {
        from: TimeMs(MIDNIGHT),
        to: TimeMs(MIDNIGHT + 1),
        group_by: vec![GroupKey::Sub1],
        format: Format::Csv,
    };
    let ungrouped = Question { group_by: vec![], ..question.clone() };
    for (store, _home) in &filled.stores {
        let result = Performance::of(store.view(), &question, &frame);
        assert!(matches!(result, Err(NotReported::TooManyRows)));
        let whole = Performance::of(store.view(), &ungrouped, &frame).unwrap();
        assert_eq!(whole.rows.values().next().unwrap().clicks, MAX_ROWS as i128 + 1);
    }
}

#[test]
fn csv_quotes_what_would_break_it() {
    let filled = filled(&[], &[(click_key(MIDNIGHT, 1, "a,\"b\"\nc"), Counts { clicks: 1, billable: 0, rejected: 0 })]);
    let csv = report(&filled, MIDNIGHT, MIDNIGHT + 1, &[GroupKey::Sub1], None).to_csv();
    assert!(csv.ends_with("\"a,\"\"b\"\"\nc\",1,0,0,0,0,0,0,IRR\n"), "{csv}");
}

/// Conversions with up to three shares of different publishers, links and labels.
fn conversions() -> impl Strategy<Value = Vec<ShareRow>> {
    let one = (0i64..20, prop::collection::btree_set(1u32..5, 0..4), 0u32..2, 0u8..3, 0i64..1_000, 0u8..3);
    prop::collection::vec(one, 0..30).prop_map(|list| {
        let mut shares = Vec::new();
        for (number, (at, publishers, merchant, label, money, coupon)) in list.into_iter().enumerate() {
            let base = ShareRow {
                merchant_id: MerchantId(merchant + 1),
                kind: if label == 0 { "lead".into() } else { "sale".into() },
                coupon_code: (coupon > 0).then(|| format!("C{coupon}")),
                amount: money * 10,
                reversed: money / 3,
                ..share(number as i64 + 1, MIDNIGHT + at * QUARTER / 2, None, 0)
            };
            for publisher in &publishers {
                shares.push(ShareRow {
                    publisher_id: Some(PublisherId(*publisher)),
                    offer_id: Some(OfferId(12)),
                    sub1: (label > 0).then(|| format!("s{label}")),
                    commission: money,
                    ..base.clone()
                });
            }
            if publishers.is_empty() {
                shares.push(base);
            }
        }
        shares
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every row against a recount that looks at each share again.
    #[test]
    fn rows_are_what_a_plain_recount_finds(
        shares in conversions(),
        keys in prop::sample::subsequence(
            vec![GroupKey::Publisher, GroupKey::Merchant, GroupKey::Type, GroupKey::Sub1, GroupKey::CouponCode],
            0..4,
        ),
        from in 0i64..10,
        length in 0i64..12,
    ) {
        let filled = filled(&shares, &[]);
        let (from, to) = (MIDNIGHT + from * QUARTER, MIDNIGHT + (from + length) * QUARTER);
        let report = report(&filled, from, to, &keys, None);
        let text = |share: &ShareRow, key: &GroupKey| match key {
            GroupKey::Publisher => share.publisher_id.map(|id| id.to_string()),
            GroupKey::Merchant => Some(share.merchant_id.to_string()),
            GroupKey::Type => Some(share.kind.clone()),
            GroupKey::Sub1 => share.sub1.clone(),
            _ => share.coupon_code.clone(),
        };
        let shown: Vec<&ShareRow> =
            shares.iter().filter(|share| share.occurred.0 >= from && share.occurred.0 < to).collect();
        for (key, sums) in &report.rows {
            let in_row = |share: &&&ShareRow| keys.iter().zip(key).all(|(name, cell)| {
                let found = match cell {
                    Cell::Null => None,
                    Cell::Number(number) => Some(number.to_string()),
                    Cell::Text(text) | Cell::Time(_, text) => Some(text.clone()),
                };
                text(share, name) == found
            });
            let members: Vec<&&ShareRow> = shown.iter().filter(in_row).collect();
            let ids: BTreeSet<RowId> = members.iter().map(|share| share.conversion).collect();
            let amounts: HashMap<RowId, i64> = members.iter().map(|share| (share.conversion, share.amount)).collect();
            prop_assert_eq!(sums.conversions, ids.len() as i128);
            prop_assert_eq!(sums.amount, amounts.values().map(|amount| i128::from(*amount)).sum::<i128>());
            prop_assert_eq!(sums.commission, members.iter().map(|share| i128::from(share.commission)).sum::<i128>());
            prop_assert_eq!(sums.reversed, members.iter().map(|share| i128::from(share.reversed)).sum::<i128>());
        }
        let commission: i128 = report.rows.values().map(|sums| sums.commission).sum();
        prop_assert_eq!(commission, shown.iter().map(|share| i128::from(share.commission)).sum::<i128>());
    }
}
