//! What the roles of many machines need of the configuration beyond `serve`'s.

use super::Failure;
use crate::config::Config;
use crate::kafka::Cluster;
use crate::toml_reader::Violations;

/// The cluster that the configuration names.
pub fn cluster(config: &Config) -> Result<Cluster, Failure> {
    required(config, &[])
}

/// The same, and whatever else must be set, told together.
pub fn required(config: &Config, others: &[(&str, bool)]) -> Result<Cluster, Failure> {
    let mut violations = Violations::default();
    for (key, _) in others.iter().filter(|(_, is_set)| !is_set) {
        violations.add(config.violation(key, "not set, and this role needs it"));
    }
    let servers = config.kafka.bootstrap_servers.clone().unwrap_or_default();
    if servers.trim().is_empty() {
        let message = "not set, and this role needs it; HOST:PORT is allowed, several separated by commas";
        violations.add(config.violation("kafka.bootstrap_servers", message));
    }
    violations.none().map_err(Failure::usage)?;
    Ok(Cluster { bootstrap_servers: servers, prefix: config.kafka.prefix.clone() })
}
