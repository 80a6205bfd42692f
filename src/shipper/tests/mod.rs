//! The shipper against librdkafka's mock cluster, and against a real one where the mock cannot tell.

mod errors;
mod kills;
mod life;
mod real;
mod refused;
pub mod world;
