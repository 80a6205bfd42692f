//! The listeners: bound together before anything runs, so that a port in use is told before a click is answered.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use super::Failure;
use crate::config::Config;
use crate::http;

pub struct Doors {
    /// One for each worker, on one port.
    pub edge: Vec<TcpListener>,
    pub api: TcpListener,
    pub admin: TcpListener,
}

impl Doors {
    pub fn bind(config: &Config) -> Result<Doors, Failure> {
        let edge = listeners("edge.listen", config.edge.listen, workers(config))?;
        let api = listeners("api.listen", config.api.listen, 1)?.remove(0);
        let admin = listeners("admin.listen", config.admin.listen, 1)?.remove(0);
        Ok(Doors { edge, api, admin })
    }

    /// Addresses as bound: a port 0 is a number now.
    pub fn addresses(&self) -> std::io::Result<[SocketAddr; 3]> {
        Ok([self.edge[0].local_addr()?, self.api.local_addr()?, self.admin.local_addr()?])
    }
}

/// Threads that answer clicks.
pub fn workers(config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    match config.edge.workers.0 as usize {
        0 => cores,
        count => count,
    }
}

fn listeners(key: &str, address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, Failure> {
    bind_group(address, count).map_err(|error| {
        let allowed = "an address of this machine with a free port is allowed";
        Failure::usage(format!("{key}: {address}: {error}; {allowed}"))
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
