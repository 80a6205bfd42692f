//! Who owes whom. An account's text is `<owner>[:<number>]:<purpose>`, so that later purposes (approved, payable,
//! deposit, withholding tax, bank) are new texts, never new columns.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::catalog::{MerchantId, PublisherId};

/// Debits are positive: what we own or are owed. Credits are negative: what we owe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// `merchant:1:receivable`: commissions that a merchant owes for what was sold.
    MerchantReceivable(MerchantId),
    /// `publisher:34:pending`: commissions owed to a publisher and still on hold.
    PublisherPending(PublisherId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an account of the ledger")]
pub struct NotAnAccount;

impl fmt::Display for Account {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::MerchantReceivable(id) => write!(out, "merchant:{id}:receivable"),
            Account::PublisherPending(id) => write!(out, "publisher:{id}:pending"),
        }
    }
}

impl FromStr for Account {
    type Err = NotAnAccount;

    fn from_str(text: &str) -> Result<Account, NotAnAccount> {
        let mut words = text.splitn(3, ':');
        let (Some(owner), Some(number), Some(purpose)) = (words.next(), words.next(), words.next()) else {
            return Err(NotAnAccount);
        };
        let number: u32 = number.parse().map_err(|_| NotAnAccount)?;
        let account = match (owner, purpose) {
            ("merchant", "receivable") => Account::MerchantReceivable(MerchantId(number)),
            ("publisher", "pending") => Account::PublisherPending(PublisherId(number)),
            _ => return Err(NotAnAccount),
        };
        // One spelling only: no `+1`, no leading zeros.
        if account.to_string() == text { Ok(account) } else { Err(NotAnAccount) }
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_written_and_read_in_one_spelling() {
        for account in [Account::MerchantReceivable(MerchantId(1)), Account::PublisherPending(PublisherId(u32::MAX))] {
            assert_eq!(account.to_string().parse(), Ok(account));
        }
        for text in ["", "merchant:1", "merchant:1:pending", "publisher:01:pending", "publisher:+1:pending", "x:1:y"] {
            assert_eq!(text.parse::<Account>(), Err(NotAnAccount), "{text}");
        }
    }
}
