//! Load generator for any DICOM peer.
fn main() {}
