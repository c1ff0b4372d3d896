//! What Python sees of the native server. Converts and calls; decides nothing.
//!
//! Every call that waits or works detaches from the interpreter first. Types of this crate stay in
//! it: the engine crates know no Python.
#![allow(
    clippy::needless_pass_by_value,
    reason = "PyO3 hands converted arguments over by value"
)]

mod archive;
mod archive_dicts;
mod client;
mod clone;
mod codecs;
mod columns;
mod convert;
mod driver;
mod errors;
mod forward;
mod instance;
mod pixels;
mod policy;
mod queue;
mod regen_rules;
mod server;
mod settings;
mod worklist;

use pyo3::prelude::*;

/// The native half of pyserver: archive, server and client, in Rust.
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::archive::PyArchive;
    #[pymodule_export]
    use crate::client::{echo, find, get, move_, send};
    #[pymodule_export]
    use crate::clone::clonedb;
    #[pymodule_export]
    use crate::codecs::{PyCodecPool, read_mode_text};
    #[pymodule_export]
    use crate::columns::parse_columns;
    #[pymodule_export]
    use crate::errors::{
        ArchiveBusy, ConfigError, NativeError, PeerError, PeerUnavailable, PixelDataError,
        StoreError,
    };
    #[pymodule_export]
    use crate::forward::Forwarder;
    #[pymodule_export]
    use crate::instance::{Instance, UidTable, find_tag};
    #[pymodule_export]
    use crate::pixels::{
        convert_dataset, edit_elements, find_pixel_data, nki_decode, nki_encode,
        progressive_jpeg_encode, read_elements, rle_encode,
    };
    #[pymodule_export]
    use crate::queue::WorkQueue;
    #[pymodule_export]
    use crate::server::PyServer;
    #[pymodule_export]
    use crate::worklist::Worklist;
}
