//! What may be clicked and who may earn: merchants, offers with dated terms, publishers, links and coupons.
//!
//! `rulebook` is the part money depends on; `snapshot` is the whole, immutable, behind an atomic pointer; `template` and
//! `deep_link` are the rules of the pages a click may go to.

pub mod deep_link;
mod ids;
pub mod rulebook;
mod snapshot;
pub mod template;

pub use ids::{MerchantId, OfferId, PublisherId};
pub use rulebook::Rulebook;
pub use snapshot::{Link, Merchant, Offer, Snapshot};
