//! What DICOM bytes mean: upper layer, DIMSE, data sets, queries. No sockets, files, threads or clocks.
#![forbid(unsafe_code)]

pub mod tag;
pub mod transfer_syntax;
pub mod uid;
