//! `afflux pass SPOOL FIRST LAST`: the mark goes over a gap whose records nobody keeps any more. What is passed must be
//! exactly the gap that `reconcile` names, so nobody passes what is only late, or more than is missing.

use std::io::Write;

use super::{Applied, Asked, Disk, lines};
use crate::report::command::{CommandError, Verdict};
use crate::spool::SpoolId;
use crate::store::{Store, StoreError};

/// What the operator wants to have passed: both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub spool: SpoolId,
    pub first: u64,
    pub last: u64,
}

/// One transaction, in which the mark still is what it was seen as: else nothing is done.
pub fn pass(
    store: &mut Store,
    disk: &Disk,
    asked: Asked,
    (range, reason): (Range, &str),
    out: &mut dyn Write,
) -> Result<Verdict, CommandError> {
    let Range { spool, first, last } = range;
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
