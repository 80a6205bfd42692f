//! One line of the books.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Account;
use crate::money::{Currency, MinorUnits};
use crate::time::TimeMs;

/// Fields stand in the order of the canonical form; entries sort by conversion, revision, line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    pub conversion_id: String,
    /// Counts the sets of entries of one conversion, from 1 without gaps.
    pub revision: u32,
    /// Counts the entries of one set, from 0.
    pub line: u32,
    pub account: Account,
    /// Minor units; debit positive, credit negative, never 0.
    pub amount: MinorUnits,
    pub currency: Currency,
    /// When the fact that moved it was received: part of the fact, not a clock of the books.
    pub at_ms: TimeMs,
}

/// Names an entry for good: a function of conversion, revision and line only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub String);

/// Sums of entries by account and currency; accounts at 0 are left out. 128 bit: sums of a whole ledger fit too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances(BTreeMap<(Account, Currency), i128>);

impl Entry {
    pub fn id(&self) -> EntryId {
        EntryId(format!("{}.{}.{}", self.conversion_id, self.revision, self.line))
    }

    /// One line of `afflux ledger cat`, without the newline.
    pub fn canonical_json(&self) -> String {
        // No value can fail to serialise: strings and numbers only.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Balances {
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Balances {
        let mut balances = Balances::default();
        for entry in entries {
            balances.add(entry.account, entry.currency, i128::from(entry.amount));
        }
        balances
    }

    pub fn add(&mut self, account: Account, currency: Currency, amount: i128) {
        let balance = self.0.entry((account, currency)).or_default();
        // 2^63 entries of 2^63 would be needed to reach the end.
        *balance = balance.saturating_add(amount);
        if *balance == 0 {
            self.0.remove(&(account, currency));
        }
    }

    pub fn balance(&self, account: Account, currency: Currency) -> i128 {
        self.0.get(&(account, currency)).copied().unwrap_or_default()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Account, Currency, i128)> {
        self.0.iter().map(|(&(account, currency), &amount)| (account, currency, amount))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{MerchantId, PublisherId};

    fn entry(line: u32, account: Account, amount: MinorUnits) -> Entry {
        let currency = Currency::parse("IRR").unwrap();
        Entry { conversion_id: "abc".into(), revision: 1, line, account, amount, currency, at_ms: TimeMs(5) }
    }

    #[test]
    fn the_canonical_form_is_stable_and_reads_back() {
        let entry = entry(0, Account::MerchantReceivable(MerchantId(1)), 98);
        let text = r#"{"conversion_id":"abc","revision":1,"line":0,"account":"merchant:1:receivable","amount":98,"currency":"IRR","at_ms":5}"#;
        assert_eq!(entry.canonical_json(), text);
        assert_eq!(serde_json::from_str::<Entry>(text).unwrap(), entry);
        assert_eq!(entry.id(), EntryId("abc.1.0".into()));
    }

    #[test]
    fn balances_forget_what_is_zero() {
        let pending = Account::PublisherPending(PublisherId(34));
        let entries = [entry(0, pending, -98), entry(1, pending, 98)];
        assert_eq!(Balances::of(&entries), Balances::default());
        assert_eq!(Balances::of(&entries[..1]).balance(pending, Currency::parse("IRR").unwrap()), -98);
    }
}
