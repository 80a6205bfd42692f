//! Which segments a spool directory holds, in the order of their chain.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::SpoolId;
use super::format::{self, HEADER_BYTES, SegmentHeader};
use super::segment::SUFFIX;

/// A segment that was used. `first_seq` up to the next one's is what counts in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub path: PathBuf,
    pub index: u64,
    pub first_seq: u64,
    pub former_newest_ms: i64,
    pub bytes: u64,
    /// The header was damaged and its content found from the first record.
    pub header_damaged: bool,
}

/// Segments in order, and files that were made ahead and never used.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub segments: Vec<Listed>,
    pub unused: Vec<PathBuf>,
    /// Files whose header is damaged beyond use: what they hold cannot be placed.
    pub lost: Vec<PathBuf>,
}

pub fn list(directory: &Path, spool: SpoolId) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != SUFFIX) {
            continue;
        }
        match look(&path, spool) {
            Ok(Look::Used(segment)) => listing.segments.push(segment),
            Ok(Look::Unused) => listing.unused.push(path),
            Ok(Look::Lost) => listing.lost.push(path),
            // Deleted between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    // A damaged header has no index: its first number places it.
    listing.segments.sort_by_key(|segment| (segment.first_seq, segment.index));
    // A segment that begins where a later one begins as well was written again there: it does not count.
    listing.segments.dedup_by(|later, earlier| {
        let replaced = later.first_seq == earlier.first_seq;
        if replaced {
            std::mem::swap(later, earlier);
        }
        replaced
    });
    Ok(listing)
}

enum Look {
    Used(Listed),
    Unused,
    Lost,
}

fn look(path: &Path, spool: SpoolId) -> io::Result<Look> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut head = vec![0; HEADER_BYTES.min(bytes as usize)];
    file.read_exact_at(&mut head, 0)?;
    let rest_is_zero = head.iter().skip(44).all(|byte| *byte == 0);
    if let Some(header) = SegmentHeader::decode(&head).filter(|header| header.spool == spool) {
        return Ok(Look::Used(Listed {
            path: path.to_owned(),
            index: header.index,
            first_seq: header.first_seq,
            former_newest_ms: header.former_newest_ms,
            bytes,
            header_damaged: !rest_is_zero,
        }));
    }
    if head.iter().all(|byte| *byte == 0) && first_word(&file, bytes)? == 0 {
        return Ok(Look::Unused);
    }
    found_by_first_record(path, &file, spool, bytes)
}

fn first_word(file: &File, bytes: u64) -> io::Result<u64> {
    let mut word = [0; 8];
    if bytes >= HEADER_BYTES as u64 + 8 {
        file.read_exact_at(&mut word, HEADER_BYTES as u64)?;
    }
    Ok(u64::from_le_bytes(word))
}

/// The first record knows its number, and nothing but its number is needed.
fn found_by_first_record(path: &Path, file: &File, spool: SpoolId, bytes: u64) -> io::Result<Look> {
    let length = bytes.saturating_sub(HEADER_BYTES as u64).min(1 << 20) as usize;
    let mut start = vec![0; length];
    file.read_exact_at(&mut start, HEADER_BYTES as u64)?;
    let index = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok()).unwrap_or(0);
    Ok(match format::read(spool, 0, &start) {
        format::Found::Record { seq, .. } => Look::Used(Listed {
            path: path.to_owned(),
            index,
            first_seq: seq,
            former_newest_ms: 0,
            bytes,
            header_damaged: true,
        }),
        _ => Look::Lost,
    })
}
