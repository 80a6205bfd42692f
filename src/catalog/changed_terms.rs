//! What a reload may not change: terms that are in force or were (contract P22). Money already shown to a publisher
//! rests on them.
//!
//! Pure. Two lists of terms are compared by what was in force at each moment up to now, not entry by entry: closing an
//! entry ahead of time, splitting it in two equal ones or adding a campaign that lies ahead changes nothing.

use super::OfferId;
use super::rulebook::{OfferRules, Rulebook, Terms};
use crate::time::TimeMs;

/// An offer's terms were in force at `at` and would not be any more, or not these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedTerms {
    pub offer_id: OfferId,
    /// The earliest moment of the difference.
    pub at: TimeMs,
    /// What differs, in words.
    pub what: String,
}

/// At most one for each offer. An offer that is left out altogether is not a change of its terms: its clicks become
/// `no_touch` (contract M47).
pub fn changed_terms(running: &Rulebook, new: &Rulebook, now: TimeMs) -> Vec<ChangedTerms> {
    let both = running.offers.iter().filter_map(|(id, offer)| Some((*id, offer, new.offers.get(id)?)));
    both.filter_map(|(offer_id, offer, replacement)| {
        let (at, what) = first_change(offer, replacement, now)?;
        Some(ChangedTerms { offer_id, at, what })
    })
    .collect()
}

fn first_change(running: &OfferRules, new: &OfferRules, now: TimeMs) -> Option<(TimeMs, String)> {
    let dates = |offer: &OfferRules| -> Vec<TimeMs> {
        offer.terms.iter().flat_map(|terms| [Some(terms.from), terms.until]).flatten().collect()
    };
    // What is in force changes at these moments only. `now` itself too: an entry may end exactly now.
    let mut moments = dates(running);
    moments.extend(dates(new));
    moments.push(now);
    moments.sort_unstable();
    moments.dedup();
    moments.into_iter().filter(|at| *at <= now).find_map(|at| {
        let was = running.terms_at(at)?;
        let what =
            new.terms_at(at).map_or_else(|| Some("no terms are in force".to_owned()), |is| difference(was, is))?;
        Some((at, what))
    })
}

/// All but the dates.
fn difference(was: &Terms, is: &Terms) -> Option<String> {
    let shown = |terms: &Terms| serde_json::to_value(terms).unwrap_or_default();
    let (was, is) = (shown(was), shown(is));
    let keys = was.as_object()?.keys().filter(|key| !matches!(key.as_str(), "from" | "until"));
    let differing: Vec<String> = keys
        .filter(|key| was[key.as_str()] != is[key.as_str()])
        .map(|key| format!("{key} {} is {}", was[key.as_str()], is[key.as_str()]))
        .collect();
    (!differing.is_empty()).then(|| differing.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::MerchantId;
    use crate::catalog::rulebook::{CheckoutRule, Model, OfferStatus, RateBasis};
    use crate::money::Rate;

    const NOW: TimeMs = TimeMs(100);

    fn book(entries: &[(i64, Option<i64>, u32)]) -> Rulebook {
        let terms = entries.iter().map(|&(from, until, parts)| Terms {
            from: TimeMs(from),
            until: until.map(TimeMs),
            window_days: 10,
            model: Model::LastClick,
            hold_days: 14,
            rate_basis: RateBasis::Conversion,
            default_rate: Rate::PartsPerMillion(parts),
            coupon_rate: None,
            rates: BTreeMap::new(),
            conversion_rates: BTreeMap::new(),
        });
        let offer = OfferRules {
            merchant_id: MerchantId(1),
            status: OfferStatus::Active,
            checkout_rule: CheckoutRule::None,
            terms: terms.collect(),
        };
        Rulebook { offers: [(OfferId(12), offer)].into(), ..Rulebook::default() }
    }

    fn changed_at(running: &[(i64, Option<i64>, u32)], new: &[(i64, Option<i64>, u32)]) -> Option<i64> {
        let changed = changed_terms(&book(running), &book(new), NOW);
        assert!(changed.len() <= 1);
        changed.first().map(|change| change.at.0)
    }

    #[test]
    fn p22_what_is_or_was_in_force_does_not_change() {
        let running = [(0, None, 10), (50, Some(60), 20), (150, None, 30)];
        assert_eq!(changed_at(&running, &running), None);
        assert_eq!(changed_at(&running, &[(0, None, 11), (50, Some(60), 20)]), Some(0));
        assert_eq!(changed_at(&running, &[(0, None, 10), (50, Some(60), 21)]), Some(50));
        assert_eq!(changed_at(&running, &[(0, None, 10), (50, Some(70), 20)]), Some(60));
        assert_eq!(changed_at(&running, &[(0, None, 10)]), Some(50));
        assert_eq!(changed_at(&running, &[(1, None, 10), (50, Some(60), 20)]), Some(0));
        // Added in the past, and at this very moment.
        assert_eq!(changed_at(&running, &[(0, None, 10), (50, Some(60), 20), (99, None, 30)]), Some(99));
        assert_eq!(changed_at(&running, &[(0, None, 10), (50, Some(60), 20), (100, None, 30)]), Some(100));
        // Closed in the past.
        assert_eq!(changed_at(&[(0, None, 10)], &[(0, Some(90), 10)]), Some(90));
        assert_eq!(changed_at(&[(0, None, 10)], &[]), Some(0));
    }

    #[test]
    fn p22_terms_may_be_closed_ahead_and_others_added() {
        let running = [(0, None, 10), (150, None, 30)];
        for new in [
            &[(0, Some(101), 10), (101, None, 40)][..],
            &[(0, None, 10)],
            &[(0, None, 10), (150, None, 99)],
            &[(0, Some(50), 10), (50, None, 10)],
        ] {
            assert_eq!(changed_at(&running, new), None, "{new:?}");
        }
        // Where nothing was in force nothing is changed; an offer may be left out.
        assert_eq!(changed_at(&[(50, None, 10)], &[(0, None, 10)]), None);
        assert_eq!(changed_at(&[], &[(0, None, 10)]), None);
        assert_eq!(changed_terms(&book(&running), &Rulebook::default(), NOW), []);
    }

    #[test]
    fn the_difference_is_told_in_words() {
        let changed = changed_terms(&book(&[(0, None, 120_000)]), &book(&[(0, None, 110_000)]), NOW);
        assert_eq!(changed[0].what, "default_rate \"12%\" is \"11%\"");
    }
}
