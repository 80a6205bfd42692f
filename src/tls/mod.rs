//! TLS at the doors: certificates with their keys, chosen by the name that a client asks for, replaced while connections
//! stay (contract E39, P9, P12).
//!
//! One `Server` for each door, shared by its listeners: whoever comes back finds the ticket keys of any worker. TLS 1.2
//! and 1.3 alone, with forward secrecy and authenticated encryption alone; no early data: a replayed click would be one.
//! The handshake itself stands in `http`, which bounds it.

mod certificate;
mod certificates;
mod current;
mod facts;
mod metrics;
mod server;
mod sources;
#[cfg(test)]
pub(crate) mod tests;
mod watch;

pub use certificate::{Algorithm, Certificate};
pub use certificates::Certificates;
pub use metrics::{Failed, write};
pub use server::{HTTP1, HTTP2, OFFERS_HTTP2, Server};
pub use sources::{Loaded, Pair, Sources};
pub use watch::watch;
