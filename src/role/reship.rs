//! `afflux reship SPOOL FROM` and `afflux reship SPOOL --parked`.

use std::path::Path;

use super::printing::{complain, printed};
use super::{Exit, Failure, configured};
use crate::clock::{Clock, WallClock};
use crate::report::command::Verdict;
use crate::shipper::reship::{self, NotReshipped, Reshipped};
use crate::shipper::unpark::{self, NotFed};
use crate::spool::SpoolId;

pub fn reship(file: Option<&Path>, spool: &str, from: u64) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let id = named(spool)?;
    let now = WallClock::start().now();
    match reship::reship(&config.spool.directory, id, from, now) {
        Ok(reshipped) => printed(|out| {
            match reshipped {
                Reshipped::Set(from) => {
                    writeln!(out, "{spool}: the next `afflux edge` ships it again from {from} on")?;
                }
                Reshipped::Taken => writeln!(out, "{spool}: shipped again from {from} on, as far as it is kept")?,
                Reshipped::Asked => writeln!(out, "{spool}: the running shipper has not taken the request yet")?,
            }
            Ok(Verdict::Good)
        }),
        Err(error @ NotReshipped::Disk(_)) => Err(Failure::io(error)),
        Err(error) => {
            complain(error);
            Ok(Exit::Negative)
        }
    }
}

/// Parked records, under a new spool ID.
pub fn reship_parked(file: Option<&Path>, spool: &str) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let id = named(spool)?;
    match unpark::feed(&config.spool.directory, id, WallClock::start().now()) {
        Ok(fed) => printed(|out| {
            let unpark::Fed { spool: into, records, left, foreign } = fed;
            writeln!(out, "{spool}: {records} parked records are fed again as spool {into}")?;
            if foreign > 0 {
                writeln!(out, "{spool}: {foreign} parked records are no events of ours and stay parked")?;
            }
            if left > foreign {
                writeln!(out, "{spool}: {} more are parked: run it again", left - foreign)?;
            }
            Ok(Verdict::good_if(left == 0))
        }),
        Err(error @ NotFed::Disk(_)) => Err(Failure::io(error)),
        Err(error) => {
            complain(error);
            Ok(Exit::Negative)
        }
    }
}

/// A spool as it is written in events and paths.
pub fn named(spool: &str) -> Result<SpoolId, Failure> {
    let id = (spool.len() == 16).then(|| u64::from_str_radix(spool, 16).ok()).flatten();
    id.map(SpoolId).ok_or_else(|| Failure::usage(format!("{spool}: not a spool, 16 hex digits are allowed")))
}
