//! What the threads of `serve` share, and how each stage is made from the configuration.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::keys::KeyReloads;
use super::{Failure, descriptors, keys, place, preflight};
use crate::api::Access;
use crate::attribution::Settings;
use crate::attribution::consumer::Rules;
use crate::attribution::consumer::shared::Layout;
use crate::catalog::Current;
use crate::click::Keys;
use crate::clock::WallClock;
use crate::config::Config;
use crate::event::ConversionIds;
use crate::http::Limits;
use crate::intake::{Intake, Log, OrderIndex};
use crate::report::Reports;
use crate::spool::{Durability, Options, Spools, Topic};
use crate::store::Store;
use crate::{edge, intake, report};

/// Connections to the file for reports and look-ups: as many as are answered at once.
const MAX_READERS: usize = 10;

pub struct House {
    pub config: Config,
    pub clock: Arc<WallClock>,
    pub keys: Arc<Keys>,
    pub key_reloads: Arc<KeyReloads>,
    pub catalog: Arc<Current>,
    pub spools: Arc<Spools>,
}

impl House {
    /// Reads everything that can be wrong before a port is bound: catalog, keys, what lies in the spool directory.
    pub fn build(config: Config) -> Result<House, Failure> {
        let catalog = Current::load(config.catalog.path.as_deref(), config.catalog.allow_changed_terms);
        let catalog = preflight::together(&config, catalog)?;
        let directory = config.data_directory();
        std::fs::create_dir_all(directory)
            .map_err(|error| Failure::io(format!("store.path: {}: {error}", directory.display())))?;
        let keys = keys::read_or_make(&config).map_err(Failure::usage)?;
        // A file that is no store, or a newer one, is told now and not by a consumer that tries for ever.
        Store::open(&place::file(&config)).map_err(|error| Failure::io(format!("store.path: {error}")))?;
        let clock = Arc::new(WallClock::start());
        let spools = Spools::open(spool_options(&config), clock.clone())
            .map_err(|error| Failure::io(format!("spool.directory: {}: {error}", config.spool.directory.display())))?;
        let (keys, catalog, spools) = (Arc::new(keys), Arc::new(catalog), Arc::new(spools));
        Ok(House { config, clock, keys, key_reloads: Arc::default(), catalog, spools })
    }

    /// The bounds of each door, where the process may have `descriptors` files open.
    pub fn limits(&self, descriptors: usize) -> Limits {
        descriptors::limits(&self.config, self.config.workers(), descriptors)
    }

    /// The API's stages and their routes, merged.
    pub fn api(&self) -> Result<(Arc<Intake>, Arc<Reports>, axum::Router), Failure> {
        let config = &self.config;
        let tokens = config.api.operator_tokens_sha256.iter().map(|hash| hash.0).collect();
        let rate = NonZeroU32::new(config.limits.requests_per_merchant_s.0 as u32);
        let access = Arc::new(Access::new(self.catalog.handle(), tokens, rate, self.clock.clone()));
        let writer = self.spools.writer(Topic::Conversions, 0).map_err(spool_failure)?;
        let index = OrderIndex::start(config.data_directory().join("orders.sqlite")).map_err(Failure::internal)?;
        let max_future_ms = config.intake.max_future_s.0 as i64 * 1_000;
        let ids = ConversionIds::new(&self.keys);
        let intake = Arc::new(Intake::new(access.clone(), ids, Log::new(writer), index, max_future_ms));
        let zone = config.report.time_zone.0.clone();
        let ids = ConversionIds::new(&self.keys);
        let reports = Arc::new(Reports::new(access, ids, place::file(config), MAX_READERS, zone));
        let router = crate::api::router([intake::routes(intake.clone()), report::routes(reports.clone())]);
        Ok((intake, reports, router))
    }

    /// What decisions are made with.
    pub fn rules(&self) -> Rules {
        Rules {
            keys: self.keys.clone(),
            settings: Settings {
                dedupe_window_ms: self.config.dedupe.window_ms.0 as i64,
                clock_skew_ms: self.config.attribution.clock_skew_ms.0 as i64,
                max_report_delay_days: self.config.attribution.max_report_delay_days.0 as u32,
            },
            catalog: self.catalog.handle(),
            clock: self.clock.clone(),
            layout: Layout::Alone,
        }
    }

    /// What all edge workers are told.
    pub fn edge_settings(&self) -> Result<Arc<edge::Settings>, Failure> {
        let config = &self.config;
        Ok(Arc::new(edge::Settings {
            fallback_url: config.edge.fallback_url.as_ref().map(|url| url.0.clone()),
            referrer_policy: config.edge.referrer_policy.as_ref().map(|policy| policy.0),
            cookie_max_age_s: config.edge.cookie_max_age_s.0,
            name: config.edge.name.clone().unwrap_or_else(host_name),
            ip: config.privacy.ip.0,
            visitor: config.privacy.visitor.0,
            bots: preflight::bots(config).map_err(Failure::usage)?,
            keys: self.keys.clone(),
            disk_wait: disk_wait(config),
        }))
    }
}

pub fn spool_failure(error: std::io::Error) -> Failure {
    Failure::io(format!("spool: {error}"))
}

fn spool_options(config: &Config) -> Options {
    Options {
        directory: config.spool.directory.clone(),
        segment_bytes: config.segment_bytes(),
        durability: config.spool.durability.0,
        sync_interval: Duration::from_millis(config.spool.sync_interval_ms.0),
        max_bytes: (config.spool.max_bytes.0 > 0).then_some(config.spool.max_bytes.0),
        keep: Duration::from_secs(config.spool.keep_days.0 * 86_400),
    }
}

fn disk_wait(config: &Config) -> edge::DiskWait {
    match (config.spool.durability.0, config.spool.disk_wait_max_ms.0) {
        (Durability::Process, _) => edge::DiskWait::No,
        (Durability::Disk, 0) => edge::DiskWait::WithoutLimit,
        (Durability::Disk, ms) => edge::DiskWait::AtMost(Duration::from_millis(ms)),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
