//! Errors of the engine crates as Python exceptions: one conversion for each family.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyserver_server::ServerError;
use pyserver_server::error::LinkError;
use pyserver_store::error::StoreError as Store;

create_exception!(
    pyserver._native,
    NativeError,
    PyException,
    "Root of all errors of the native half."
);
create_exception!(
    pyserver._native,
    StoreError,
    NativeError,
    "Disk or index failed, or an object was refused."
);
create_exception!(
    pyserver._native,
    ArchiveBusy,
    StoreError,
    "Another process has this archive open."
);
create_exception!(
    pyserver._native,
    PeerUnavailable,
    NativeError,
    "A peer could not be reached, or was lost."
);
create_exception!(
    pyserver._native,
    PeerError,
    NativeError,
    "A peer failed us."
);
create_exception!(
    pyserver._native,
    PixelDataError,
    NativeError,
    "Pixel data, or the data set around it, is damaged or cannot be encoded."
);
create_exception!(
    pyserver._native,
    ConfigError,
    NativeError,
    "The settings cannot be used."
);

/// An archive's failure.
pub fn store(error: &Store) -> PyErr {
    let text = error.to_string();
    match error {
        Store::Busy(_) => ArchiveBusy::new_err(text),
        Store::Config(_) => ConfigError::new_err(text),
        _ => StoreError::new_err(text),
    }
}

/// A conversation's failure.
pub fn link(error: &LinkError) -> PyErr {
    let text = error.to_string();
    match error {
        LinkError::Connect { .. }
        | LinkError::Rejected(_)
        | LinkError::Aborted { .. }
        | LinkError::Ended(_)
        | LinkError::Silent(_)
        | LinkError::Io(_) => PeerUnavailable::new_err(text),
        _ => PeerError::new_err(text),
    }
}

/// A server that does not start.
pub fn server(error: &ServerError) -> PyErr {
    NativeError::new_err(error.to_string())
}

/// A setting or argument that cannot be used.
pub fn config(text: impl Into<String>) -> PyErr {
    ConfigError::new_err(text.into())
}
