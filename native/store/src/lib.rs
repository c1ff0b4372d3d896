//! Where an object is kept, and whether it is safe now: devices, files, the LMDB index, the one committer.
