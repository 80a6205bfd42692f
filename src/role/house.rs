//! What the threads of a machine that answers share, and how each stage is made from the configuration.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::base::Base;
use super::{Failure, preflight};
use crate::api::Access;
use crate::clock::WallClock;
use crate::config::{Config, HttpsPort, ProxyListener};
use crate::edge::{self, CurrentLists, Networks};
use crate::event::ConversionIds;
use crate::http::{PerAddress, Trusted};
use crate::intake::{Intake, Log, OrderIndex};
use crate::spool::{Durability, Options, Spools, Topic};

/// A `Base` with spools: a machine that answers.
pub struct House {
    pub base: Base,
    pub spools: Arc<Spools>,
    pub lists: Arc<CurrentLists>,
}

impl std::ops::Deref for House {
    type Target = Base;
    fn deref(&self) -> &Base {
        &self.base
    }
}

impl House {
    pub fn build(base: Base) -> Result<House, Failure> {
        let spools = open_spools(&base.config, base.clock.clone())?;
        let lists = CurrentLists::load(preflight::places(&base.config)).map_err(|bad| {
            // They were good a moment ago, before anything was started.
            Failure::io(bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })?;
        Ok(House { base, spools: Arc::new(spools), lists: Arc::new(lists) })
    }

    /// A thread of the spools or of the order index that has ended by itself.
    pub fn lost_thread(&self, intake: &Intake) -> Option<String> {
        self.spools.lost_thread().or_else(|| intake.lost_thread().map(str::to_owned))
    }

    /// The door of merchants' reports, with a spool of its own.
    pub fn intake(&self, access: Arc<Access>, index: OrderIndex) -> Result<Arc<Intake>, Failure> {
        let writer = self.spools.writer(Topic::Conversions, 0).map_err(spool_failure)?;
        let max_future_ms = self.config.intake.max_future_s.0 as i64 * 1_000;
        let ids = ConversionIds::new(&self.keys);
        Ok(Arc::new(Intake::new(access, ids, Log::new(writer), index, max_future_ms)))
    }

    /// The order index of one machine, in the data directory.
    pub fn embedded_order_index(&self) -> Result<OrderIndex, Failure> {
        OrderIndex::start(self.config.data_directory().join("orders.sqlite")).map_err(Failure::internal)
    }

    /// Proxies that are believed; `None` where nobody is.
    pub fn trusted_proxies(&self) -> Option<Arc<Networks>> {
        let listed = &self.config.edge.trusted_proxies;
        let text = listed.iter().map(|network| format!("{}\n", network.0)).collect::<String>();
        // Each was read as a network before.
        Networks::parse(&text).ok().filter(|_| !listed.is_empty()).map(Arc::new)
    }

    /// Who may connect for others at this listener, which takes PROXY protocol. `None` where none is spoken.
    pub fn proxies_at(&self, listener: ProxyListener) -> Option<Trusted> {
        let is_spoken = self.config.edge.proxy_protocol.iter().any(|spoken| spoken.0 == listener);
        is_spoken.then(|| match self.trusted_proxies() {
            Some(trusted) => Trusted::new(move |address| trusted.contains(address)),
            None => Trusted::new(|_| true),
        })
    }

    /// What one address may have at the edge; `None` where that is not counted.
    pub fn per_address(&self) -> Option<PerAddress> {
        let connections = self.config.limits.connections_per_address.0 as usize;
        let except = match self.trusted_proxies() {
            Some(trusted) => Trusted::new(move |address| trusted.contains(address)),
            None => Trusted::new(|_| false),
        };
        (connections > 0).then_some(PerAddress { connections, except })
    }

    /// What all edge workers are told. `tls` is the address of redirects over TLS.
    pub fn edge_settings(&self, tls: Option<SocketAddr>) -> Arc<edge::Settings> {
        let config = &self.config;
        let https_port = match config.edge.redirect_to_https {
            HttpsPort::No => None,
            HttpsPort::OfListener => tls.map(|address| address.port()),
            HttpsPort::Number(port) => Some(port),
        };
        Arc::new(edge::Settings {
            fallback_url: config.edge.fallback_url.as_ref().map(|url| url.0.clone()),
            referrer_policy: config.edge.referrer_policy.as_ref().map(|policy| policy.0),
            hsts: config.edge.hsts.as_ref().map(|hsts| hsts.0.clone()),
            https_port,
            trusted_proxies: self.trusted_proxies(),
            cookie_max_age_s: config.edge.cookie_max_age_s.0,
            name: name(config),
            ip: config.privacy.ip.0,
            visitor: config.privacy.visitor.0,
            keys: self.keys.clone(),
            disk_wait: disk_wait(config),
        })
    }
}

/// Opens what lies in the spool directory.
pub fn open_spools(config: &Config, clock: Arc<WallClock>) -> Result<Spools, Failure> {
    Spools::open(spool_options(config), clock)
        .map_err(|error| Failure::io(format!("spool.directory: {}: {error}", config.spool.directory.display())))
}

/// The machine's name in events.
pub fn name(config: &Config) -> String {
    config.edge.name.clone().unwrap_or_else(host_name)
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
