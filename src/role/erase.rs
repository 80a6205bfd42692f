//! `afflux erase VISITOR_ID`, where the store is configured: the store, and in a cluster the touch index in Redis.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::printing::{complain, printed};
use super::{Exit, Failure, configured, keys, links, place};
use crate::click::{ClickId, Keys, Verdict as Verified, VisitorId};
use crate::config::Config;
use crate::erasure::{self, By, Erased, Found};
use crate::redis::{Link, LinkMetrics};
use crate::report::command::{self, CommandError, Verdict};
use crate::report::explain::Which;
use crate::store::{Place, Store};
use crate::time::DAY_MS;
use crate::touch::shared::{Kept, SharedTouches, SharedTouchesMetrics};

/// By what the visitor is known: one of these.
#[derive(Clone, Copy, Debug)]
pub struct Whom<'w> {
    pub visitor: Option<&'w str>,
    pub click: Option<&'w str>,
    pub order: Option<&'w str>,
}

pub fn erase(file: Option<&Path>, whom: Whom<'_>, dry_run: bool) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let keys = keys::read(&config).map_err(Failure::usage)?;
    let by = by(whom, &keys)?;
    let store = place::place(&config).map_err(Failure::usage)?;
    let mut shared = match &store {
        Place::Sqlite(_) => None,
        Place::Postgres(_) => Some(touches(&config)?),
    };
    printed(|out| {
        let mut reader = command::open(&store)?;
        let Some(person) = erasure::person(&mut reader, &by, &keys)? else {
            complain("no such order in the store; nothing was erased");
            return Ok(Verdict::Bad);
        };
        let found = erasure::find(&mut reader, &person)?;
        drop(reader);
        if found.waiting > 0 {
            let waiting = found.waiting;
            writeln!(out, "{waiting} orders of this visitor are not decided yet; nothing was erased; try again later")?;
            return Ok(Verdict::Bad);
        }
        // Before the store: while it is not done, the store still tells whom to look for.
        let in_redis = match &mut shared {
            None => 0,
            Some(touches) => touches.erase(&found.visitor_keys, dry_run).map_err(|_| CommandError::Touches)?,
        };
        let erased = if dry_run { would_erase(&found) } else { take_out(&store, &found)? };
        tell(out, &config, Erased { touches: erased.touches + in_redis, ..erased }, &found, dry_run)?;
        Ok(Verdict::Good)
    })
}

fn by(whom: Whom<'_>, keys: &Keys) -> Result<By, Failure> {
    match whom {
        Whom { visitor: Some(text), .. } => VisitorId::parse(text.as_bytes()).map(By::Cookie).ok_or_else(|| {
            Failure::usage("the visitor: 22 letters, digits, - and _ are allowed, the value of the cookie aff_vid")
        }),
        Whom { click: Some(text), .. } => match ClickId::verify(text, keys) {
            Verified::Verified(click_id) => Ok(By::Click(click_id)),
            _ => Err(Failure::usage("--click: an ID that was signed here is allowed; `afflux click` tells more")),
        },
        Whom { order: Some(text), .. } => Which::order(text).map(By::Order).map_err(Failure::usage),
        _ => Err(Failure::usage("a visitor, --click ID or --order MERCHANT/ORDER[/TYPE] is needed")),
    }
}

fn touches(config: &Config) -> Result<SharedTouches, Failure> {
    let link = Link::new(links::settings(config)?, Arc::<LinkMetrics>::default(), "erase");
    let kept = Kept {
        buckets: config.touch.buckets.0 as u32,
        visitor_day_touches: config.touch.visitor_day_touches.0 as u32,
        // Nothing is added.
        kept_ms: DAY_MS,
    };
    Ok(SharedTouches::new(link, kept, Arc::<SharedTouchesMetrics>::default()))
}

fn would_erase(found: &Found) -> Erased {
    Erased {
        touches: found.touches,
        orders: found.telling,
        differing: found.differing_of_orders.max(found.differing.len() as u64),
        dead_letters: found.dead_letters.len() as u64,
    }
}

fn take_out(place: &Place, found: &Found) -> Result<Erased, CommandError> {
    let mut store = Store::open(place)?;
    store.overwrite_deleted()?;
    Ok(erasure::erase(&mut store, found)?)
}

fn tell(
    out: &mut dyn Write,
    config: &Config,
    erased: Erased,
    found: &Found,
    dry_run: bool,
) -> Result<(), CommandError> {
    let Erased { touches, orders, differing, dead_letters } = erased;
    writeln!(out, "{}", if dry_run { "would be erased" } else { "erased" })?;
    writeln!(out, "  touches            {touches}")?;
    writeln!(out, "  buyers of orders   {orders} of {}", found.orders.len())?;
    writeln!(out, "  differing reports  {differing}")?;
    writeln!(out, "  dead letters       {dead_letters}")?;
    writeln!(out, "stays: amounts, click IDs and the reasons of decisions (docs/privacy.md)")?;
    let days = config.spool.keep_days.0;
    writeln!(out, "ages out: spools, {days} days after they are applied or shipped (spool.keep_days)")?;
    if config.kafka.bootstrap_servers.is_some() {
        writeln!(out, "ages out: topics, as `afflux topics create` made them (kafka.retention_days)")?;
    }
    Ok(())
}
