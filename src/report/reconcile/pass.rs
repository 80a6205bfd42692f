//! `afflux pass SPOOL FIRST LAST`: the mark goes over a gap whose records nobody keeps any more. What is passed must be
//! exactly the gap that `reconcile` names, so nobody passes more than is missing; and attributions must have run with it for
//! a while without a break, so nobody passes what is only late: what is in Kafka they would have found.

use std::io::Write;

use super::{Applied, Asked, Disk, lines};
use crate::report::command::{CommandError, Verdict};
use crate::spool::SpoolId;
use crate::store::{Store, StoreError};

/// For how long attributions have to have run beside a gap. Where there is no Kafka the disk says what there is.
const WAITS_MS: i64 = 600_000;

/// What the operator wants to have passed: both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub spool: SpoolId,
    pub first: u64,
    pub last: u64,
}

pub struct Wish<'a> {
    pub range: Range,
    pub reason: &'a str,
    /// Without having waited: the operator knows that it is not late.
    pub even_if_late: bool,
}

/// One transaction, in which the mark still is what it was seen as: else nothing is done.
pub fn pass(
    store: &mut Store,
    disk: &Disk,
    asked: Asked,
    wish: Wish<'_>,
    out: &mut dyn Write,
) -> Result<Verdict, CommandError> {
    let Wish { range: Range { spool, first, last }, reason, even_if_late } = wish;
    let applied = Applied::read(store.view(), disk)?;
    let Some(line) = lines(&applied, &disk.spooled).into_iter().find(|line| line.spool == spool) else {
        writeln!(out, "{spool}: nobody here has heard of this spool; nothing was passed")?;
        return Ok(Verdict::Bad);
    };
    match line.missing(asked.cluster, asked.now) {
        None => {
            writeln!(out, "{spool}: it has no gap; nothing was passed")?;
            return Ok(Verdict::Bad);
        }
        Some(open) if open != (first, last) => {
            writeln!(out, "{spool}: the gap that is open is {} to {}; nothing was passed", open.0, open.1)?;
            return Ok(Verdict::Bad);
        }
        Some(_) => {}
    }
    if asked.cluster && !even_if_late && store.view().waited_ms(spool)? < WAITS_MS {
        writeln!(
            out,
            "{spool}: the gap may be only late; nothing was passed; attribution has to run with it for {} minutes, without a \
             restart or a change of its group, or else --even-if-late says that you know better",
            WAITS_MS / 60_000
        )?;
        return Ok(Verdict::Bad);
    }
    let batch = store.begin()?;
    match batch.pass(&line.mark, last, reason, asked.now).and_then(|()| batch.commit()) {
        Ok(()) => {
            writeln!(out, "{spool}: records {first} to {last} are passed; attribution goes on by itself")?;
            Ok(Verdict::Good)
        }
        Err(StoreError::MarkMoved { .. }) => {
            writeln!(out, "{spool}: the gap has changed at this moment; nothing was passed; `afflux reconcile`")?;
            Ok(Verdict::Bad)
        }
        Err(error) => Err(error.into()),
    }
}
