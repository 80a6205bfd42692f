//! The certificates of the doors: where the configuration says they lie, read before anything starts, reloaded while it
//! runs (contract P9, P12).

use std::path::PathBuf;
use std::sync::Arc;

use super::Failure;
use crate::clock::{Clock, WallClock};
use crate::config::{Config, HttpsPort};
use crate::metrics::Page;
use crate::time::TimeMs;
use crate::tls::{self, Pair, Server, Sources};
use crate::toml_reader::{Violation, Violations};

/// The TLS of each door that has a certificate.
#[derive(Clone, Default)]
pub struct TlsOfDoors {
    pub edge: Option<Arc<Server>>,
    pub api: Option<Arc<Server>>,
}

impl TlsOfDoors {
    pub fn load(config: &Config) -> Result<TlsOfDoors, Failure> {
        Ok(TlsOfDoors { edge: server(config, edge_sources)?, api: TlsOfDoors::load_api(config)?.api })
    }

    /// Of a role without an edge.
    pub fn load_api(config: &Config) -> Result<TlsOfDoors, Failure> {
        Ok(TlsOfDoors { edge: None, api: server(config, api_sources)? })
    }

    pub fn write_metrics(&self, page: &mut Page) {
        let doors = [("edge", &self.edge), ("api", &self.api)];
        let doors: Vec<(&str, &Server)> =
            doors.iter().filter_map(|(name, server)| Some((*name, server.as_deref()?))).collect();
        if !doors.is_empty() {
            tls::write(&doors, page);
        }
    }

    /// Those there are.
    pub fn servers(&self) -> Vec<Arc<Server>> {
        self.edge.iter().chain(&self.api).cloned().collect()
    }
}

/// A line for each certificate, and what is unwise about them.
pub struct Told {
    pub plan: Vec<String>,
    pub warnings: Vec<String>,
}

/// Reads all certificates of the configuration, to tell what is wrong with them and what they are.
pub fn look(config: &Config) -> Result<Told, Violations> {
    let mut violations = Violations::default();
    let mut told = Told { plan: Vec::new(), warnings: Vec::new() };
    let doors =
        [("edge", config.edge.tls_listen, edge_sources(config)), ("api", config.api.tls_listen, api_sources(config))];
    for (door, address, sources) in doors {
        let loaded = match sources.map(|sources| sources.map(|sources| sources.load(now()))) {
            Err(violation) => {
                violations.add(violation);
                continue;
            }
            Ok(None) => continue,
            Ok(Some(Err(wrong))) => {
                violations.extend(wrong);
                continue;
            }
            Ok(Some(Ok(loaded))) => loaded,
        };
        for certificate in &loaded.certificates.all {
            told.plan.push(format!("{:<10} {door} {address}: {certificate}", "tls"));
            told.warnings.extend(certificate.warnings.iter().cloned());
        }
    }
    violations.none().map(|()| told)
}

fn server(
    config: &Config,
    sources: fn(&Config) -> Result<Option<Sources>, Violation>,
) -> Result<Option<Arc<Server>>, Failure> {
    let Some(sources) = sources(config).map_err(Failure::usage)? else { return Ok(None) };
    let loaded = sources.load(now()).map_err(Failure::usage)?;
    for warning in loaded.certificates.all.iter().flat_map(|certificate| &certificate.warnings) {
        tracing::warn!("{warning}");
    }
    Server::new(sources, loaded).map(Some).map_err(Failure::internal)
}

/// `None`: it has no TLS.
fn edge_sources(config: &Config) -> Result<Option<Sources>, Violation> {
    let edge = &config.edge;
    let (certificate, key) = (&edge.tls_certificate_file, &edge.tls_key_file);
    let pair = pair(config, ["edge.tls_certificate_file", "edge.tls_key_file"], certificate, key)?;
    let directory = edge.tls_directory.clone();
    if pair.is_none() && directory.is_none() {
        // A balancer may speak TLS for us, at a port that we do not know.
        let is_spoken_elsewhere =
            matches!(edge.redirect_to_https, HttpsPort::Number(_)) && !edge.trusted_proxies.is_empty();
        if edge.redirect_to_https != HttpsPort::No && !is_spoken_elsewhere {
            let message = "set without a certificate; false is allowed, or edge.tls_certificate_file or \
                           edge.tls_directory, or a port and edge.trusted_proxies";
            return Err(config.violation("edge.redirect_to_https", message));
        }
        return Ok(None);
    }
    Ok(Some(Sources { door: "edge", pair, directory, directory_key: "edge.tls_directory" }))
}

fn api_sources(config: &Config) -> Result<Option<Sources>, Violation> {
    let (certificate, key) = (&config.api.tls_certificate_file, &config.api.tls_key_file);
    let keys = ["api.tls_certificate_file", "api.tls_key_file"];
    let pair = pair(config, keys, certificate, key)?;
    Ok(pair.map(|pair| Sources { door: "api", pair: Some(pair), directory: None, directory_key: keys[0] }))
}

fn pair(
    config: &Config,
    [certificate_key, key_key]: [&'static str; 2],
    certificate: &Option<PathBuf>,
    key: &Option<PathBuf>,
) -> Result<Option<Pair>, Violation> {
    let alone =
        |set: &str, missing: &str| config.violation(set, format!("set without {missing}; both or neither are allowed"));
    match (certificate.clone(), key.clone()) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(alone(certificate_key, key_key)),
        (None, Some(_)) => Err(alone(key_key, certificate_key)),
        (Some(certificate), Some(key)) => Ok(Some(Pair { certificate, key, config_key: certificate_key })),
    }
}

fn now() -> TimeMs {
    WallClock::start().now()
}
