//! Who earned it: facts in, target out; the ledger gets the difference.
//!
//! `facts` is what is known of a conversion, `decision` what was found and why. In between, in the order in which the
//! rules run: `candidates` (which clicks there are, merged and bounded by `touches`), `filters` (which of them count),
//! `model` and `coupon` (`award`: who shares), then `commission` (how much). `decide` is that list; all of it is pure.
//! `reduce` says which clicks of a visitor are worth keeping as facts. `consumer` is the loop around it: it reads spools,
//! gathers the facts and posts what was decided.

mod award;
mod candidates;
pub mod consumer;
mod coupon;
mod decide;
pub mod decision;
mod explain;
pub mod facts;
mod filters;
mod model;
#[cfg(test)]
mod proof;
mod reduce;
pub mod topics;
mod touches;
mod trace;

#[cfg(test)]
pub(crate) use decide::nothing;
pub use decide::{conflict, decide};
use decision::Causes;
pub use decision::{Decision, Outcome, Reason, Share, State, Step};
pub use facts::{Facts, MAX_TOLD_REFUNDS, OwnClick, Settings, Touch};
pub use reduce::{Bounds, Clicks, Extent, reduce};
