//! Files in memory that are used again: a new one costs the system a page for every 4 KB, which takes
//! longer than copying what goes into them.
//!
//! What a file held before is still in it. Whoever reads knows how much was written this time.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::MemfdFlags;

/// Files kept for later (LIMIT: times `KEPT_BYTES_MAX` is the memory that idles).
const KEPT_MAX: usize = 8;
/// A larger file is given back to the system.
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// The files that wait to be used again.
#[derive(Debug, Default)]
pub struct MemoryFiles {
    free: Mutex<Vec<File>>,
}

impl MemoryFiles {
    /// A file in memory, with whatever it held before.
    pub fn take(self: &Arc<Self>) -> io::Result<MemoryFile> {
        let free = self.free.lock().pop();
        let file = match free {
            Some(file) => file,
            None => new_file()?,
        };
        Ok(MemoryFile {
            file,
            files: Arc::clone(self),
        })
    }
}

/// A file in memory; dropping it keeps it for the next.
#[derive(Debug)]
pub struct MemoryFile {
    /// Nobody else has it; the shelf gets another handle of the same file.
    file: File,
    files: Arc<MemoryFiles>,
}

impl MemoryFile {
    /// The file, which is not used again.
    pub fn into_file(mut self) -> io::Result<File> {
        self.files = Arc::default();
        self.file.try_clone()
    }
}

/// A file in memory with these bytes.
pub(crate) fn file_of(bytes: &[u8]) -> io::Result<File> {
    let file = new_file()?;
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

fn new_file() -> io::Result<File> {
    let file = rustix::fs::memfd_create("pyserver-codec", MemfdFlags::CLOEXEC)?;
    Ok(File::from(file))
}

impl Deref for MemoryFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let small = self
            .file
            .metadata()
            .is_ok_and(|state| state.len() <= KEPT_BYTES_MAX);
        if !small || self.files.free.lock().len() >= KEPT_MAX {
            return;
        }
        // Without a handle to spare it is given back to the system.
        if let Ok(file) = self.file.try_clone() {
            self.files.free.lock().push(file);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_used_again_unless_it_is_large() {
        let files = Arc::new(MemoryFiles::default());
        let first = files.take().unwrap();
        first.write_all_at(b"before", 0).unwrap();
        let number = first.metadata().unwrap().ino();
        let second = files.take().unwrap();
        assert_ne!(second.metadata().unwrap().ino(), number);
        drop(first);
        let again = files.take().unwrap();
        assert_eq!(again.metadata().unwrap().ino(), number);
        let kept = files.take().unwrap().into_file().unwrap();
        assert_ne!(kept.metadata().unwrap().ino(), number);
        assert!(files.free.lock().is_empty());
        again.set_len(KEPT_BYTES_MAX + 1).unwrap();
        drop(again);
        assert!(files.free.lock().is_empty());
    }
}
