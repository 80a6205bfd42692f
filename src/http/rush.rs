//! A rush: more come than can be served (contract E34).
//!
//! To let somebody in is cheap, to answer is not. Who lets in all who come has thousands inside that wait, each longer than
//! the one before. So no more than [`NEWCOMERS`] may be inside that nobody has looked at yet; whoever comes then waits in
//! the kernel's queue, which costs nothing.
//!
//! A queue that was not found empty for a while is no burst, and when too many wait in it for too long nobody else may come
//! until they have had their turn (`gate`): the kernel refuses them, at once and for nothing. Without that the queue would
//! only make everybody wait, and when it is full the kernel lets clients believe that they are connected, and forgets them.
//! To tell all of them 503 would cost half of the answers, as a refusal costs a good part of what an answer costs; of those
//! who come while the rush lasts one in [`TOLD`] is told. Only where a socket is a supervisor's, and may not be shut, all are
//! told for whom there is no time. That a queue is judged by how long it stands, and how long one waits
//! in it, and not by its length, is what CoDel does (RFC 8289 3.1).

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Connections of one listener that were let in and have not had their first turn.
const NEWCOMERS: usize = 64;
/// When there are no more than this again, the next ones are let in: some at a time, as to begin with them costs something.
const FEW: usize = NEWCOMERS / 2;
/// The queue of those who come was never found empty for this long: it is looked at how many wait. Who would wait for more
/// than half of this waits for too long.
const STANDS: Duration = Duration::from_millis(200);
/// The same while a rush lasts.
const STILL_STANDS: Duration = Duration::from_millis(50);
/// It lasts until nobody had to be refused for this long.
const CALM: Duration = Duration::from_secs(1);
/// Of those who come while it lasts, one in so many is told that there is no room.
const TOLD: u32 = 64;

/// How many newcomers a listener has.
#[derive(Default)]
pub struct Newcomers {
    count: AtomicUsize,
    /// The acceptor, while it waits for them.
    waits: Mutex<Option<Waker>>,
}

/// Of a connection until its first turn.
pub struct Newcomer(Arc<Newcomers>);

impl Newcomers {
    pub fn one_more(self: &Arc<Newcomers>) -> Newcomer {
        self.count.fetch_add(1, SeqCst);
        Newcomer(self.clone())
    }

    /// Ready when one more may come in.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        *self.waits() = Some(cx.waker().clone());
        // The last of them may have had its turn just before.
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn has_room(&self) -> bool {
        self.count.load(SeqCst) < NEWCOMERS
    }

    fn waits(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing under this lock panics half way.
        self.waits.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, SeqCst) == FEW + 1
            && let Some(acceptor) = self.0.waits().take()
        {
            acceptor.wake();
        }
    }
}

/// What the acceptor knows of a rush.
#[derive(Default)]
pub struct Rush {
    /// Since when the queue was not found empty.
    since: Option<Instant>,
    /// Who came out of it from then on.
    came: u32,
    /// When it was last known to be one.
    known: Option<Instant>,
    untold: u32,
}

impl Rush {
    /// Somebody has to wait until others had their turn. True when it is time to look how many do.
    pub fn stands(&mut self) -> bool {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        now.duration_since(since) >= self.patience(now)
    }

    /// How many of those who wait do not wait too long, as fast as others had their turn up to now.
    pub fn fitting(&mut self, waiting: usize) -> usize {
        let now = Instant::now();
        let stood = self.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let wait = stood.as_secs_f64() * waiting as f64 / f64::from(self.came.max(1));
        let most = self.patience(now).as_secs_f64() / 2.0;
        self.rests();
        if wait <= most {
            return waiting;
        }
        self.known = Some(now);
        (waiting as f64 * most / wait) as usize
    }

    /// Somebody was accepted.
    pub fn comes(&mut self) {
        self.came = self.came.wrapping_add(1);
    }

    /// Nobody waits to be accepted.
    pub fn rests(&mut self) {
        (self.since, self.came) = (None, 0);
    }

    /// Whether the one who was just accepted is told that there is no room.
    pub fn tells_next(&mut self) -> bool {
        if self.known.is_none() {
            return false;
        }
        self.untold = self.untold.wrapping_add(1);
        self.untold.is_multiple_of(TOLD) && self.lasts(Instant::now())
    }

    fn patience(&mut self, now: Instant) -> Duration {
        if self.lasts(now) { STILL_STANDS } else { STANDS }
    }

    fn lasts(&mut self, now: Instant) -> bool {
        self.known = self.known.filter(|known| now.duration_since(*known) < CALM);
        self.known.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e34_newcomers_wait_outside_until_others_had_their_turn() {
        let newcomers = Arc::new(Newcomers::default());
        let cx = Context::from_waker(Waker::noop());
        let mut inside: Vec<Newcomer> = (0..NEWCOMERS).map(|_| newcomers.one_more()).collect();
        assert!(newcomers.poll_room(&cx).is_pending());
        inside.truncate(FEW + 1);
        assert!(newcomers.waits().is_some(), "not for each of them");
        inside.pop();
        assert!(newcomers.waits().is_none(), "whoever waited was woken");
        assert!(newcomers.poll_room(&cx).is_ready());
    }

    fn told(rush: &mut Rush) -> usize {
        (0..1_600).filter(|_| rush.tells_next()).count()
    }

    fn is_older(rush: &mut Rush, by: Duration) {
        let older = |since: Instant| since.checked_sub(by).unwrap();
        (rush.since, rush.known) = (rush.since.map(older), rush.known.map(older));
    }

    #[test]
    fn e34_a_queue_that_stands_and_is_long_is_a_rush_and_a_burst_is_none() {
        let mut rush = Rush::default();
        assert!(!rush.stands() && !rush.stands());
        is_older(&mut rush, STANDS / 2);
        assert!(!rush.stands() && told(&mut rush) == 0);
        rush.rests();
        is_older(&mut rush, STANDS);
        assert!(!rush.stands(), "it was empty");
        is_older(&mut rush, STANDS);
        assert!(rush.stands());
        // 1,000 came in a fifth of a second: 400 more take less than a tenth, and 600 more do not.
        (0..1_000).for_each(|_| rush.comes());
        assert_eq!(rush.fitting(400), 400);
        assert!(!rush.stands());
        is_older(&mut rush, STANDS);
        (0..1_000).for_each(|_| rush.comes());
        assert!((490..=500).contains(&rush.fitting(600)), "half of a fifth of a second is for half of a thousand");
        assert!(!rush.stands());
        is_older(&mut rush, STILL_STANDS);
        assert!(rush.stands(), "it is looked at again soon");
        assert_eq!(rush.fitting(0), 0, "nobody waits");
    }

    #[test]
    fn e34_in_a_rush_one_in_64_is_told_until_it_is_calm() {
        let mut rush = Rush::default();
        assert!(!rush.stands());
        is_older(&mut rush, STANDS);
        assert_eq!(rush.fitting(10), 0, "nobody had a turn");
        assert_eq!(told(&mut rush), 25);
        is_older(&mut rush, CALM);
        assert_eq!(told(&mut rush), 0);
        assert!(!rush.stands());
        is_older(&mut rush, STILL_STANDS);
        assert!(!rush.stands(), "a new burst may take its time");
    }
}
