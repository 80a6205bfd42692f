//! What one connection is doing and since when, as far as somebody has to end it (contract E33, E34).
//!
//! Times are ticks of the connection's [`Places`](super::places::Places), tenths of a second that only move when it
//! sweeps; 0 means "not now". The connection writes, the sweep reads; a moment late is as good.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::task::Waker;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::limits::{Bodies, Limits};

#[derive(Default)]
pub struct Watch {
    /// The accept, until TLS is agreed upon.
    handshake: AtomicU32,
    /// The first byte of a head that is not complete yet.
    head: AtomicU32,
    /// The end of the head whose body is not complete yet.
    body: AtomicU32,
    /// Since when the client takes nothing of what we have for it.
    write: AtomicU32,
    /// Our goodbye.
    farewell: AtomicU32,
    /// The accept or the end of the handshake, or the last time there was nothing more to read between two requests. Not while one is answered.
    idle: AtomicU32,
    /// 1 once a head was complete.
    asked: AtomicU32,
    /// 1 once it was told to say goodbye, as it was idle for too long.
    leaving: AtomicU32,
    task: OnceLock<AbortHandle>,
    goodbye: Mutex<Goodbye>,
}

/// A connection that has something to say before its end (HTTP/2: GOAWAY).
#[derive(Default)]
struct Goodbye {
    is_said: bool,
    waker: Option<Waker>,
}

/// What a connection may wait for.
#[derive(Clone, Copy)]
pub enum Wait {
    Handshake,
    Idle,
    Head,
    Body,
    Write,
    Farewell,
}

impl Watch {
    /// Of a connection that was just accepted and waits for `first`.
    pub fn accepted(first: Wait, now: u32) -> Watch {
        let watch = Watch::default();
        watch.starts(first, now);
        watch
    }

    /// Whether a wait has begun and not ended.
    pub fn waits(&self, wait: Wait) -> bool {
        self.since(wait).load(Relaxed) != 0
    }

    /// Ends the connection.
    pub fn end(&self) {
        self.task.get().inspect(|task| task.abort());
    }

    pub fn starts(&self, wait: Wait, now: u32) {
        let since = self.since(wait);
        if since.load(Relaxed) == 0 {
            since.store(now, Relaxed);
        }
    }

    pub fn ends(&self, wait: Wait) {
        self.since(wait).store(0, Relaxed);
    }

    pub fn asked(&self) {
        self.asked.store(1, Relaxed);
    }

