//! An upgrade without a gap: a new process gets the listening sockets of the one that runs, and that one drains
//! (contract P10).
//!
//! The very same sockets, by SCM_RIGHTS over a Unix socket in the data directory. Nothing is closed that still has a queue:
//! what waits in a queue is accepted by whoever comes first, and no connection is reset. Closing one of several sockets
//! that share a port (SO_REUSEPORT) would reset what the kernel puts into its queue between the last accept and the close;
//! `net.ipv4.tcp_migrate_req` would mend that where it is set, and not for ports that have one socket.
//!
//! Invariant: until the new process says that it answers, the old one goes on as if nothing had happened; from then on the
//! new one needs nothing of it. Either may be killed at each step. An old one that waited too long goes on; it is asked once
//! more by the new one that is ready late.
//!
//! ```text
//! new                                old
//! afflux takeover 1 ROLE  ─────────►
//!                         ◄─────────  sockets NAME COUNT, with them   (or: refused WHY)
//!                         ◄─────────  all COUNT
//! (accepts already)
//! ready                   ─────────►
//!                         ◄─────────  draining
//! ```

mod ask;
mod message;
mod offer;
#[cfg(test)]
mod tests;
mod wire;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

pub use ask::{AskError, Found, Predecessor, ask};
pub use offer::{Offer, Offered};

/// Which door a socket is for, so that sockets find theirs in another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DoorName {
    Edge,
    EdgeTls,
    Api,
    ApiTls,
    Admin,
}

/// A listening socket and the door that it is for.
#[derive(Debug)]
pub struct Named {
    pub door: DoorName,
    pub socket: TcpListener,
}

impl DoorName {
    pub const ALL: [DoorName; 5] =
        [DoorName::Edge, DoorName::EdgeTls, DoorName::Api, DoorName::ApiTls, DoorName::Admin];

    pub fn word(self) -> &'static str {
        match self {
            DoorName::Edge => "edge",
            DoorName::EdgeTls => "edge-tls",
            DoorName::Api => "api",
            DoorName::ApiTls => "api-tls",
            DoorName::Admin => "admin",
        }
    }

    pub fn parse(word: &str) -> Option<DoorName> {
        DoorName::ALL.into_iter().find(|door| door.word() == word)
    }
}

/// Where a process of `role` is asked. The last one that was started in a data directory is the one that answers.
pub fn socket_path(data_directory: &Path, role: &str) -> PathBuf {
    data_directory.join(format!("takeover-{role}.sock"))
}
