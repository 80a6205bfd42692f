//! `afflux spool ls|cat|verify`.

use std::path::{Path, PathBuf};

use super::printing::{Complaints, complain, printed};
use super::{Exit, Failure, configured};
use crate::report::command::Verdict;
use crate::spool::inspect::{self, Place};

pub fn spool_ls(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Exit, Failure> {
    let places = places(config, named)?;
    complain_of_nothing(&places);
    printed(|out| {
        inspect::ls(&places, out)?;
        Ok(Verdict::Good)
    })
}

pub fn spool_cat(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Exit, Failure> {
    let places = places(config, named)?;
    printed(|out| Ok(Verdict::good_if(inspect::cat(&places, out, &mut Complaints)?)))
}

pub fn spool_verify(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Exit, Failure> {
    let places = places(config, named)?;
    complain_of_nothing(&places);
    printed(|out| Ok(Verdict::good_if(inspect::verify(&places, out, &mut Complaints)?)))
}

/// Those named, which must hold spools, or the configured one, which may have none yet. With directories on the command
/// line no config is needed: a dead machine's disk may come alone.
fn places(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Vec<Place>, Failure> {
    if named.is_empty() {
        return Ok(vec![Place::Configured(configured(config)?.keys.spool.directory)]);
    }
    if config.is_some() {
        configured(config)?;
    }
    let places: Vec<Place> = named.into_iter().map(Place::Named).collect();
    match places.iter().find(|place| place.is_empty()).map(Place::directory) {
        None => Ok(places),
        Some(directory) if !directory.is_dir() => {
            let message = "no such directory, one that holds a spool or is one is allowed";
            Err(Failure::usage(format!("{}: {message}", directory.display())))
        }
        Some(directory) => {
            let message = "holds no spool, a directory that holds one or is one is allowed";
            Err(Failure::usage(format!("{}: {message}", directory.display())))
        }
    }
}

/// Nothing to say is no silence: it may be the wrong directory.
fn complain_of_nothing(places: &[Place]) {
    for place in places.iter().filter(|place| place.is_empty()) {
        complain(format!("{}: holds no spool", place.directory().display()));
    }
}
