//! A rush: more come than can be served (contract E34).
//!
//! To let somebody in is cheap, to answer is not. Who lets in all who come has thousands inside that wait, each longer than
//! the one before. So no more than [`NEWCOMERS`] may be inside that nobody has looked at yet; whoever comes then waits in
//! the kernel's queue, which costs nothing, is short, and when it is full lets the client's kernel try again in a second.
//!
//! Not all are told 503 then: a refusal costs a good part of what an answer costs, so refusing everybody would leave
//! little time for answers. Once a rush lasts, one in [`TOLD`] is told.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Connections of one listener that were let in and have not had their first turn.
const NEWCOMERS: usize = 64;
/// The queue of those who come was never found empty for this long: it is no mere burst.
const LASTS: Duration = Duration::from_secs(1);
/// Of those who come while a rush lasts, one in so many is told that there is no room.
const TOLD: u32 = 16;

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
        if self.0.count.fetch_sub(1, SeqCst) == NEWCOMERS
            && let Some(acceptor) = self.0.waits().take()
        {
            acceptor.wake();
        }
    }
}

/// What the acceptor knows of a rush.
#[derive(Default)]
pub struct Rush {
    since: Option<Instant>,
    came: u32,
}

impl Rush {
    /// Somebody has to wait until others had their turn.
    pub fn goes_on(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Nobody waits to be accepted.
    pub fn is_over(&mut self) {
        self.since = None;
    }

    /// Whether the one who was just accepted is told that there is no room.
    pub fn tells_next(&mut self) -> bool {
        let Some(since) = self.since else { return false };
        self.came = self.came.wrapping_add(1);
        self.came.is_multiple_of(TOLD) && since.elapsed() >= LASTS
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
        inside.pop();
        assert!(newcomers.poll_room(&cx).is_ready());
        assert!(newcomers.waits().is_none(), "whoever waited was woken");
    }

    #[test]
    fn e34_in_a_rush_that_lasts_one_in_sixteen_is_told_and_in_a_burst_nobody() {
        let mut rush = Rush::default();
        let told = |rush: &mut Rush| (0..1_600).filter(|_| rush.tells_next()).count();
        assert_eq!(told(&mut rush), 0);
        rush.goes_on();
        assert_eq!(told(&mut rush), 0);
        rush.since = Instant::now().checked_sub(LASTS);
        assert_eq!(told(&mut rush), 100);
        rush.is_over();
        assert_eq!(told(&mut rush), 0);
    }
}
