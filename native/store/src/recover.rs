//! What start-up does about a crash, from the pending records and two journals alone: the archive is never
//! walked.
//!
//! What a crash can leave, for each way an object takes (`finish`), in the order of time. "Killed" leaves
//! everything that was handed to the system; a power cut leaves only what was synced, of the rest anything.
//!
//! ```text
//! the crash came                       what is there                        what is done
//! -----------------------------------  -----------------------------------  ---------------------------------
//! all ways
//!   while receiving                    a temporary file, no record          removed
//!   before the commit                  the same                             removed
//! small and durable (journal)
//!   after the commit, before or while  record with the bytes, no file or a  file written again from the
//!   the file is written, or before it  partial or old one                   record, then renamed over
//!   is synced (acknowledged)
//! large and durable (temp)
//!   after the commit, before the       record, temporary file that may be   hash fits: renamed. Else the row
//!   file's sync                        torn; not acknowledged               is taken back, the file removed
//!   after the sync, before or after    record, whole file under temporary   renamed, or nothing
//!   the rename (acknowledged)          or final name
//! relaxed, new
//!   applied, not committed, file not   relaxed record; no or a partial      a file shorter than its record is
//!   whole (not acknowledged)           file, no row                         removed
//!   the same, file whole               relaxed record, whole file, no row   the file is entered
//!   (acknowledged; killed)
//!   committed, not settled             record; after a power cut the file   hash fits: kept. Else the row is
//!                                      may be torn                          taken back, the file removed
//! re-store, any way
//!   before its file is in place        old file whole, new row              as above; a row taken back brings
//!                                                                           the old row back to its old file
//!   under another name, in place       both files                           the old one goes when the store
//!                                                                           settles
//! delete
//!   after the commit                   tombs and orphans in the index       the reaper goes on
//! ```
//! Records are handled from the newest to the oldest: taking back a re-store makes the store before it current
//! again, whose own record then puts its file right. At the end every device is synced once and the records
//! go; a device that cannot be synced keeps its records and refuses stores.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::apply::StoreRefusal;
use crate::blob::Disk;
use crate::config::ArchiveConfig;
use crate::device::Device;
use crate::error::StoreError;
use crate::file_object::{matches, read_object};
use crate::filename::name_of_disk;
use crate::in_place::job_in_place;
use crate::index::{Index, Progress};
use crate::pending::{PendingEntry, PendingFile, PendingId};
use crate::place::Place;
use crate::reaper::remove_file;
use crate::relaxed::RelaxedRecord;

/// What start-up found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Stores that were not settled.
    pub pending: u64,
    /// Files written again from their records.
    pub rewritten: u64,
    /// Files renamed to their final names.
    pub renamed: u64,
    /// Stores taken back because their bytes were not whole. None of them was acknowledged as durable.
    pub revoked: u64,
    /// Acknowledged relaxed stores entered again.
    pub entered: u64,
    /// Partial files of relaxed stores removed.
    pub partial: u64,
    /// Temporary files removed.
    pub temporary: u64,
    /// What could not be repaired, for the log.
    pub problems: Vec<String>,
    /// Time it took.
    pub took: Duration,
}

/// Repairs what a crash left. Runs before any thread of the archive.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    index: &Index,
    devices: &[Arc<Device>],
    config: &ArchiveConfig,
    records: &[RelaxedRecord],
    progress: Progress<'_>,
) -> Result<RecoveryReport, StoreError> {
    let started = Instant::now();
    let mut recovery = Recovery {
        disk,
        index,
        devices,
        config,
        report: RecoveryReport::default(),
        committed: index.read()?.counters()?.image,
        keep: HashSet::new(),
    };
    let ids = recovery.pending_ids()?;
    let total = (ids.len() + records.len()) as u64;
    let mut settled = Vec::with_capacity(ids.len());
    for (done, &id) in ids.iter().rev().enumerate() {
        progress("recovery", done as u64, total);
        if recovery.store(id)? {
            settled.push(id);
        }
    }
    for (done, record) in records.iter().enumerate() {
        progress("recovery", (ids.len() + done) as u64, total);
        recovery.relaxed(record)?;
    }
    recovery.settle(&settled)?;
    recovery.empty_temp_folders()?;
    recovery.report.pending = ids.len() as u64;
    recovery.report.took = started.elapsed();
    progress("recovery", total, total);
    Ok(recovery.report)
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    index: &'a Index,
    devices: &'a [Arc<Device>],
    config: &'a ArchiveConfig,
    report: RecoveryReport,
    /// Last image number that was committed before the crash.
    committed: u64,
    /// Temporary files that records still refer to.
    keep: HashSet<(u16, String)>,
}

