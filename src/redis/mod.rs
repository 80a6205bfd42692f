//! Redis: one link to one server, and what may be said over it. Duplicates, the order index and the shared touch index
//! speak over a link each, synchronously, from a thread of their own; nobody else knows the client.
//!
//! All that is kept there is a cache or a hint. So a link never blocks for longer than its timeout, never panics over
//! what a server says, and gives one answer for everything that is wrong: *unavailable*, or *full*.

mod link;
mod metrics;
mod script;
mod settings;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use link::Link;
pub use metrics::LinkMetrics;
pub use script::Script;
pub use settings::{LinkSettings, SettingsError};

/// Redis did not answer in time, refused, or is not what it should be: down, loading, demoted, locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis is unavailable")]
pub struct Unavailable;

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("Redis is unavailable")]
    Unavailable,
    /// `maxmemory` is reached and nothing may be evicted. The link stays: what only reads is still answered.
    #[error("Redis is full")]
    Full,
}

impl From<Unavailable> for NoAnswer {
    fn from(_: Unavailable) -> NoAnswer {
        NoAnswer::Unavailable
    }
}

/// For what only reads: full is no answer either.
impl From<NoAnswer> for Unavailable {
    fn from(_: NoAnswer) -> Unavailable {
        Unavailable
    }
}
