//! Compares index and files both ways: every row has its file, every file has its row.
//!
//! Works beside stores and deletes: what looks wrong is looked at again when everything under way is in its
//! place. Repair removes rows whose files are gone and enters files that have no row; a file that differs
//! from its row is reported only, since neither of the two is known to be right.

use std::fs::File;
use std::sync::Arc;

use crate::archive::Archive;
use crate::content_hash::HASH_BYTES;
use crate::device::Device;
use crate::error::StoreError;
use crate::file_object::{hash_from, read_object};
use crate::find::{FindCursor, FindProgress};
use crate::in_place::job_in_place;
use crate::index::Progress;
use crate::locate::Located;
use crate::plan::BoundQuery;
use crate::schema::Level;
use crate::virtual_device::is_virtual;
use crate::walk_files::DeviceFiles;

/// Findings listed by name; further ones are counted.
const LISTED_MAX: usize = 1000;
/// Rows read in one transaction.
const PAGE: usize = 256;

/// What to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FsckOptions {
    /// Read every file and compare its hash.
    pub verify_hash: bool,
    /// Remove rows without file, enter files without row.
    pub repair: bool,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A row whose file is not there.
    MissingFile,
    /// A file of another size than its row says.
    WrongSize,
    /// A file whose data set is not what was stored.
    WrongHash,
    /// An object that no row names.
    NoRow,
    /// A file that no row names and that is no object this archive would take.
    Stranger,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Device.
    pub device: u16,
    /// Name on the device.
    pub file: String,
    /// SOP Instance UID, or why the file is not taken.
    pub about: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// Rows looked at.
    pub rows: u64,
    /// Rows whose files another server has, and which are no faults.
    pub elsewhere: u64,
    /// Files looked at.
    pub files: u64,
    /// Findings in all.
    pub fault_count: u64,
    /// The first of them.
    pub faults: Vec<Fault>,
}

impl FsckReport {
    /// Findings of one kind among those listed.
    pub fn count(&self, kind: FaultKind) -> usize {
        self.faults
            .iter()
            .filter(|fault| fault.kind == kind)
            .count()
    }
}

impl Archive {
    /// Compares index and files.
    pub fn fsck(
        &self,
        options: FsckOptions,
        progress: Progress<'_>,
    ) -> Result<FsckReport, StoreError> {
        self.needs_index("fsck")?;
        self.flush()?;
        let mut check = Check {
            archive: self,
            options,
            report: FsckReport::default(),
        };
        check.rows(progress)?;
        check.files(progress)?;
        Ok(check.report)
    }
}

struct Check<'a> {
    archive: &'a Archive,
    options: FsckOptions,
    report: FsckReport,
}

impl Check<'_> {
    fn rows(&mut self, progress: Progress<'_>) -> Result<(), StoreError> {
        let index = &self.archive.shared.index;
        let query = BoundQuery::all_images(index);
        let mut cursor = FindCursor::default();
        let total = index.read()?.count(Level::Image)?;
        loop {
            let (page, state) = index.read()?.locate(&query, &mut cursor, PAGE)?;
            for located in page {
                self.row(&located)?;
            }
            progress("rows", self.report.rows, total);
            if state == FindProgress::Done {
                return Ok(());
            }
        }
    }

    fn row(&mut self, located: &Located) -> Result<(), StoreError> {
        self.report.rows += 1;
        if is_virtual(located.device) {
            self.report.elsewhere += 1;
            return Ok(());
        }
        if self.fault_of(located).is_none() {
            return Ok(());
        }
        // A store or delete may be under way: look again when it is over.
        drop(self.archive.shared.in_flight.enter(&located.sop_instance));
        self.archive.flush()?;
        let sop = located.sop_instance.as_bytes();
        let now = self.archive.shared.index.read()?.locate_sop(sop)?;
        let Some(located) = now else {
            return Ok(());
        };
        let Some(kind) = self.fault_of(&located) else {
            return Ok(());
        };
        let repaired = self.options.repair && kind == FaultKind::MissingFile;
        if repaired {
            self.archive.delete(Level::Image, sop)?;
        }
        self.note(Fault {
            kind,
            device: located.device,
            file: located.file,
            about: located.sop_instance,
            repaired,
        });
        Ok(())
    }

    fn fault_of(&self, located: &Located) -> Option<FaultKind> {
        let device = self.device(located.device)?;
        let Ok(mut file) = File::open(device.path(&located.file)) else {
            return Some(FaultKind::MissingFile);
        };
        let length = file.metadata().map_or(0, |facts| facts.len());
        // No bytes stand for a size that was never taken.
        if length != located.file_bytes && located.file_bytes > 0 {
            return Some(FaultKind::WrongSize);
        }
        // Zeros stand for a hash that was never taken.
        if !self.options.verify_hash || located.hash == [0; HASH_BYTES] {
            return None;
        }
        match hash_from(&mut file, u64::from(located.dataset_offset)) {
            Ok(hash) if hash == located.hash => None,
            _ => Some(FaultKind::WrongHash),
        }
    }

    fn device(&self, number: u16) -> Option<&Arc<Device>> {
        self.archive.shared.devices.get(usize::from(number))
    }

    fn files(&mut self, progress: Progress<'_>) -> Result<(), StoreError> {
        let devices = self.archive.shared.devices.clone();
        for device in devices {
            for file in DeviceFiles::new(device.number(), device.root(), "".as_ref()) {
                let (name, path) = file?;
                self.report.files += 1;
                if self.report.files.is_multiple_of(PAGE as u64) {
                    progress("files", self.report.files, self.report.rows);
                }
                if !self.is_named(&device, &name)? {
                    self.unnamed(&device, name, &path)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a row, or the list of files to be removed, names a file; asked twice, since a row may be on
    /// its way.
    fn is_named(&self, device: &Device, name: &str) -> Result<bool, StoreError> {
        let index = &self.archive.shared.index;
        if index.read()?.file_is_named(device.number(), name)? {
            return Ok(true);
        }
        self.archive.flush()?;
        let named = index.read()?.file_is_named(device.number(), name)?;
        Ok(named || !device.path(name).exists())
    }

    fn unnamed(
        &mut self,
        device: &Device,
        name: String,
        path: &std::path::Path,
    ) -> Result<(), StoreError> {
        let config = self.archive.config();
        let shared = &self.archive.shared;
        let job = read_object(path, config.scan_limits).and_then(|object| {
            let extractor = shared.index.extractor();
            let number = device.number();
            job_in_place(object, number, name.clone(), "", extractor, &config)
        });
        let (kind, about, repaired) = match job {
            Err(error) => (FaultKind::Stranger, error.to_string(), false),
            Ok(job) => {
                let about = job.uid.clone();
                // A second copy of a stored object must not take its row over.
                let known = shared.has_file_of(&about)?;
                let repaired = self.options.repair && !known && self.archive.enter(job)?;
                (FaultKind::NoRow, about, repaired)
            }
        };
        self.note(Fault {
            kind,
            device: device.number(),
            file: name,
            about,
            repaired,
        });
        Ok(())
    }

    fn note(&mut self, fault: Fault) {
        self.report.fault_count += 1;
        if self.report.faults.len() < LISTED_MAX {
            self.report.faults.push(fault);
        }
    }
}
