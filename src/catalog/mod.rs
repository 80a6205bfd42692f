//! What may be clicked and who may earn: merchants, offers with dated terms, publishers, links and coupons.
//!
//! `rulebook` is the part money depends on; `snapshot` is the whole, immutable, behind an atomic pointer; `template` and
//! `deep_link` are the rules of the pages a click may go to. `load` reads files: one wrong entry refuses the whole.

mod build;
mod changed_terms;
mod current;
pub mod deep_link;
mod entries;
mod ids;
mod link_files;
mod link_line;
mod links;
mod load;
mod pages;
pub mod rulebook;
mod snapshot;
pub mod template;
mod terms;
mod watch;

pub use changed_terms::{ChangedTerms, changed_terms};
pub use current::{Current, NotReloaded};
pub use ids::{MerchantId, OfferId, PublisherId};
pub use links::{Link, Links};
pub use load::{Loaded, load};
pub use rulebook::Rulebook;
pub use snapshot::{Merchant, Offer, Snapshot};
pub use terms::is_type;
pub use watch::watch;

#[cfg(test)]
mod tests;