impl Recovery<'_> {
    /// Numbers of all unsettled stores, without their bytes.
    fn pending_ids(&self) -> Result<Vec<PendingId>, StoreError> {
        let mut ids: Vec<PendingId> = Vec::new();
        loop {
            let page = self.index.read()?.pending(ids.last().copied(), 64)?;
            if page.is_empty() {
                return Ok(ids);
            }
            ids.extend(page.iter().map(|entry| entry.id));
        }
    }

    fn entry(&self, id: PendingId) -> Result<Option<PendingEntry>, StoreError> {
        let before = id.0.checked_sub(1).map(PendingId);
        let mut page = self.index.read()?.pending(before, 1)?;
        Ok(page.pop().filter(|entry| entry.id == id))
    }

    /// Puts one unsettled store right; answers whether its record may go.
    fn store(&mut self, id: PendingId) -> Result<bool, StoreError> {
        let Some(entry) = self.entry(id)? else {
            return Ok(false);
        };
        let Some(device) = self.devices.get(usize::from(entry.device)) else {
            self.problem(format!(
                "{} is on MAGDevice{}, which is not configured",
                entry.file, entry.device
            ));
            return Ok(false);
        };
        if !entry.current {
            return Ok(true);
        }
        let device = Arc::clone(device);
        let path = device.path(&entry.file);
        let whole = |path| matches(path, entry.file_bytes, entry.dataset_offset, &entry.hash);
        match &entry.kind {
            PendingFile::Journal(bytes) => {
                if !whole(&path) {
                    self.place(&device, &entry).bytes(bytes, false)?;
                    self.report.rewritten += 1;
                }
                Ok(true)
            }
            PendingFile::Temp(name) => {
                let temp = device.temp_path(name);
                if whole(&temp) {
                    self.place(&device, &entry).renamed(&temp)?;
                    self.report.renamed += 1;
                } else if !whole(&path) {
                    return self.revoke(&device, &entry).map(|()| false);
                }
                Ok(true)
            }
            PendingFile::Written if whole(&path) => Ok(true),
            PendingFile::Written => self.revoke(&device, &entry).map(|()| false),
        }
    }

    fn place<'p>(&'p self, device: &'p Device, entry: &'p PendingEntry) -> Place<'p> {
        Place {
            disk: self.disk,
            device,
            file: &entry.file,
            replace: true,
        }
    }

    fn revoke(&mut self, device: &Device, entry: &PendingEntry) -> Result<(), StoreError> {
        let mut txn = self.index.write()?;
        let revoked = txn.revoke(entry.id)?;
        txn.commit()?;
        self.report.revoked += 1;
        if let Some(file) = revoked.file {
            remove_file(self.disk.as_ref(), device, &file.file)?;
        }
        Ok(())
    }

    /// Enters the file of an acknowledged relaxed store whose row was not committed.
    fn relaxed(&mut self, record: &RelaxedRecord) -> Result<(), StoreError> {
        let Some(device) = self.devices.get(usize::from(record.device)) else {
            return Ok(());
        };
        // Its row was committed; what became of it since is in the index.
        if record.image <= self.committed {
            return Ok(());
        }
        let path = device.path(&record.file);
        let Ok(facts) = fs::symlink_metadata(&path) else {
            return Ok(());
        };
        if facts.len() < record.file_bytes {
            remove_file(self.disk.as_ref(), device, &record.file)?;
            self.report.partial += 1;
            return Ok(());
        }
        let object = match read_object(&path, self.config.scan_limits) {
            Ok(object) if object.hash == record.hash => object,
            // Torn by a power cut, and never committed. A name that the index knows is left to the reaper.
            _ => {
                let index = self.index.read()?;
                if !index.file_is_named(record.device, &record.file)? {
                    remove_file(self.disk.as_ref(), device, &record.file)?;
                    self.report.partial += 1;
                }
                return Ok(());
            }
        };
        let job = job_in_place(
            object,
            record.device,
            record.file.clone(),
            &record.calling_ae,
            self.index.extractor(),
            self.config,
        )?;
        let mut txn = self.index.write()?;
        match job.apply(&mut txn) {
            Ok(stored) if stored.file == record.file => {
                txn.commit()?;
                self.report.entered += 1;
            }
            Ok(_) => self.problem(format!("{} belongs to another object", path.display())),
            Err(StoreRefusal::Link { .. }) => {
                self.problem(format!(
                    "{} does not fit its patient or study",
                    path.display()
                ));
            }
            Err(StoreRefusal::Index(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// Syncs every device once and drops the records of those where that worked.
    fn settle(&mut self, settled: &[PendingId]) -> Result<(), StoreError> {
        let entered = self.report.entered > 0;
        if settled.is_empty() && !entered {
            return Ok(());
        }
        for device in self.devices {
            if let Err(error) = self.disk.sync_file_system(device.handle()) {
                device.set_read_only(&format!("sync of {}: {error}", device.root().display()));
                self.report.problems.push(format!(
                    "{} cannot be synced: {error}",
                    device.root().display()
                ));
            }
        }
        let mut safe = Vec::with_capacity(settled.len());
        for &id in settled {
            let Some(entry) = self.entry(id)? else {
                continue;
            };
            let device = self.devices.get(usize::from(entry.device));
            if device.is_some_and(|device| device.read_only().is_none()) {
                safe.push(id);
            } else if let PendingFile::Temp(name) = entry.kind {
                self.keep.insert((entry.device, name));
            }
        }
        let mut txn = self.index.write()?;
        txn.settle(&safe)?;
        txn.commit()?;
        Ok(())
    }

    fn empty_temp_folders(&mut self) -> Result<(), StoreError> {
        for device in self.devices {
            let folder = device.temp_folder();
            let entries = fs::read_dir(folder).map_err(|e| StoreError::io("list", folder, e))?;
            for entry in entries {
                let entry = entry.map_err(|e| StoreError::io("list", folder, e))?;
                let name = name_of_disk(entry.file_name().as_encoded_bytes());
                if self.keep.contains(&(device.number(), name)) {
                    continue;
                }
                let path = entry.path();
                self.disk
                    .remove(&path)
                    .map_err(|e| StoreError::io("remove", &path, e))?;
                self.report.temporary += 1;
            }
        }
        Ok(())
    }

    fn problem(&mut self, text: String) {
        self.report.problems.push(text);
    }
}
