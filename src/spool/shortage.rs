//! Errors that are about the process or the machine, and say nothing of what is on disk: no descriptor left, no memory.
//! They pass. Whoever meets one waits and asks again, however long; nothing is ever called lost, damaged or absent for it.

use std::io;

use rustix::io::Errno;

pub fn is_shortage(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM].iter().any(|short| error.raw_os_error() == Some(short.raw_os_error()))
}
