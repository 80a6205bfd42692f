//! The syncer of a spool, a thread of its own: brings on disk what is written, says so, and seals at the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::chain::Chain;
use super::format::Tally;
use super::rescue;

/// A spool that is closed while its disk fails is tried for so long before it is left to the next start.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
const BETWEEN_LAST_TRIES: Duration = Duration::from_millis(100);

/// Failures are told so often.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How often a pause looks whether the spool is closed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub struct Syncer {
    chain: Arc<Chain>,
    /// Between two syncs.
    pace: Duration,
    /// Seal of the segment in which the synced position lies, up to there.
    synced: Tally,
    backoff: Backoff,
    told: Option<Instant>,
    /// Since when it is closed and could not be sealed.
    ending_since: Option<Instant>,
}

impl Syncer {
    pub fn new(chain: Arc<Chain>, pace: Duration) -> Syncer {
        let (synced, backoff) = (Tally::default(), Backoff::default());
        Syncer { chain, pace, synced, backoff, told: None, ending_since: None }
    }

    /// Until the spool is closed and sealed, or cannot be.
    pub fn run(mut self) {
        while self.goes_on() {}
    }

    fn goes_on(&mut self) -> bool {
        let chain = self.chain.clone();
        let closing = chain.closing.load(Relaxed);
        if chain.control.written() > chain.control.synced() {
            return match self.sync() {
                Ok(()) => {
                    self.backoff = Backoff::default();
                    std::thread::sleep(self.pace);
                    true
                }
                Err(error) => self.pause(&error),
            };
        }
        if closing {
            return self.seal().is_err_and(|error| self.pause(&error));
        }
        chain.rest();
        true
    }

    /// After a failure. False when the spool is closed and was tried for long enough.
    fn pause(&mut self, error: &io::Error) -> bool {
        if self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            let spool = self.chain.id;
            tracing::error!(%spool, %error, "fdatasync fails; what it covered is written again elsewhere");
        }
        let until = Instant::now() + self.backoff.fail();
        while !self.chain.closing.load(Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        let since = *self.ending_since.get_or_insert_with(Instant::now);
        std::thread::sleep(BETWEEN_LAST_TRIES);
        since.elapsed() < LAST_PATIENCE
    }

    /// Brings on disk what is written now, and says so.
    fn sync(&mut self) -> io::Result<()> {
        let chain = self.chain.clone();
        chain.begin_busy();
        if chain.is_poisoned() {
            rescue::rescue(&chain, self.synced)?;
        }
        let captured = chain.capture();
        let began = Instant::now();
        let results = captured.segments.iter().map(|open| open.segment.sync());
        let (done, failure) = until_failure(results);
        chain.numbers.syncs.record(began.elapsed());
        if let Some(error) = failure {
            chain.numbers.sync_errors.add(1);
            chain.poison();
            // Whole segments before it are on disk all the same.
            if let Some(last) = captured.segments[..done].last() {
                chain.publish(last.next_seq(), &captured, done);
            }
            return Err(error);
        }
        self.synced = captured.tally;
        chain.healed(captured.bytes);
        let rolled = chain.publish(captured.next_seq, &captured, done - 1);
        if rolled {
            // Recovery after a power cut then has less to look at. Not being able to is no loss.
            let _ = chain.control.sync();
        }
        chain.end_busy();
        Ok(())
    }

    fn seal(&self) -> io::Result<()> {
        let chain = &self.chain;
        // First, so that nobody takes one for a part of the chain.
        chain.stock.close().iter().for_each(|segment| chain.discard(segment));
        let records = chain.control.written();
        chain.control.seal(records, chain.clock.now().0, 0)?;
        if records == 0 {
            chain.discard(&chain.active().open.segment);
        }
        Ok(())
    }
}

/// How many succeeded before the first that did not, and why it did not.
fn until_failure(results: impl Iterator<Item = io::Result<()>>) -> (usize, Option<io::Error>) {
    let mut done = 0;
    for result in results {
        match result {
            Ok(()) => done += 1,
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}
