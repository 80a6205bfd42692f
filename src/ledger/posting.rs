//! From what is posted to what should be: the entries in between.

use super::{Account, Balances, Entry};
use crate::attribution::Decision;
use crate::catalog::MerchantId;
use crate::money::{Currency, MinorUnits};
use crate::time::TimeMs;

/// What the entries of one set have in common.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    pub conversion_id: &'a str,
    /// One more than the last revision that has entries.
    pub revision: u32,
    pub merchant_id: MerchantId,
    pub currency: Currency,
    /// When the fact that changed the decision was received.
    pub at: TimeMs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPosted {
    #[error("the entries of revision {revision} sum to {sum} {currency}, not to 0")]
    Unbalanced { revision: u32, currency: Currency, sum: i128 },
    #[error("an amount of {0} does not fit into 64 bits")]
    TooLarge(i128),
}

/// The balances that a decision asks for: each share is owed to its publisher, their sum is owed by the merchant.
pub fn target(merchant_id: MerchantId, currency: Currency, decision: &Decision) -> Balances {
    let mut balances = Balances::default();
    for share in &decision.shares {
        let owed = i128::from(share.commission);
        balances.add(Account::PublisherPending(share.publisher_id), currency, -owed);
        balances.add(Account::MerchantReceivable(merchant_id), currency, owed);
    }
    balances
}

/// The entries that lead from the posted balances of this conversion to the decision's. None when nothing changed: such
/// a decision takes no revision.
pub fn post(occasion: &Occasion, posted: &Balances, decision: &Decision) -> Result<Vec<Entry>, NotPosted> {
    let mut difference = target(occasion.merchant_id, occasion.currency, decision);
    for (account, currency, amount) in posted.iter() {
        difference.add(account, currency, amount.saturating_neg());
    }
    let entries = difference.iter().zip(0..).map(|((account, currency, amount), line)| {
        Ok(Entry {
            conversion_id: occasion.conversion_id.to_owned(),
            revision: occasion.revision,
            line,
            account,
            amount: MinorUnits::try_from(amount).map_err(|_| NotPosted::TooLarge(amount))?,
            currency,
            at_ms: occasion.at,
        })
    });
    let entries = entries.collect::<Result<Vec<Entry>, NotPosted>>()?;
    balanced(occasion.revision, &entries)?;
    Ok(entries)
}

/// Debits equal credits in every currency.
pub fn balanced(revision: u32, entries: &[Entry]) -> Result<(), NotPosted> {
    let mut sums = std::collections::BTreeMap::<Currency, i128>::new();
    for entry in entries {
        let sum = sums.entry(entry.currency).or_default();
        *sum = sum.saturating_add(i128::from(entry.amount));
    }
    match sums.into_iter().find(|(_, sum)| *sum != 0) {
        Some((currency, sum)) => Err(NotPosted::Unbalanced { revision, currency, sum }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::{Outcome, Share};
    use crate::catalog::PublisherId;

    const MERCHANT: MerchantId = MerchantId(1);

    fn decision(shares: &[(u32, MinorUnits)]) -> Decision {
        let share = |&(publisher, commission): &(u32, MinorUnits)| Share {
            publisher_id: PublisherId(publisher),
            parts: 1,
            commission,
            reversed: 0,
            coupon: false,
            click_id: None,
        };
        Decision {
            outcome: Outcome::Attributed,
            shares: shares.iter().map(share).collect(),
            ..crate::attribution::nothing()
        }
    }

    fn post_all(decisions: &[Decision]) -> Vec<Entry> {
        let currency = Currency::parse("IRR").unwrap();
        let mut entries: Vec<Entry> = Vec::new();
        for (decision, number) in decisions.iter().zip(1..) {
            let revision = entries.last().map_or(1, |last| last.revision + 1);
            let at = TimeMs(number);
            let occasion = Occasion { conversion_id: "c", revision, merchant_id: MERCHANT, currency, at };
            let set = post(&occasion, &Balances::of(&entries), decision).unwrap();
            entries.extend(set);
        }
        entries
    }

    #[test]
    fn m38_the_ledger_gets_the_difference() {
        // The contract's example: 98 earned, one of two pieces back, kept 79: the ledger gets -19.
        let entries = post_all(&[decision(&[(34, 98)]), decision(&[(34, 98)]), decision(&[(34, 79)])]);
        let lines: Vec<String> = entries.iter().map(Entry::canonical_json).collect();
        assert_eq!(
            lines,
            [
                r#"{"conversion_id":"c","revision":1,"line":0,"account":"merchant:1:receivable","amount":98,"currency":"IRR","at_ms":1}"#,
                r#"{"conversion_id":"c","revision":1,"line":1,"account":"publisher:34:pending","amount":-98,"currency":"IRR","at_ms":1}"#,
                r#"{"conversion_id":"c","revision":2,"line":0,"account":"merchant:1:receivable","amount":-19,"currency":"IRR","at_ms":3}"#,
                r#"{"conversion_id":"c","revision":2,"line":1,"account":"publisher:34:pending","amount":19,"currency":"IRR","at_ms":3}"#,
            ]
        );
    }

    #[test]
    fn money_moves_between_publishers_without_the_merchant() {
        let entries = post_all(&[decision(&[(1, 100)]), decision(&[(1, 40), (2, 60)]), decision(&[(2, 100)])]);
        let second: Vec<_> =
            entries.iter().filter(|entry| entry.revision == 2).map(|e| (e.account, e.amount)).collect();
        let pending = |publisher: u32| Account::PublisherPending(PublisherId(publisher));
        assert_eq!(second, [(pending(1), 60), (pending(2), -60)]);
        assert_eq!(entries.last().map(|entry| (entry.account, entry.amount)), Some((pending(2), -40)));
    }

    #[test]
    fn nothing_earned_and_nothing_posted_are_no_entries() {
        assert_eq!(post_all(&[decision(&[]), decision(&[(1, 0)])]), []);
    }

    #[test]
    fn sums_beyond_64_bits_are_refused_not_wrapped() {
        let currency = Currency::parse("IRR").unwrap();
        let occasion = Occasion { conversion_id: "c", revision: 1, merchant_id: MERCHANT, currency, at: TimeMs(0) };
        let two = decision(&[(1, MinorUnits::MAX), (2, MinorUnits::MAX)]);
        let sum = 2 * i128::from(MinorUnits::MAX);
        assert_eq!(post(&occasion, &Balances::default(), &two), Err(NotPosted::TooLarge(sum)));
        let mut entries = post_all(&[decision(&[(1, MinorUnits::MAX)])]);
        entries[0].amount -= 1;
        let unbalanced = NotPosted::Unbalanced { revision: 1, currency, sum: -1 };
        assert_eq!(balanced(1, &entries), Err(unbalanced));
    }

    #[test]
    fn books_in_another_currency_are_emptied_in_that_currency() {
        let entries = post_all(&[decision(&[(1, 100)])]);
        let currency = Currency::parse("EUR").unwrap();
        let occasion = Occasion { conversion_id: "c", revision: 2, merchant_id: MERCHANT, currency, at: TimeMs(0) };
        let set = post(&occasion, &Balances::of(&entries), &decision(&[(1, 7)])).unwrap();
        assert_eq!(set.len(), 4);
        assert_eq!(Balances::of(entries.iter().chain(&set)), target(MERCHANT, currency, &decision(&[(1, 7)])));
    }
}
