//! `afflux explain`, `ledger cat`, `ledger check`, `reconcile`: reading the books, beside a running process or after its
//! death.

use std::path::Path;

use super::printing::{complain, printed};
use super::{Exit, Failure, configured, place};
use crate::clock::{Clock, WallClock};
use crate::config::Config;
use crate::report::command::{self, CommandError};
use crate::report::explain::{self, Which};
use crate::report::{ledger, reconcile as books};
use crate::shipper::cursor;
use crate::spool::{SpoolId, inspect};
use crate::store::{OpenError, Place};
use crate::time::TimeMs;

pub fn explain(file: Option<&Path>, id: Option<&str>, order: Option<&str>, json: bool) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let which = match (id, order) {
        (_, Some(order)) => Which::order(order).map_err(Failure::usage)?,
        (Some(id), None) => Which::Id(id.to_owned()),
        (None, None) => return Err(Failure::usage("a conversion ID or --order MERCHANT/ORDER[/TYPE] is needed")),
    };
    let store = place::place(&config).map_err(Failure::usage)?;
    let exit = printed(|out| {
        let mut reader = command::open(&store)?;
        explain::explain(&mut reader, &which, json, out)
    })?;
    if exit == Exit::Negative {
        complain(format!("{which}: not in {store}; it is not decided yet, or was never reported"));
    }
    Ok(exit)
}

pub fn ledger_cat(file: Option<&Path>, as_of: Option<&str>) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let until = as_of.map(|text| point_in_time(text, &config)).transpose()?;
    let store = place::place(&config).map_err(Failure::usage)?;
    printed(|out| ledger::cat(&mut command::open(&store)?, until, out))
}

pub fn ledger_check(file: Option<&Path>) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let store = place::place(&config).map_err(Failure::usage)?;
    printed(|out| ledger::check(&mut command::open(&store)?, out))
}

pub fn reconcile(file: Option<&Path>) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let store = place::place(&config).map_err(Failure::usage)?;
    printed(|out| {
        let disk = disk(&config)?;
        let asked = asked(&config, &store);
        match command::open(&store) {
            Ok(mut reader) => books::reconcile(Some(&mut reader), &disk, asked, out),
            Err(CommandError::Open(OpenError::Missing(_))) => books::reconcile(None, &disk, asked, out),
            Err(error) => Err(error),
        }
    })
}

pub fn asked(config: &Config, store: &Place) -> books::Asked {
    let cluster = matches!(store, Place::Postgres(_)) || config.kafka.bootstrap_servers.is_some();
    books::Asked { cluster, now: WallClock::start().now() }
}

pub fn disk(config: &Config) -> Result<books::Disk, CommandError> {
    let surveyed = inspect::survey(&config.spool.directory)?;
    let spooled = surveyed.spools.into_iter().map(|survey| books::Spooled {
        spool: survey.position.spool,
        topic: survey.position.topic,
        first: survey.first,
        records: survey.records,
        sealed: survey.position.sealed.is_some(),
        written_to: survey.is_live,
        damaged: survey.lost,
        unspooled: survey.position.unspooled,
        late: survey.position.undurable - survey.position.unspooled,
        tail: survey.position.tail,
        shipped: shipped(&survey.directory, survey.position.spool),
    });
    Ok(books::Disk { spooled: spooled.collect(), faults: surveyed.faults })
}

/// How far Kafka has acknowledged a spool, by the cursor in its directory. Where nothing ever shipped there is none.
fn shipped(directory: &Path, spool: SpoolId) -> Option<u64> {
    match cursor::read(directory, spool) {
        Ok(cursor::Found::Cursor(cursor)) => Some(cursor.next),
        // A damaged one is made anew by the shipper, which sends again.
        Ok(cursor::Found::None | cursor::Found::Damaged) | Err(_) => None,
    }
}

/// A date is the start of that day in `report.time_zone`, anything else RFC 3339 (contract P5).
fn point_in_time(text: &str, config: &Config) -> Result<TimeMs, Failure> {
    if let Ok(time) = TimeMs::parse_rfc3339(text) {
        return Ok(time);
    }
    let zone = config.report.time_zone.0.clone();
    let date: Result<jiff::civil::Date, _> = text.parse();
    let start = date.and_then(|date| date.to_zoned(zone));
    let start = start.map_err(|_| Failure::usage(format!("{text:?}: a date or an RFC 3339 time is allowed")))?;
    Ok(TimeMs(start.timestamp().as_millisecond()))
}
