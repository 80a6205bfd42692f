//! The click ID and what it proves: who was sent where and when, signed, so that a sale can be attributed from the ID
//! alone (contract E42-E46).

mod id;
mod keys;
mod partial;
mod visitor;

pub use id::{CLICK_ID_BYTES, CLICK_ID_CHARACTERS, ClickId, LABEL_BOT, LABEL_NON_NAVIGATION, LABEL_PREFETCH, Verdict};
pub use keys::{Keys, KeysError, VisitorKeyChanged};
pub use partial::PartialId;
pub use visitor::{VisitorId, VisitorKey};
