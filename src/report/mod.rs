//! What the store knows, for those who may see it: conversions and performance over HTTP, and on the command line the
//! reasons of a decision, the books, their check, and what is between answered and applied.
//!
//! Everything here only reads, beside a running process and after its death.

pub mod command;
pub mod conversion;
pub mod explain;
pub mod ledger;
pub mod performance;
pub mod query;
mod readers;
pub mod reconcile;
mod routes;
mod schema;
mod table;
#[cfg(test)]
mod tests;

pub use conversion::Answer;
pub use routes::{Reports, routes};
