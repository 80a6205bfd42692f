//! `afflux check`: reads config and catalog, prints the plan, starts nothing (contract P3).

use std::path::Path;

use super::{Exit, Failure, configured};
use crate::catalog::{Snapshot, load};
use crate::config::Config;
use crate::spool::Durability;

pub fn check(config: Option<&Path>, catalog: Option<&Path>) -> Result<Exit, Failure> {
    let config = configured(config)?;
    let path = catalog.or(config.catalog.path.as_deref());
    let snapshot = match path {
        Some(path) => load(path).map_err(Failure::usage)?.snapshot,
        None => Snapshot::empty(),
    };
    print!("{}", plan(&config, path, &snapshot));
    Ok(Exit::Ok)
}

fn plan(config: &Config, catalog: Option<&Path>, snapshot: &Snapshot) -> String {
    let durability = match config.spool.durability.0 {
        Durability::Disk => "disk: answered when an fdatasync covers it",
        Durability::Process => "process: answered at once, synced in the background",
    };
    let workers = match config.edge.workers.0 {
        0 => "one for each core".to_owned(),
        count => count.to_string(),
    };
    let coupons: usize = snapshot.rulebook.coupons.values().map(|codes| codes.len()).sum();
    let catalog_line = match catalog {
        Some(path) => format!(
            "{}: {} merchants, {} offers, {} publishers, {} links, {coupons} coupons, hash {}",
            path.display(),
            snapshot.merchants.len(),
            snapshot.offers.len(),
            snapshot.rulebook.publishers.len(),
            snapshot.links.len(),
            &snapshot.hash[..8],
        ),
        None => "warning: none configured (catalog.path): every link is 404".to_owned(),
    };
    let lines = [
        ("edge", format!("http://{} ({workers} workers)", config.edge.listen)),
        ("api", format!("http://{}", config.api.listen)),
        ("admin", format!("http://{}", config.admin.listen)),
        ("spool", format!("{} ({durability})", config.spool.directory.display())),
        ("store", config.store.path.display().to_string()),
        ("keys", config.keys_file().display().to_string()),
        ("catalog", catalog_line),
    ];
    lines.iter().map(|(what, how)| format!("{what:<8} {how}\n")).collect()
}
