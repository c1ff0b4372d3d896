//! The narrow seam below everything that is written: a handful of file operations, so that a test can be the
//! disk (fail the N-th operation, or stop there as a crash does).
//!
//! Paths are absolute. Reading goes past the seam: it cannot lose anything. No operation is ever retried here;
//! in particular a failed sync is an answer, not a reason to try again (the kernel may have dropped the pages).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Rights of files that hold patients' data.
const FILE_MODE: u32 = 0o640;
/// `statfs` of ext2, ext3 and ext4.
pub(crate) const EXT4: rustix::fs::FsWord = 0xEF53;
/// `statfs` of XFS.
pub(crate) const XFS: rustix::fs::FsWord = 0x5846_5342;
/// File systems that overwrite blocks in place, and whose sync of any file flushes the cache of the one device that
/// holds them all.
const SYNC_FLUSHES_DEVICE: [rustix::fs::FsWord; 2] = [EXT4, XFS];
/// Rights of their folders.
const FOLDER_MODE: u32 = 0o750;

/// A file being written.
#[derive(Debug)]
pub struct BlobFile {
    /// The open file.
    pub file: File,
    /// Where it was created.
    pub path: PathBuf,
}

/// What the archive asks of a disk when it changes something.
pub trait Disk: Send + Sync + 'static {
    /// Creates a file that must not exist yet.
    fn create(&self, path: &Path) -> io::Result<BlobFile>;
    /// Writes all bytes at an offset.
    fn write_at(&self, blob: &BlobFile, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Asks the kernel to start writing a range out; a hint.
    fn start_write_back(&self, blob: &BlobFile, range: Range<u64>);
    /// Has the device take a range in and waits until it has. Where `sync_covers` says so, the next sync of another
    /// file makes it survive a power cut; blocks that were never written before are not promised.
    fn write_through(&self, blob: &BlobFile, range: Range<u64>) -> io::Result<()>;
    /// Whether the sync of a file beside `synced` also makes safe what was written through in a file beside `other`.
    fn sync_covers(&self, synced: &File, other: &File) -> bool;
    /// Makes the file so long.
    fn set_length(&self, blob: &BlobFile, length: u64) -> io::Result<()>;
    /// Has the kernel write a file out and waits until it has; a hint that promises nothing.
    fn write_out(&self, path: &Path);
    /// The content, and the name for a new file where the file system needs no more, survive a power cut.
    fn sync(&self, blob: &BlobFile) -> io::Result<()>;
    /// A folder's names survive a power cut.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Everything written to the file system so far survives a power cut. `root` was opened before the writes,
    /// so that the kernel reports every failure since.
    fn sync_file_system(&self, root: &File) -> io::Result<()>;
    /// Makes a symbolic link.
    fn link(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// Puts a file in another's place, or under a new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and its parents.
    fn create_folders(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder if it is empty.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Free bytes of the file system that an open folder is on.
    fn free_bytes(&self, root: &File) -> io::Result<u64>;
    /// Passed before and after each commit of the index, so that a test can crash there.
    fn commit_point(&self) -> io::Result<()>;
}

/// The operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<BlobFile> {
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(BlobFile {
            file,
            path: path.to_path_buf(),
        })
    }

    fn write_at(&self, blob: &BlobFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        blob.file.write_all_at(bytes, offset)
    }

    fn start_write_back(&self, blob: &BlobFile, range: Range<u64>) {
        let _hint = sync_range(&blob.file, range, libc::SYNC_FILE_RANGE_WRITE);
    }

    fn write_through(&self, blob: &BlobFile, range: Range<u64>) -> io::Result<()> {
        let before_and_after = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        sync_range(&blob.file, range, before_and_after)
    }

    fn sync_covers(&self, synced: &File, other: &File) -> bool {
        let place = |file| Some((rustix::fs::fstat(file).ok()?.st_dev, fs_type(file)?));
        match (place(synced), place(other)) {
            (Some(a), Some(b)) => a == b && SYNC_FLUSHES_DEVICE.contains(&a.1),
            _ => false,
        }
    }

    fn set_length(&self, blob: &BlobFile, length: u64) -> io::Result<()> {
        blob.file.set_len(length)
    }

    fn write_out(&self, path: &Path) {
        // Gone or moved meanwhile: then there is nothing to write out under this name.
        if let Ok(file) = File::open(path) {
            let and_wait = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
            let _hint = sync_range(&file, 0..0, and_wait);
        }
    }

    fn sync(&self, blob: &BlobFile) -> io::Result<()> {
        blob.file.sync_data()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_file_system(&self, root: &File) -> io::Result<()> {
        rustix::fs::syncfs(root).map_err(Into::into)
    }

    fn link(&self, target: &Path, link: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, link)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_folders(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn free_bytes(&self, root: &File) -> io::Result<u64> {
        let facts = rustix::fs::fstatvfs(root)?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    fn commit_point(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The kind of file system a file is on.
pub(crate) fn fs_type(file: &File) -> Option<rustix::fs::FsWord> {
    rustix::fs::fstatfs(file).ok().map(|facts| facts.f_type)
}

/// `sync_file_range`: writes data out, no metadata, and flushes nothing. An empty range at 0 reaches to the end.
fn sync_range(file: &File, range: Range<u64>, flags: libc::c_uint) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = range.end.saturating_sub(range.start);
    let (Ok(offset), Ok(length)) = (i64::try_from(range.start), i64::try_from(length)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: the descriptor is open for the whole call, and the call touches no memory of ours.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_created_once_and_renamed_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let disk = SystemDisk;
        let deep = folder.path().join("a/b");
        disk.create_folders(&deep).unwrap();
        let blob = disk.create(&deep.join("x.part")).unwrap();
        disk.write_at(&blob, b"hello", 3).unwrap();
        disk.start_write_back(&blob, 0..8);
        disk.write_through(&blob, 0..8).unwrap();
        disk.set_length(&blob, 100).unwrap();
        disk.set_length(&blob, 8).unwrap();
        assert!(disk.write_through(&blob, u64::MAX - 1..u64::MAX).is_err());
        let elsewhere = File::open("/proc").unwrap();
        assert!(!disk.sync_covers(&blob.file, &elsewhere));
        disk.write_out(&blob.path);
        disk.write_out(&deep.join("none"));
        disk.sync(&blob).unwrap();
        disk.sync_folder(&deep).unwrap();
        assert_eq!(
            disk.create(&deep.join("x.part")).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        fs::write(deep.join("y"), b"old").unwrap();
        disk.rename(&blob.path, &deep.join("y")).unwrap();
        assert_eq!(fs::read(deep.join("y")).unwrap(), b"\0\0\0hello");
        assert!(disk.remove_folder(&deep).is_err());
        disk.remove(&deep.join("y")).unwrap();
        disk.remove_folder(&deep).unwrap();
    }
}
