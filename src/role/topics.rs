//! `afflux topics create|check`.

use std::path::Path;

use super::cluster::cluster;
use super::printing::printed;
use super::{Exit, Failure, configured};
use crate::catalog::load;
use crate::config::Config;
use crate::kafka::topics::{self, Shape, Wanted};
use crate::report::command::Verdict;

/// Beyond the longest window and the latest report: as long as a machine may be away.
const SPARE_DAYS: u64 = 7;

/// Makes what is not there.
pub fn topics_create(file: Option<&Path>) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let cluster = cluster(&config)?;
    let wanted = wanted(&config)?;
    let made = topics::create(&cluster, &wanted).map_err(Failure::internal)?;
    printed(|out| {
        for (topic, is_new) in made {
            writeln!(out, "{topic}: {}", if is_new { "made" } else { "there already" })?;
        }
        Ok(Verdict::Good)
    })
}

/// A line for each topic; below it what differs and how it is mended.
pub fn topics_check(file: Option<&Path>) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let cluster = cluster(&config)?;
    let wanted = wanted(&config)?;
    let actual = topics::actual(&cluster, &wanted).map_err(Failure::internal)?;
    printed(|out| {
        let mut is_good = true;
        for (wanted, actual) in wanted.iter().zip(&actual) {
            let differences = topics::differences(&cluster, wanted, actual.as_ref());
            is_good &= differences.is_empty();
            let verdict = if differences.is_empty() { "as it must be" } else { "differs" };
            writeln!(out, "{}: {verdict}", wanted.name)?;
            for difference in differences {
                writeln!(out, "  {}\n    {}", difference.what, difference.mend)?;
            }
        }
        Ok(Verdict::good_if(is_good))
    })
}

fn wanted(config: &Config) -> Result<Vec<Wanted>, Failure> {
    let kafka = &config.kafka;
    let shape = Shape {
        partitions: kafka.partitions.0 as i32,
        replicas: kafka.replicas.0 as i32,
        min_insync_replicas: kafka.min_insync_replicas.0 as i32,
        retention_days: retention_days(config)?,
    };
    Ok(topics::wanted(&cluster(config)?, shape))
}

/// As long as a click may count for a report that may come.
fn retention_days(config: &Config) -> Result<u64, Failure> {
    if config.kafka.retention_days.0 > 0 {
        return Ok(config.kafka.retention_days.0);
    }
    let longest = match &config.catalog.path {
        Some(path) => load(path).map_err(Failure::usage)?.snapshot.rulebook.longest_window_days(),
        None => 0,
    };
    Ok(u64::from(longest) + config.attribution.max_report_delay_days.0 + SPARE_DAYS)
}
