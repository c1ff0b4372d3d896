//! Keeps written space ahead of the index's end, so that a commit overwrites blocks instead of adding some.
//!
//! A commit that makes the file longer drags the file system's own journal, with the metadata of every object
//! file created meanwhile, into its sync; one that stays inside written space syncs its pages alone. Zeros are
//! therefore written behind the end in large pieces, now and then, between two transactions: LMDB never looks
//! behind its last page. Failing to get ahead costs speed, nothing else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// LMDB's data file.
const DATA_FILE: &str = "data.mdb";
/// A smaller index stays as it is.
const USED_BYTES_MIN: u64 = 1 << 20;
/// Space added at once, for a small and for a large index.
const STEP_BYTES: (u64, u64) = (4 << 20, 16 << 20);
/// From here on an index is large.
const LARGE_BYTES: u64 = 256 << 20;
/// Zeros written by one call.
const PIECE_BYTES: usize = 1 << 20;
/// Pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// The written space behind the index.
pub(crate) struct Headroom {
    file: Option<File>,
    length: u64,
    not_before: Option<Instant>,
}

impl Headroom {
    /// For the index in a folder.
    pub(crate) fn new(index_dir: &Path) -> Self {
        let file = File::options().write(true).open(index_dir.join(DATA_FILE));
        let length = file
            .as_ref()
            .ok()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |facts| facts.len());
        Self {
            file: file.ok(),
            length,
            not_before: None,
        }
    }

    /// Gets ahead again when little is left. Only between transactions, by the only writer; `end_bytes` is
    /// where the index ends.
    pub(crate) fn keep(&mut self, end_bytes: u64) {
        let (small, large) = STEP_BYTES;
        let step = if end_bytes < LARGE_BYTES {
            small
        } else {
            large
        };
        if end_bytes < USED_BYTES_MIN || self.length.saturating_sub(end_bytes) > step / 4 {
            return;
        }
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        let Some(file) = &self.file else {
            return;
        };
        match extend(file, end_bytes, step) {
            Ok(length) => self.length = length,
            Err(_) => self.not_before = Some(Instant::now() + RETRY_PAUSE),
        }
    }
}

/// Writes zeros behind the file's end; answers the new length. A failure leaves the file as it was.
fn extend(file: &File, end_bytes: u64, step: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    // INVARIANT: nothing of the index is behind its end, and nothing is written before the file's.
    let from = length.max(end_bytes);
    let zeros = vec![0; PIECE_BYTES];
    let mut at = from;
    while at < from + step {
        if let Err(error) = file.write_all_at(&zeros, at) {
            file.set_len(length)?;
            return Err(error);
        }
        at += zeros.len() as u64;
    }
    file.sync_data()?;
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn zeros_stand_behind_the_end_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(DATA_FILE);
        let content = vec![7; (USED_BYTES_MIN + 5000) as usize];
        fs::write(&path, &content).unwrap();
        let mut headroom = Headroom::new(folder.path());
        headroom.keep(4096);
        assert_eq!(fs::metadata(&path).unwrap().len(), content.len() as u64);
        headroom.keep(content.len() as u64);
        let extended = fs::read(&path).unwrap();
        assert_eq!(extended.len() as u64, content.len() as u64 + STEP_BYTES.0);
        assert!(extended.starts_with(&content));
        assert!(extended[content.len()..].iter().all(|&byte| byte == 0));
        headroom.keep(content.len() as u64 + STEP_BYTES.0 / 2);
        assert_eq!(fs::metadata(&path).unwrap().len(), extended.len() as u64);
        headroom.keep(content.len() as u64 + STEP_BYTES.0 - 4096);
        assert!(fs::metadata(&path).unwrap().len() > extended.len() as u64);
    }
}
