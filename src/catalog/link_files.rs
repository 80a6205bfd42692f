//! Links by the million: NDJSON, one object a line, the fields of a link (contract P19).

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::build::Builder;
use super::entries::code_violation;
use super::{OfferId, PublisherId};
use crate::toml_reader::{MOST_VIOLATIONS, Violation};

/// A line holds a code, two numbers and a URL of at most 2,048 bytes, percent-encoded or escaped.
const LONGEST_LINE: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    offer_id: u32,
    publisher_id: u32,
    #[serde(borrow, default)]
    url: Option<Cow<'a, str>>,
}

/// Adds every link of the file; violations name file and line. Stops listing at the hundredth.
pub fn read(file: &Path, builder: &mut Builder<'_>) -> std::io::Result<()> {
    let mut lines = BufReader::with_capacity(1 << 20, File::open(file)?);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = std::io::Read::take(&mut lines, LONGEST_LINE).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        if let Err((key, message)) = add(&bytes, builder) {
            let violation = Violation { file: file.to_owned(), line: number, key: key.to_owned(), message };
            builder.violations().borrow_mut().add(violation);
            if builder.violations().borrow().listed.len() >= MOST_VIOLATIONS {
                break;
            }
        }
    }
    Ok(())
}

fn add(bytes: &[u8], builder: &mut Builder<'_>) -> Result<(), (&'static str, String)> {
    if bytes.len() as u64 == LONGEST_LINE {
        return Err(("", format!("over {LONGEST_LINE} bytes, shorter lines are allowed")));
    }
    let line: Line<'_> = serde_json::from_slice(bytes).map_err(|error| ("", format!("not a link: {error}")))?;
    if let Some(message) = code_violation(&line.code) {
        return Err(("code", message));
    }
    builder.add_link(&line.code, OfferId(line.offer_id), PublisherId(line.publisher_id), line.url.as_deref())
}
