//! Arrivals at their planned time: the clock says when, not the server's answers.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::queue::Queue;
use crate::schedule::Schedule;

/// Handed over later than this, an arrival counts as sent late.
const LATE: Duration = Duration::from_millis(1);

pub struct Pacer {
    begin: Instant,
    schedule: RefCell<Schedule>,
    pub arrivals: Queue<Instant>,
    /// By this program itself: it had no processor in time.
    pub sent_late: Cell<u64>,
    /// As many arrivals waited as may.
    pub unsent: Cell<u64>,
}

impl Pacer {
    pub fn new(begin: Instant, schedule: Schedule, most_waiting: usize) -> Pacer {
        Pacer {
            begin,
            schedule: RefCell::new(schedule),
            arrivals: Queue::new(most_waiting),
            sent_late: Cell::new(0),
            unsent: Cell::new(0),
        }
    }

    /// Hands over what is due. Whoever has looked at the clock calls it: then the timer has little to do under load.
    pub fn hand_over(&self, now: Instant) {
        let mut schedule = self.schedule.borrow_mut();
        while let Some(due) = schedule.due() {
            let planned = self.begin + due;
            if planned > now {
                return;
            }
            if now - planned > LATE {
                self.sent_late.set(self.sent_late.get() + 1);
            }
            if self.arrivals.push(planned).is_err() {
                self.unsent.set(self.unsent.get() + 1);
            }
            schedule.take();
        }
        self.arrivals.close();
    }

    /// Runs until the last arrival is handed over.
    pub async fn run(&self) -> std::io::Result<()> {
        let timer = Timer::new()?;
        loop {
            let now = Instant::now();
            self.hand_over(now);
            let due = self.schedule.borrow().due();
            let Some(due) = due else { return Ok(()) };
            timer.wait(self.begin + due, now).await?;
        }
    }
}

/// The runtime's own timers know milliseconds; this one knows what the kernel knows.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    // What is deprecated about it is a descriptor that its owner changes or closes; this one is owned until it is dropped, and
    // the other way is unsafe code.
    #[allow(deprecated)]
    fn new() -> std::io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Timer(AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    async fn wait(&self, until: Instant, now: Instant) -> std::io::Result<()> {
        let Some(left) = until.checked_duration_since(now).filter(|left| !left.is_zero()) else { return Ok(()) };
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // Setting it forgets an expiry that nobody has read.
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Slope;

    #[test]
    fn what_is_due_is_handed_over_and_what_is_too_much_is_counted() {
        let begin = Instant::now();
        let slope = Slope { from_per_s: 100.0, to_per_s: 100.0, seconds: 1.0 };
        let pacer = Pacer::new(begin, Schedule::new(slope, 0.0), 5);
        pacer.hand_over(begin);
        assert_eq!((pacer.arrivals.len(), pacer.sent_late.get()), (1, 0));
        // Somebody slept for 60 ms: what was due meanwhile was late but for the last.
        pacer.hand_over(begin + Duration::from_micros(60_500));
        assert_eq!((pacer.arrivals.len(), pacer.sent_late.get(), pacer.unsent.get()), (5, 5, 2));
    }

    #[test]
    fn arrivals_come_at_their_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begin = Instant::now();
        let slope = Slope { from_per_s: 1_000.0, to_per_s: 1_000.0, seconds: 0.1 };
        let pacer = Pacer::new(begin, Schedule::new(slope, 0.0), 1_000);
        runtime.block_on(pacer.run()).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(99));
        assert_eq!(pacer.arrivals.len(), 100);
    }
}
