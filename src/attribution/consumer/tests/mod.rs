mod exactly_once;
mod facts;
mod flood;
mod refunds;
mod shared;
mod shared_world;
pub mod world;
