mod exactly_once;
mod facts;
mod world;
