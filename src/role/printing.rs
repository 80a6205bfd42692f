//! What commands print, and how its failure ends them (contract P2): 74 on a full device, 0 when the reader has gone, as
//! `afflux spool cat | head` is no failure.

use std::io::{self, BufWriter, ErrorKind, Write};

use super::{Exit, Failure};
use crate::report::command::{CommandError, Verdict};

/// Lets `work` write to stdout. The verdict is the exit code when all was written.
pub fn printed(work: impl FnOnce(&mut dyn Write) -> Result<Verdict, CommandError>) -> Result<Exit, Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let result = work(&mut out).and_then(|verdict| Ok(out.flush().map(|()| verdict)?));
    match result {
        Ok(Verdict::Good) => Ok(Exit::Ok),
        Ok(Verdict::Bad) => Ok(Exit::Negative),
        Err(CommandError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(error) => Err(Failure::io(error)),
    }
}

/// Says it on stderr. Where that is closed or full there is nobody left to tell, and the exit code says enough.
pub fn complain(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// stderr for whoever writes many lines; as for `complain`, what cannot be told is no failure.
pub struct Complaints;

impl Write for Complaints {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
