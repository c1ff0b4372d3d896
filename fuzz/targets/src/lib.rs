//! What is fuzzed: one function for each way in that a peer, a disk or a configuration file has.
//!
//! A target takes any bytes, drives the public interface with them as the server would, and fails by
//! panicking when a property does not hold. "Does not crash" is the least of them: the same bytes in other
//! pieces must give the same answer, what is written must be read back, a name must stay inside its folder,
//! a clever matcher must agree with a slow obvious one. The fuzzer (`../`) calls one target in a loop; the
//! test of this crate runs every file of the corpora through its target.

#![allow(clippy::panic, reason = "a target reports what it finds by panicking")]

pub mod clone;
pub mod columns;
pub mod convert;
pub mod dataset;
pub mod files;
mod input;
pub mod instance;
pub mod messages;
pub mod names;
pub mod query;
pub mod store;
pub mod text;
pub mod upper_layer;

/// Takes one input.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("pdu", upper_layer::pdu),
    ("acceptor", upper_layer::acceptor),
    ("requestor", upper_layer::requestor),
    ("command", messages::command),
    ("dataset_implicit", dataset::implicit),
    ("dataset_explicit", dataset::explicit),
    ("dataset_big_endian", dataset::big_endian),
    ("dataset_deflated", dataset::deflated),
    ("dataset_encapsulated", dataset::encapsulated),
    ("convert", convert::convert),
    ("instance", instance::edit),
    ("file_probe", files::probe),
    ("charset", text::charset),
    ("matcher", text::matcher),
    ("query", query::query),
    ("clone", clone::clone),
    ("filename", names::filename),
    ("extract", columns::extract),
    ("store", store::store),
    ("dicom_sql", columns::parse),
];
