//! The door of visitors: a click becomes a redirect.
//!
//! `answer` is what a request meets: method, path, headers. `click` is the click itself, one plain function that reads
//! like the contract. Each worker thread has its own of everything; what it shares it only reads.
//!
//! Not here yet: `/pixel.gif`.

mod answer;
mod bots;
mod click;
pub mod event; // for benches/parts.rs
mod forwarded;
mod https;
mod labels;
mod lists;
mod location;
pub mod metrics;
mod networks;
#[cfg(any(test, fuzzing))]
pub mod probes;
mod query;
mod random;
mod remembered;
mod said;
mod shape;
mod visitor;

pub use answer::{Answer, Edge, Peer};
pub use click::{Clicks, DiskWait, Settings};
pub use lists::{BadList, CurrentLists, Places};
pub use metrics::Metrics;
pub use networks::{BadNetworks, Networks};

/// Header fields that a click reads, for the door: all others need not be parsed.
pub fn keeps(name: &[u8]) -> bool {
    const READ: [&[u8]; 13] = [
        b"host",
        b"cookie",
        b"user-agent",
        b"referer",
        b"accept-language",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-purpose",
        b"purpose",
        b"x-purpose",
        b"x-moz",
        b"sec-gpc",
        b"dnt",
    ];
    READ.iter().any(|read| name.eq_ignore_ascii_case(read)) || name.eq_ignore_ascii_case(b"connection")
}

/// The same where proxies are trusted: what they say is read too.
pub fn keeps_forwarded(name: &[u8]) -> bool {
    keeps(name) || name.eq_ignore_ascii_case(b"x-forwarded-for") || name.eq_ignore_ascii_case(b"x-forwarded-proto")
}
