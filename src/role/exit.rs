//! How the program ends (contract P2).

use std::process::ExitCode;

use super::printing::complain;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// A negative result: a gap, not verified, damage, a broken invariant, an unknown conversion.
    Negative,
    /// Bad usage, or anything named in the config.
    Usage,
    /// Spool or database I/O.
    Io,
    /// Everything else.
    Internal,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

impl Exit {
    /// The numbers of sysexits.h where it has one.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Negative => 1,
            Exit::Usage => 64,
            Exit::Internal => 70,
            Exit::Io => 74,
        }
    }
}

/// Why a role could not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn usage(message: impl std::fmt::Display) -> Failure {
        Failure { exit: Exit::Usage, message: message.to_string() }
    }

    pub fn io(message: impl std::fmt::Display) -> Failure {
        Failure { exit: Exit::Io, message: message.to_string() }
    }

    pub fn internal(message: impl std::fmt::Display) -> Failure {
        Failure { exit: Exit::Internal, message: message.to_string() }
    }
}

/// Says why on stderr, if there is a why, and gives the exit code.
pub fn report(result: Result<Exit, Failure>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            complain(&failure.message);
            failure.exit.into()
        }
    }
}