    /// Wakes the connection when the door drains or when it was idle for too long. From then on its goodbye has a time, and
    /// its idleness none.
    pub fn says_goodbye(&self, waker: &Waker) {
        let mut goodbye = self.goodbye();
        goodbye.is_said = true;
        if !goodbye.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            goodbye.waker = Some(waker.clone());
        }
    }

    /// It was idle for too long, and says goodbye.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed) != 0
    }

    fn goodbye(&self) -> MutexGuard<'_, Goodbye> {
        // Nothing under this lock panics half way.
        self.goodbye.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether it says goodbye itself, now that it has been told to.
    fn tell_goodbye(&self) -> bool {
        let mut goodbye = self.goodbye();
        if let Some(waker) = goodbye.waker.take() {
            waker.wake();
        }
        goodbye.is_said
    }

    /// The task to end when this connection is overdue.
    pub fn runs_as(&self, task: AbortHandle) {
        // A task is spawned once.
        let _ = self.task.set(task);
    }

    /// Ends the connection if anything took too long. A silent close: there is nothing to say to who does not listen.
    pub fn sweep(&self, limits: &Limits, now: u32, draining: Option<Draining>) {
        let overdue = |since: &AtomicU32, limit: Duration| {
            let since = since.load(Relaxed);
            since != 0 && u128::from(now.saturating_sub(since)) * TICK_MS > limit.as_millis()
        };
        // While draining nobody waits for a further request, and only a little for the first.
        let idle = match (draining.is_some(), self.asked.load(Relaxed)) {
            (false, _) => limits.idle,
            (true, _) if self.tell_goodbye() => Duration::MAX,
            (true, 0) => DRAIN_FIRST,
            (true, _) => Duration::ZERO,
        };
        let handshake = if draining.is_some() { DRAIN_HANDSHAKE } else { limits.handshake };
        let body = match draining {
            None => limits.body,
            // Its request was answered without it.
            Some(Draining { bodies: Bodies::Forgotten, .. }) => DRAIN_FORGOTTEN_BODY,
            Some(Draining { bodies: Bodies::Passed, .. }) => limits.body.min(DRAIN_BODY),
        };
        if overdue(&self.handshake, handshake)
            || overdue(&self.head, limits.head)
            || overdue(&self.body, body)
            || overdue(&self.write, limits.write)
            || overdue(&self.farewell, limits.farewell)
            || overdue(&self.idle, idle) && !self.is_sent_away(now)
            || draining.is_some_and(|draining| draining.is_long_enough())
        {
            self.end();
        }
    }

    /// Whether it says goodbye before it ends: from now on that has a time. What the client asks before it hears of it is
    /// answered.
    fn is_sent_away(&self, now: u32) -> bool {
        // Before it is woken by it.
        self.leaving.store(1, Relaxed);
        let is_said = self.tell_goodbye();
        if is_said {
            self.ends(Wait::Idle);
            self.starts(Wait::Farewell, now);
        }
        is_said
    }

    fn since(&self, wait: Wait) -> &AtomicU32 {
        match wait {
            Wait::Handshake => &self.handshake,
            Wait::Idle => &self.idle,
            Wait::Head => &self.head,
            Wait::Body => &self.body,
            Wait::Write => &self.write,
            Wait::Farewell => &self.farewell,
        }
    }
}

/// A door that is about to close, as the sweep finds it.
#[derive(Clone, Copy, Debug)]
pub struct Draining {
    pub since: Duration,
    pub bodies: Bodies,
}

impl Draining {
    /// Answers of such a door are short: whoever is still there keeps it open, by one stream of HTTP/2 after the other.
    fn is_long_enough(self) -> bool {
        self.bodies == Bodies::Forgotten && self.since > DRAIN_MOST
    }
}

/// Milliseconds of a tick.
pub const TICK_MS: u128 = 100;
/// How long a connection may stay without a first request while the door drains.
const DRAIN_FIRST: Duration = Duration::from_secs(1);
/// From the accept to the end of a handshake while the door drains.
const DRAIN_HANDSHAKE: Duration = Duration::from_secs(2);
/// From the end of a head to the end of its body while the door drains: one that nobody reads, and one that is an order.
const DRAIN_FORGOTTEN_BODY: Duration = Duration::from_secs(1);
const DRAIN_BODY: Duration = Duration::from_secs(10);
/// Longer than all the others of a drain, and than a click waits for the disk unless an operator lets it wait for longer.
const DRAIN_MOST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p7_whoever_goes_on_asking_does_not_hold_up_a_drain_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ends = |bodies, since| {
            let task = runtime.spawn(std::future::pending::<()>());
            let watch = Watch::accepted(Wait::Idle, 1);
            watch.runs_as(task.abort_handle());
            // Its idleness has ended, and none of its bodies is late: it asks again and again.
            watch.asked();
            watch.ends(Wait::Idle);
            watch.starts(Wait::Body, 5);
            watch.sweep(&Limits::new(1), 6, Some(Draining { since, bodies }));
            runtime.block_on(async { tokio::time::timeout(Duration::from_millis(100), task).await.is_ok() })
        };
        let later = DRAIN_MOST + Duration::from_millis(1);
        assert_eq!([DRAIN_MOST, later].map(|since| ends(Bodies::Forgotten, since)), [false, true]);
        assert!(!ends(Bodies::Passed, later), "an answer of this door may take as long as its reader needs");
    }
}
