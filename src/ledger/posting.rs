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
