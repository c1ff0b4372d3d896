//! Keeps the index's file longer than its pages, in blocks that the file system has already placed.
//!
//! A commit that makes the file longer has the file system commit its own journal, too: measured on ext4,
//! `fdatasync` after a 4 KB write takes 0.5 ms at the end of a file and 0.12 ms inside it. So zeros are
//! written behind the last page, a stretch at a time, between transactions. They must be written and not
//! merely reserved: turning reserved blocks into written ones is again the journal's business. Commits that are
//! larger than what they would find written gain nothing, and would have everything written twice.
//!
//! Nothing depends on it. LMDB looks at pages that its meta page counts and never at the length of the
//! file; when the disk has no room, or the file does not open, commits are as slow as without, and what was
//! written of a stretch is given back.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Written at a time: as much as there are pages, within these bounds. A commit that follows syncs it along,
/// so it must stay a few milliseconds' worth.
const STRETCH: (u64, u64) = (256 << 10, 4 << 20);
/// A commit that adds more than this makes the file longer itself.
const LARGE: u64 = STRETCH.1 / 4;
static PIECE: [u8; 1 << 16] = [0; 1 << 16];
/// Pause after a failure: a disk without room is not to be asked with each commit.
const PAUSE: Duration = Duration::from_secs(30);

/// The data file of the environment.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    file: Option<File>,
    /// Bytes in use when it was last asked.
    used: AtomicU64,
    not_before: Mutex<Option<Instant>>,
}

impl Ahead {
    /// Opens the data file in the folder of the environment.
    pub fn open(dir: &Path) -> Self {
        let file = OpenOptions::new().write(true).open(dir.join("data.mdb"));
        Self {
            file: file.ok(),
            used: AtomicU64::new(0),
            not_before: Mutex::default(),
        }
    }

    /// Writes the next stretch when the pages in use come near the end of the file. Only between write
    /// transactions: it must not write where one writes.
    pub fn keep(&self, used_bytes: u64) {
        let Some(file) = &self.file else {
            return;
        };
        let before = self.used.swap(used_bytes, Ordering::Relaxed);
        if before > 0 && used_bytes.saturating_sub(before) > LARGE {
            return;
        }
        let length = file.metadata().map_or(u64::MAX, |state| state.len());
        let (least, most) = STRETCH;
        let stretch = used_bytes.next_multiple_of(least).min(most);
        // Pages that a large transaction may add, so that the next stretch is there before it is needed.
        if used_bytes.saturating_add(stretch / 4) <= length {
            return;
        }
        let mut not_before = self.not_before.lock();
        if not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        if extend(file, length.max(used_bytes), stretch).is_err() {
            // Should even this fail, zeros stay where nobody looks.
            let _kept = file.set_len(length);
            *not_before = Some(Instant::now() + PAUSE);
        }
    }
}

fn extend(file: &File, from: u64, stretch: u64) -> io::Result<()> {
    let mut at = from;
    while at < from + stretch {
        file.write_all_at(&PIECE, at)?;
        at += PIECE.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_stays_ahead_of_its_pages_and_no_page_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.mdb");
        let length = || path.metadata().unwrap().len();
        let (least, most) = STRETCH;
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        let ahead = Ahead::open(dir.path());
        ahead.keep(10_000);
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len() as u64, 10_000 + least);
        assert!(content.iter().take(10_000).all(|&byte| byte == 7));
        ahead.keep(10_000 + least / 2);
        assert_eq!(length(), 10_000 + least);
        ahead.keep(10_000 + least);
        assert_eq!(length(), 10_000 + 3 * least);
        // A large commit has written behind what was there, and goes on like that.
        ahead.keep(20 << 20);
        assert_eq!(length(), 10_000 + 3 * least);
        ahead.keep((20 << 20) + LARGE);
        assert_eq!(length(), (20 << 20) + LARGE + most);
    }

    #[test]
    fn without_a_file_nothing_happens() {
        Ahead::default().keep(1 << 40);
    }
}
