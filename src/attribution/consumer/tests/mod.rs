mod exactly_once;
mod facts;
pub mod world;
