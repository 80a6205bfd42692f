mod exactly_once;
mod facts;
mod figures;
pub mod world;
