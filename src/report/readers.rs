//! Connections of the API to the store: opened when first needed, kept for the next, thrown away after an error.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::store::{OpenError, Place, Reader, StoreError, View};

/// Whoever gets no connection within this time is refused: those who have one look for longer than a report may take.
const MAX_WAIT: Duration = Duration::from_secs(40);

pub struct Readers {
    place: Place,
    /// Connections at once.
    most: usize,
    pool: Mutex<Pool>,
    given_back: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Reader>,
    /// All that are open or about to be.
    open: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum NotRead<E> {
    /// Nobody has consumed anything yet.
    #[error("there is no store yet")]
    Nothing,
    #[error("all connections to the store are in use")]
    Busy,
    #[error(transparent)]
    Open(OpenError),
    #[error("{0}")]
    Failed(E),
}

impl Readers {
    pub fn new(place: Place, most: usize) -> Readers {
        Readers { place, most: most.max(1), pool: Mutex::default(), given_back: Condvar::new() }
    }

    /// Looks at the store as of one moment. Waits while all connections are in use: for threads that may block.
    pub fn read<T, E: From<StoreError>>(&self, look: impl FnOnce(View<'_>) -> Result<T, E>) -> Result<T, NotRead<E>> {
        let mut slot = self.slot()?;
        // One that was kept may be broken since: the server may have been started anew.
        let mut reader = match slot.reader.take() {
            Some(reader) if reader.is_alive() => reader,
            _ => Reader::open(&self.place).map_err(|error| match error {
                OpenError::Missing(_) => NotRead::Nothing,
                error => NotRead::Open(error),
            })?,
        };
        let seen = reader.view(look).map_err(NotRead::Failed)?;
        slot.reader = Some(reader);
        Ok(seen)
    }

    fn slot<E>(&self) -> Result<Slot<'_>, NotRead<E>> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |pool: &mut Pool| pool.idle.is_empty() && pool.open >= self.most;
        let waited = self.given_back.wait_timeout_while(pool, MAX_WAIT, full);
        let (mut pool, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(NotRead::Busy);
        }
        let reader = pool.idle.pop();
        pool.open += usize::from(reader.is_none());
        Ok(Slot { readers: self, reader })
    }
}

/// The right to one connection; what is in it at the end is kept for the next.
struct Slot<'r> {
    readers: &'r Readers,
    reader: Option<Reader>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool.lock().unwrap_or_else(PoisonError::into_inner);
        match self.reader.take() {
            Some(reader) => pool.idle.push(reader),
            None => pool.open -= 1,
        }
        self.readers.given_back.notify_one();
    }
}

impl Drop for Readers {
    /// A connection to PostgreSQL has a small runtime inside, which may not end within another one: it ends on a thread of
    /// its own.
    fn drop(&mut self) {
        let pool = std::mem::take(self.pool.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !pool.idle.is_empty() {
            let _ = std::thread::spawn(move || drop(pool)).join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::store::{Store, testing};

    #[test]
    fn one_more_waits_for_a_connection() {
        for home in testing::homes() {
            drop(Store::open(&home.place).unwrap());
            let readers = Readers::new(home.place.clone(), 1);
            let (began, beginning) = mpsc::channel();
            let (end, ending) = mpsc::channel::<()>();
            let count = |view: View<'_>| view.conversion_count();
            std::thread::scope(|scope| {
                let first = scope.spawn(|| {
                    readers.read(move |view| {
                        began.send(()).unwrap();
                        ending.recv().unwrap();
                        count(view)
                    })
                });
                beginning.recv().unwrap();
                let second = scope.spawn(|| readers.read(count));
                std::thread::sleep(Duration::from_millis(50));
                assert!(!second.is_finished());
                end.send(()).unwrap();
                assert_eq!((first.join().unwrap().unwrap(), second.join().unwrap().unwrap()), (0, 0));
            });
        }
    }

    #[test]
    fn what_fails_gives_its_connection_back() {
        for home in testing::homes() {
            let readers = Readers::new(home.place.clone(), 1);
            assert!(matches!(readers.read(|view| view.conversion_count()), Err(NotRead::Nothing)));
            drop(Store::open(&home.place).unwrap());
            let failed = readers.read(|_| Err::<u64, _>(StoreError::Nested));
            assert!(matches!(failed, Err(NotRead::Failed(_))));
            assert_eq!(readers.read(|view| view.conversion_count()).unwrap(), 0);
        }
    }
}
