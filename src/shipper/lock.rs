//! One shipper for each directory of spools: a lock beside them.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

const FILE_NAME: &str = "shipper.lock";

/// Held while it lives, or while its process does.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// `WouldBlock`: somebody else has it.
    pub fn take(directory: &Path) -> io::Result<Lock> {
        let file = File::options().create(true).truncate(false).write(true).open(directory.join(FILE_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
        }
    }
}
