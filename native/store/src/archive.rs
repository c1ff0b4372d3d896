//! The archive as the rest of the program sees it: devices, index, and the threads that keep them in step.
//!
//! One process at a time: a lock on the index folder keeps a second one out. Opening repairs what a crash
//! left before anything else happens. Closing settles everything, so that the next start has nothing to do.
//! No query is answered here; readers take the index.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use rustix::fs::FlockOperation;

use crate::blob::{Disk, SystemDisk};
use crate::buffers::Buffers;
use crate::calendar::unix_time;
use crate::columns::Columns;
use crate::commit::{Committer, Parts};
use crate::config::ArchiveConfig;
use crate::delete::{DeleteSummary, DeleteTarget};
use crate::device::Device;
use crate::driver::Driver;
use crate::error::StoreError;
use crate::in_flight::InFlight;
use crate::incoming::{Incoming, ReceiveContext};
use crate::index::{Index, IndexOptions, Progress};
use crate::journal::Journal;
use crate::look::{Arrivals, Busy};
use crate::mark::FolderMarks;
use crate::mirror::Mirror;
use crate::reaper::Reaper;
use crate::recover::{RecoveryReport, recover};
use crate::schema::Level;
use crate::settle::Settler;
use crate::spare_files::SpareFiles;
use crate::unindexed::Unindexed;
use crate::virtual_device::is_virtual;
use crate::writers::Writers;

/// Locked while the archive is open.
const LOCK_FILE: &str = "archive.lock";
/// Longest text put behind the names of files.
const FILE_SUFFIX_MAX: usize = 32;

/// What all stores share.
pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub index: Arc<Index>,
    pub devices: Vec<Arc<Device>>,
    pub committer: Arc<Committer>,
    pub settler: Arc<Settler>,
    pub marks: Arc<FolderMarks>,
    pub in_flight: Arc<InFlight>,
    pub buffers: Arc<Buffers>,
    pub writers: Arc<Writers>,
    pub spare_files: SpareFiles,
    /// Size of the last object that was too large for the journal: the next is probably alike.
    pub usual_bytes: AtomicU64,
    pub arrivals: Arc<Arrivals>,
    /// The database that follows the index.
    pub mirror: Option<Arc<Mirror>>,
    pub unindexed: Unindexed,
    /// Counter of file names.
    pub counter: AtomicU16,
    pub figures: Figures,
    config: RwLock<Arc<ArchiveConfig>>,
}

/// Counted since the archive was opened.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub stored: AtomicU64,
    pub stored_bytes: AtomicU64,
    pub refused: AtomicU64,
}

/// The open archive.
pub struct Archive {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reaper: Reaper,
    /// Held until everything above is closed.
    _lock: File,
}

/// Rows alive and bytes kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Patients.
    pub patients: u64,
    /// Studies.
    pub studies: u64,
    /// Series.
    pub series: u64,
    /// Images.
    pub images: u64,
    /// Bytes of the images' files.
    pub file_bytes: u64,
}

/// A device's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStats {
    /// Its number.
    pub number: u16,
    /// Its folder.
    pub root: std::path::PathBuf,
    /// Free bytes.
    pub free_bytes: u64,
    /// Why it takes no more objects, if so.
    pub read_only: Option<String>,
}

/// The archive's state and what it did since it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveStats {
    /// Objects stored.
    pub stored: u64,
    /// Bytes of their files.
    pub stored_bytes: u64,
    /// Objects refused or failed.
    pub refused: u64,
    /// Objects between commit and their place.
    pub in_flight: usize,
    /// Transactions committed.
    pub commits: u64,
    /// Changes in them.
    pub changes: u64,
    /// Time spent committing, microseconds.
    pub commit_us: u64,
    /// Transactions that failed.
    pub failed_commits: u64,
    /// Files that wait for the sync of their device.
    pub unsettled: usize,
    /// Files settled.
    pub settled: u64,
    /// Files freed after deletes.
    pub reaped_files: u64,
    /// Bytes in use in the index.
    pub index_bytes: u64,
    /// Whether a failed commit made the index read-only.
    pub index_read_only: bool,
    /// Whether the index answers nothing any more and must be opened anew, with the archive.
    pub index_closed: bool,
    /// The devices.
    pub devices: Vec<DeviceStats>,
}

