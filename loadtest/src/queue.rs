//! Work that waits for somebody who is free, within one lane.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

pub struct Queue<T>(RefCell<Inside<T>>);

struct Inside<T> {
    waiting: VecDeque<T>,
    free: VecDeque<Waker>,
    most: usize,
    is_closed: bool,
}

impl<T> Queue<T> {
    /// What comes when `most` wait is given back.
    pub fn new(most: usize) -> Queue<T> {
        Queue(RefCell::new(Inside { waiting: VecDeque::new(), free: VecDeque::new(), most, is_closed: false }))
    }

    pub fn push(&self, item: T) -> Result<(), T> {
        let mut inside = self.0.borrow_mut();
        if inside.waiting.len() >= inside.most {
            return Err(item);
        }
        inside.waiting.push_back(item);
        // In turn, so that every connection is used.
        if let Some(free) = inside.free.pop_front() {
            free.wake();
        }
        Ok(())
    }

    /// What waits is still given out; then everybody goes home.
    pub fn close(&self) {
        let mut inside = self.0.borrow_mut();
        inside.is_closed = true;
        inside.free.drain(..).for_each(Waker::wake);
    }

    /// The next; `None` when it is closed and empty.
    pub async fn take(&self) -> Option<T> {
        poll_fn(|context| {
            let mut inside = self.0.borrow_mut();
            match inside.waiting.pop_front() {
                Some(item) => Poll::Ready(Some(item)),
                None if inside.is_closed => Poll::Ready(None),
                None => {
                    inside.free.push_back(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.borrow().waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Context;

    #[test]
    fn what_is_too_much_comes_back_and_the_rest_in_order() {
        let queue = Queue::new(2);
        assert_eq!([queue.push(1), queue.push(2), queue.push(3)], [Ok(()), Ok(()), Err(3)]);
        let mut context = Context::from_waker(Waker::noop());
        let mut take = || std::pin::pin!(queue.take()).as_mut().poll(&mut context);
        assert_eq!([take(), take(), take()], [Poll::Ready(Some(1)), Poll::Ready(Some(2)), Poll::Pending]);
        queue.close();
        assert_eq!(take(), Poll::Ready(None));
    }
}
