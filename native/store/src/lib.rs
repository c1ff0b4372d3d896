//! Where an object is kept, and whether it is safe now: devices, files, the LMDB index, the one committer.

pub mod blob;
pub mod config;
pub mod device;
pub mod error;
pub mod filename;
mod filename_parse;
