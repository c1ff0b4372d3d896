//! What DICOM bytes mean: upper layer, DIMSE, data sets, queries. No sockets, files, threads or clocks.
#![forbid(unsafe_code)]

pub mod ae;
pub mod association;
pub mod charset;
pub mod convert;
pub mod dataset;
pub mod datetime;
pub mod dict;
mod dict_table;
pub mod dimse;
pub mod edit_path;
pub mod element;
mod elements;
pub mod file;
mod grammar;
pub mod header;
mod inflate;
pub mod instance;
mod iso2022;
mod matching;
pub mod negotiate;
pub mod nki;
pub mod path;
pub mod pdu;
pub mod pixel_data;
pub mod query;
mod range;
mod remap;
pub mod rle;
pub mod rle_dataset;
pub mod scan;
pub mod scrub;
pub mod state;
pub mod status;
pub mod tag;
pub mod transfer_syntax;
pub mod uid;
pub mod value;
pub mod vr;
mod walk;

#[cfg(test)]
mod testdata;
