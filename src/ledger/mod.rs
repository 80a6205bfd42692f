//! The books: double entry, append only, and always the difference between what should be and what is posted.
//!
//! Pure. A decision is a target; `post` finds the entries that lead from the posted balances of one conversion to it.
//! Entries are never edited. Each set of entries (one conversion, one revision) sums to zero in every currency.

mod account;
mod check;
mod entry;
mod posting;

pub use account::Account;
pub use check::{Broken, Violation, check};
pub use entry::{Balances, Entry, EntryId};
pub use posting::{NotPosted, Occasion, post, target};
