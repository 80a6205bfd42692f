//! One process at a time: a lock beside what it works on.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use crate::clock;

/// Between looks whether the process that holds it is gone. A look is a system call; what waits is everything that was
/// written meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Held while it lives, or while its process does.
pub struct Lock {
    _file: File,
}

/// What is done under a lock, as the log says it.
#[derive(Clone, Copy)]
pub struct Doing {
    /// "another process …"
    pub it: &'static str,
    /// "nothing is …"
    pub done: &'static str,
}

impl Lock {
    /// `WouldBlock`: somebody else has it.
    pub fn take(path: &Path) -> io::Result<Lock> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Waits until it is free and can be made, its directory too; `None` when told to stop before.
    pub fn wait(path: &Path, doing: Doing, stop: &impl Fn() -> bool) -> Option<Lock> {
        let mut told = None;
        while !stop() {
            let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            let error = match made.and_then(|()| Lock::take(path)) {
                Ok(lock) => return Some(lock),
                Err(error) => error,
            };
            // Said once for each reason, not at each look.
            if told.replace(error.kind()) != Some(error.kind()) {
                let (lock, Doing { it, done }) = (path.display(), doing);
                match error.kind() {
                    ErrorKind::WouldBlock => tracing::info!(%lock, "another process {it}; waiting for its end"),
                    _ => tracing::error!(%lock, %error, "nothing is {done}: the lock cannot be made; trying again"),
                }
            }
            clock::sleep(LOOK_EVERY, stop);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTING: Doing = Doing { it: "tests", done: "tested" };

    #[test]
    fn p11_one_works_and_the_other_waits_for_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/lock");
        let first = Lock::wait(&path, TESTING, &|| false).unwrap();
        assert_eq!(Lock::take(&path).err().unwrap().kind(), ErrorKind::WouldBlock);
        assert!(Lock::wait(&path, TESTING, &|| true).is_none());
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Lock::wait(&path, TESTING, &|| false).is_some()
        });
        drop(first);
        assert!(waiting.join().unwrap());
    }
}
