//! What Python sees of the native server. Converts and calls; decides nothing.
use pyo3::prelude::*;

/// The native half of pyserver.
#[pymodule]
mod _native {}
