//! Who earned it: facts in, target out; the ledger gets the difference.
//!
//! `facts` is what is known of a conversion, `decide` the pure rules of the contract's page on money, `decision` what
//! they find and why.

mod decide;
pub mod decision;
pub mod facts;

pub use decide::decide;
pub use decision::{Decision, Outcome, Reason, Share, State, Step};
pub use facts::{Facts, OwnClick, Settings, Touch};
