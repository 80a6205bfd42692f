//! Segments made ahead of need, of one spool: the maker adds, the writer takes, and waits for a disk in between only for as
//! long as it says.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::segment::Segment;

#[derive(Default)]
pub struct Stock {
    shelf: Mutex<Shelf>,
    added: Condvar,
}

#[derive(Default)]
struct Shelf {
    ready: Vec<Segment>,
    /// The spool gets no more records: what is made now goes again.
    closed: bool,
}

impl Stock {
    pub fn take(&self) -> Option<Segment> {
        self.shelf().ready.pop()
    }

    pub fn len(&self) -> usize {
        self.shelf().ready.len()
    }

    /// Gives the segment back where no more are wanted.
    pub fn add(&self, segment: Segment) -> Option<Segment> {
        let mut shelf = self.shelf();
        if shelf.closed {
            return Some(segment);
        }
        shelf.ready.push(segment);
        self.added.notify_one();
        None
    }

    /// Returns when there is one, at the latest after `at_most`.
    pub fn wait(&self, at_most: Duration) {
        let none = |shelf: &mut Shelf| shelf.ready.is_empty() && !shelf.closed;
        // Whether there is one is seen by who takes it.
        let _ = self.added.wait_timeout_while(self.shelf(), at_most, none);
    }

    /// All but one, for others who have none.
    pub fn surplus(&self) -> Vec<Segment> {
        let ready = &mut self.shelf().ready;
        let keep = ready.len().min(1);
        ready.split_off(keep)
    }

    /// Nothing is wanted any more; what there was.
    pub fn close(&self) -> Vec<Segment> {
        let mut shelf = self.shelf();
        shelf.closed = true;
        std::mem::take(&mut shelf.ready)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
