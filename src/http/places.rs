//! Who is connected: the places of a door, and the one sweep that frees them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use http::header::CONNECTION;
use http::{HeaderValue, Response};

use super::addresses::{Addresses, Comes, Counted};
use super::head::Keeps;
use super::limits::{Bodies, Limits};
use super::proxied::ProxyCounts;
use super::reserve::RESERVE;
use super::rush::Newcomers;
use super::watch::{Draining, TICK_MS, Wait, Watch};
use crate::metrics::Counter;

/// What the listeners of one door share: its bounds, and how many connections are open.
pub struct Door {
    pub limits: Limits,
    pub bodies: Bodies,
    /// Which fields its service reads.
    pub keeps: Keeps,
    open: AtomicUsize,
    /// Of these, those that are served.
    inside: AtomicUsize,
    /// Accepted, and not let in yet.
    in_line: AtomicUsize,
    /// And those of addresses that have too many: each is only told so.
    refused: AtomicUsize,
    addresses: Option<Addresses>,
    without_room: [Counter; 2],
    pub(super) proxied: ProxyCounts,
    /// Connections that were turned away and may still be reading why.
    leaving: AtomicUsize,
    turned_away: Counter,
    shut: Counter,
    /// Since when it drains.
    draining: OnceLock<Instant>,
    /// Of each listener.
    http2: Mutex<Vec<Arc<Http2Counts>>>,
}

/// Why there is no room for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `Limits::connections`.
    Connections,
    /// `Limits::per_address`.
    PerAddress,
}

/// What clients that speak HTTP/2 did at one listener: at the edge only its thread writes them.
#[derive(Default)]
pub struct Http2Counts {
    /// Opened by clients.
    pub streams: Counter,
    /// Those that became requests, answered by the service.
    pub requests: Counter,
    /// By clients.
    pub resets: Counter,
    /// Connections that were ended because too much was said there that is no request.
    pub floods: Counter,
    /// Answered 431 unread; no service counts these.
    pub too_large: Counter,
}

impl Door {
    pub fn new(limits: Limits, bodies: Bodies, keeps: Keeps) -> Arc<Door> {
        // Soon there may be no descriptor for it.
        RESERVE.fill();
        let (open, leaving) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (turned_away, shut, draining) = (Counter::new(), Counter::new(), OnceLock::new());
        let (http2, refused, without_room) = (Mutex::default(), AtomicUsize::new(0), Default::default());
        let (addresses, proxied) = (limits.per_address.clone().map(Addresses::new), ProxyCounts::default());
        Arc::new(Door {
            limits,
            bodies,
            keeps,
            open,
            inside: AtomicUsize::new(0),
            in_line: AtomicUsize::new(0),
            refused,
            addresses,
            without_room,
            proxied,
            leaving,
            turned_away,
            shut,
            draining,
            http2,
        })
    }

    /// Open connections of all its listeners.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Connections that were answered 503 without a place to hear them in; no service counts these.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.value()
    }

    /// How often a listener refused all who came, until those who waited had their turn.
    pub fn shut(&self) -> u64 {
        self.shut.value()
    }

    /// Connections that were told that there is no room for them, and why.
    pub fn without_room(&self, cause: Cause) -> u64 {
        self.without_room[cause as usize].value()
    }

    /// Headers of proxies that were read like this.
    pub fn introduced(&self, introduced: super::proxied::Introduced) -> u64 {
        self.proxied.value(introduced)
    }

    fn count_without_room(&self, cause: Cause) {
        self.without_room[cause as usize].add_shared(1);
    }

    /// The sum over its listeners of what `count` takes.
    pub fn http2(&self, count: fn(&Http2Counts) -> &Counter) -> u64 {
        self.http2_counts().iter().map(|counts| count(counts).value()).sum()
    }

    fn http2_counts(&self) -> MutexGuard<'_, Vec<Arc<Http2Counts>>> {
        // Nothing under this lock panics half way.
        self.http2.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn turn_away(&self) {
        self.turned_away.add_shared(1);
    }

    pub(super) fn count_shut(&self) {
        self.shut.add_shared(1);
    }

    /// Whether one more may be accepted who is not let in yet.
    pub(super) fn has_room_in_line(&self) -> bool {
        self.inside.load(Relaxed) + self.in_line.load(Relaxed) < self.limits.connections
    }

    pub(super) fn stand_in_line(&self) {
        self.in_line.fetch_add(1, Relaxed);
    }

    pub(super) fn leave_line(&self, count: usize) {
        self.in_line.fetch_sub(count, Relaxed);
    }

    /// Whether one more may stay for a moment after it was turned away. If so, it leaves by `left`.
    pub(super) fn may_linger(&self) -> bool {
        let lingers = self.leaving.fetch_add(1, Relaxed) < self.limits.leaving;
        if !lingers {
            self.left();
        }
        lingers
    }

    pub(super) fn left(&self) {
        self.leaving.fetch_sub(1, Relaxed);
    }

    /// True once it answers with `Connection: close`.
    pub fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Says in an answer that it is the connection's last while the door drains. The guard tells hyper so of requests that
    /// come then; this is for those whose head came before (contract P8).
    pub fn say_last<B>(&self, mut answer: Response<B>) -> Response<B> {
        if self.is_draining() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    pub(super) fn drain(&self) {
        self.draining.get_or_init(Instant::now);
    }
}

