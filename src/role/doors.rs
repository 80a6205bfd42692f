//! The listeners: bound together before anything runs, so that a port in use is told before a click is answered.

use std::net::{SocketAddr, TcpListener};

use tracing::field::display;

use super::Failure;
use super::certificates::TlsOfDoors;
use crate::config::Config;
use crate::http;
use crate::toml_reader::{Violation, Violations};

pub struct Doors {
    /// One for each worker, on one port.
    pub edge: Vec<TcpListener>,
    /// The same, or none without a certificate.
    pub edge_tls: Vec<TcpListener>,
    pub api: TcpListener,
    pub api_tls: Option<TcpListener>,
    pub admin: TcpListener,
}

/// Addresses as bound: a port 0 is a number now.
pub struct Addresses {
    pub edge: SocketAddr,
    pub edge_tls: Option<SocketAddr>,
    pub api: SocketAddr,
    pub api_tls: Option<SocketAddr>,
    pub admin: SocketAddr,
}

impl Doors {
    pub fn bind(config: &Config, tls: &TlsOfDoors) -> Result<Doors, Failure> {
        let mut violations = Violations::default();
        let mut bound = |key: &str, address, count| {
            let listeners = listeners(config, key, address, count);
            listeners.map_err(|violation| violations.add(violation)).unwrap_or_default()
        };
        let workers = config.workers();
        let edge = bound("edge.listen", config.edge.listen, workers);
        let edge_tls = bound("edge.tls_listen", config.edge.tls_listen, tls.edge.as_ref().map_or(0, |_| workers));
        let mut api_tls = bound("api.tls_listen", config.api.tls_listen, tls.api.iter().len());
        let (mut api, mut admin) =
            (bound("api.listen", config.api.listen, 1), bound("admin.listen", config.admin.listen, 1));
        violations.none().map_err(Failure::usage)?;
        // Without violations each has as many as were asked for.
        Ok(Doors { edge, edge_tls, api: api.remove(0), api_tls: api_tls.pop(), admin: admin.remove(0) })
    }

    pub fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            edge: self.edge[0].local_addr()?,
            edge_tls: self.edge_tls.first().map(TcpListener::local_addr).transpose()?,
            api: self.api.local_addr()?,
            api_tls: self.api_tls.as_ref().map(TcpListener::local_addr).transpose()?,
            admin: self.admin.local_addr()?,
        })
    }
}

/// One listener alone, for a role that has not all doors. `key` is the one that names the address.
pub fn bind_one(config: &Config, key: &str, address: SocketAddr) -> Result<TcpListener, Violation> {
    // As many as were asked for.
    listeners(config, key, address, 1).map(|mut bound| bound.remove(0))
}

fn listeners(config: &Config, key: &str, address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, Violation> {
    bind_group(address, count).map_err(|error| {
        let allowed = "an address of this machine with a free port is allowed";
        config.violation(key, format!("{address}: {error}; {allowed}"))
    })
}

fn bind_group(address: SocketAddr, count: usize) -> std::io::Result<Vec<TcpListener>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    // Ours share the port among themselves; that nobody else has it is found out by asking for it alone first.
    drop(TcpListener::bind(address)?);
    let first = http::listen(address)?;
    let bound = first.local_addr()?;
    let others = (1..count).map(|_| http::listen(bound));
    std::iter::once(Ok(first)).chain(others).collect()
}

impl Addresses {
    /// What whoever started it wants to know.
    pub fn log(&self) {
        let Addresses { edge, edge_tls, api, api_tls, admin } = self;
        let (edge_tls, api_tls) = (edge_tls.map(display), api_tls.map(display));
        tracing::info!(%edge, edge_tls, %api, api_tls, %admin, "listening");
    }
}
