//! The keeper's thread: makes segments ahead of need, deletes what is consumed and old, and keeps within the bound.

use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::spools::{Inner, Known, list};
use super::{SpoolId, control, listing};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const CLEAN_EVERY: Duration = Duration::from_secs(5);

const LEAST_BYTES: u64 = 1 << 30;

pub fn run(inner: &Inner) {
    let mut cleaned: Option<Instant> = None;
    while !inner.stopping.load(Relaxed) {
        let chains: Vec<_> = inner.chains.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let closing = |chain: &std::sync::Arc<super::chain::Chain>| chain.closing.load(Relaxed);
        let in_need = chains.iter().any(|chain| chain.trouble().is_some());
        if in_need || cleaned.is_none_or(|at| at.elapsed() >= CLEAN_EVERY) {
            if let Err(error) = clean(inner) {
                tracing::warn!(%error, "old segments cannot be looked for");
            }
            cleaned = Some(Instant::now());
        }
        if !inner.watch.is_over_limit() {
            for chain in chains.iter().filter(|chain| !closing(chain)) {
                chain.prepare_spare();
            }
        }
        inner.watch.wait_for_keeper_call(LOOK_EVERY);
    }
}

#[cfg(test)]
pub fn run_once(spools: &super::Spools) {
    clean(spools.inner()).unwrap();
}

/// A segment that may go.
struct Old {
    path: PathBuf,
    bytes: u64,
    newest_ms: i64,
}

fn clean(inner: &Inner) -> io::Result<()> {
    let now_ms = inner.clock.now().0;
    let keep_ms = inner.options.keep.as_millis() as i64;
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
    old.sort_by_key(|segment| segment.newest_ms);
    let limit = limit(inner)?;
    for segment in &old {
        let expired = now_ms.saturating_sub(segment.newest_ms) > keep_ms;
        if expired || used > limit {
            gone_already(std::fs::remove_file(&segment.path))?;
            inner.found.deleted.add_shared(1);
            used -= segment.bytes;
        }
    }
    for spool in empty {
        // Its mark in the store stays: an older copy restored here is recognised.
        gone_already(std::fs::remove_dir_all(&spool.directory))?;
    }
    inner.found.used_bytes.set(used as i64);
    inner.found.limit_bytes.set(limit as i64);
    inner.watch.set_over_limit(used > limit);
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
    for path in &listing.unused {
        *used += std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    }
    let consumed = consumed(inner, spool.id());
    let sealed = spool.position.sealed;
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
    Ok(sealed.is_some_and(|(records, _)| records <= consumed) && !control::is_live(&spool.directory))
}

fn consumed(inner: &Inner, spool: SpoolId) -> u64 {
    inner.consumed.lock().unwrap_or_else(PoisonError::into_inner).get(&spool).copied().unwrap_or(0)
}

fn limit(inner: &Inner) -> io::Result<u64> {
    if let Some(bytes) = inner.options.max_bytes {
        return Ok(bytes);
    }
    let file_system = rustix::fs::statvfs(&inner.options.directory)?;
    Ok((file_system.f_blocks * file_system.f_frsize / 10).max(LEAST_BYTES))
}
