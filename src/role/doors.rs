//! The listeners: bound together before anything runs, so that a port in use is told before a click is answered.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use tracing::field::display;

use super::Failure;
use super::certificates::TlsOfDoors;
use super::succession::Handed;
use crate::config::Config;
use crate::handover::DoorName;
use crate::http;
use crate::toml_reader::{Violation, Violations};

pub struct Doors {
    /// Of each worker: its socket on the one port, and more where others had bound more.
    pub edge: Vec<Vec<TcpListener>>,
    /// The same, or none without a certificate.
    pub edge_tls: Vec<Vec<TcpListener>>,
    /// One, or as many as others had bound.
    pub api: Vec<TcpListener>,
    /// The same, or none without a certificate.
    pub api_tls: Vec<TcpListener>,
    pub admin: Vec<TcpListener>,
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
    /// Takes what others have bound already, and binds the rest.
    pub fn bind(config: &Config, tls: &TlsOfDoors, mut handed: Handed) -> Result<Doors, Failure> {
        let mut violations = Violations::default();
        let mut bound = |door, address, count| {
            let listeners = listeners(config, &mut handed, door, address, count);
            listeners.map_err(|violation| violations.add(violation)).unwrap_or_default()
        };
        let workers = config.workers();
        let (of_edge, of_api) = (tls.edge.as_ref().map_or(0, |_| workers), tls.api.iter().len());
        let edge = bound(DoorName::Edge, config.edge.listen, workers);
        let edge_tls = bound(DoorName::EdgeTls, config.edge.tls_listen, of_edge);
        let api = bound(DoorName::Api, config.api.listen, 1).into_iter().flatten().collect();
        let api_tls = bound(DoorName::ApiTls, config.api.tls_listen, of_api).into_iter().flatten().collect();
        let admin = bound(DoorName::Admin, config.admin.listen, 1).into_iter().flatten().collect();
        violations.none().map_err(Failure::usage)?;
        handed.finish();
        Ok(Doors { edge, edge_tls, api, api_tls, admin })
    }

    pub fn addresses(&self) -> std::io::Result<Addresses> {
        let first = |sockets: Option<&TcpListener>| sockets.map(TcpListener::local_addr).transpose();
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let bound = |sockets| first(sockets)?.ok_or_else(missing);
        Ok(Addresses {
            edge: bound(self.edge.iter().flatten().next())?,
            edge_tls: first(self.edge_tls.iter().flatten().next())?,
            api: bound(self.api.first())?,
            api_tls: first(self.api_tls.first())?,
            admin: bound(self.admin.first())?,
        })
    }

    /// All of them with their names.
    pub fn named(&self) -> impl Iterator<Item = (DoorName, BorrowedFd<'_>)> {
        let Doors { edge, edge_tls, api, api_tls, admin } = self;
        let edge = named(edge.iter().flatten(), DoorName::Edge);
        let edge_tls = named(edge_tls.iter().flatten(), DoorName::EdgeTls);
        let of_api = named(api, DoorName::Api).chain(named(api_tls, DoorName::ApiTls));
        edge.chain(edge_tls).chain(of_api).chain(named(admin, DoorName::Admin))
    }
}

/// Sockets of one door, as they are handed over.
pub fn named<'a>(
    sockets: impl IntoIterator<Item = &'a TcpListener>,
    door: DoorName,
) -> impl Iterator<Item = (DoorName, BorrowedFd<'a>)> {
    sockets.into_iter().map(move |socket| (door, socket.as_fd()))
}

/// As bound: of the first, where there are several.
pub fn address(sockets: &[TcpListener]) -> Result<SocketAddr, Failure> {
    let socket = sockets.first().ok_or_else(|| Failure::internal("a door without a socket"))?;
    socket.local_addr().map_err(Failure::internal)
}

/// One door alone, for a role that has not all of them.
pub fn bind_one(
    config: &Config,
    handed: &mut Handed,
    door: DoorName,
    address: SocketAddr,
) -> Result<Vec<TcpListener>, Violation> {
    listeners(config, handed, door, address, 1).map(|bound| bound.into_iter().flatten().collect())
}

/// For each of `count` workers its sockets: at least one.
fn listeners(
    config: &Config,
    handed: &mut Handed,
    door: DoorName,
    address: SocketAddr,
    count: usize,
) -> Result<Vec<Vec<TcpListener>>, Violation> {
    let bound = if count == 0 { Ok(Vec::new()) } else { of_workers(handed, door, address, count) };
    bound.map_err(|error| {
        let allowed = "an address of this machine with a free port is allowed";
        config.violation(key(door), format!("{address}: {error}; {allowed}"))
    })
}

/// The key that names the address of a door.
fn key(door: DoorName) -> &'static str {
    match door {
        DoorName::Edge => "edge.listen",
        DoorName::EdgeTls => "edge.tls_listen",
        DoorName::Api => "api.listen",
        DoorName::ApiTls => "api.tls_listen",
        DoorName::Admin => "admin.listen",
    }
}

/// Every socket gets a worker, as each has a queue, and at every address every worker gets a socket.
fn of_workers(
    handed: &mut Handed,
    door: DoorName,
    address: SocketAddr,
    count: usize,
) -> std::io::Result<Vec<Vec<TcpListener>>> {
    let mut groups = handed.take(door, address)?;
    if groups.is_empty() {
        groups.push(bind_group(address, count)?);
    }
    let mut workers: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
    for mut group in groups {
        while group.len() < count {
            group.push(handed.one_more(&group)?);
        }
        for (index, socket) in group.into_iter().enumerate() {
            workers[index % count].push(socket);
        }
    }
    Ok(workers)
}

fn bind_group(address: SocketAddr, count: usize) -> std::io::Result<Vec<TcpListener>> {
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
