//! Threads of a role work until they are told to stop. One that panics, or ends before, is found: it is told once, the role
//! is not ready any more, drains, and ends with an error, so that whoever supervises it starts it anew.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::{Exit, Failure};
use crate::admin::NotReady;

/// Threads that are stopped together.
#[derive(Default)]
pub struct Threads {
    stop: Arc<AtomicBool>,
    lost: Lost,
    threads: Vec<JoinHandle<()>>,
}

/// The first thread of a role that is lost.
#[derive(Clone, Default)]
pub struct Lost(Arc<OnceLock<String>>);

/// Lives in a thread or in a task, and looks how that ends.
pub struct Guard {
    name: String,
    is_told: Box<dyn Fn() -> bool + Send>,
    lost: Lost,
}

impl Threads {
    /// What they lose is told to `lost`, which the whole role has in common.
    pub fn watched_by(lost: &Lost) -> Threads {
        Threads { lost: lost.clone(), ..Threads::default() }
    }

    pub fn spawn(
        &mut self,
        name: &'static str,
        work: impl FnOnce(Arc<AtomicBool>) + Send + 'static,
    ) -> Result<(), Failure> {
        let (stop, told) = (self.stop.clone(), self.stop.clone());
        self.threads.push(self.lost.spawn(name, move || told.load(Relaxed), move || work(stop))?);
        Ok(())
    }

    /// All of them work.
    pub fn are_whole(&self) -> bool {
        !self.threads.is_empty() && !self.threads.iter().any(JoinHandle::is_finished)
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
    /// A thread that is lost when it panics, or when it ends while `is_told` does not say that it was told to.
    pub fn spawn(
        &self,
        name: impl Into<String>,
        is_told: impl Fn() -> bool + Send + 'static,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, Failure> {
        let name = name.into();
        let guard = self.guard(name.clone(), is_told);
        let work = move || {
            let _guard = guard;
            work();
        };
        std::thread::Builder::new().name(name).spawn(work).map_err(Failure::internal)
    }

    fn guard(&self, name: String, is_told: impl Fn() -> bool + Send + 'static) -> Guard {
        Guard { name, is_told: Box::new(is_told), lost: self.clone() }
    }

    /// Makes guards for tasks that the thread `name` runs beside each other until `stop` says true.
    pub fn guards(&self, name: &str, stop: &watch::Receiver<bool>) -> impl Fn() -> Guard + Clone + Send + 'static {
        let (lost, name, stop) = (self.clone(), name.to_owned(), stop.clone());
        move || {
            let told = stop.clone();
            lost.guard(name.clone(), move || *told.borrow())
        }
    }

    /// The first is what the role ends with; one that follows is told as well, once each.
    pub fn tell(&self, name: &str) {
        if self.0.get().is_none_or(|first| first != name) {
            tracing::error!(thread = name, "ended by itself; the process drains and ends");
            // Another one was first.
            let _ = self.0.set(name.to_owned());
        }
    }

    /// Why the role is not ready.
    pub fn trouble(&self) -> Option<String> {
        self.0.get().map(|name| format!("the {name} thread has ended by itself"))
    }

    /// The same as a check of the admin listener.
    pub fn not_ready(&self) -> NotReady {
        let lost = self.clone();
        Box::new(move || lost.trouble())
    }

    /// What the role ends with when all else went well.
    pub fn or(&self, exit: Exit) -> Result<Exit, Failure> {
        self.trouble().map_or(Ok(exit), |trouble| Err(Failure::internal(trouble)))
    }
}

impl Guard {
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() || !(self.is_told)() {
            self.lost.tell(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until_lost(lost: &Lost) -> String {
        while lost.trouble().is_none() {
            std::thread::yield_now();
        }
        lost.or(Exit::Ok).unwrap_err().message
    }

    #[test]
    fn p2_a_thread_that_is_told_to_stop_is_not_lost() {
        let lost = Lost::default();
        let mut threads = Threads::watched_by(&lost);
        assert!(!threads.are_whole(), "there is none");
        threads
            .spawn("good", |stop| {
                while !stop.load(Relaxed) {
                    std::thread::yield_now()
                }
            })
            .unwrap();
        assert!(threads.are_whole());
        threads.stop();
        assert_eq!(lost.or(Exit::Ok).unwrap(), Exit::Ok);
    }

    #[test]
    fn p2_a_thread_that_panics_or_ends_by_itself_is_lost() {
        for end in [(|| panic!("on purpose")) as fn(), || ()] {
            let lost = Lost::default();
            let mut threads = Threads::watched_by(&lost);
            threads.spawn("bad", move |_| end()).unwrap();
            assert_eq!(until_lost(&lost), "the bad thread has ended by itself");
            threads.stop();
        }
    }

    #[test]
    fn p2_a_panic_while_it_stops_is_no_clean_end() {
        let lost = Lost::default();
        let thread = lost.spawn("bad", || true, || panic!("on purpose")).unwrap();
        thread.join().unwrap_err();
        assert_eq!(until_lost(&lost), "the bad thread has ended by itself");
    }

    #[test]
    fn p2_the_first_that_is_lost_is_what_the_role_ends_with() {
        let lost = Lost::default();
        ["edge-1", "edge-0"].iter().for_each(|name| lost.tell(name));
        let failure = lost.or(Exit::Ok).unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Internal, "the edge-1 thread has ended by itself"));
    }
}
