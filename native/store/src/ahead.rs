//! Keeps the index's file longer than its pages, in blocks that the file system has already placed.
//!
//! A commit that makes the file longer has the file system commit its own journal, too: measured on ext4,
//! `fdatasync` after a 4 KB write takes 0.5 ms at the end of a file and 0.12 ms inside it. So zeros are
//! written behind the last page, a stretch at a time, between transactions. They must be written and not
//! merely reserved: turning reserved blocks into written ones is again the journal's business.
//!
//! Nothing depends on it. LMDB looks at pages that its meta page counts and never at the length of the
//! file; when the disk has no room, or the file does not open, commits are as slow as without.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Written at a time. A commit that follows syncs it along, so it must stay a few milliseconds' worth.
const STRETCH: u64 = 4 << 20;
/// Pages that a large transaction may add, so that the next stretch is there before it is needed.
const MARGIN: u64 = 1 << 20;
const PIECE: [u8; 1 << 16] = [0; 1 << 16];

/// The data file of the environment.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    file: Option<File>,
}

impl Ahead {
    /// Opens the data file in the folder of the environment.
    pub fn open(dir: &Path) -> Self {
        let file = OpenOptions::new().write(true).open(dir.join("data.mdb"));
        Self { file: file.ok() }
    }

    /// Writes the next stretch when the pages in use come near the end of the file. Only between write
    /// transactions: it must not write where one writes.
    pub fn keep(&self, used_bytes: u64) {
        let Some(file) = &self.file else {
            return;
        };
        let length = file.metadata().map_or(u64::MAX, |state| state.len());
        if used_bytes + MARGIN <= length {
            return;
        }
        let mut at = length.max(used_bytes);
        let end = at + STRETCH;
        while at < end {
            if file.write_all_at(&PIECE, at).is_err() {
                return;
            }
            at += PIECE.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_stays_ahead_of_its_pages_and_no_page_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.mdb");
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        let ahead = Ahead::open(dir.path());
        ahead.keep(10_000);
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, 10_000 + STRETCH);
        assert!(content.iter().take(10_000).all(|&byte| byte == 7));
        ahead.keep(10_000 + STRETCH - MARGIN);
        assert_eq!(path.metadata().unwrap().len(), 10_000 + STRETCH);
        ahead.keep(10_000 + STRETCH - MARGIN + 1);
        assert_eq!(path.metadata().unwrap().len(), 10_000 + 2 * STRETCH);
    }

    #[test]
    fn without_a_file_nothing_happens() {
        Ahead::default().keep(1 << 40);
    }
}
