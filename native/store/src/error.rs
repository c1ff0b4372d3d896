//! What can go wrong while an object is kept, and which C-STORE status (PS3.4 table B.2-1) says so.
//!
//! One enum for the crate's file side. An error never carries "maybe stored": when a call answers `Err`, the
//! object is not in the archive, or will be taken out of it again before the next acknowledgement.

use std::io;
use std::path::{Path, PathBuf};

use crate::driver::DriverError;

/// Refused: out of resources (PS3.4 table B.2-1).
pub const STATUS_OUT_OF_RESOURCES: u16 = 0xA700;
/// Error: data set does not match SOP class (PS3.4 table B.2-1).
pub const STATUS_MISMATCH: u16 = 0xA900;
/// Error: cannot understand (PS3.4 table B.2-1).
pub const STATUS_NOT_UNDERSTOOD: u16 = 0xC000;
/// Processing failure (PS3.7 C.5.5): where the standard names nothing better.
pub const STATUS_PROCESSING_FAILURE: u16 = 0x0110;

/// Why an object was not stored, or another archive operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Every device is below its free space threshold, or a write met the end of the space.
    #[error("no space: {0}")]
    Full(String),
    /// The object itself, or its relation to what is stored, is at fault.
    #[error("refused with status {status:04X}H: {reason}")]
    Refused {
        /// The status for the C-STORE response.
        status: u16,
        /// What is wrong with the object.
        reason: String,
    },
    /// A failed sync made the device or the index untrustworthy for writing; it stays so until the next start.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// What it was applied to.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
        /// The status for the C-STORE response, `StorageFailedErrorCode` of the configuration.
        status: u16,
    },
    /// The index refused or failed.
    #[error("index: {0}")]
    Index(String),
    /// Another process has the archive open.
    #[error("the archive in {} is in use by another process", .0.display())]
    Busy(PathBuf),
    /// The object cannot be put into the form that is wanted.
    #[error("{0}")]
    Codec(String),
    /// The configuration cannot work.
    #[error("configuration: {0}")]
    Config(String),
    /// The database that is to keep the rows cannot be reached, or refuses them.
    #[error("{0}")]
    Database(String),
    /// The archive is being closed.
    #[error("the archive is closing")]
    Closed,
}

impl StoreError {
    /// The status of the C-STORE response that says this.
    pub fn status(&self) -> u16 {
        match self {
            Self::Full(_) | Self::ReadOnly(_) | Self::Database(_) | Self::Closed => {
                STATUS_OUT_OF_RESOURCES
            }
            Self::Refused { status, .. } | Self::Io { status, .. } => *status,
            Self::Index(_) | Self::Busy(_) | Self::Config(_) | Self::Codec(_) => {
                STATUS_PROCESSING_FAILURE
            }
        }
    }

    /// A refusal with a status of its own.
    pub fn refused(status: u16, reason: impl Into<String>) -> Self {
        Self::Refused {
            status,
            reason: reason.into(),
        }
    }

    /// A failed file operation; the end of the space is told apart from a broken disk.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if is_out_of_space(&source) {
            return Self::Full(format!("{action} {}: {source}", path.display()));
        }
        Self::Io {
            action,
            path: path.to_path_buf(),
            source,
            status: STATUS_PROCESSING_FAILURE,
        }
    }

    /// The same error, answered with the configured `StorageFailedErrorCode` where no other status fits.
    #[must_use]
    pub fn with_failed_status(self, failed: u16) -> Self {
        match self {
            Self::Io {
                action,
                path,
                source,
                ..
            } => Self::Io {
                action,
                path,
                source,
                status: failed,
            },
            Self::Index(reason) => Self::Refused {
                status: failed,
                reason: format!("index: {reason}"),
            },
            other => other,
        }
    }
}

impl From<DriverError> for StoreError {
    fn from(error: DriverError) -> Self {
        Self::Database(error.to_string())
    }
}

/// Whether the system says that there is no room, by size or by quota.
pub fn is_out_of_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_space_is_out_of_resources_and_other_failures_take_the_configured_status() {
        let path = Path::new("x");
        let full = StoreError::io("write", path, io::Error::from_raw_os_error(28));
        assert_eq!(full.status(), 0xA700);
        let broken = StoreError::io("write", path, io::Error::from_raw_os_error(5));
        assert_eq!(broken.status(), 0x0110);
        assert_eq!(broken.with_failed_status(0xC123).status(), 0xC123);
        let refused = StoreError::refused(STATUS_MISMATCH, "SOP class differs");
        assert_eq!(refused.with_failed_status(0xC123).status(), 0xA900);
    }
}
