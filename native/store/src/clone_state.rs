//! What an interrupted clone has done: one file per source beside the index, one line per finished piece.
//!
//! A line is written once the rows of its piece are durable. Losing lines only costs time, so nothing is
//! synced here, and a line that a crash cut short names nothing. Without an index there is no file: pieces are
//! named after patients.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// The record of one clone.
pub struct CloneState {
    written: Option<(PathBuf, File)>,
    done: HashSet<Vec<u8>>,
}

impl CloneState {
    /// A record that is nowhere.
    pub fn unwritten() -> Self {
        Self {
            written: None,
            done: HashSet::new(),
        }
    }

    /// Opens the record of cloning `source`; forgets what is there when `restart` is set.
    pub fn open(index_dir: &Path, source: &str, restart: bool) -> Result<Self, StoreError> {
        let name = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = source.chars().map(name).collect();
        let path = index_dir.join(format!("clonedb.{name}.state"));
        let failed = |error| StoreError::io("write", &path, error);
        // What cannot be read is begun anew.
        let text = if restart {
            Vec::new()
        } else {
            fs::read(&path).unwrap_or_default()
        };
        let whole = text.rsplitn(2, |&b| b == b'\n').nth(1).unwrap_or_default();
        let mut lines = whole.split(|&b| b == b'\n');
        let ours = lines.next() == Some(source.as_bytes());
        let done: HashSet<Vec<u8>> = lines.filter(|_| ours).filter_map(unescaped).collect();
        let options = OpenOptions::new().create(true).append(true).clone();
        let mut file = options.open(&path).map_err(failed)?;
        // Without the line that was cut short: its start could be another piece's name.
        let kept = if ours { whole.len() as u64 + 1 } else { 0 };
        file.set_len(kept).map_err(failed)?;
        if !ours {
            writeln!(file, "{source}").map_err(failed)?;
        }
        Ok(Self {
            written: Some((path, file)),
            done,
        })
    }

    /// How many pieces are done.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether nothing is done yet.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Whether a piece is done.
    pub fn is_done(&self, piece: &[u8]) -> bool {
        self.done.contains(piece)
    }

    /// Notes pieces whose rows are durable.
    pub fn note<'p>(
        &mut self,
        pieces: impl IntoIterator<Item = &'p [u8]>,
    ) -> Result<(), StoreError> {
        let Some((path, file)) = &mut self.written else {
            return Ok(());
        };
        let mut lines = String::new();
        for piece in pieces {
            lines.push_str(&piece.escape_ascii().to_string());
            lines.push('\n');
        }
        file.write_all(lines.as_bytes())
            .map_err(|error| StoreError::io("write", path, error))
    }

    /// Everything is done: the next clone of this source begins anew.
    pub fn finish(self) -> Result<(), StoreError> {
        let Some((path, _)) = self.written else {
            return Ok(());
        };
        fs::remove_file(&path).map_err(|error| StoreError::io("remove", &path, error))
    }
}

/// Reads `escape_ascii` back; `None` for what it does not write.
fn unescaped(line: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(line.len());
    let mut bytes = line.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next()? {
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            b'x' => {
                let digits = [*bytes.next()?, *bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => *other,
        });
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_interrupted_clone_goes_on_and_a_finished_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let open = |source, restart| CloneState::open(dir.path(), source, restart).unwrap();
        let mut state = open("PACS at 10.0.0.1:104", false);
        state.note([&b"P1"[..], b"P\xfc\n2\\"]).unwrap();
        drop(state);
        // The end of a write that a crash cut.
        let path = dir.path().join("clonedb.PACS_at_10_0_0_1_104.state");
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"P3 cut sh");
        fs::write(&path, text).unwrap();

        let mut state = open("PACS at 10.0.0.1:104", false);
        assert_eq!(state.len(), 2);
        assert!(state.is_done(b"P1") && state.is_done(b"P\xfc\n2\\"));
        state.note([&b"P4"[..]]).unwrap();
        let state = open("PACS at 10.0.0.1:104", false);
        assert!(state.is_done(b"P4") && state.is_done(b"P1"));
        assert!(!state.is_done(b"P3 cut sh"));
        // Another source whose file has the same name.
        assert!(open("PACS at 10.0.0.1_104", false).is_empty());
        assert!(open("PACS at 10.0.0.1:104", false).is_empty());
        let mut state = open("PACS at 10.0.0.1:104", false);
        state.note([&b"P1"[..]]).unwrap();
        assert!(open("PACS at 10.0.0.1:104", true).is_empty());
        state.finish().unwrap();
        assert!(!path.exists());
    }

    proptest! {
        #[test]
        fn pieces_come_back(piece in proptest::collection::vec(any::<u8>(), 1..80)) {
            let line = piece.escape_ascii().to_string();
            prop_assert_eq!(unescaped(line.as_bytes()), Some(piece));
        }

        #[test]
        fn damaged_lines_are_read_without_harm(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = unescaped(&line);
        }
    }
}
