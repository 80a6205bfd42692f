//! Finding valid records behind damage, and telling an empty file from a damaged one.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::SpoolId;
use super::format::{self, Found, MAX_SEQ, RECORD_HEAD_BYTES};

/// Read at once: little at first, as the next record is near most of the time. So a search takes as long as the next
/// record is far, however long the file is and however often it is searched.
const FIRST_WINDOW_BYTES: usize = 8 * 1024;
const WINDOW_BYTES: usize = 256 * 1024;

/// The first valid record at or behind `offset`, which is aligned, with one of `numbers`: its offset and number.
pub fn next_record(
    file: &File,
    spool: SpoolId,
    mut offset: u64,
    numbers: Range<u64>,
) -> io::Result<Option<(u64, u64)>> {
    let numbers = numbers.start..numbers.end.min(MAX_SEQ + 1);
    let end = file.metadata()?.len();
    let mut window = vec![0; FIRST_WINDOW_BYTES];
    while offset < end {
        let read = read_up_to(file, &mut window, offset)?;
        // Heads that go on behind the window are looked at in the next one.
        let last = read.saturating_sub(RECORD_HEAD_BYTES) & !7;
        for at in (0..=last).step_by(8) {
            let Some(seq) = plausible(&window[at..read], &numbers, end - offset - at as u64) else { continue };
            if is_record(file, spool, seq, &window[at..read], offset + at as u64)? {
                return Ok(Some((offset + at as u64, seq)));
            }
        }
        if read < window.len() {
            break;
        }
        offset += last as u64 + 8;
        window.resize((window.len() * 4).min(WINDOW_BYTES), 0);
    }
    Ok(None)
}

/// The number that stands here, if a record of that number may.
fn plausible(bytes: &[u8], numbers: &Range<u64>, left: u64) -> Option<u64> {
    let head = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    if head == 0 {
        return None;
    }
    let seq = u64::from_le_bytes(*bytes.get(8..)?.first_chunk::<8>()?);
    let length = u64::from(head as u32);
    (length > 0 && length + RECORD_HEAD_BYTES as u64 <= left && numbers.contains(&seq)).then_some(seq)
}

fn is_record(file: &File, spool: SpoolId, seq: u64, window: &[u8], offset: u64) -> io::Result<bool> {
    match format::read(spool, seq, window) {
        Found::Record { seq: found, .. } => Ok(found == seq),
        Found::More => {
            let length = u32::from_le_bytes(*window.first_chunk().unwrap_or(&[0; 4])) as usize;
            let mut whole = vec![0; RECORD_HEAD_BYTES + length];
            let read = read_up_to(file, &mut whole, offset)?;
            Ok(matches!(format::read(spool, seq, &whole[..read]), Found::Record { seq: found, .. } if found == seq))
        }
        Found::End | Found::Nothing | Found::Invalid => Ok(false),
    }
}

/// Nothing was ever written into it.
pub fn is_blank(file: &File) -> io::Result<bool> {
    let (mut offset, mut window) = (0, vec![0; WINDOW_BYTES]);
    loop {
        let read = read_up_to(file, &mut window, offset)?;
        if window[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        if read < WINDOW_BYTES {
            return Ok(true);
        }
        offset += read as u64;
    }
}

pub fn read_up_to(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const SPOOL: SpoolId = SpoolId(9);

    fn record(seq: u64, length: usize) -> Vec<u8> {
        let payload = vec![b'p'; length];
        let mut bytes = format::commit_word(SPOOL, seq, &payload).to_le_bytes().to_vec();
        bytes.extend_from_slice(&seq.to_le_bytes());
        bytes.extend_from_slice(&payload);
        bytes.resize(format::record_bytes(length), 0);
        bytes
    }

    #[test]
    fn a_record_is_found_wherever_it_stands() {
        let edges = [FIRST_WINDOW_BYTES, 5 * FIRST_WINDOW_BYTES, WINDOW_BYTES, 5 * WINDOW_BYTES];
        for gap in edges.into_iter().flat_map(|edge| edge - 32..edge + 16).filter(|gap| gap % 8 == 0).chain([0, 8]) {
            for length in [1, 1_000, 2 * WINDOW_BYTES] {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&vec![0xee; gap]).unwrap();
                file.write_all(&record(7, length)).unwrap();
                let found = |numbers| next_record(&file, SPOOL, 0, numbers).unwrap();
                assert_eq!(found(0..u64::MAX), Some((gap as u64, 7)), "gap {gap}, length {length}");
                assert_eq!(found(8..u64::MAX), None);
                assert_eq!(found(0..7), None);
                assert!(!is_blank(&file).unwrap());
            }
        }
    }

    #[test]
    fn zeros_are_blank_and_one_bit_is_not() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * WINDOW_BYTES as u64 + 5).unwrap();
        assert!(is_blank(&file).unwrap());
        file.write_all_at(&[1], 3 * WINDOW_BYTES as u64 + 4).unwrap();
        assert!(!is_blank(&file).unwrap());
    }
}
