//! A topic: how many partitions it has, and whether it takes anything.

use std::time::{Duration, Instant};

use super::failure::Pause;

/// How long a number of partitions is believed.
const FRESH: Duration = Duration::from_secs(60);

pub struct Route {
    pub topic: String,
    partitions: Option<(u32, Instant)>,
    /// After a question that nobody answered.
    ask_at: Option<Instant>,
    /// What is wrong, and until when nothing is tried.
    pub outage: Option<&'static str>,
    pub pause: Pause,
}

impl Route {
    pub fn new(topic: String, random: u64) -> Route {
        Route { topic, partitions: None, ask_at: None, outage: None, pause: Pause::new(random) }
    }

    /// How many partitions it has, if that is known since a short time.
    pub fn partitions(&self) -> Option<u32> {
        self.partitions.filter(|(_, at)| at.elapsed() < FRESH).map(|(count, _)| count)
    }

    pub fn set_partitions(&mut self, count: u32) {
        self.partitions = Some((count, Instant::now()));
    }

    /// Each question may hold everything up for a while: not one in every round.
    pub fn ask_again_after(&mut self, pause: Duration) {
        self.ask_at = Some(Instant::now() + pause);
    }

    pub fn may_ask(&self) -> bool {
        self.ask_at.is_none_or(|at| Instant::now() >= at)
    }

    pub fn forget_partitions(&mut self) {
        self.partitions = None;
    }

    /// Whether it may be tried to send something.
    pub fn is_open(&self) -> bool {
        self.outage.is_none() || self.pause.is_over()
    }

    /// Nothing is taken. True when that is news.
    pub fn close(&mut self, why: &'static str) -> bool {
        self.pause.fail();
        self.outage.replace(why) != Some(why)
    }

    /// Something was delivered. What was wrong until now.
    pub fn reopen(&mut self) -> Option<&'static str> {
        self.pause.reset();
        self.outage.take()
    }
}
