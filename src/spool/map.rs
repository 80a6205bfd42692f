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
        Ok(Map { start, bytes })
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

    /// Bytes that were committed before, copied out. Same caller as `copy`.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset.checked_add(into.len()).is_some_and(|end| end <= self.bytes));
        // SAFETY: in bounds; nobody writes below the last commit word.
        unsafe { std::ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), into.as_mut_ptr(), into.len()) };
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrows from it any more. An error would leave it mapped: harmless.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
