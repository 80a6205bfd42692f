//! Tests that need cargo alone: the architecture's absences, and the service seen from outside.

#[path = "../rig/mod.rs"]
mod rig;

mod bad_input;
mod balancers;
mod clicks;
mod commands;
mod deploy;
mod edge;
mod edge_kafka;
mod http2;
mod http2_floods;
mod http2_limits;
mod journey;
mod operation;
mod overload;
mod privacy;
mod proxies;
mod schemas;
mod security;
mod signals;
mod supervisor;
mod tidy;
mod tls;
mod tls_limits;
mod upgrades;
mod url_parsers;
mod visitors;
