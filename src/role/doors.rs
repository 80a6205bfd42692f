//! The listeners: bound together before anything runs, so that a port in use is told before a click is answered.

use std::net::{SocketAddr, TcpListener};

use super::Failure;
use crate::config::Config;
use crate::http;
use crate::toml_reader::{Violation, Violations};

pub struct Doors {
    /// One for each worker, on one port.
    pub edge: Vec<TcpListener>,
    pub api: TcpListener,
    pub admin: TcpListener,
}

impl Doors {
    pub fn bind(config: &Config) -> Result<Doors, Failure> {
        let mut violations = Violations::default();
        let mut bound = |key: &str, address, count| {
            let listeners = listeners(config, key, address, count);
            listeners.map_err(|violation| violations.add(violation)).unwrap_or_default()
        };
        let edge = bound("edge.listen", config.edge.listen, config.workers());
        let (mut api, mut admin) =
            (bound("api.listen", config.api.listen, 1), bound("admin.listen", config.admin.listen, 1));
        violations.none().map_err(Failure::usage)?;
        // Without violations each has as many as were asked for.
        Ok(Doors { edge, api: api.remove(0), admin: admin.remove(0) })
    }

    /// Addresses as bound: a port 0 is a number now.
    pub fn addresses(&self) -> std::io::Result<[SocketAddr; 3]> {
        Ok([self.edge[0].local_addr()?, self.api.local_addr()?, self.admin.local_addr()?])
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
    // Ours share the port among themselves; that nobody else has it is found out by asking for it alone first.
    drop(TcpListener::bind(address)?);
    let first = http::listen(address)?;
    let bound = first.local_addr()?;
    let others = (1..count).map(|_| http::listen(bound));
    std::iter::once(Ok(first)).chain(others).collect()
}