/// The connections of one listener.
pub struct Places {
    pub door: Arc<Door>,
    /// What each connection begins with: a handshake, or waiting for a request.
    first: Wait,
    pub http2: Arc<Http2Counts>,
    pub newcomers: Arc<Newcomers>,
    started: Instant,
    tick: AtomicU32,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    watches: Vec<Option<Arc<Watch>>>,
    free: Vec<usize>,
}

/// One connection's place; dropping it frees it.
pub struct Place {
    places: Arc<Places>,
    slot: usize,
    pub watch: Arc<Watch>,
    /// Beyond `Limits::connections`: only to be told so.
    pub is_surplus: bool,
    /// Whose it is, where that is counted.
    counted: Option<Counted>,
    /// Among those that are refused for their address.
    is_refused: bool,
}

impl Places {
    pub fn new(door: Arc<Door>, first: Wait) -> Arc<Places> {
        let tick = AtomicU32::new(1);
        let http2 = Arc::new(Http2Counts::default());
        door.http2_counts().push(http2.clone());
        let (newcomers, started) = (Arc::default(), Instant::now());
        Arc::new(Places { door, first, http2, newcomers, started, tick, slots: Mutex::default() })
    }

    /// A place for a new connection; `None` when there is not even one to say no in.
    pub fn take(self: &Arc<Places>) -> Option<Place> {
        let Limits { connections, surplus, .. } = self.door.limits;
        // Who stands in a line has been accepted too.
        let in_line = self.door.in_line.load(Relaxed);
        let before = self.door.open.fetch_add(1, Relaxed);
        if before + in_line >= connections + surplus {
            self.door.open.fetch_sub(1, Relaxed);
            self.door.count_without_room(Cause::Connections);
            return None;
        }
        // Those that are only told that there is no room take nobody's place.
        let is_surplus = self.door.inside.fetch_add(1, Relaxed) + in_line >= connections;
        if is_surplus {
            self.door.inside.fetch_sub(1, Relaxed);
            self.door.count_without_room(Cause::Connections);
        }
        let watch = Arc::new(Watch::accepted(self.first, self.now()));
        let mut slots = self.slots();
        let slot = slots.free.pop().unwrap_or(slots.watches.len());
        if slot == slots.watches.len() {
            slots.watches.push(None);
        }
        slots.watches[slot] = Some(watch.clone());
        drop(slots);
        Some(Place { places: self.clone(), slot, watch, is_surplus, counted: None, is_refused: false })
    }

    /// The present tick. Never 0.
    pub fn now(&self) -> u32 {
        self.tick.load(Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        let slots = self.slots();
        slots.free.len() == slots.watches.len()
    }

    /// Looks at every connection and ends what is overdue.
    pub fn sweep(&self) {
        let now = u32::try_from(1 + self.started.elapsed().as_millis() / TICK_MS).unwrap_or(u32::MAX);
        self.tick.store(now, Relaxed);
        let draining =
            self.door.draining.get().map(|since| Draining { since: since.elapsed(), bodies: self.door.bodies });
        for watch in self.slots().watches.iter().flatten() {
            watch.sweep(&self.door.limits, now, draining);
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Nothing under this lock panics half way.
        self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Place {
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Says whose the connection is. `None` when that address has too many already, and no place is left to tell it so:
    /// these are half of the surplus, so that one address cannot take what all others need.
    pub fn of_address(mut self, address: IpAddr) -> Option<Place> {
        let door = &self.places.door;
        let Some(addresses) = door.addresses.as_ref().filter(|_| !self.is_surplus) else { return Some(self) };
        match addresses.come(address) {
            Comes::Free => {}
            Comes::Counted(counted) => self.counted = Some(counted),
            Comes::TooMany => {
                door.count_without_room(Cause::PerAddress);
                if door.refused.fetch_add(1, Relaxed) >= door.limits.surplus / 2 {
                    door.refused.fetch_sub(1, Relaxed);
                    return None;
                }
                door.inside.fetch_sub(1, Relaxed);
                (self.is_surplus, self.is_refused) = (true, true);
            }
        }
        Some(self)
    }

    pub fn shared_places(&self) -> Arc<Places> {
        self.places.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.places.slots();
        slots.watches[self.slot] = None;
        slots.free.push(self.slot);
        drop(slots);
        let door = &self.places.door;
        if let (Some(addresses), Some(counted)) = (&door.addresses, self.counted) {
            addresses.leave(counted);
        }
        if self.is_refused {
            door.refused.fetch_sub(1, Relaxed);
        }
        if !self.is_surplus {
            door.inside.fetch_sub(1, Relaxed);
        }
        door.open.fetch_sub(1, Relaxed);
    }
}
