//! `afflux spool ls|cat|verify`.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Exit, Failure, configured};
use crate::spool::inspect;

pub fn spool_ls(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Exit, Failure> {
    let places = places(config, named)?;
    printed(|out| inspect::ls(&places, out).map(|()| true))
}

pub fn spool_cat(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Exit, Failure> {
    let places = places(config, named)?;
    printed(|out| inspect::cat(&places, out, &mut io::stderr()))
}

pub fn spool_verify(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Exit, Failure> {
    let places = places(config, named)?;
    printed(|out| inspect::verify(&places, out, &mut io::stderr()))
}

/// With directories on the command line no config is needed: a dead machine's disk may come alone.
fn places(config: Option<&Path>, named: Vec<PathBuf>) -> Result<Vec<inspect::Place>, Failure> {
    if !named.is_empty() && config.is_none() {
        return Ok(inspect::places(named, Path::new("")));
    }
    let configured = configured(config)?;
    Ok(inspect::places(named, &configured.spool.directory))
}

fn printed(work: impl FnOnce(&mut BufWriter<io::StdoutLock<'static>>) -> io::Result<bool>) -> Result<Exit, Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let result = work(&mut out).and_then(|whole| out.flush().map(|()| whole));
    match result {
        Ok(true) => Ok(Exit::Ok),
        Ok(false) => Ok(Exit::Negative),
        // `afflux spool cat | head` is no failure.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(error) => Err(Failure::io(error)),
    }
}
