mod exactly_once;
mod facts;
mod flood;
pub mod world;
