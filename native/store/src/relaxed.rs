//! `relaxed.journal`: which files of acknowledged, not yet committed stores are on disk.
//!
//! A relaxed store that replaces nothing is acknowledged before its row is committed. Its record is appended
//! here, without a sync, before its file is created; when the process is killed, the system still has both, and start-up enters the
//! files whose rows are missing. The committer empties the journal right after a commit: at that moment every
//! record is of a committed store, for nothing of the next transaction was answered yet.
//!
//! ```text
//! record   length u32 of the payload, payload, first 8 bytes of the payload's BLAKE3
//! payload  image number u64, device u16, file bytes u64, hash of the data set 32 bytes,
//!          calling AE length u8 and bytes, name
//! ```
//! All integers little endian. Reading ends at the first record that is not whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use parking_lot::Mutex;

use crate::error::StoreError;

/// Name of the journal in the index folder.
pub const RELAXED_JOURNAL: &str = "relaxed.journal";
/// A payload is a name and a few numbers; a longer one is damage.
const PAYLOAD_BYTES_MAX: usize = 8192;
const CHECK_BYTES: usize = 8;

/// One acknowledged store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaxedRecord {
    /// Number of the image; a number that was committed is never given again.
    pub image: u64,
    /// Device number.
    pub device: u16,
    /// Size of the file.
    pub file_bytes: u64,
    /// Hash of the data set in it.
    pub hash: [u8; 32],
    /// The sender.
    pub calling_ae: String,
    /// Name on the device.
    pub file: String,
}

/// The open journal.
#[derive(Debug)]
pub struct RelaxedJournal {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    length: u64,
}

impl RelaxedJournal {
    /// Opens or creates the journal in the index folder and reads what an earlier run left in it.
    pub fn open(index_dir: &Path) -> Result<(Self, Vec<RelaxedRecord>), StoreError> {
        let path = index_dir.join(RELAXED_JOURNAL);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| StoreError::io("open", &path, e))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|e| StoreError::io("read", &path, e))?;
        let records = read_records(&bytes);
        let length = bytes.len() as u64;
        Ok((
            Self {
                state: Mutex::new(State { file, length }),
            },
            records,
        ))
    }

    /// Adds a record; when this fails the journal is as it was.
    pub fn append(&self, record: &RelaxedRecord) -> io::Result<()> {
        let bytes = encode(record);
        let mut state = self.state.lock();
        let length = state.length;
        let written = state
            .file
            .seek(SeekFrom::Start(length))
            .and_then(|_| state.file.write_all(&bytes));
        match written {
            Ok(()) => {
                state.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                state.file.set_len(length)?;
                Err(error)
            }
        }
    }

    /// Empties the journal.
    pub fn clear(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.length > 0 {
            state.file.set_len(0)?;
            state.length = 0;
        }
        Ok(())
    }
}

fn encode(record: &RelaxedRecord) -> Vec<u8> {
    let name: Vec<u8> = record.file.bytes().collect();
    let ae = record.calling_ae.as_bytes();
    let ae = ae.get(..ae.len().min(255)).unwrap_or_default();
    let mut out = Vec::with_capacity(64 + name.len() + ae.len());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&record.image.to_le_bytes());
    out.extend_from_slice(&record.device.to_le_bytes());
    out.extend_from_slice(&record.file_bytes.to_le_bytes());
    out.extend_from_slice(&record.hash);
    out.push(ae.len() as u8);
    out.extend_from_slice(ae);
    out.extend_from_slice(&name);
    let payload = out.len() - 4;
    out[..4].copy_from_slice(&(payload as u32).to_le_bytes());
    let check = blake3::hash(&out[4..]);
    out.extend_from_slice(&check.as_bytes()[..CHECK_BYTES]);
    out
}

fn read_records(mut bytes: &[u8]) -> Vec<RelaxedRecord> {
    let mut records = Vec::new();
    while let Some((record, rest)) = read_record(bytes) {
        records.push(record);
        bytes = rest;
    }
    records
}

fn read_record(bytes: &[u8]) -> Option<(RelaxedRecord, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(length)?;
    let (check, rest) = rest.split_at_checked(CHECK_BYTES)?;
    if blake3::hash(payload).as_bytes().get(..CHECK_BYTES) != Some(check) {
        return None;
    }
    let (image, payload) = payload.split_first_chunk::<8>()?;
    let (device, payload) = payload.split_first_chunk::<2>()?;
    let (file_bytes, payload) = payload.split_first_chunk::<8>()?;
    let (hash, payload) = payload.split_first_chunk::<32>()?;
    let (&ae_length, payload) = payload.split_first()?;
    let (ae, name) = payload.split_at_checked(usize::from(ae_length))?;
    let record = RelaxedRecord {
        image: u64::from_le_bytes(*image),
        device: u16::from_le_bytes(*device),
        file_bytes: u64::from_le_bytes(*file_bytes),
        hash: *hash,
        calling_ae: String::from_utf8_lossy(ae).into_owned(),
        file: String::from_utf8(name.to_vec()).ok()?,
    };
    Some((record, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(n: u8) -> RelaxedRecord {
        RelaxedRecord {
            image: u64::from(n) << 40,
            device: u16::from(n),
            file_bytes: 1000 + u64::from(n),
            hash: [n; 32],
            calling_ae: "CT".into(),
            file: format!("P/{n}\u{e9}.dcm"),
        }
    }

    #[test]
    fn records_come_back_up_to_the_first_broken_one() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, old) = RelaxedJournal::open(folder.path()).unwrap();
        assert!(old.is_empty());
        journal.append(&record(1)).unwrap();
        journal.append(&record(2)).unwrap();
        drop(journal);
        let path = folder.path().join(RELAXED_JOURNAL);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&encode(&record(3))[..20]);
        std::fs::write(&path, &bytes).unwrap();
        let (journal, old) = RelaxedJournal::open(folder.path()).unwrap();
        assert_eq!(old, [record(1), record(2)]);
        journal.clear().unwrap();
        journal.append(&record(4)).unwrap();
        drop(journal);
        let (_journal, old) = RelaxedJournal::open(folder.path()).unwrap();
        assert_eq!(old, [record(4)]);
    }

    proptest! {
        #[test]
        fn damage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _records = read_records(&bytes);
        }
    }
}
