//! From an accepted socket to agreed TLS: bounded in number and time, one step of one client after the other (`turns`).
//!
//! Invariant: each connection of a TLS listener is counted once, by how its handshake ended.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::limits::{HANDSHAKES, HANDSHAKES_WAITING};
use super::places::Place;
use super::turns::Turns;
use super::watch::{Wait, Watch};
use super::wire::Tls;
use crate::tls::{Failed, Server};

/// `None`: it failed, and was counted.
pub type Handshake = Pin<Box<dyn Future<Output = Option<(Tls, Place)>> + Send>>;

/// The handshakes of one listener.
pub struct Handshakes {
    server: Arc<Server>,
    turns: Turns,
    /// In the order of accepting. Some may have ended already.
    under_way: Mutex<VecDeque<Arc<Watch>>>,
}

impl Handshakes {
    pub fn new(server: Arc<Server>) -> Arc<Handshakes> {
        Arc::new(Handshakes { server, turns: Turns::new(), under_way: Mutex::default() })
    }

    pub fn begin(self: &Arc<Handshakes>, stream: TcpStream, place: Place) -> Handshake {
        self.make_room(&place.watch);
        let ending = Ending { of: self.clone(), watch: place.watch.clone() };
        Box::pin(async move {
            let shaken = ending.of.shake(stream).await;
            ending.told(shaken).map(|stream| (Tls(stream), place))
        })
    }

    /// Those who wait to compute would wait too long: whoever comes now is better told so. That costs a twentieth of a
    /// handshake.
    pub fn is_behind(&self) -> bool {
        self.turns.waiting() >= HANDSHAKES_WAITING
    }

    /// Somebody was turned away for whom there was no room at all.
    pub fn turned_away(&self) {
        self.server.metrics.failed(Failed::NoRoom);
    }

    /// Where as many are under way as may be, the first of them makes room.
    fn make_room(&self, new: &Arc<Watch>) {
        let mut under_way = self.under_way();
        while under_way.front().is_some_and(|first| !first.waits(Wait::Handshake)) {
            under_way.pop_front();
        }
        if under_way.len() >= HANDSHAKES {
            under_way.retain(|watch| watch.waits(Wait::Handshake));
        }
        if under_way.len() >= HANDSHAKES
            && let Some(first) = under_way.pop_front()
        {
            self.server.metrics.failed(Failed::CrowdedOut);
            first.ends(Wait::Handshake);
            first.end();
        }
        under_way.push_back(new.clone());
    }

    async fn shake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        // Before the first byte there is nothing to compute, and nothing to keep in memory. A new socket is taken to be
        // readable before anybody knows, so it is looked at.
        stream.peek(&mut [0]).await?;
        let mut accepting = pin!(TlsAcceptor::from(self.server.config.clone()).accept(stream));
        loop {
            let turn = self.turns.take().await;
            let step = poll_fn(|cx| Poll::Ready(accepting.as_mut().poll(cx))).await;
            drop(turn);
            match step {
                Poll::Ready(shaken) => return shaken,
                Poll::Pending => until_woken().await,
            }
        }
    }

    fn under_way(&self) -> MutexGuard<'_, VecDeque<Arc<Watch>>> {
        // Nothing under this lock panics half way.
        self.under_way.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whoever was asked in this poll of the task wakes it.
async fn until_woken() {
    let mut slept = false;
    poll_fn(|_| if std::mem::replace(&mut slept, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Counts how one handshake ends, also when its task is ended.
struct Ending {
    of: Arc<Handshakes>,
    watch: Arc<Watch>,
}

impl Ending {
    fn told(self, shaken: io::Result<TlsStream<TcpStream>>) -> Option<TlsStream<TcpStream>> {
        self.watch.ends(Wait::Handshake);
        match shaken {
            Ok(stream) => {
                self.of.server.metrics.succeeded(stream.get_ref().1);
                Some(stream)
            }
            Err(error) => {
                tracing::debug!("a handshake failed: {error}");
                self.of.server.metrics.failed(Failed::of(&error));
                None
            }
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Ended from outside, by the sweep.
        if self.watch.waits(Wait::Handshake) {
            self.watch.ends(Wait::Handshake);
            self.of.server.metrics.failed(Failed::TimedOut);
        }
    }
}
