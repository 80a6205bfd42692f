//! Threads of a role that work until they are told to stop. One that ends before is found: the role is not ready any
//! more, drains, and ends with an error, so that whoever supervises it starts it anew.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use super::{Exit, Failure};

#[derive(Default)]
pub struct Threads {
    stop: Arc<AtomicBool>,
    lost: Lost,
    threads: Vec<JoinHandle<()>>,
}

/// The first thread that ended though it was not told to.
#[derive(Clone, Default)]
pub struct Lost(Arc<OnceLock<&'static str>>);

/// Says so however the thread ends.
struct Guard {
    name: &'static str,
    stop: Arc<AtomicBool>,
    lost: Lost,
}

impl Threads {
    pub fn spawn(
        &mut self,
        name: &'static str,
        work: impl FnOnce(Arc<AtomicBool>) + Send + 'static,
    ) -> Result<(), Failure> {
        let stop = self.stop.clone();
        let guard = Guard { name, stop: stop.clone(), lost: self.lost.clone() };
        let work = move || {
            let _guard = guard;
            work(stop);
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(work);
        self.threads.push(thread.map_err(Failure::internal)?);
        Ok(())
    }

    pub fn lost(&self) -> Lost {
        self.lost.clone()
    }

    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Each ends after what is at hand.
    pub fn stop(self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            // A panic there was told; what was not done will be at the next start.
            let _ = thread.join();
        }
    }
}

impl Lost {
    /// Why the role is not ready.
    pub fn trouble(&self) -> Option<String> {
        self.0.get().map(|name| format!("the {name} thread has ended by itself"))
    }

    /// What the role ends with when all else went well.
    pub fn or(&self, exit: Exit) -> Result<Exit, Failure> {
        self.trouble().map_or(Ok(exit), |trouble| Err(Failure::internal(trouble)))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.stop.load(Relaxed) {
            // Another one was first.
            let _ = self.lost.0.set(self.name);
            tracing::error!(thread = self.name, "ended by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ends_by_itself_is_found() {
        let mut threads = Threads::default();
        threads
            .spawn("good", |stop| {
                while !stop.load(Relaxed) {
                    std::thread::yield_now()
                }
            })
            .unwrap();
        let lost = threads.lost();
        threads.stop();
        assert_eq!(lost.or(Exit::Ok).unwrap(), Exit::Ok);

        let mut threads = Threads::default();
        threads.spawn("bad", |_| panic!("on purpose")).unwrap();
        let lost = threads.lost();
        while lost.trouble().is_none() {
            std::thread::yield_now();
        }
        threads.stop();
        assert_eq!(lost.or(Exit::Ok).unwrap_err().message, "the bad thread has ended by itself");
    }
}
