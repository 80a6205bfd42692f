mod exactly_once;
mod facts;
mod flood;
mod refunds;
pub mod world;
