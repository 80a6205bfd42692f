//! The maker's thread: makes segments ahead of need, so that no writer ever waits for a disk to give it one.
//!
//! Every live spool gets one; where its full segments are all consumed even beyond the limit, for then they can go and it
//! takes no more room than at its start. Small segments are soon full: of them several are made, as far as there is plenty
//! of room.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::SpoolId;
use super::backoff::Backoff;
use super::chain::Chain;
use super::spools::Inner;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Made ahead for each spool where segments are small, at most so many.
const AHEAD_BYTES: u64 = 16 << 20;
const MAX_AHEAD: u64 = 16;

/// The part of the room that is left, or of the limit, that all segments beyond the first of each spool may take.
const PART: u64 = 8;

#[derive(Default)]
pub struct Maker {
    failing: HashMap<SpoolId, Backoff>,
}

pub fn run(inner: &Inner) {
    let mut maker = Maker::default();
    while !inner.stopping.load(Relaxed) {
        if !maker.make(inner) && inner.watch.maker.wait(LOOK_EVERY) {
            // Something has changed: what failed may work now.
            maker.failing.values_mut().for_each(Backoff::hurry);
        }
    }
}

impl Maker {
    /// Makes at most one for each spool; true when one was made.
    fn make(&mut self, inner: &Inner) -> bool {
        let chains: Vec<Arc<Chain>> = inner.chains().into_iter().filter(|chain| !chain.closing.load(Relaxed)).collect();
        self.failing.retain(|spool, _| chains.iter().any(|chain| chain.id == *spool));
        let mut made = false;
        for chain in chains.iter().filter(|chain| chain.stock.len() == 0) {
            made |= self.make_one(inner, chain, &chains);
        }
        if made {
            return true;
        }
        let ahead = ahead(inner, chains.len() as u64);
        for chain in chains.iter().filter(|chain| (chain.stock.len() as u64) < ahead) {
            if inner.watch.room.has(chain.segment_bytes) {
                made |= self.try_to(chain, false).unwrap_or(false);
            }
        }
        made
    }

    fn make_one(&mut self, inner: &Inner, chain: &Chain, chains: &[Arc<Chain>]) -> bool {
        let beyond_limit = inner.consumed_of(chain.id) >= chain.open_from();
        match self.try_to(chain, beyond_limit) {
            Ok(made) => made,
            Err(error) => {
                if is_full(&error) {
                    make_room(inner, chain.segment_bytes, chains);
                }
                if self.failing.get(&chain.id).is_some_and(|backoff| backoff.failures == 1) {
                    tracing::warn!(spool = %chain.id, %error, "no segment can be made ahead");
                }
                false
            }
        }
    }

    /// False where it has failed and the next try is not due.
    fn try_to(&mut self, chain: &Chain, beyond_limit: bool) -> io::Result<bool> {
        if self.failing.get(&chain.id).is_some_and(|backoff| !backoff.is_due()) {
            return Ok(false);
        }
        match chain.make_segment(true, beyond_limit) {
            Ok(segment) => {
                chain.stock_up(segment);
                self.failing.remove(&chain.id);
                Ok(true)
            }
            Err(error) => {
                self.failing.entry(chain.id).or_default().fail();
                Err(error)
            }
        }
    }
}

/// How many segments each spool may have ahead.
fn ahead(inner: &Inner, chains: u64) -> u64 {
    let segment_bytes = inner.options.segment_bytes;
    let wanted = (AHEAD_BYTES / segment_bytes).min(MAX_AHEAD);
    if wanted <= 1 {
        return 1;
    }
    let free = rustix::fs::statvfs(&inner.options.directory).map_or(0, |disk| disk.f_bavail * disk.f_frsize);
    let plenty = free.min(inner.watch.room.limit()) / PART / (chains.max(1) * segment_bytes);
    plenty.clamp(1, wanted)
}

/// Gives back what others have more than they need, and has consumed segments deleted before their time.
fn make_room(inner: &Inner, bytes: u64, chains: &[Arc<Chain>]) {
    for chain in chains {
        chain.stock.surplus().iter().for_each(|segment| chain.discard(segment));
    }
    inner.watch.wanted.fetch_max(bytes, Relaxed);
    inner.watch.keeper.ring();
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
