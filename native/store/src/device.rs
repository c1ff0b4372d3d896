//! One `MAGDevice`: a folder that holds objects, how much room it has, and whether it may still be written.
//!
//! A device that failed a sync is read-only until the next start: what the kernel said it lost cannot be
//! written again by trying. Each device has a private folder for files that are not whole yet; nothing else
//! is ever kept there, so that start-up may empty it without looking at the archive.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::blob::{Disk, EXT4, XFS, fs_type};
use crate::error::StoreError;
use crate::filename::disk_name;

/// Private folder for files that are not whole yet.
pub const TEMP_FOLDER: &str = ".pyserver-tmp";
/// Free space is asked of the system at most this often; in between, what is written is subtracted.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// File systems where the sync of a new file also makes its name durable: ext2/3/4, XFS, btrfs.
const NAME_SYNCED_WITH_FILE: [rustix::fs::FsWord; 3] = [EXT4, XFS, 0x9123_683E];

/// A folder that holds objects.
#[derive(Debug)]
pub struct Device {
    number: u16,
    root: PathBuf,
    temp: PathBuf,
    /// Opened before anything is written: `syncfs` reports the failures since.
    handle: File,
    read_only: AtomicBool,
    read_only_reason: Mutex<String>,
    free_bytes: AtomicI64,
    checked: Mutex<Option<Instant>>,
    next_temp: AtomicU64,
    folder_sync: bool,
    allocates_by_length: bool,
    covers_journal: AtomicBool,
}

impl Device {
    /// Opens the folder of device `number`, making it and its private folder when absent.
    pub fn open(number: u16, root: &Path, disk: &dyn Disk) -> Result<Self, StoreError> {
        let temp = root.join(TEMP_FOLDER);
        disk.create_folders(&temp)
            .map_err(|e| StoreError::io("create", &temp, e))?;
        let root = root
            .canonicalize()
            .map_err(|e| StoreError::io("resolve", root, e))?;
        let handle = File::open(&root).map_err(|e| StoreError::io("open", &root, e))?;
        let fs_type = fs_type(&handle);
        let folder_sync = fs_type.is_none_or(|known| !NAME_SYNCED_WITH_FILE.contains(&known));
        // Names of an earlier run may still be referred to by the index, so a new run starts elsewhere.
        let start = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_nanos() as u64);
        Ok(Self {
            number,
            temp: root.join(TEMP_FOLDER),
            root,
            handle,
            read_only: AtomicBool::new(false),
            read_only_reason: Mutex::new(String::new()),
            free_bytes: AtomicI64::new(0),
            checked: Mutex::new(None),
            next_temp: AtomicU64::new(start),
            folder_sync,
            allocates_by_length: fs_type == Some(EXT4),
            covers_journal: AtomicBool::new(false),
        })
    }

    /// The number in `MAGn`.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The private folder.
    pub fn temp_folder(&self) -> &Path {
        &self.temp
    }

    /// The open folder, for `syncfs`.
    pub fn handle(&self) -> &File {
        &self.handle
    }

    /// Where a file of the index is.
    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(disk_name(file))
    }

    /// A fresh name in the private folder, for a file.
    pub fn temp_name(&self) -> String {
        format!("{:016x}.part", self.next_temp_number())
    }

    /// A fresh name in the private folder, for a mark on a folder.
    pub fn mark_name(&self) -> String {
        format!("{:016x}.mark", self.next_temp_number())
    }

    fn next_temp_number(&self) -> u64 {
        self.next_temp.fetch_add(1, Ordering::Relaxed)
    }

    /// Where a file of the private folder is.
    pub fn temp_path(&self, name: &str) -> PathBuf {
        self.temp.join(name)
    }

    /// Whether the private folder needs a sync of its own after a file in it was synced.
    pub fn needs_folder_sync(&self) -> bool {
        self.folder_sync
    }

    /// Whether blocks are better found when the file has its length before it has its bytes.
    pub fn allocates_by_length(&self) -> bool {
        self.allocates_by_length
    }

    /// Whether the sync of a file here makes safe what was written through in the journal.
    pub fn covers_journal(&self) -> bool {
        self.covers_journal.load(Ordering::Relaxed)
    }

    /// Says where the journal is.
    pub fn set_journal(&self, disk: &dyn Disk, journal: &File) {
        let covers = disk.sync_covers(&self.handle, journal);
        self.covers_journal.store(covers, Ordering::Relaxed);
    }

    /// Stops all further writing.
    pub fn set_read_only(&self, reason: &str) {
        let mut known = self.read_only_reason.lock();
        if known.is_empty() {
            known.push_str(reason);
        }
        self.read_only.store(true, Ordering::Release);
    }

    /// Why the device takes no more objects, if so.
    pub fn read_only(&self) -> Option<String> {
        self.read_only
            .load(Ordering::Acquire)
            .then(|| self.read_only_reason.lock().clone())
    }

    /// Makes everything written to the device durable. A failure makes it read-only.
    pub fn sync_all(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        if let Some(reason) = self.read_only() {
            return Err(StoreError::ReadOnly(reason));
        }
        disk.sync_file_system(&self.handle).map_err(|error| {
            let reason = format!("sync of {}: {error}", self.root.display());
            self.set_read_only(&reason);
            StoreError::ReadOnly(reason)
        })
    }

    /// Bytes that may still be written before the device counts as full: its free space less the threshold.
    pub fn room_bytes(&self, disk: &dyn Disk, threshold_bytes: u64) -> i64 {
        let mut checked = self.checked.lock();
        if checked.is_none_or(|at| at.elapsed() >= SPACE_CHECK_INTERVAL) {
            let free = self.free_bytes(disk);
            self.free_bytes
                .store(i64::try_from(free).unwrap_or(i64::MAX), Ordering::Relaxed);
            *checked = Some(Instant::now());
        }
        drop(checked);
        let threshold = i64::try_from(threshold_bytes).unwrap_or(i64::MAX);
        self.free_bytes
            .load(Ordering::Relaxed)
            .saturating_sub(threshold)
    }

    /// Notes bytes that were, or are about to be, written.
    pub fn take_room(&self, bytes: u64) {
        self.free_bytes
            .fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Free bytes as the system tells.
    pub fn free_bytes(&self, disk: &dyn Disk) -> u64 {
        disk.free_bytes(&self.handle).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::SystemDisk;

    #[test]
    fn a_device_counts_its_room_and_stays_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::open(3, &folder.path().join("new"), &SystemDisk).unwrap();
        assert!(device.temp_folder().is_dir());
        assert_ne!(device.temp_name(), device.temp_name());
        let before = device.room_bytes(&SystemDisk, 0);
        assert!(before > 0);
        device.take_room(1000);
        assert!(device.room_bytes(&SystemDisk, 0) <= before - 1000);
        assert!(device.room_bytes(&SystemDisk, u64::MAX) < 0);
        assert_eq!(device.read_only(), None);
        device.set_read_only("sync failed");
        device.set_read_only("later");
        assert_eq!(device.read_only().as_deref(), Some("sync failed"));
    }
}
