//! What must always hold, looked at from outside: for `afflux ledger check` and for the tests.

use std::collections::BTreeMap;
use std::fmt;

use super::posting::balanced;
use super::{Balances, Entry, EntryId, NotPosted, target};
use crate::attribution::Decision;
use crate::catalog::MerchantId;
use crate::money::Currency;

/// One broken invariant, with the conversion that it was found at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub conversion_id: String,
    pub what: Broken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Debits and credits of one revision differ.
    Unbalanced(NotPosted),
    /// Revisions are not 1, 2, 3 ..., or lines of a revision not 0, 1, 2 ...
    Numbering(EntryId),
    /// An entry of 0 says nothing.
    Empty(EntryId),
    /// An entry of another conversion stands here.
    Foreign(EntryId),
    /// The sums are not what the decision asks for.
    Balance { account: String, currency: Currency, posted: i128, decided: i128 },
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "conversion {}: ", self.conversion_id)?;
        match &self.what {
            Broken::Unbalanced(error) => error.fmt(out),
            Broken::Numbering(id) => write!(out, "entry {} is not the next of its revision", id.0),
            Broken::Empty(id) => write!(out, "entry {} is of amount 0", id.0),
            Broken::Foreign(id) => write!(out, "entry {} belongs to another conversion", id.0),
            Broken::Balance { account, currency, posted, decided } => {
                write!(out, "account {account} holds {posted} {currency}, the decision says {decided}")
            }
        }
    }
}

/// Checks all entries of one conversion against its decision (`None`: nothing is decided, so nothing may be posted).
pub fn check(
    conversion_id: &str,
    merchant_id: MerchantId,
    currency: Currency,
    entries: &[Entry],
    decision: Option<&Decision>,
) -> Vec<Violation> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort();
    let mut broken = Vec::new();
    broken.extend(numbering(conversion_id, &sorted));
    broken.extend(sets(&sorted));
    let decided = decision.map(|decision| target(merchant_id, currency, decision)).unwrap_or_default();
    broken.extend(balances(&Balances::of(entries), &decided));
    broken.into_iter().map(|what| Violation { conversion_id: conversion_id.to_owned(), what }).collect()
}

fn numbering(conversion_id: &str, sorted: &[&Entry]) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut before: (u32, Option<u32>) = (0, None);
    for entry in sorted {
        let (revision, line) = before;
        let next_line = entry.revision == revision && line.is_some_and(|line| Some(entry.line) == line.checked_add(1));
        let next_revision = Some(entry.revision) == revision.checked_add(1) && entry.line == 0;
        if !next_line && !next_revision {
            broken.push(Broken::Numbering(entry.id()));
        }
        if entry.amount == 0 {
            broken.push(Broken::Empty(entry.id()));
        }
        if entry.conversion_id != conversion_id {
            broken.push(Broken::Foreign(entry.id()));
        }
        before = (entry.revision, Some(entry.line));
    }
    broken
}

fn sets(sorted: &[&Entry]) -> Vec<Broken> {
    let by_revision = sorted.chunk_by(|a, b| a.revision == b.revision);
    let check = |set: &[&Entry]| {
        let owned: Vec<Entry> = set.iter().map(|entry| (*entry).clone()).collect();
        balanced(set.first().map_or(0, |entry| entry.revision), &owned).err()
    };
    by_revision.filter_map(check).map(Broken::Unbalanced).collect()
}

fn balances(posted: &Balances, decided: &Balances) -> Vec<Broken> {
    let mut sides = BTreeMap::<_, (i128, i128)>::new();
    for (account, currency, amount) in posted.iter() {
        sides.entry((account, currency)).or_default().0 = amount;
    }
    for (account, currency, amount) in decided.iter() {
        sides.entry((account, currency)).or_default().1 = amount;
    }
    let differ = sides.into_iter().filter(|(_, (posted, decided))| posted != decided);
    differ
        .map(|((account, currency), (posted, decided))| Broken::Balance {
            account: account.to_string(),
            currency,
            posted,
            decided,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::PublisherId;
    use crate::ledger::Account;
    use crate::time::TimeMs;

    const MERCHANT: MerchantId = MerchantId(1);

    fn irr() -> Currency {
        Currency::parse("IRR").unwrap()
    }

    fn entry(revision: u32, line: u32, account: Account, amount: i64) -> Entry {
        Entry { conversion_id: "c".into(), revision, line, account, amount, currency: irr(), at_ms: TimeMs(0) }
    }

    /// Earned and taken back: the books of an order that nobody earns by now.
    fn books() -> Vec<Entry> {
        let (owed, owing) = (Account::MerchantReceivable(MERCHANT), Account::PublisherPending(PublisherId(34)));
        vec![entry(1, 0, owed, 98), entry(1, 1, owing, -98), entry(2, 0, owed, -98), entry(2, 1, owing, 98)]
    }

    fn found(change: impl FnOnce(&mut Vec<Entry>)) -> Vec<Broken> {
        let mut entries = books();
        change(&mut entries);
        check("c", MERCHANT, irr(), &entries, None).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn sound_books_are_sound_in_any_order() {
        assert_eq!(found(|_| ()), []);
        assert_eq!(found(|entries| entries.reverse()), []);
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        let id = |text: &str| EntryId(text.into());
        let unbalanced = |sum| NotPosted::Unbalanced { revision: 2, currency: irr(), sum };
        let receivable = |posted| {
            let account = "merchant:1:receivable".to_owned();
            Broken::Balance { account, currency: irr(), posted, decided: 0 }
        };
        assert_eq!(found(|entries| entries[2].amount = -97), [Broken::Unbalanced(unbalanced(1)), receivable(1)]);
        assert_eq!(
            found(|entries| drop(entries.remove(2))),
            [Broken::Numbering(id("c.2.1")), Broken::Unbalanced(unbalanced(98)), receivable(98)]
        );
        assert_eq!(found(|entries| entries.push(entries[3].clone()))[0], Broken::Numbering(id("c.2.1")));
        assert_eq!(found(|entries| entries.truncate(2)).len(), 2);
        let empty = entry(3, 0, Account::MerchantReceivable(MERCHANT), 0);
        assert_eq!(found(|entries| entries.push(empty)), [Broken::Empty(id("c.3.0"))]);
        let foreign = |entries: &mut Vec<Entry>| entries[3].conversion_id = "d".into();
        assert_eq!(found(foreign), [Broken::Foreign(id("d.2.1"))]);
        let gap = |entries: &mut Vec<Entry>| entries[2..].iter_mut().for_each(|entry| entry.revision = 3);
        assert_eq!(found(gap), [Broken::Numbering(id("c.3.0"))]);
    }

    #[test]
    fn violations_read_as_sentences() {
        let violation = &check("c", MERCHANT, irr(), &books()[..2], None)[0];
        let text = "conversion c: account merchant:1:receivable holds 98 IRR, the decision says 0";
        assert_eq!(violation.to_string(), text);
    }
}
