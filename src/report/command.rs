//! What the commands that look at the store have in common: they write, say whether they found good or bad, or fail.

use std::io;

use crate::spool::inspect::NotInspected;
use crate::store::{OpenError, Place, Reader, StoreError};

/// What a command found; its exit code (contract P2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// A gap, damage, a broken invariant, an unknown conversion.
    Bad,
}

/// Store or spool could not be read, or the output not written: exit code 74.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Spool(NotInspected),
    #[error("the touch index in Redis does not answer; nothing was erased in the store")]
    Touches,
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl From<NotInspected> for CommandError {
    fn from(error: NotInspected) -> CommandError {
        match error {
            NotInspected::Write(error) => CommandError::Write(error),
            unreadable => CommandError::Spool(unreadable),
        }
    }
}

impl Verdict {
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Good => 0,
            Verdict::Bad => 1,
        }
    }

    pub fn good_if(good: bool) -> Verdict {
        if good { Verdict::Good } else { Verdict::Bad }
    }
}

/// The store of a running process, or of a dead one.
pub fn open(place: &Place) -> Result<Reader, CommandError> {
    Ok(Reader::open(place)?)
}
