//! Links by the million: NDJSON, one object a line, the fields of a link (contract P19).
//!
//! The file is cut into blocks at line ends. Blocks are parsed and judged by a few threads and put into the table in
//! order by one, so that of a code that stands twice the second line is named.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::thread;

use super::build::Linkable;
use super::link_line::{Line, Wrong};
use super::links::{Link, Links, Records};
use super::{OfferId, PublisherId};
use crate::toml_reader::{MOST_VIOLATIONS, Violation, Violations};

/// A line holds a code, two numbers and a URL of at most 2,048 bytes, percent-encoded or escaped.
const LONGEST_LINE: usize = 64 * 1024;
const BLOCK_BYTES: usize = 4 << 20;
/// More would wait for the one that fills the table.
const MOST_THREADS: usize = 4;

/// Adds every link of the file; violations name file and line. Stops at the hundredth.
pub fn read(
    path: &Path,
    file: File,
    linkable: Linkable<'_>,
    links: &mut Links,
    violations: &RefCell<Violations>,
) -> io::Result<()> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let mut blocks = Blocks { file, carry: Vec::new(), ended: false };
    let mut line = 0;
    loop {
        let round = blocks.next(threads)?;
        if round.is_empty() || violations.borrow().is_full() {
            return Ok(());
        }
        for parsed in parse_all(&round, linkable) {
            let add = |(number, (key, message)): (usize, Wrong)| {
                let violation =
                    Violation { file: path.to_owned(), line: line + number, key: key.into_owned(), message };
                violations.borrow_mut().add(violation);
            };
            parsed.wrong.into_iter().for_each(add);
            for record in parsed.records.iter() {
                if let Err(error) = links.add_record(&record) {
                    add((record.line, ("code".into(), format!("{:?}: {error}, once is allowed", record.code()))));
                }
            }
            line += parsed.lines;
        }
    }
}

/// A block's links; lines count from 1 within it.
#[derive(Default)]
struct Parsed {
    records: Records,
    wrong: Vec<(usize, Wrong)>,
    lines: usize,
}

fn parse_all(round: &[Vec<u8>], linkable: Linkable<'_>) -> Vec<Parsed> {
    thread::scope(|scope| {
        let threads: Vec<_> = round.iter().map(|block| scope.spawn(move || parse(block, linkable))).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|parsed| parsed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn parse(block: &[u8], linkable: Linkable<'_>) -> Parsed {
    let mut parsed = Parsed::default();
    for line in block.split_inclusive(|byte| *byte == b'\n') {
        parsed.lines += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong = parse_line(line, parsed.lines, linkable, &mut parsed.records);
        parsed.wrong.extend(wrong.into_iter().map(|wrong| (parsed.lines, wrong)));
        if parsed.wrong.len() >= MOST_VIOLATIONS {
            break;
        }
    }
    parsed
}

/// What is wrong with the line. A code that is one is put down even then, so that a second one is told at once.
fn parse_line(bytes: &[u8], number: usize, linkable: Linkable<'_>, records: &mut Records) -> Vec<Wrong> {
    if bytes.len() > LONGEST_LINE {
        return vec![("".into(), format!("over {LONGEST_LINE} bytes, shorter lines are allowed"))];
    }
    let Line { code, offer_id, publisher_id, url, mut wrong } = Line::read(bytes);
    let url = linkable.judge(offer_id, publisher_id, url.as_deref(), |key, message| wrong.push((key.into(), message)));
    if let Some(code) = &code {
        let (offer_id, publisher_id) = (offer_id.unwrap_or(OfferId(0)), publisher_id.unwrap_or(PublisherId(0)));
        let link = Link { code, offer_id, publisher_id, url: url.as_deref() };
        wrong.extend(records.push(link, number).err().map(|error| ("code".into(), error.to_string())));
    }
    wrong
}

struct Blocks {
    file: File,
    /// The beginning of a line whose end is in the next block.
    carry: Vec<u8>,
    ended: bool,
}

impl Blocks {
    /// Up to `count` blocks of whole lines; none at the end of the file.
    fn next(&mut self, count: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut round = Vec::with_capacity(count);
        while round.len() < count && !self.ended {
            let mut block = std::mem::take(&mut self.carry);
            let read = (&mut self.file).take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
            match memchr::memrchr(b'\n', &block) {
                Some(at) if read > 0 => self.carry = block.split_off(at + 1),
                // The end, or one line as long as a block, behind which nothing can be made out.
                _ => self.ended = true,
            }
            if !block.is_empty() {
                round.push(block);
            }
        }
        Ok(round)
    }
}
