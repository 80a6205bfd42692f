//! `afflux reship SPOOL FROM`.

use std::path::Path;

use super::printing::{complain, printed};
use super::{Exit, Failure, configured};
use crate::clock::{Clock, WallClock};
use crate::report::command::Verdict;
use crate::shipper::reship::{self, NotReshipped, Reshipped};
use crate::spool::SpoolId;

pub fn reship(file: Option<&Path>, spool: &str, from: u64) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let id = (spool.len() == 16).then(|| u64::from_str_radix(spool, 16).ok()).flatten();
    let id = id.ok_or_else(|| Failure::usage(format!("{spool}: not a spool, 16 hex digits are allowed")))?;
    let now = WallClock::start().now();
    match reship::reship(&config.spool.directory, SpoolId(id), from, now) {
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
