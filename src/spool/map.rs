//! Shared file mappings: the only unsafe code of the program.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// A file's bytes, shared with everybody who maps it. The file is never made shorter while it is mapped: segments and
/// control files get their length before and are only ever unlinked.
pub struct Map {
    start: NonNull<u8>,
    bytes: usize,
    /// Memory of a test instead of a file: Miri knows no file mappings.
    #[cfg(test)]
    is_memory: bool,
}

// SAFETY: the mapping belongs to this value until it is dropped; every access goes through atomics or through `copy`,
// whose callers write disjoint ranges (see there).
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `bytes` of the file, which is at least that long, readable and writable.
    pub fn shared(file: &File, bytes: usize) -> io::Result<Map> {
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
        let start = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Map {
            start,
            bytes,
            #[cfg(test)]
            is_memory: false,
        })
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Tells the kernel to fault single pages: otherwise each sync writes whole large folios. Before the first touch.
    pub fn advise_random(&self) -> io::Result<()> {
        // SAFETY: the range is our own mapping; MADV_RANDOM changes no content.
        unsafe { madvise(self.start.as_ptr().cast(), self.bytes, Advice::Random)? };
        Ok(())
    }

    /// The aligned word at `offset`.
    ///
    /// Panics beyond the mapping or where it is not aligned: a bug of this module, never input.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes);
        // SAFETY: in bounds and aligned (mappings start at a page); the memory lives as long as `self`, and all access to
        // words is atomic.
        unsafe { &*self.start.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    /// Copies `from` to `offset`.
    ///
    /// Only the holder of a spool's writer lock calls this, for bytes behind the last commit word, which no reader in
    /// this process looks at: readers use pread.
    pub fn copy(&self, offset: usize, from: &[u8]) {
        assert!(offset.checked_add(from.len()).is_some_and(|end| end <= self.bytes));
        // SAFETY: in bounds; the source is a live slice that cannot overlap a mapping nobody has a slice of.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.start.as_ptr().add(offset), from.len()) };
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        #[cfg(test)]
        if self.is_memory {
            // SAFETY: allocated by `memory` with this layout, and nothing borrows from it any more.
            return unsafe { std::alloc::dealloc(self.start.as_ptr(), tests::layout(self.bytes)) };
        }
        // SAFETY: the mapping is ours and nothing borrows from it any more. An error would leave it mapped: harmless.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Run these under Miri too: `cargo +nightly miri test --lib spool::map`.
#[cfg(test)]
mod tests {
    use std::alloc::Layout;
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

    use super::*;

    pub fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 4_096).unwrap()
    }

    fn memory(bytes: usize) -> Map {
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout(bytes)) }).unwrap();
        Map { start, bytes, is_memory: true }
    }

    #[test]
    fn who_sees_the_commit_word_reads_the_bytes_before_it() {
        let map = memory(8_192);
        const RECORDS: usize = 50;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for record in 0..RECORDS {
                    map.copy(record * 24 + 8, &[record as u8 + 1; 16]);
                    map.word(record * 24).store(1, Release);
                }
            });
            for record in 0..RECORDS {
                while map.word(record * 24).load(Acquire) == 0 {
                    std::thread::yield_now();
                }
                let whole = u64::from_le_bytes([record as u8 + 1; 8]);
                assert_eq!(map.word(record * 24 + 8).load(Relaxed), whole);
                assert_eq!(map.word(record * 24 + 16).load(Relaxed), whole);
            }
        });
    }

    #[test]
    #[should_panic]
    fn nothing_is_written_behind_the_end() {
        memory(4_096).copy(4_090, &[0; 7]);
    }

    #[test]
    #[should_panic]
    fn no_word_is_split_over_the_end() {
        memory(4_096).word(4_096);
    }
}
