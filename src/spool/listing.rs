//! Which segments a spool directory holds, and which of them count.
//!
//! The chain is walked by index: a segment takes the place of every earlier one that begins where it begins or behind
//! it, for its records were written again in it. A segment without a valid header takes nobody's place: its name is no
//! index. It is a stray, read only where the chain has a hole.
//!
//! A file that cannot be opened or read now is an error of the whole listing: what it holds is not known, and a listing
//! without it would make its records lost.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::SpoolId;
use super::format::{self, HEADER_BYTES, SegmentHeader, Tally};
use super::search;
use super::segment::SUFFIX;
use super::shortage::is_shortage;

/// What recovery makes of a file's name that it cannot use.
pub const ASIDE: &str = "damaged";

/// A segment that was used. `first_seq` up to the next one's is what counts in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub path: PathBuf,
    pub index: u64,
    pub first_seq: u64,
    pub former: Tally,
    pub former_newest_ms: i64,
    pub bytes: u64,
    /// Bytes behind the header that should be zero are not.
    pub scratched: bool,
}

/// Records without a valid header: a damaged one, or one that was never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub path: PathBuf,
    pub first_seq: u64,
    pub bytes: u64,
}

/// A file that no record is known of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    pub path: PathBuf,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The chain: indices and first numbers ascend.
    pub segments: Vec<Listed>,
    /// Segments whose place others took.
    pub replaced: Vec<Listed>,
    pub strays: Vec<Stray>,
    /// Empty where a header and a first record would stand: made ahead, as far as one look tells.
    pub unused: Vec<Rest>,
    /// Neither header nor first record can be read.
    pub unplaced: Vec<Rest>,
    /// No file, or shorter than it was a moment before.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Put aside by recovery as damaged.
    pub aside: Vec<PathBuf>,
}

/// One look at each file.
pub fn list(directory: &Path, spool: SpoolId) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(SUFFIX) => listing.look(path, spool)?,
            Some(ASIDE) => listing.aside.push(path),
            _ => {}
        }
    }
    listing.aside.sort();
    listing.strays.sort_by_key(|stray| stray.first_seq);
    listing.walk();
    Ok(listing)
}

impl Listing {
    fn look(&mut self, path: PathBuf, spool: SpoolId) -> io::Result<()> {
        match look(&path, spool) {
            Ok(Look::Used(segment)) => self.segments.push(segment),
            Ok(Look::Stray(stray)) => self.strays.push(stray),
            Ok(Look::Unused(bytes)) => self.unused.push(Rest { path, bytes }),
            Ok(Look::Unplaced(bytes)) => self.unplaced.push(Rest { path, bytes }),
            // Deleted between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if is_about_the_file(&error) => self.unreadable.push((path, error.to_string())),
            // Whoever looks at the error for a shortage finds it as it came.
            Err(error) if is_shortage(&error) => return Err(error),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
        Ok(())
    }

    /// Leaves in `segments` what counts.
    fn walk(&mut self) {
        let mut all = std::mem::take(&mut self.segments);
        all.sort_by(|one, other| (one.index, &one.path).cmp(&(other.index, &other.path)));
        for segment in all {
            while let Some(earlier) = self.segments.pop_if(|earlier| earlier.first_seq >= segment.first_seq) {
                self.replaced.push(earlier);
            }
            self.segments.push(segment);
        }
    }

    /// Looks through all of every file that one look could not place. True when records were found.
    pub fn dig(&mut self, spool: SpoolId) -> io::Result<bool> {
        let mut found = Vec::new();
        for rest in self.unused.iter().chain(&self.unplaced) {
            let file = match File::open(&rest.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            if let Some((_, first_seq)) = search::next_record(&file, spool, HEADER_BYTES as u64, 0..u64::MAX)? {
                found.push(Stray { path: rest.path.clone(), first_seq, bytes: rest.bytes });
            }
        }
        let any = !found.is_empty();
        self.remember(found);
        Ok(any)
    }

    /// Takes over what was found by digging, where the file still is what it was.
    pub fn remember(&mut self, strays: Vec<Stray>) {
        for stray in strays {
            let is_it = |rest: &Rest| rest.path == stray.path && rest.bytes == stray.bytes;
            if self.unused.iter().chain(&self.unplaced).any(is_it) {
                self.unused.retain(|rest| rest.path != stray.path);
                self.unplaced.retain(|rest| rest.path != stray.path);
                self.strays.push(stray);
            }
        }
        self.strays.sort_by_key(|stray| stray.first_seq);
    }

    /// Records are missing between the first that should be there and the last segment.
    pub fn has_hole(&self, spool: SpoolId, first_due: u64) -> io::Result<bool> {
        if self.segments.first().is_some_and(|first| first.first_seq > first_due) {
            return Ok(true);
        }
        for pair in self.segments.windows(2) {
            let (segment, next) = (&pair[0], &pair[1]);
            let last = next.first_seq - 1;
            // Sealed with what lies between, or holding it although it was sealed by another: a rescue that was killed.
            let is_sealed = next.first_seq - segment.first_seq == next.former.records;
            if !is_sealed && !holds(&segment.path, spool, last)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Bytes of all files of the spool.
    pub fn bytes(&self) -> u64 {
        let used = self.segments.iter().chain(&self.replaced).map(|segment| segment.bytes);
        let rest = self.unused.iter().chain(&self.unplaced).map(|rest| rest.bytes);
        used.chain(rest).chain(self.strays.iter().map(|stray| stray.bytes)).sum()
    }

    /// No record of it is known.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.strays.is_empty() && self.unplaced.is_empty() && self.unreadable.is_empty()
    }
}

fn holds(path: &Path, spool: SpoolId, seq: u64) -> io::Result<bool> {
    let found = search::next_record(&File::open(path)?, spool, HEADER_BYTES as u64, seq..seq + 1)?;
    Ok(found.is_some())
}

/// Asked again, the answer would be the same, and no disk has to do with it.
fn is_about_the_file(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}

enum Look {
    Used(Listed),
    Stray(Stray),
    Unused(u64),
    Unplaced(u64),
}

fn look(path: &Path, spool: SpoolId) -> io::Result<Look> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let bytes = metadata.len();
    let mut head = vec![0; HEADER_BYTES.min(bytes as usize)];
    file.read_exact_at(&mut head, 0)?;
    if let Some(header) = SegmentHeader::decode(&head).filter(|header| header.spool == spool) {
        return Ok(Look::Used(Listed {
            path: path.to_owned(),
            index: header.index,
            first_seq: header.first_seq,
            former: header.former,
            former_newest_ms: header.former_newest_ms,
            bytes,
            scratched: head[SegmentHeader::BYTES - 4..].iter().any(|byte| *byte != 0),
        }));
    }
    first_record(path, &file, spool, bytes, head.iter().all(|byte| *byte == 0))
}

fn first_record(path: &Path, file: &File, spool: SpoolId, bytes: u64, headless: bool) -> io::Result<Look> {
    let offset = HEADER_BYTES as u64;
    let length = bytes.saturating_sub(offset).min(1 << 20) as usize;
    let mut start = vec![0; if headless { length.min(8) } else { length }];
    file.read_exact_at(&mut start, offset)?;
    if headless && start.iter().all(|byte| *byte == 0) {
        return Ok(Look::Unused(bytes));
    }
    start.resize(length, 0);
    file.read_exact_at(&mut start, offset)?;
    Ok(match format::read(spool, 0, &start) {
        format::Found::Record { seq, .. } => Look::Stray(Stray { path: path.to_owned(), first_seq: seq, bytes }),
        _ => Look::Unplaced(bytes),
    })
}
