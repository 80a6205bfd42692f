//! Roles wire the stages together and do nothing else. Nothing below imports them.

mod attribution;
mod base;
mod books;
mod certificates;
mod check;
mod click;
mod cluster;
mod console;
mod descriptors;
mod doors;
mod edge;
mod edge_worker;
mod erase;
mod exit;
mod house;
mod keys;
mod links;
mod logging;
mod observed;
mod open_doors;
mod pass;
mod place;
mod preflight;
mod printing;
mod reship;
mod running;
mod serve;
mod shipping;
mod signals;
mod spool;
mod spool_source;
mod succession;
mod threads;
mod topics;

use std::path::Path;

pub use attribution::attribution;
pub use books::{explain, ledger_cat, ledger_check, reconcile};
pub use check::check;
pub use click::click;
pub use console::console;
pub use edge::{drain_only, edge};
pub use erase::{Whom, erase};
pub use exit::{Exit, Failure, report};
pub use pass::pass;
pub use reship::{reship, reship_parked};
pub use serve::serve;
pub use spool::{spool_cat, spool_ls, spool_verify};
pub use topics::{topics_check, topics_create};

use crate::config::Config;

/// The configuration of a command, with the environment over it.
fn configured(file: Option<&Path>) -> Result<Config, Failure> {
    Config::load(file, crate::config::environment()).map_err(Failure::usage)
}
