//! The links of a role to Redis: one for each use, each with its own patience.

use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use crate::config::Config;
use crate::metrics::Page;
use crate::redis::{LinkMetrics, LinkSettings, SettingsError};

/// What the links of a process count, by use.
#[derive(Default)]
pub struct Links {
    counted: Vec<(&'static str, Arc<LinkMetrics>)>,
}

impl Links {
    /// The counts of one more use, shared by all links for it.
    pub fn count(&mut self, purpose: &'static str) -> Arc<LinkMetrics> {
        let metrics = Arc::<LinkMetrics>::default();
        self.counted.push((purpose, metrics.clone()));
        metrics
    }

    pub fn write_metrics(&self, page: &mut Page) {
        let counted: Vec<(&str, &LinkMetrics)> = self.counted.iter().map(|(name, links)| (*name, &**links)).collect();
        LinkMetrics::write(&counted, page);
    }
}

/// How long a question may take where nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where Redis is, and who we are to it.
pub fn settings(config: &Config) -> Result<LinkSettings, Failure> {
    let redis = &config.redis;
    LinkSettings::read(&redis.url, redis.password_file.as_deref(), TIMEOUT).map_err(|error| {
        let key = match error {
            SettingsError::Url | SettingsError::PasswordInUrl => "redis.url",
            SettingsError::PasswordFile { .. } | SettingsError::Password(_) => "redis.password_file",
        };
        Failure::usage(config.violation(key, error.to_string()))
    })
}