impl Archive {
    /// Says that a codec will work on an arriving object: no thread then looks for what it waits for, which
    /// would take the core away from the codec.
    pub fn busy(&self) -> Busy {
        self.shared.arrivals.enter_codec()
    }

    /// Opens the archive and repairs what a crash left.
    pub fn open(
        config: ArchiveConfig,
        progress: Progress<'_>,
    ) -> Result<(Self, RecoveryReport), StoreError> {
        Self::open_with(config, Arc::new(SystemDisk), None, progress)
    }

    /// The same on another disk.
    pub fn open_on(
        config: ArchiveConfig,
        disk: Arc<dyn Disk>,
        progress: Progress<'_>,
    ) -> Result<(Self, RecoveryReport), StoreError> {
        Self::open_with(config, disk, None, progress)
    }

    /// The same with a database that follows the index and answers the queries.
    pub fn open_with(
        config: ArchiveConfig,
        disk: Arc<dyn Disk>,
        driver: Option<Arc<dyn Driver>>,
        progress: Progress<'_>,
    ) -> Result<(Self, RecoveryReport), StoreError> {
        config.check()?;
        let index_dir = config.index_dir.clone();
        disk.create_folders(&index_dir)
            .map_err(|e| StoreError::io("create", &index_dir, e))?;
        let lock = lock(&index_dir)?;
        let columns = columns(&config)?;
        let devices = open_devices(&config, disk.as_ref())?;
        let index = Index::open(&index_dir, &columns, IndexOptions::default(), progress)?;
        let index = Arc::new(index);
        let journal = Journal::open(&disk, &index_dir, config.journal_bytes)?;
        for device in &devices {
            device.set_journal(disk.as_ref(), journal.file());
        }
        let mut report = recover(&disk, &index, &devices, &config, &journal, progress)?;
        let mirror = Mirror::start(driver, &index, &mut report, progress)?;
        if !config.keeps_index {
            index.check_empty()?;
        }
        let in_flight = Arc::new(InFlight::default());
        let committer = Arc::new(Committer::start(Parts {
            index: Arc::clone(&index),
            disk: Arc::clone(&disk),
            in_flight: Arc::clone(&in_flight),
            journal,
            mirror: mirror.clone(),
        })?);
        let marks = Arc::new(FolderMarks::new(Arc::clone(&disk)));
        let settler = Settler::start(
            Arc::clone(&disk),
            devices.clone(),
            Arc::clone(&committer),
            Arc::clone(&marks),
        )?;
        let buffers = Arc::new(Buffers::default());
        let writers = Arc::new(Writers::start(&disk, &buffers)?);
        let spare_files = SpareFiles::start(&disk, &devices)?;
        let shared = Arc::new(Shared {
            disk,
            index,
            devices,
            committer,
            settler: Arc::new(settler),
            marks,
            in_flight,
            writers,
            spare_files,
            usual_bytes: AtomicU64::new(0),
            arrivals: Arrivals::new(),
            mirror,
            unindexed: Unindexed::default(),
            buffers,
            counter: AtomicU16::new(0),
            figures: Figures::default(),
            config: RwLock::new(Arc::new(config)),
        });
        let reaper = Reaper::start(&shared)?;
        let waker = reaper.waker(Arc::clone(&shared.index));
        shared.settler.after_round(waker);
        let archive = Self {
            shared,
            reaper,
            _lock: lock,
        };
        Ok((archive, report))
    }

    /// Starts to receive an object.
    pub fn begin(&self, context: &ReceiveContext<'_>) -> Result<Incoming, StoreError> {
        Incoming::begin(&self.shared, context)
    }

    /// Says that a store comes in a moment, so that who commits it is awake by then. Awake it looks for the
    /// store, and would take a core from a codec meanwhile.
    pub fn expect_store(&self) {
        if !self.shared.arrivals.are_codecs_busy() {
            self.shared.committer.expect();
        }
    }

    /// How long a thread may look for what it waits for, as busy as the cores are now.
    pub fn patience(&self) -> Duration {
        self.shared.arrivals.patience()
    }

