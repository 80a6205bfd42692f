//! `afflux pass SPOOL FIRST LAST --reason TEXT`, where the store is configured.

use std::path::Path;

use super::printing::printed;
use super::{Exit, Failure, books, configured, place, reship};
use crate::report::command::{self, CommandError};
use crate::report::reconcile::{self, Range, Wish};
use crate::store::Store;

pub fn pass(
    file: Option<&Path>,
    spool: &str,
    (first, last): (u64, u64),
    reason: &str,
    even_if_late: bool,
) -> Result<Exit, Failure> {
    let config = configured(file)?;
    let range = Range { spool: reship::named(spool)?, first, last };
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().any(char::is_control) {
        return Err(Failure::usage("--reason: a line of text is allowed"));
    }
    let store = place::place(&config).map_err(Failure::usage)?;
    printed(|out| {
        // A store that is not there, or of another version, is not made by this.
        drop(command::open(&store)?);
        let mut writer = Store::open(&store).map_err(CommandError::Open)?;
        let (disk, asked) = (books::disk(&config)?, books::asked(&config, &store));
        reconcile::pass(&mut writer, &disk, asked, Wish { range, reason, even_if_late }, out)
    })
}
