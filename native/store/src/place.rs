//! Puts a committed object's file where the index says it is.
//!
//! A new file is created under its final name or renamed to it; a re-store is written beside and renamed over
//! the old file, so that at every moment one whole file stands there. A file that the index does not know is
//! never overwritten: it is moved aside under a name of its own. Durability is not decided here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blob::Disk;
use crate::device::Device;
use crate::error::StoreError;

/// The reaper may remove an empty folder between its creation and its use; this often it is made again.
const FOLDER_TRIES: usize = 8;
/// Added to the name of a file that stands where a new object belongs.
const ASIDE_SUFFIX: &str = ".unknown";

/// Where a file goes.
pub(crate) struct Place<'a> {
    pub disk: &'a Arc<dyn Disk>,
    pub device: &'a Device,
    /// Final name on the device.
    pub file: &'a str,
    /// Whether a file standing there is an older one of this name's owner, to be replaced.
    pub replace: bool,
}

impl Place<'_> {
    /// Writes a small file from memory. `sync` makes its bytes durable before they replace older ones.
    pub(crate) fn bytes(&self, bytes: &[u8], sync: bool) -> Result<(), StoreError> {
        let path = self.device.path(self.file);
        self.device.take_room(bytes.len() as u64);
        if !self.replace {
            match self.create(&path, bytes) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::io("create", &path, error)),
                Ok(()) => return Ok(()),
            }
        }
        let temp = self.device.temp_path(&self.device.temp_name());
        let written = self
            .write_new(&temp, bytes, sync)
            .map_err(|e| StoreError::io("write", &temp, e))
            .and_then(|()| self.renamed(&temp));
        if written.is_err() {
            let _left = self.disk.remove(&temp);
        }
        written
    }

    /// Renames a file of the private folder.
    pub(crate) fn renamed(&self, temp: &Path) -> Result<(), StoreError> {
        let path = self.device.path(self.file);
        if !self.replace && path.symlink_metadata().is_ok() {
            self.move_aside(&path)?;
        }
        self.with_folders(&path, || self.disk.rename(temp, &path))
            .map_err(|e| StoreError::io("rename", &path, e))
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.with_folders(path, || self.write_new(path, bytes, false))
    }

    /// Creates a file and writes it; what could not be written whole is removed.
    fn write_new(&self, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
        let blob = self.disk.create(path)?;
        let written = self.disk.write_at(&blob, bytes, 0);
        let written = written.and_then(|()| if sync { self.disk.sync(&blob) } else { Ok(()) });
        if written.is_err() {
            let _left = self.disk.remove(path);
        }
        written
    }

    /// Runs an operation on a path, making its folders when they are missing.
    fn with_folders(&self, path: &Path, operation: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut result = operation();
        for _ in 0..FOLDER_TRIES {
            let missing = matches!(&result, Err(e) if e.kind() == io::ErrorKind::NotFound);
            let Some(folder) = path.parent().filter(|_| missing) else {
                break;
            };
            self.disk.create_folders(folder)?;
            result = operation();
        }
        result
    }

    fn move_aside(&self, path: &Path) -> Result<(), StoreError> {
        let mut number = 0_u32;
        let aside = loop {
            let mut name = path.as_os_str().to_owned();
            name.push(format!("{ASIDE_SUFFIX}{number}"));
            let aside = PathBuf::from(name);
            if aside.symlink_metadata().is_err() {
                break aside;
            }
            number += 1;
        };
        self.disk
            .rename(path, &aside)
            .map_err(|e| StoreError::io("rename", path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::SystemDisk;
    use std::fs;

    #[test]
    fn files_are_created_replaced_and_strangers_kept() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let device = Device::open(0, folder.path(), &SystemDisk).unwrap();
        let place = |replace| Place {
            disk: &disk,
            device: &device,
            file: "a/b/c.dcm",
            replace,
        };
        let path = device.path("a/b/c.dcm");
        place(false).bytes(b"one", false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        place(true).bytes(b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        place(false).bytes(b"three", false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        let temp = device.temp_path("t.part");
        fs::write(&temp, b"four").unwrap();
        place(false).renamed(&temp).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"four");
        let aside = |n| fs::read(device.path(&format!("a/b/c.dcm.unknown{n}"))).unwrap();
        assert_eq!((aside(0), aside(1)), (b"two".to_vec(), b"three".to_vec()));
        assert_eq!(fs::read_dir(device.temp_folder()).unwrap().count(), 0);
    }
}
