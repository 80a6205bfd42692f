//! Handshakes compute one after the other: after each step of one the thread looks at its sockets and serves whoever is
//! ready, and only then the next one has its turn.
//!
//! A step may take a quarter of a millisecond. Without turns a thousand clients who come together would hold up those who
//! are inside for a quarter of a second; with them each waits for a step or two.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// The turns of one thread. Who waits for one is served in the order of asking.
pub struct Turns(Arc<Free>);

struct Free {
    turn: Semaphore,
    waiting: AtomicUsize,
}

/// While it is held nobody else's turn begins, and for as long after that as the thread needs for all others.
pub struct Turn(Arc<Free>);

impl Turns {
    pub fn new() -> Turns {
        Turns(Arc::new(Free { turn: Semaphore::new(1), waiting: AtomicUsize::new(0) }))
    }

    pub async fn take(&self) -> Turn {
        let _waiting = Waiting::begin(&self.0.waiting);
        // Nobody closes it.
        if let Ok(permit) = self.0.turn.acquire().await {
            permit.forget();
        }
        Turn(self.0.clone())
    }

    /// How many wait for theirs.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Relaxed)
    }
}

/// Counted for as long as it waits, also if it gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn begin(count: &AtomicUsize) -> Waiting<'_> {
        count.fetch_add(1, Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The runtime wakes who yields when it has looked at the sockets. This wakes nobody but gives the turn back.
        let gives_back = Waker::from(self.0.clone());
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&gives_back));
    }
}

impl Wake for Free {
    fn wake(self: Arc<Self>) {
        self.turn.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::task::LocalSet;

    use super::*;

    #[test]
    fn between_two_turns_everybody_else_is_served() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let turns = Rc::new(Turns::new());
        let seen = Rc::new(RefCell::new(Vec::new()));
        LocalSet::new().block_on(&runtime, async {
            let shakers = ["a", "b", "c"].map(|name| {
                let (turns, seen) = (turns.clone(), seen.clone());
                tokio::task::spawn_local(async move {
                    for _ in 0..2 {
                        let _turn = turns.take().await;
                        seen.borrow_mut().push(name);
                    }
                })
            });
            let (turns, served) = (turns.clone(), seen.clone());
            let other = tokio::task::spawn_local(async move {
                for _ in 0..6 {
                    served.borrow_mut().push("-");
                    yield_now().await;
                }
            });
            for task in shakers.into_iter().chain([other]) {
                task.await.unwrap();
            }
            drop(turns.take().await);
        });
        let seen = seen.borrow().join("");
        assert!(["a", "b", "c"].iter().all(|name| seen.matches(name).count() == 2), "{seen}");
        // Who was woken by the same look at the sockets may come after the next turn, and before the one after that.
        assert!(!seen.as_bytes().windows(3).any(|three| three.iter().all(u8::is_ascii_lowercase)), "{seen}");
    }

    #[test]
    fn who_gives_up_waiting_takes_no_turn_with_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let turns = Turns::new();
            let held = turns.take().await;
            let mut waits = Box::pin(turns.take());
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
            assert_eq!(turns.waiting(), 1);
            drop(waits);
            assert_eq!(turns.waiting(), 0);
            drop(held);
            drop(turns.take().await);
        });
    }
}
