//! What the archive is told by the configuration. Values only: reading dicom.ini is Python's work.
//!
//! Everything but the devices and the index folder may change while the archive is open.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pyserver_proto::scan::ScanLimits;

use crate::error::{STATUS_PROCESSING_FAILURE, StoreError};
use crate::filename::NameSyntax;

/// When a store is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When file, folder entry and index would survive a power cut.
    #[default]
    Durable,
    /// When the operating system has them: `kill -9` loses nothing, a power cut at most the last moments.
    Relaxed,
}

/// Objects up to this size ride in journal and index until their files are synced. Above it, a sync of
/// the file beside the commit is cheaper than writing the bytes twice.
pub const JOURNAL_OBJECT_BYTES: usize = 64 * 1024;
/// Largest value taken for it: journal objects are held in memory.
pub const JOURNAL_OBJECT_BYTES_MAX: usize = 4 << 20;
/// Size of the journal of new stores: what can be acknowledged between two commits of the index.
pub const JOURNAL_BYTES: u64 = 8 << 20;
/// `MAGDeviceFullThreshHold`, megabytes.
pub const FULL_THRESHOLD_MB: u64 = 30;
/// `MaxFileNameLength`.
pub const FILE_NAME_LENGTH_MAX: usize = 255;
/// `EnableReadAheadThread = 1` means this many objects.
pub const READ_AHEAD_OBJECTS: usize = 5;
/// Bytes that one retrieve may hold or have announced to the kernel ahead of the sender.
pub const READ_AHEAD_BYTES: u64 = 64 << 20;

/// The archive's settings.
#[derive(Debug, Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one switch of dicom.ini"
)]
pub struct ArchiveConfig {
    /// Folders of `MAGDevice0…n`, in order.
    pub devices: Vec<PathBuf>,
    /// Folder of the LMDB environment.
    pub index_dir: PathBuf,
    /// Text of dicom.sql; empty means the default layout.
    pub dicom_sql: String,
    /// How files are named.
    pub file_name_syntax: NameSyntax,
    /// `MaxFileNameLength`.
    pub file_name_length_max: usize,
    /// `RenameOnRewrite`: a re-store takes the name that its new values give.
    pub rename_on_rewrite: bool,
    /// `IgnoreRewrite`: a second copy is acknowledged and dropped.
    pub ignore_rewrite: bool,
    /// `AllowEmptyPatientID`.
    pub allow_empty_patient_id: bool,
    /// `AcceptInvalidUIDs`: malformed identifiers are stored as they are.
    pub accept_invalid_uids: bool,
    /// `FixPhilips`: leading zeros of a ten-digit patient ID go.
    pub fix_philips: bool,
    /// `FixKodak`: the leading zero of an eight-digit patient ID goes.
    pub fix_kodak: bool,
    /// `StorageFailedErrorCode`.
    pub store_failed_status: u16,
    /// When stores are acknowledged.
    pub durability: Durability,
    /// Exceptions by calling AE title.
    pub durability_by_ae: HashMap<String, Durability>,
    /// Objects up to this size are journalled, see [`JOURNAL_OBJECT_BYTES`].
    pub journal_object_bytes: usize,
    /// Size of the journal when it is made, see [`JOURNAL_BYTES`].
    pub journal_bytes: u64,
    /// A device with less free space than this takes no new objects.
    pub full_threshold_mb: u64,
    /// Objects prepared ahead of a sender; 0 prepares none.
    pub read_ahead_objects: usize,
    /// Bytes prepared ahead of a sender.
    pub read_ahead_bytes: u64,
    /// Bounds of what the header scanner accepts.
    pub scan_limits: ScanLimits,
    /// A data set larger than this is refused.
    pub dataset_bytes_max: u64,
    /// Whether anything is remembered of what is stored; without, only files are kept (NULL driver).
    pub keeps_index: bool,
    /// Character set of worklist answers, as (0008,0005) has it; empty names none.
    pub worklist_charset: String,
    /// Text behind the names of new files (`testmode`).
    pub file_suffix: String,
    /// `AllowNKIAsDICOM`: NKI streams stay in files with meta information too.
    pub nki_as_dicom: bool,
}

impl ArchiveConfig {
    /// The defaults with one device below `home`.
    pub fn new(home: &Path) -> Self {
        Self {
            devices: vec![home.join("data")],
            index_dir: home.join("index"),
            dicom_sql: String::new(),
            file_name_syntax: NameSyntax::BuiltIn(4),
            file_name_length_max: FILE_NAME_LENGTH_MAX,
            rename_on_rewrite: false,
            ignore_rewrite: false,
            allow_empty_patient_id: false,
            accept_invalid_uids: false,
            fix_philips: false,
            fix_kodak: false,
            store_failed_status: STATUS_PROCESSING_FAILURE,
            durability: Durability::Durable,
            durability_by_ae: HashMap::new(),
            journal_object_bytes: JOURNAL_OBJECT_BYTES,
            journal_bytes: JOURNAL_BYTES,
            full_threshold_mb: FULL_THRESHOLD_MB,
            read_ahead_objects: READ_AHEAD_OBJECTS,
            read_ahead_bytes: READ_AHEAD_BYTES,
            scan_limits: ScanLimits::default(),
            dataset_bytes_max: u64::from(u32::MAX) * 4,
            keeps_index: true,
            worklist_charset: "ISO_IR 100".into(),
            file_suffix: String::new(),
            nki_as_dicom: false,
        }
    }

    /// Whether files may hold pixel data as NKI streams.
    pub fn keeps_nki(&self) -> bool {
        self.nki_as_dicom || self.file_name_syntax.is_v2()
    }

    /// What a sender's stores are promised.
    pub fn durability_of(&self, calling_ae: &str) -> Durability {
        self.durability_by_ae
            .get(calling_ae)
            .copied()
            .unwrap_or(self.durability)
    }

    /// Refuses settings that cannot work.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.devices.is_empty() {
            return Err(StoreError::Config("no MAGDevice is configured".into()));
        }
        if self.devices.len() > usize::from(u16::MAX) {
            return Err(StoreError::Config("too many MAGDevices".into()));
        }
        if self.journal_object_bytes > JOURNAL_OBJECT_BYTES_MAX {
            return Err(StoreError::Config(format!(
                "JournalObjectBytes is {}, at most {JOURNAL_OBJECT_BYTES_MAX} is possible",
                self.journal_object_bytes
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_follows_the_calling_ae() {
        let mut config = ArchiveConfig::new(Path::new("/x"));
        config
            .durability_by_ae
            .insert("FAST".into(), Durability::Relaxed);
        assert_eq!(config.durability_of("FAST"), Durability::Relaxed);
        assert_eq!(config.durability_of("OTHER"), Durability::Durable);
        assert!(config.check().is_ok());
        config.devices.clear();
        assert!(config.check().is_err());
    }
}
