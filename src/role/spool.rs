//! `afflux spool ls|cat|verify`.

use std::path::{Path, PathBuf};

use super::printing::{Complaints, complain, printed};
use super::{Exit, Failure, configured};
use crate::report::command::Verdict;
use crate::spool::inspect;

pub fn spool_ls(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Exit, Failure> {
    let directories = directories(config, named)?;
    complain_of_nothing(&directories);
    printed(|out| {
        inspect::ls(&directories, out)?;
        Ok(Verdict::Good)
    })
}

pub fn spool_cat(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Exit, Failure> {
    let directories = directories(config, named)?;
    printed(|out| Ok(Verdict::good_if(inspect::cat(&directories, out, &mut Complaints)?)))
}

pub fn spool_verify(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Exit, Failure> {
    let directories = directories(config, named)?;
    complain_of_nothing(&directories);
    printed(|out| Ok(Verdict::good_if(inspect::verify(&directories, out, &mut Complaints)?)))
}

/// Those named, which must hold spools, or the configured one, which may have none yet. With directories on the command
/// line no config is needed: a dead machine's disk may come alone.
fn directories(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    if named.is_empty() {
        return Ok(vec![configured(config)?.keys.spool.directory]);
    }
    if config.is_some() {
        configured(config)?;
    }
    match named.iter().find(|directory| inspect::is_empty(directory)) {
        None => Ok(named),
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
fn complain_of_nothing(directories: &[PathBuf]) {
    for directory in directories.iter().filter(|directory| inspect::is_empty(directory)) {
        complain(format!("{}: holds no spool", directory.display()));
    }
}
