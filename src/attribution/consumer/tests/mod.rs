mod exactly_once;
mod facts;
mod flood;
mod refunds;
mod several;
mod shared;
mod shared_world;
pub mod world;
