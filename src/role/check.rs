//! `afflux check`: reads config and catalog and what they name, prints the plan, starts nothing (contract P3). Warnings
//! go to stderr: what it writes to stdout is the plan and nothing else.

use std::path::Path;

use super::printing::{complain, printed};
use super::{Exit, Failure, certificates, configured, preflight};
use crate::catalog::{Snapshot, load};
use crate::config;
use crate::report::command::Verdict;

pub fn check(config: Option<&Path>, catalog: Option<&Path>) -> Result<Exit, Failure> {
    let mut config = configured(config)?;
    if let Some(path) = catalog {
        config.keys.catalog.path = Some(path.to_owned());
    }
    let snapshot = match &config.catalog.path {
        Some(path) => load(path).map(|loaded| loaded.snapshot),
        None => Ok(Snapshot::empty()),
    };
    let snapshot = preflight::together(&config, snapshot)?;
    let certificates = certificates::look(&config).map_err(Failure::usage)?;
    for warning in config::warnings(&config, &snapshot).iter().chain(&certificates.warnings) {
        complain(format!("warning: {warning}"));
    }
    printed(|out| {
        out.write_all(config::plan(&config, &snapshot).as_bytes())?;
        for line in &certificates.plan {
            writeln!(out, "{line}")?;
        }
        Ok(Verdict::Good)
    })
}
