//! Roles wire the stages together and do nothing else. Nothing below imports them.

mod base;
mod books;
mod check;
mod click;
mod descriptors;
mod doors;
mod edge_worker;
mod exit;
mod house;
mod keys;
mod logging;
mod observed;
mod preflight;
mod printing;
mod running;
mod serve;
mod signals;
mod spool;
mod spool_source;

use std::path::Path;

pub use books::{explain, ledger_cat, ledger_check, reconcile};
pub use check::check;
pub use click::click;
pub use exit::{Exit, Failure, report};
pub use serve::serve;
pub use spool::{spool_cat, spool_ls, spool_verify};

use crate::config::Config;

/// The configuration of a command, with the environment over it.
fn configured(file: Option<&Path>) -> Result<Config, Failure> {
    Config::load(file, crate::config::environment()).map_err(Failure::usage)
}
