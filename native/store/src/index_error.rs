//! What can go wrong with the index, sorted by what the caller must do about it.

use crate::columns::ColumnError;

/// A failure of the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// No room on the device or in the reserved map. The transaction is lost, the index is as before, and
    /// the next one may work once there is room.
    #[error("no room for the index: {0}")]
    Full(String),
    /// The index cannot be trusted to be written further; it stays readable until reopened.
    #[error("the index is read-only after a failed commit")]
    ReadOnly,
    /// A page that says which commit counts could not be written; LMDB then answers nothing until it is opened
    /// again, as `serve` does. What was committed, or is in the journal, is there after that.
    #[error("the index is closed after a failed write of its first pages and must be opened again")]
    Closed,
    /// A record does not decode.
    #[error("the index is damaged: {0}")]
    Corrupt(&'static str),
    /// The environment is of a version this program does not know.
    #[error(
        "index format {found}, this program reads {known}: move the index folder away and run `pyserver regen`"
    )]
    Format {
        /// Version in the environment.
        found: u32,
        /// Version of this program.
        known: u32,
    },
    /// A query wants more rows sorted than are held in memory.
    #[error("more than {0} rows to sort")]
    TooManyToSort(usize),
    /// `dicom.sql` does not parse.
    #[error(transparent)]
    Columns(#[from] ColumnError),
    /// Anything else LMDB or the system says.
    #[error("index: {0}")]
    Lmdb(String),
}

/// ENOSPC and EDQUOT: a full disk and an exhausted quota are the same to a store.
const NO_ROOM: [i32; 2] = [28, 122];

impl From<heed::Error> for IndexError {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Io(e) if e.raw_os_error().is_some_and(|n| NO_ROOM.contains(&n)) => {
                Self::Full(e.to_string())
            }
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full("map full".to_owned()),
            heed::Error::Mdb(heed::MdbError::Panic) => Self::Closed,
            heed::Error::Mdb(heed::MdbError::Corrupted) => Self::Corrupt("LMDB says so"),
            other => Self::Lmdb(other.to_string()),
        }
    }
}
