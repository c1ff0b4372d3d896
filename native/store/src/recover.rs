//! What start-up does about a crash, from the journal, the pending records and the folders that are marked: the
//! archive is never walked.
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
//! new, small and durable
//!   after the journal's sync, before   journal record with the bytes; no    entered again from the record;
//!   the commit (acknowledged)          row; no, partial or whole file       then as after the commit
//!   after the commit, before or while  pending record with the bytes, no    file written again from the
//!   the file is written, or before it  or partial or old file               record, then renamed over
//!   is synced (acknowledged)
//! new, large and durable
//!   after the journal's sync, before   journal record, temporary file that  hash fits: entered again, then
//!   the file's sync                    may be torn; no row, not             renamed. Else the record is
//!                                      acknowledged                         dropped, the file removed
//!   after both syncs, before the       journal record, no row, whole file   entered again, renamed unless it
//!   commit (acknowledged)              under temporary or final name        is
//!   after the commit, before the       pending record, temporary file that  hash fits: renamed. Else the row
//!   file's sync                        may be torn; not acknowledged        is taken back, the file removed
//!   after both, before or after the    pending record, whole file under     renamed, or nothing
//!   rename (acknowledged)              temporary or final name
//! new, relaxed
//!   noted, not committed, file not     journal record; no or a partial      a file that is not whole is
//!   whole (not acknowledged)           file, no row                         removed
//!   the same, file whole               journal record, whole file, no row   entered again
//!   (acknowledged; killed)
//!   the same, after a power cut        perhaps neither record nor row, a    the file is removed
//!                                      name with or without content, in a
//!                                      marked folder
//!   committed, not settled             pending record; after a power cut    hash fits: kept. Else the row is
//!                                      the file may be torn                 taken back, the file removed
//! new, any way
//!   while the journal is written, or   a chain of records that ends with    the records before it count;
//!   before its sync (not               a torn one                           temporary files of others are
//!   acknowledged)                                                           removed
//!   after the commit                   records of an earlier generation     none of them counts
//! re-store, any way
//!   before its file is in place        old file whole, new row              as above; a row taken back brings
//!                                                                           the old row back to its old file
//!   under another name, in place       both files                           the old one goes when the store
//!                                                                           settles
//! delete
//!   after the commit                   tombs and orphans in the index       the reaper goes on
//! ```
//! The journal comes first: its records are applied in their order, under the numbers and names they were given,
//! and committed at once, so that a crash in the middle of this starts it again or finds it done. Then pending
//! records are handled from the newest to the oldest: taking back a re-store makes the store before it current
//! again, whose own record then puts its file right. At the end every device is synced once and the records
//! go; a device that cannot be synced keeps its records and refuses stores.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::apply::StoreRefusal;
use crate::blob::Disk;
use crate::config::ArchiveConfig;
use crate::device::Device;
use crate::error::StoreError;
use crate::file_object::{FileObject, matches, object_of_bytes, read_object};
use crate::filename::name_of_disk;
use crate::in_place::job_in_place;
use crate::index::{Index, Progress, WriteTxn};
use crate::job::{JobPending, StoreJob};
use crate::journal::{Journal, Record};
use crate::mark::remove_unrecorded;
use crate::pending::{PendingEntry, PendingFile, PendingId, PendingKind};
use crate::place::Place;
use crate::reaper::remove_file;

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
    /// Stores entered again from the journal.
    pub entered: u64,
    /// Files of relaxed stores removed because they were partial, or nothing was recorded of them.
    pub partial: u64,
    /// Temporary files removed.
    pub temporary: u64,
    /// Images of the database that were entered into the index.
    pub adopted: u64,
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
    journal: &Journal,
    progress: Progress<'_>,
) -> Result<RecoveryReport, StoreError> {
    let started = Instant::now();
    let mut recovery = Recovery {
        disk,
        index,
        devices,
        config,
        report: RecoveryReport::default(),
        keep: HashSet::new(),
    };
    recovery.replay(journal)?;
    let ids = recovery.pending_ids()?;
    let total = ids.len() as u64;
    let mut settled = Vec::with_capacity(ids.len());
    for (done, &id) in ids.iter().rev().enumerate() {
        progress("recovery", done as u64, total);
        if recovery.store(id)? {
            settled.push(id);
        }
    }
    recovery.remove_unrecorded()?;
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

    /// Enters the stores again that the journal holds beyond the last commit. It commits also when there are
    /// none: what stands in the journal from here on belongs to this run.
    fn replay(&mut self, journal: &Journal) -> Result<(), StoreError> {
        let index = self.index;
        let mut txn = index.write()?;
        journal.replay(index.generation(), |record| self.enter(&mut txn, record))?;
        txn.commit()?;
        Ok(())
    }

    fn enter(&mut self, txn: &mut WriteTxn<'_>, record: &Record<'_>) -> Result<(), StoreError> {
        let Some(device) = self.devices.get(usize::from(record.device)) else {
            return Err(StoreError::Config(format!(
                "MAGDevice{} is not configured, but {} is still to be written to it",
                record.device, record.file
            )));
        };
        let device = Arc::clone(device);
        let object = match record.content {
            PendingKind::Journal(bytes) => object_of_bytes(bytes, self.config.scan_limits),
            PendingKind::Temp(name) => {
                let (temp, path) = (device.temp_path(name), device.path(record.file));
                let Some(path) = [temp, path].into_iter().find(|path| whole(path, record)) else {
                    self.report.revoked += 1;
                    return Ok(());
                };
                read_object(&path, self.config.scan_limits)
            }
            PendingKind::Written => {
                let path = device.path(record.file);
                if !whole(&path, record) {
                    return self.remove_partial(&device, record.file);
                }
                read_object(&path, self.config.scan_limits)
            }
        };
        let mut job = match object.and_then(|object| self.job(object, record)) {
            Ok(job) => job,
            Err(error) => return self.keep_file(&device, record, &error.to_string()),
        };
        if txn.live_image(&job.rows.sop_instance)?.is_some() {
            return Ok(());
        }
        match job.apply_as(txn, record.image, record.pending, record.file) {
            Ok(stored) if stored.file == record.file => {
                self.report.entered += 1;
                Ok(())
            }
            Ok(_) => Err(StoreError::Index(format!(
                "{} belongs to another object",
                device.path(record.file).display()
            ))),
            Err(StoreRefusal::Index(error)) => Err(error.into()),
            Err(refusal) => self.keep_file(&device, record, &refusal.to_string()),
        }
    }

    /// The job as it was when it was acknowledged. Should the settings have become stricter since, it is
    /// taken all the same.
    fn job(&self, object: FileObject, record: &Record<'_>) -> Result<Box<StoreJob>, StoreError> {
        let config = ArchiveConfig {
            accept_invalid_uids: true,
            ..self.config.clone()
        };
        let mut job = job_in_place(
            object,
            record.device,
            record.file.to_owned(),
            record.calling_ae,
            self.index.extractor(),
            &config,
        )?;
        record.called_ae.clone_into(&mut job.called_ae);
        job.jobs = record.jobs.iter().map(|job| job.to_vec()).collect();
        job.now = record.now;
        job.pending = match record.content {
            PendingKind::Journal(bytes) => JobPending::Journal(Arc::new(bytes.to_vec())),
            PendingKind::Temp(name) => JobPending::Temp(name.to_owned()),
            PendingKind::Written => JobPending::Written,
        };
        Ok(job)
    }

    /// Removes what was written of a relaxed store that was not acknowledged, or torn by a power cut. A name
    /// that the index knows is left to the reaper.
    fn remove_partial(&mut self, device: &Device, file: &str) -> Result<(), StoreError> {
        let stands = device.path(file).symlink_metadata().is_ok();
        if stands && !self.index.read()?.file_is_named(device.number(), file)? {
            remove_file(self.disk.as_ref(), device, file)?;
            self.report.partial += 1;
        }
        Ok(())
    }

    /// An acknowledged object that cannot be entered keeps its file, for `fsck` and `regen` to find.
    fn keep_file(
        &mut self,
        device: &Device,
        record: &Record<'_>,
        reason: &str,
    ) -> Result<(), StoreError> {
        let path = device.path(record.file);
        if !whole(&path, record) {
            let place = Place {
                disk: self.disk,
                device,
                file: record.file,
                replace: false,
            };
            match record.content {
                PendingKind::Journal(bytes) => place.bytes(bytes, true)?,
                PendingKind::Temp(name) => place.renamed(&device.temp_path(name))?,
                PendingKind::Written => {}
            }
        }
        self.problem(format!("{}: not entered again: {reason}", path.display()));
        Ok(())
    }

    /// Removes what a power cut left of relaxed stores that nothing was recorded of.
    fn remove_unrecorded(&mut self) -> Result<(), StoreError> {
        for device in self.devices {
            let removed = remove_unrecorded(self.disk.as_ref(), self.index, device)?;
            self.report.partial += removed;
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
                let failed = |e| StoreError::io("remove", &path, e);
                let mark = entry.file_type().map_err(failed)?.is_symlink();
                self.disk.remove(&path).map_err(failed)?;
                self.report.temporary += u64::from(!mark);
            }
        }
        Ok(())
    }

    fn problem(&mut self, text: String) {
        self.report.problems.push(text);
    }
}

fn whole(path: &Path, record: &Record<'_>) -> bool {
    matches(path, record.file_bytes, record.dataset_offset, &record.hash)
}
