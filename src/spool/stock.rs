//! Segments made ahead of need, of one spool: the maker adds, the writer takes, nobody waits for a disk in between.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::segment::Segment;

#[derive(Default)]
pub struct Stock {
    shelf: Mutex<Shelf>,
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
        None
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
