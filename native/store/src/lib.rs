//! Where an object is kept, and whether it is safe now: devices, files, the LMDB index, the one committer.

pub mod blob;
pub mod config;
pub mod device;
pub mod error;
pub mod filename;
mod filename_parse;

pub mod apply;
#[cfg(test)]
mod apply_tests;
mod bytes;
pub mod changes;
pub mod columns;
pub mod delete;
pub mod extract;
mod fold;
pub mod headers;
mod heads;
pub mod index;
pub mod index_error;
pub mod layout;
mod lmdb;
mod lookup;
mod names;
mod parents;
pub mod pending;
mod refill;
mod row;
pub mod schema;
mod search;
mod update;