    /// Waits until every acknowledged store can be found. Cheap when nothing is open.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.shared.committer.flush()
    }

    /// The index, for queries. Call [`Archive::flush`] before a read that must see every store answered.
    pub fn index(&self) -> &Arc<Index> {
        &self.shared.index
    }

    /// The database that answers queries, if it is not the index.
    pub(crate) fn driver(&self) -> Option<&Arc<dyn Driver>> {
        self.shared.mirror.as_ref().map(|mirror| &mirror.driver)
    }

    /// Whether there is no index (NULL driver).
    pub fn keeps_nothing(&self) -> bool {
        !self.config().keeps_index
    }

    /// Refuses what makes no sense without an index.
    pub(crate) fn needs_index(&self, what: &str) -> Result<(), StoreError> {
        if self.keeps_nothing() {
            return Err(StoreError::Config(format!(
                "there is no index (NULL driver) for {what} to work on"
            )));
        }
        Ok(())
    }

    /// Hides a row and everything below it in one transaction; files are freed in the background.
    pub fn delete(&self, level: Level, id: &[u8]) -> Result<DeleteSummary, StoreError> {
        let id = id.to_vec();
        let now = unix_time() as u32;
        let summary = self
            .shared
            .committer
            .change(move |txn| txn.delete(DeleteTarget { level, id: &id }, now))?;
        self.reaper.wake();
        Ok(summary)
    }

    /// Waits until everything stored so far is durable in its own place, or its device has failed.
    pub fn settle(&self) {
        self.shared.settler.drain();
    }

    /// Has the files of deleted objects freed, without waiting for it.
    pub fn wake_reaper(&self) {
        self.reaper.wake();
    }

    /// Waits until the files of everything deleted so far are gone.
    pub fn wait_for_reaper(&self) {
        self.shared.settler.drain();
        self.reaper.wait_idle();
    }

    /// Where a file of the index is; `None` for a device that is not configured.
    pub fn path(&self, device: u16, file: &str) -> Option<std::path::PathBuf> {
        let device = self.shared.devices.get(usize::from(device))?;
        Some(device.path(file))
    }

    /// Rows alive.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.flush()?;
        let counters = self.shared.index.read()?.counters()?;
        let alive = match self.driver() {
            Some(driver) => driver.counts()?,
            None => counters.alive,
        };
        let [patients, studies, series, images] = alive;
        Ok(Counts {
            patients,
            studies,
            series,
            images,
            file_bytes: counters.file_bytes,
        })
    }

    /// State and figures.
    pub fn stats(&self) -> ArchiveStats {
        let shared = &self.shared;
        let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let commits = &shared.committer.stats;
        let (unsettled, _, settled) = shared.settler.figures();
        ArchiveStats {
            stored: load(&shared.figures.stored),
            stored_bytes: load(&shared.figures.stored_bytes),
            refused: load(&shared.figures.refused),
            in_flight: shared.in_flight.count(),
            commits: load(&commits.commits),
            changes: load(&commits.changes),
            commit_us: load(&commits.commit_us),
            failed_commits: load(&commits.failures),
            unsettled,
            settled,
            reaped_files: self.reaper.files(),
            index_bytes: shared.index.used_bytes(),
            index_read_only: shared.index.is_read_only(),
            index_closed: shared.index.is_closed(),
            devices: shared
                .devices
                .iter()
                .map(|device| DeviceStats {
                    number: device.number(),
                    root: device.root().to_path_buf(),
                    free_bytes: device.free_bytes(shared.disk.as_ref()),
                    read_only: device.read_only(),
                })
                .collect(),
        }
    }

    /// Takes new settings. Devices, index folder and columns stay as they were opened.
    pub fn reload(&self, config: ArchiveConfig) -> Result<(), StoreError> {
        config.check()?;
        let old = self.shared.config();
        if config.devices != old.devices
            || config.index_dir != old.index_dir
            || config.keeps_index != old.keeps_index
        {
            return Err(StoreError::Config(
                "devices, index folder and database change with a restart only".into(),
            ));
        }
        let file_suffix = old.file_suffix.clone();
        *self.shared.config.write() = Arc::new(ArchiveConfig {
            file_suffix,
            ..config
        });
        Ok(())
    }

    /// Has a text put behind the names of files of objects that begin to arrive from now on; an empty one ends
    /// that.
    pub fn set_file_suffix(&self, suffix: &str) -> Result<(), StoreError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if suffix.len() > FILE_SUFFIX_MAX || !suffix.chars().all(fits) {
            return Err(StoreError::Config(format!(
                "{suffix:?} is nothing to put behind a file name: up to {FILE_SUFFIX_MAX} letters, digits, \
                 dots, _ and -"
            )));
        }
        let mut config = self.shared.config.write();
        *config = Arc::new(ArchiveConfig {
            file_suffix: suffix.to_owned(),
            ..config.as_ref().clone()
        });
        Ok(())
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<ArchiveConfig> {
        self.shared.config()
    }

    /// Settles everything and ends the threads.
    pub fn close(self) {
        drop(self);
    }

    /// The same while others still hold the archive; what they ask of it later is refused.
    pub fn shut_down(&self) {
        self.reaper.stop();
        self.shared.writers.stop();
        self.shared.spare_files.stop();
        self.shared.settler.stop();
        self.shared.committer.stop();
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl Shared {
    /// The settings in force.
    pub(crate) fn config(&self) -> Arc<ArchiveConfig> {
        Arc::clone(&self.config.read())
    }

    /// The first device with room.
    pub(crate) fn pick_device(&self, config: &ArchiveConfig) -> Result<Arc<Device>, StoreError> {
        if self.index.is_read_only() {
            return Err(StoreError::ReadOnly("the index is read-only".into()));
        }
        let threshold = config.full_threshold_mb.saturating_mul(1 << 20);
        let mut reasons = Vec::new();
        for device in &self.devices {
            if let Some(reason) = device.read_only() {
                reasons.push(reason);
            } else if device.room_bytes(self.disk.as_ref(), threshold) > 0 {
                return Ok(Arc::clone(device));
            } else {
                self.spare_files.give_up(device);
            }
        }
        if reasons.len() == self.devices.len() {
            return Err(StoreError::ReadOnly(reasons.join("; ")));
        }
        let threshold = config.full_threshold_mb;
        Err(StoreError::Full(format!(
            "every device has less than {threshold} MB free"
        )))
    }

    /// Whether an object of this identity is stored.
    pub(crate) fn knows(&self, sop_instance: &str) -> Result<bool, StoreError> {
        Ok(self
            .index
            .read()?
            .find_image(sop_instance.as_bytes())?
            .is_some())
    }

    /// Whether an object of this identity is stored here, and not only known from another server.
    pub(crate) fn has_file_of(&self, sop_instance: &str) -> Result<bool, StoreError> {
        let located = self.index.read()?.locate_sop(sop_instance.as_bytes())?;
        Ok(located.is_some_and(|located| !is_virtual(located.device)))
    }

    /// Removes a file that no row names any more, with the folders it leaves empty.
    pub(crate) fn remove_unnamed(&self, device: u16, file: &str) {
        if let Some(device) = self.devices.get(usize::from(device)) {
            // What cannot be removed now is found by `fsck`.
            let _left = crate::reaper::remove_file(self.disk.as_ref(), device, file);
        }
    }
}

fn lock(index_dir: &Path) -> Result<File, StoreError> {
    let path = index_dir.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| StoreError::io("open", &path, e))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Busy(index_dir.to_path_buf())),
        Err(error) => Err(StoreError::io("lock", &path, error.into())),
    }
}

fn columns(config: &ArchiveConfig) -> Result<Columns, StoreError> {
    if config.dicom_sql.trim().is_empty() {
        return Ok(Columns::default());
    }
    Columns::parse(&config.dicom_sql).map_err(|e| StoreError::Config(e.to_string()))
}

fn open_devices(config: &ArchiveConfig, disk: &dyn Disk) -> Result<Vec<Arc<Device>>, StoreError> {
    let numbered = config.devices.iter().zip(0_u16..);
    numbered
        .map(|(root, number)| Device::open(number, root, disk).map(Arc::new))
        .collect()
}
