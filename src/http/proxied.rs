//! A connection that a proxy made for somebody else: before anything else it says for whom (contract E41).
//!
//! Invariant: each is counted once, by how its header was read; whoever sends none is closed without an answer, as an
//! answer would go to a proxy that never asked.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::places::{Door, Place};
use super::proxy_header::{self, BadHeader, FIXED_BYTES, Header};
use super::watch::Wait;
use crate::metrics::Counter;

/// `None`: there was no header in order, and that was counted.
pub type Introduction = Pin<Box<dyn Future<Output = Option<(TcpStream, SocketAddr, Place)>> + Send>>;

/// How a header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduced {
    /// It named an address.
    Source,
    /// It named none: the peer's counts.
    Local,
    Malformed,
    TooLong,
    /// The connection ended before the header.
    Closed,
    TimedOut,
    /// Came from somebody who is no trusted proxy.
    Untrusted,
}

pub const INTRODUCED: [(Introduced, &str); 7] = [
    (Introduced::Source, "source"),
    (Introduced::Local, "local"),
    (Introduced::Malformed, "malformed"),
    (Introduced::TooLong, "too_long"),
    (Introduced::Closed, "closed"),
    (Introduced::TimedOut, "timed_out"),
    (Introduced::Untrusted, "untrusted"),
];

#[derive(Default)]
pub struct ProxyCounts([Counter; INTRODUCED.len()]);

impl ProxyCounts {
    pub fn count(&self, introduced: Introduced) {
        self.0[introduced as usize].add_shared(1);
    }

    pub fn value(&self, introduced: Introduced) -> u64 {
        self.0[introduced as usize].value()
    }
}

/// Reads the header of a connection that `peer` made. The sweep ends it when it takes too long: within the time of a
/// handshake where TLS follows, else of a request's head.
pub fn introduction(mut stream: TcpStream, peer: SocketAddr, place: Place) -> Introduction {
    let mut ending = Ending { door: place.shared_places().door.clone(), is_told: false };
    Box::pin(async move {
        let read = read(&mut stream).await;
        ending.is_told = true;
        let (introduced, source) = match read {
            Ok(Some(source)) => (Introduced::Source, source),
            Ok(None) => (Introduced::Local, peer),
            Err(failed) => {
                ending.door.proxied.count(failed);
                return None;
            }
        };
        ending.door.proxied.count(introduced);
        // From here on a client may be silent for as long as anybody.
        place.watch.ends(Wait::Head);
        place.watch.ends(Wait::Idle);
        Some((stream, source, place))
    })
}

/// Reads the header and no byte behind it.
async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Introduced> {
    let mut bytes = vec![0; FIXED_BYTES];
    let mut came = 0;
    loop {
        let now = stream.read(&mut bytes[came..]).await.map_err(|_: io::Error| Introduced::Closed)?;
        if now == 0 {
            return Err(Introduced::Closed);
        }
        came += now;
        match proxy_header::read(&bytes[..came]) {
            Ok(Header::Whole(whole)) => return Ok(whole.source),
            // At most `MOST_BYTES`.
            Ok(Header::Needs(length)) => bytes.resize(length, 0),
            Err(BadHeader::Malformed) => return Err(Introduced::Malformed),
            Err(BadHeader::TooLong) => return Err(Introduced::TooLong),
        }
    }
}

/// Counts a header that never came to an end because its task was ended, by the sweep.
struct Ending {
    door: Arc<Door>,
    is_told: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.is_told {
            self.door.proxied.count(Introduced::TimedOut);
        }
    }
}
