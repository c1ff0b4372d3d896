//! Marks on folders that files of relaxed stores are put into, so that a power cut leaves nothing half behind.
//!
//! Of a relaxed store a power cut may leave the file's name and nothing else: its bytes, its row and its record
//! in the journal were all with the system only. Therefore the first such file in a folder is preceded by a
//! mark, a symbolic link in the device's private folder that points to it. File systems that journal keep the
//! order of names, so no name outlives a cut without its mark. Start-up looks into marked folders, and nowhere
//! else, for files that have no row and are younger than the mark, and removes them. A mark goes when everything
//! behind it is settled.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::blob::Disk;
use crate::device::Device;
use crate::error::StoreError;
use crate::filename::{disk_name, name_of_disk};
use crate::index::Index;
use crate::reaper::remove_file;

/// One marked folder. Each store behind it holds one until it is settled.
pub(crate) struct Mark {
    link: PathBuf,
}

/// The marks in force.
pub(crate) struct FolderMarks {
    disk: Arc<dyn Disk>,
    marks: Mutex<HashMap<(u16, String), Arc<Mark>>>,
}

impl FolderMarks {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            marks: Mutex::default(),
        }
    }

    /// Marks the folder of a file that is about to get its name.
    pub(crate) fn enter(&self, device: &Device, file: &str) -> Result<Arc<Mark>, StoreError> {
        let folder = folder_of(file);
        let mut marks = self.marks.lock();
        let key = (device.number(), folder.to_owned());
        if let Some(mark) = marks.get(&key) {
            return Ok(Arc::clone(mark));
        }
        let link = device.temp_path(&device.mark_name());
        let target = Path::new("..").join(disk_name(folder));
        self.disk
            .link(&target, &link)
            .map_err(|e| StoreError::io("create", &link, e))?;
        let mark = Arc::new(Mark { link });
        marks.insert(key, Arc::clone(&mark));
        Ok(mark)
    }

    /// Removes the marks that no store needs any more. One that cannot be removed goes at the next start.
    pub(crate) fn sweep(&self) {
        self.marks.lock().retain(|_, mark| {
            let needed = Arc::strong_count(mark) > 1;
            if !needed {
                let _left = self.disk.remove(&mark.link);
            }
            needed
        });
    }
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Removes the files in a device's marked folders that no row names; answers how many. Runs when the journal has
/// been replayed. The marks themselves stay.
pub(crate) fn remove_unrecorded(
    disk: &dyn Disk,
    index: &Index,
    device: &Device,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    let temp = device.temp_folder();
    let failed = |e| StoreError::io("list", temp, e);
    for entry in fs::read_dir(temp).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let facts = entry.metadata().map_err(failed)?;
        if !facts.file_type().is_symlink() {
            continue;
        }
        let target = fs::read_link(entry.path()).map_err(failed)?;
        let Ok(folder) = target.strip_prefix("..") else {
            continue;
        };
        for name in younger_files(&device.root().join(folder), &facts)? {
            let file = name_of_disk(folder.join(name).as_os_str().as_encoded_bytes());
            if !index.read()?.file_is_named(device.number(), &file)? {
                remove_file(disk, device, &file)?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Names of the files in a folder whose last change is not before the mark's.
fn younger_files(folder: &Path, mark: &fs::Metadata) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |e| StoreError::io("list", folder, e);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let facts = entry.metadata().map_err(failed)?;
        let changed = |facts: &fs::Metadata| (facts.ctime(), facts.ctime_nsec());
        if facts.is_file() && changed(&facts) >= changed(mark) {
            names.push(PathBuf::from(entry.file_name()));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::SystemDisk;

    fn links(device: &Device) -> usize {
        fs::read_dir(device.temp_folder()).unwrap().count()
    }

    #[test]
    fn a_folder_is_marked_once_and_until_the_last_store_is_settled() {
        let home = tempfile::tempdir().unwrap();
        let device = Device::open(0, home.path(), &SystemDisk).unwrap();
        let marks = FolderMarks::new(Arc::new(SystemDisk));
        let one = marks.enter(&device, "P/S/1.dcm").unwrap();
        let two = marks.enter(&device, "P/S/2.dcm").unwrap();
        let other = marks.enter(&device, "3.dcm").unwrap();
        assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &other));
        assert_eq!(links(&device), 2);
        drop((one, other));
        marks.sweep();
        assert_eq!(links(&device), 1);
        drop(two);
        marks.sweep();
        assert_eq!(links(&device), 0);
    }

    #[test]
    fn only_files_younger_than_the_mark_are_found() {
        let home = tempfile::tempdir().unwrap();
        let device = Device::open(0, home.path(), &SystemDisk).unwrap();
        let folder = device.root().join("P\u{e9}");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("old"), b"").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        let marks = FolderMarks::new(Arc::new(SystemDisk));
        let mark = marks.enter(&device, "P/x").unwrap();
        fs::write(folder.join("new"), b"").unwrap();
        fs::create_dir(folder.join("below")).unwrap();
        let facts = fs::symlink_metadata(&mark.link).unwrap();
        assert_eq!(younger_files(&folder, &facts).unwrap(), [Path::new("new")]);
        let missing = younger_files(&device.root().join("none"), &facts);
        assert!(missing.unwrap().is_empty());
    }
}
