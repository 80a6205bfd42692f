//! What every role that runs has: configuration, clock, keys, catalog.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::keys::KeyReloads;
use super::{Failure, descriptors, keys, preflight};
use crate::api::Access;
use crate::attribution::Settings;
use crate::attribution::consumer::Rules;
use crate::attribution::consumer::shared::Layout;
use crate::catalog::Current;
use crate::click::Keys;
use crate::clock::WallClock;
use crate::config::Config;
use crate::http::Limits;

pub struct Base {
    pub config: Config,
    pub clock: Arc<WallClock>,
    pub keys: Arc<Keys>,
    pub key_reloads: Arc<KeyReloads>,
    pub catalog: Arc<Current>,
}

/// Where the click keys of a role come from (contract P17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysFrom {
    /// `click.keys_file`, or made once in the data directory: `serve` alone.
    FileOrMade,
    /// `click.keys_file`, which all machines have alike: with keys of its own half of all sales would be forgeries to the
    /// other half.
    File,
}

impl Base {
    /// Reads everything that can be wrong before a port is bound.
    pub fn build(config: Config, keys_from: KeysFrom) -> Result<Base, Failure> {
        if keys_from == KeysFrom::File && config.click.keys_file.is_none() {
            let message = "not set; a file that all machines share is allowed, `serve` alone makes keys by itself";
            return Err(Failure::usage(config.violation("click.keys_file", message)));
        }
        let catalog = Current::load(config.catalog.path.as_deref(), config.catalog.allow_changed_terms);
        let catalog = preflight::together(&config, catalog)?;
        let directory = config.data_directory();
        if keys_from == KeysFrom::FileOrMade {
            std::fs::create_dir_all(directory)
                .map_err(|error| Failure::io(format!("store.path: {}: {error}", directory.display())))?;
        }
        let keys = keys::read_or_make(&config).map_err(Failure::usage)?;
        let (keys, catalog) = (Arc::new(keys), Arc::new(catalog));
        Ok(Base { config, clock: Arc::new(WallClock::start()), keys, key_reloads: Arc::default(), catalog })
    }

    /// The bounds of each door, where the process may have `descriptors` files open.
    pub fn limits(&self, descriptors: usize) -> Limits {
        descriptors::limits(&self.config, self.config.workers(), descriptors)
    }

    /// Who may ask the API for what.
    pub fn access(&self) -> Arc<Access> {
        let tokens = self.config.api.operator_tokens_sha256.iter().map(|hash| hash.0).collect();
        let rate = NonZeroU32::new(self.config.limits.requests_per_merchant_s.0 as u32);
        Arc::new(Access::new(self.catalog.handle(), tokens, rate, self.clock.clone()))
    }

    /// What decisions are made with.
    pub fn rules(&self, layout: Layout) -> Rules {
        Rules {
            keys: self.keys.clone(),
            settings: Settings {
                dedupe_window_ms: self.config.dedupe.window_ms.0 as i64,
                clock_skew_ms: self.config.attribution.clock_skew_ms.0 as i64,
                max_report_delay_days: self.config.attribution.max_report_delay_days.0 as u32,
            },
            catalog: self.catalog.handle(),
            clock: self.clock.clone(),
            layout,
            keep_click_counts_days: self.config.report.keep_click_counts_days.0 as u32,
            keep_personal_days: self.config.privacy.keep_personal_days.0 as u32,
        }
    }
}
