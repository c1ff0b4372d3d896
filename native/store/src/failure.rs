//! Why a whole transaction failed, as each change in it hears.

use crate::driver::DriverError;
use crate::error::StoreError;
use crate::index_error::IndexError;

/// Why a whole transaction failed; said to each change in it.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    Full(String),
    ReadOnly(String),
    /// The database behind the index.
    Database(String),
    Other(String),
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Full(reason) => Self::Full(reason),
            IndexError::ReadOnly => Self::ReadOnly(IndexError::ReadOnly.to_string()),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<&Failure> for StoreError {
    fn from(failure: &Failure) -> Self {
        match failure.clone() {
            Failure::Full(reason) => Self::Full(reason),
            Failure::ReadOnly(reason) => Self::ReadOnly(reason),
            Failure::Database(reason) => Self::Database(reason),
            Failure::Other(reason) => Self::Index(reason),
        }
    }
}

impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        Self::from(&Failure::from(error))
    }
}
