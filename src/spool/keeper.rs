//! The keeper's thread: makes segments ahead of need, deletes what is consumed and old, and keeps within the bound.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::chain::Chain;
use super::spools::{Inner, Known, list};
use super::{LEAST_SEGMENTS, SpoolId, control, listing};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const CLEAN_EVERY: Duration = Duration::from_secs(5);
/// Where nothing could be deleted the last time and nothing was made since.
const CLEAN_AGAIN: Duration = Duration::from_secs(1);

const LEAST_BYTES: u64 = 1 << 30;

pub fn run(inner: &Inner) {
    let mut cleaned = Cleaned { at: Instant::now(), used: 0 };
    while !inner.stopping.load(Relaxed) {
        let chains = chains(inner);
        if cleaned.is_due(inner, &chains) {
            clean_or_warn(inner);
            cleaned = Cleaned { at: Instant::now(), used: inner.watch.room.used() };
        }
        // What was made may leave no room: that is looked after at once.
        if !make_spares(inner, &chains) {
            inner.watch.wait_for_keeper_call(LOOK_EVERY);
        }
    }
}

/// Counts what lies there and deletes what may go.
pub fn clean_or_warn(inner: &Inner) {
    if let Err(error) = clean(inner) {
        tracing::warn!(%error, "old segments cannot be looked for");
    }
}

#[cfg(test)]
pub fn run_once(spools: &super::Spools) {
    clean(spools.inner()).unwrap();
}

fn chains(inner: &Inner) -> Vec<Arc<Chain>> {
    inner.chains.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// When segments were last looked for that may go, and what was left then.
struct Cleaned {
    at: Instant,
    used: u64,
}

impl Cleaned {
    fn is_due(&self, inner: &Inner, chains: &[Arc<Chain>]) -> bool {
        let room = &inner.watch.room;
        let in_trouble = chains.iter().any(|chain| chain.trouble().is_some());
        let pressed = !room.has(inner.options.segment_bytes);
        in_trouble
            || pressed && (room.used() > self.used || self.at.elapsed() >= CLEAN_AGAIN)
            || self.at.elapsed() >= CLEAN_EVERY
    }
}

/// True when one was made.
fn make_spares(inner: &Inner, chains: &[Arc<Chain>]) -> bool {
    let mut made = false;
    for chain in chains.iter().filter(|chain| !chain.closing.load(Relaxed) && !chain.has_spare()) {
        let beyond_limit = is_consumed_up_to_now(inner, chain);
        if beyond_limit || inner.watch.room.has(chain.segment_bytes) {
            made |= chain.prepare_spare(beyond_limit);
        }
    }
    made
}

/// All its full segments are consumed, so they can go and it takes no more room than at its start: it gets its next
/// segment even where the others fill what there is, and what is consumed never fills a spool for good.
fn is_consumed_up_to_now(inner: &Inner, chain: &Chain) -> bool {
    consumed(inner, chain.id) >= chain.open_from()
}

/// A segment that may go.
struct Old {
    path: PathBuf,
    bytes: u64,
    newest_ms: i64,
}

fn clean(inner: &Inner) -> io::Result<()> {
    let room = &inner.watch.room;
    let now_ms = inner.clock.now().0;
    let keep_ms = inner.options.keep.as_millis() as i64;
    let made = room.made();
    let known = list(&inner.options.directory)?;
    let (mut used, mut old, mut empty) = (0, Vec::new(), Vec::new());
    for spool in &known {
        let gone = match segments_of(inner, spool, &mut used, &mut old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            gone => gone?,
        };
        if let (true, Some((_, sealed_at_ms))) = (gone, spool.position.sealed)
            && now_ms.saturating_sub(sealed_at_ms) > keep_ms
        {
            empty.push(spool);
        }
    }
    room.count(used, made);
    room.set_limit(limit(inner)?);
    old.sort_by_key(|segment| segment.newest_ms);
    for segment in &old {
        let expired = now_ms.saturating_sub(segment.newest_ms) > keep_ms;
        // Room for the next one is made before it is needed.
        if expired || !room.has(inner.options.segment_bytes) {
            gone_already(std::fs::remove_file(&segment.path))?;
            inner.found.deleted.add_shared(1);
            room.delete(segment.bytes);
        }
    }
    for spool in empty {
        // Its mark in the store stays: an older copy restored here is recognised.
        gone_already(std::fs::remove_dir_all(&spool.directory))?;
    }
    Ok(())
}

/// Another process on the same directory may have been quicker.
fn gone_already(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Adds up a spool's segments and lists those that are consumed to their end. True when the spool is consumed whole.
fn segments_of(inner: &Inner, spool: &Known, used: &mut u64, old: &mut Vec<Old>) -> io::Result<bool> {
    let listing = listing::list(&spool.directory, spool.id())?;
    let sealed = spool.position.sealed;
    let consumed = consumed(inner, spool.id());
    let is_consumed = sealed.is_some_and(|(records, _)| records <= consumed);
    for path in &listing.unused {
        *used += unused_bytes(path, is_consumed)?;
    }
    for (index, segment) in listing.segments.iter().enumerate() {
        *used += segment.bytes;
        let next = listing.segments.get(index + 1);
        let end = next.map(|next| next.first_seq).or(sealed.map(|(records, _)| records));
        let newest_ms = next.map(|next| next.former_newest_ms).or(sealed.map(|(_, at_ms)| at_ms));
        if let (Some(end), Some(newest_ms)) = (end, newest_ms)
            && end <= consumed
        {
            old.push(Old { path: segment.path.clone(), bytes: segment.bytes, newest_ms });
        }
    }
    Ok(is_consumed && !control::is_live(&spool.directory))
}

/// What a segment made ahead takes. Once its spool is sealed and consumed it goes: each start leaves some.
fn unused_bytes(path: &Path, is_consumed: bool) -> io::Result<u64> {
    if is_consumed {
        gone_already(std::fs::remove_file(path))?;
        return Ok(0);
    }
    Ok(std::fs::metadata(path).map_or(0, |metadata| metadata.len()))
}

fn consumed(inner: &Inner, spool: SpoolId) -> u64 {
    inner.consumed.lock().unwrap_or_else(PoisonError::into_inner).get(&spool).copied().unwrap_or(0)
}

fn limit(inner: &Inner) -> io::Result<u64> {
    if let Some(bytes) = inner.options.max_bytes {
        return Ok(bytes);
    }
    let file_system = rustix::fs::statvfs(&inner.options.directory)?;
    let of_spools = LEAST_SEGMENTS * chains(inner).len() as u64 * inner.options.segment_bytes;
    Ok((file_system.f_blocks * file_system.f_frsize / 10).max(LEAST_BYTES).max(of_spools))
}
