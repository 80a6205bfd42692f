//! `afflux check`: reads config and catalog, prints the plan, starts nothing (contract P3).

use std::path::Path;

use super::{Exit, Failure, configured};
use crate::catalog::{Snapshot, load};
use crate::config::plan;

pub fn check(config: Option<&Path>, catalog: Option<&Path>) -> Result<Exit, Failure> {
    let mut config = configured(config)?;
    if let Some(path) = catalog {
        config.keys.catalog.path = Some(path.to_owned());
    }
    let snapshot = match &config.catalog.path {
        Some(path) => load(path).map_err(Failure::usage)?.snapshot,
        None => Snapshot::empty(),
    };
    print!("{}", plan(&config, &snapshot));
    Ok(Exit::Ok)
}
