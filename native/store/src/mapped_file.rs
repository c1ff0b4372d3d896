//! A file in memory that is mapped, so that bytes are put into it without a system call for each piece: a
//! page that is written through the system costs several times its copying.
//!
//! Another process reads the file, so its bytes are never looked at here: they are copied in, by us or by the
//! system, and read as those of any file. The file only grows, whoever has it, so that no page of the map can go away.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// A file grows by no less.
const GROWTH_MIN: usize = 256 * 1024;

/// The file and its map.
#[derive(Debug)]
pub(crate) struct MappedFile {
    file: File,
    map: Option<Map>,
}

#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    length: usize,
}

impl MappedFile {
    /// An empty file.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("pyserver-held", flags)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK)?;
        Ok(Self {
            file: File::from(file),
            map: None,
        })
    }

    /// Bytes it has memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.length)
    }

    /// Puts bytes at a place of the file, which grows if it must.
    ///
    /// Errors: there is no memory for it.
    pub(crate) fn write_at(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        let space = self.space(at, bytes.len())?;
        let start: *mut u8 = space.as_mut_ptr().cast();
        // SAFETY: both are of this length; `bytes` is memory of its own, of which the map is handed out to none
        // but who holds `self`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
        Ok(())
    }

    /// A place of the file for the system to put bytes; the file grows if it must. Nothing is to be read there.
    ///
    /// Errors: there is no memory for it.
    pub(crate) fn space(&mut self, at: usize, bytes: usize) -> io::Result<&mut [MaybeUninit<u8>]> {
        let end = at.checked_add(bytes).ok_or(io::ErrorKind::FileTooLarge)?;
        if end > self.capacity() {
            self.grow(end)?;
        }
        let Some(map) = &self.map else {
            return Ok(&mut []);
        };
        // SAFETY: `grow` has seen to it that the map reaches to `end`; its pages stay, since the file cannot shrink;
        // no other reference into the map is there while this one borrows `self`.
        Ok(unsafe { slice::from_raw_parts_mut(map.start.as_ptr().add(at).cast(), bytes) })
    }

    fn grow(&mut self, wanted: usize) -> io::Result<()> {
        let length = wanted
            .saturating_add(wanted / 4)
            .next_multiple_of(GROWTH_MIN);
        // Memory is asked for here, where a failure is an error and not a fault of the map.
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length as u64)?;
        drop(self.map.take());
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a map at an address that the system chooses touches no memory in use.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), length, protection, flags, &self.file, 0) }?;
        self.map = NonNull::new(start.cast()).map(|start| Map { start, length });
        Ok(())
    }
}

// SAFETY: the map belongs to this value alone, and threads do not matter to the system.
unsafe impl Send for Map {}
// SAFETY: nothing is read or written through a shared reference.
unsafe impl Sync for Map {}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: this map was made by `grow`, and no reference into it exists.
        let _kept = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

impl Deref for MappedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_put_in_is_in_the_file() {
        let mut file = MappedFile::new().unwrap();
        let mut expected = Vec::new();
        for (number, size) in [1, 100_000, 0, 300_000, 3, 1_000_000]
            .into_iter()
            .enumerate()
        {
            let piece = vec![number as u8 + 1; size];
            file.write_at(&piece, expected.len()).unwrap();
            expected.extend(piece);
        }
        file.write_at(b"over", 10).unwrap();
        for (place, byte) in file.space(14, 4).unwrap().iter_mut().zip(b"read") {
            place.write(*byte);
        }
        expected[10..18].copy_from_slice(b"overread");
        assert!(MappedFile::new().unwrap().space(0, 0).unwrap().is_empty());
        let mut found = vec![0; expected.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected);
        assert!(file.capacity() >= expected.len());
        // Who else has the file cannot take memory from under the map.
        assert!(file.set_len(1).is_err());
        assert!(file.write_at(b"x", usize::MAX).is_err());
    }
}
