//! `store.journal`: the commit point of new stores, between two commits of the index.
//!
//! A commit of the index writes pages all over its file and syncs twice; a record here is one sequential write
//! and one sync into blocks that were written before, so that no metadata moves. A new object is therefore
//! applied in the index's open transaction, noted here, synced (unless its sender is content with `relaxed`)
//! and answered; the transaction is committed some time later, for many at once.
//!
//! Records hold for one generation, the number of the commit that was in force when they were written. The
//! next commit makes them dead without a write, and the place is used from its start again. Each check covers
//! the check before it: what an earlier run or a failed write left behind never continues a chain. Replay
//! ends at the first record whose check is wrong. Nothing is known here of rows or of how files are placed.
//!
//! ```text
//! record   length u32 of the payload, check 16 bytes, payload
//! check    content hash of the check before (at the start: of the generation) and the payload
//! payload  image u64, pending u64, now u32, device u16, data set offset u32, file bytes u64, content hash
//!          of the data set 16 bytes, file, calling AE, called AE, number of jobs, jobs, kind u8, content
//! ```
//! Integers big endian; texts, jobs and content with their length before them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::blob::{BlobFile, Disk};
use crate::bytes::{Reader, put_var_bytes, put_varint};
use crate::content_hash::{self, ContentHash, ContentHasher, HASH_BYTES};
use crate::error::StoreError;
use crate::pending::PendingKind;

/// Name of the journal in the index folder.
pub const JOURNAL_FILE: &str = "store.journal";
/// Written at once while the journal is made.
const ZEROS: usize = 1 << 20;
/// The journal is made at most this part of the free space.
const FREE_SHARE: u64 = 16;
const HEAD_BYTES: usize = 4 + HASH_BYTES;
const JOURNAL: u8 = 1;
const TEMP: u8 = 2;
const WRITTEN: u8 = 3;

/// One new store, as it was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Number of the image.
    pub image: u64,
    /// Number of the pending entry.
    pub pending: u64,
    /// Unix time in seconds.
    pub now: u32,
    /// Device number.
    pub device: u16,
    /// Where the data set begins in the file.
    pub dataset_offset: u32,
    /// Size of the file.
    pub file_bytes: u64,
    /// Hash of the data set.
    pub hash: ContentHash,
    /// Final name on the device.
    pub file: &'a str,
    /// The sender.
    pub calling_ae: &'a str,
    /// Whom it called.
    pub called_ae: &'a str,
    /// Work queued with it.
    pub jobs: Vec<&'a [u8]>,
    /// Where the file's bytes are.
    pub content: PendingKind<'a>,
}

/// What is to be left of a record when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Safety {
    /// It survives the end of the process.
    None,
    /// The device has it: the sync of another file makes it survive a power cut (`Disk::sync_covers`).
    Through,
    /// It survives a power cut.
    Synced,
}

/// The open journal. Only the committer writes it.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    blob: BlobFile,
    size: u64,
    /// The generation of what stands before `position`.
    generation: u64,
    position: u64,
    /// Up to here the device has taken it in.
    through: u64,
    chain: ContentHash,
    /// Records not written yet, and the last one's check.
    staged: Vec<u8>,
    staged_chain: ContentHash,
}

impl Journal {
    /// Opens the journal in the index folder, or makes it `bytes` long; shorter where little space is left. One
    /// without any room is no fault: stores then wait for the commit.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        index_dir: &Path,
        bytes: u64,
    ) -> Result<Self, StoreError> {
        let path = index_dir.join(JOURNAL_FILE);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let blob = match file {
            Ok(file) => BlobFile {
                file,
                path: path.clone(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk
                .create(&path)
                .map_err(|e| StoreError::io("create", &path, e))?,
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        let found = blob.file.metadata();
        let found = found
            .map_err(|e| StoreError::io("look at", &path, e))?
            .len();
        let folder = File::open(index_dir).map_err(|e| StoreError::io("open", index_dir, e))?;
        let free = disk.free_bytes(&folder).unwrap_or(0);
        let bytes = bytes.min(free / FREE_SHARE);
        if found < bytes {
            lengthen(disk.as_ref(), &blob, found, bytes)
                .and_then(|()| disk.sync(&blob))
                .and_then(|()| disk.sync_folder(index_dir))
                .map_err(|e| StoreError::io("make", &path, e))?;
        }
        Ok(Self {
            disk: Arc::clone(disk),
            blob,
            size: bytes.max(found),
            generation: 0,
            position: 0,
            through: 0,
            chain: seed(0),
            staged: Vec::new(),
            staged_chain: seed(0),
        })
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.blob.file
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.blob.path
    }

    /// Hands out the records of a generation in the order they were written.
    pub(crate) fn replay(
        &self,
        generation: u64,
        mut each: impl FnMut(&Record<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let read = |bytes: &mut [u8], at| {
            let read = self.blob.file.read_exact_at(bytes, at);
            read.map_err(|e| StoreError::io("read", &self.blob.path, e))
        };
        let mut position = 0_u64;
        let mut chain = seed(generation);
        let mut payload = Vec::new();
        loop {
            let left = self.size.saturating_sub(position + HEAD_BYTES as u64);
            if left == 0 {
                return Ok(());
            }
            let mut head = [0; HEAD_BYTES];
            read(&mut head, position)?;
            let mut head = Reader::new(&head);
            let length = head.u32().unwrap_or(0);
            if length == 0 || u64::from(length) > left {
                return Ok(());
            }
            payload.resize(length as usize, 0);
            read(&mut payload, position + HEAD_BYTES as u64)?;
            chain = check(&chain, &payload);
            if head.rest() != chain {
                return Ok(());
            }
            let Some(record) = decode(&payload) else {
                let path = self.blob.path.display();
                return Err(StoreError::Index(format!("{path}: unknown record")));
            };
            each(&record)?;
            position += (HEAD_BYTES + payload.len()) as u64;
        }
    }

    /// Gets a record ready to be written on top of a commit; false when there is no room for it.
    pub(crate) fn stage(&mut self, generation: u64, record: &Record<'_>) -> bool {
        if self.generation != generation {
            self.generation = generation;
            (self.position, self.through) = (0, 0);
            self.chain = seed(generation);
            self.unstage();
        }
        let start = self.staged.len();
        self.staged.resize(start + HEAD_BYTES, 0);
        encode(record, &mut self.staged);
        let end = self.position + self.staged.len() as u64;
        let (_, new) = self.staged.split_at_mut(start);
        let (head, payload) = new.split_at_mut(HEAD_BYTES);
        let length = u32::try_from(payload.len());
        let (Ok(length), true) = (length, end <= self.size) else {
            self.staged.truncate(start);
            return false;
        };
        self.staged_chain = check(&self.staged_chain, payload);
        let (place, rest) = head.split_at_mut(4);
        place.copy_from_slice(&length.to_be_bytes());
        rest.copy_from_slice(&self.staged_chain);
        true
    }

    /// Forgets what was got ready.
    pub(crate) fn unstage(&mut self) {
        self.staged.clear();
        self.staged_chain = self.chain;
    }

    /// Writes what was got ready, as safe as is asked. After an error none of it counts; the end of the space is told
    /// as such only when it was met before the sync.
    pub(crate) fn write(&mut self, safety: Safety) -> io::Result<()> {
        let end = self.position + self.staged.len() as u64;
        let written = self
            .disk
            .write_at(&self.blob, &self.staged, self.position)
            .and_then(|()| {
                match safety {
                    Safety::None => Ok(()),
                    // With what went before: the chain is read from its start.
                    Safety::Through => self.disk.write_through(&self.blob, self.through..end),
                    Safety::Synced => self.disk.sync(&self.blob),
                }
                .map_err(|e| io::Error::other(format!("sync: {e}")))
            });
        if written.is_ok() {
            if safety != Safety::None {
                self.through = end;
            }
            self.position = end;
            self.chain = self.staged_chain;
            self.staged.clear();
        } else {
            self.unstage();
            // The commit that follows makes the records dead; this does so when it fails and only the process
            // ends. That it may fail as well changes nothing.
            let head = [0; HEAD_BYTES];
            let _dead_anyway = self.disk.write_at(&self.blob, &head, self.position);
        }
        written
    }
}

/// Fills a file with zeros, so that later writes find their blocks there.
fn lengthen(disk: &dyn Disk, blob: &BlobFile, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    while from < to {
        let count = (to - from).min(ZEROS as u64);
        let piece = zeros.get(..count as usize).unwrap_or(&zeros);
        disk.write_at(blob, piece, from)?;
        from += count;
    }
    Ok(())
}

fn seed(generation: u64) -> ContentHash {
    content_hash::hash(&generation.to_be_bytes())
}

fn check(before: &ContentHash, payload: &[u8]) -> ContentHash {
    let mut hasher = ContentHasher::default();
    hasher.update(before);
    hasher.update(payload);
    hasher.finish()
}

fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&record.image.to_be_bytes());
    out.extend_from_slice(&record.pending.to_be_bytes());
    out.extend_from_slice(&record.now.to_be_bytes());
    out.extend_from_slice(&record.device.to_be_bytes());
    out.extend_from_slice(&record.dataset_offset.to_be_bytes());
    out.extend_from_slice(&record.file_bytes.to_be_bytes());
    out.extend_from_slice(&record.hash);
    for text in [record.file, record.calling_ae, record.called_ae] {
        put_var_bytes(out, text.as_bytes());
    }
    put_varint(out, record.jobs.len());
    for job in &record.jobs {
        put_var_bytes(out, job);
    }
    let (kind, content) = match record.content {
        PendingKind::Journal(bytes) => (JOURNAL, bytes),
        PendingKind::Temp(name) => (TEMP, name.as_bytes()),
        PendingKind::Written => (WRITTEN, [].as_slice()),
    };
    out.push(kind);
    put_var_bytes(out, content);
}

fn decode(payload: &[u8]) -> Option<Record<'_>> {
    let mut r = Reader::new(payload);
    Some(Record {
        image: r.u64()?,
        pending: r.u64()?,
        now: r.u32()?,
        device: r.u16()?,
        dataset_offset: r.u32()?,
        file_bytes: r.u64()?,
        hash: r.take(HASH_BYTES)?.try_into().ok()?,
        file: r.var_str()?,
        calling_ae: r.var_str()?,
        called_ae: r.var_str()?,
        jobs: {
            let count = r.varint()?;
            let mut jobs = Vec::new();
            for _ in 0..count {
                jobs.push(r.var_bytes()?);
            }
            jobs
        },
        content: match (r.u8()?, r.var_bytes()?) {
            (JOURNAL, bytes) => PendingKind::Journal(bytes),
            (TEMP, name) => PendingKind::Temp(std::str::from_utf8(name).ok()?),
            (WRITTEN, _) => PendingKind::Written,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::SystemDisk;
    use proptest::prelude::*;

    const SIZE: u64 = 4096;

    fn record(n: u8, content: &[u8]) -> Record<'_> {
        Record {
            image: u64::from(n),
            pending: u64::from(n) + 1,
            now: 7,
            device: 3,
            dataset_offset: 132,
            file_bytes: 1000,
            hash: [n; HASH_BYTES],
            file: "P/\u{e9}.dcm",
            calling_ae: "CT",
            called_ae: "",
            jobs: vec![b"one", b""],
            content: PendingKind::Journal(content),
        }
    }

    fn open(folder: &Path) -> Journal {
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        Journal::open(&disk, folder, SIZE).unwrap()
    }

    fn images(journal: &Journal, generation: u64) -> Vec<u64> {
        let mut images = Vec::new();
        let replayed = journal.replay(generation, |record| {
            images.push(record.image);
            Ok(())
        });
        replayed.unwrap();
        images
    }

    #[test]
    fn records_come_back_in_their_generation_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path());
        assert!(images(&journal, 0).is_empty());
        assert!(journal.stage(5, &record(1, b"a")) && journal.stage(5, &record(2, b"b")));
        journal.write(Safety::Synced).unwrap();
        assert!(journal.stage(5, &record(3, b"c")));
        journal.write(Safety::None).unwrap();
        drop(journal);
        let mut journal = open(folder.path());
        assert_eq!(images(&journal, 5), [1, 2, 3]);
        assert!(images(&journal, 4).is_empty() && images(&journal, 6).is_empty());
        let mut seen = Vec::new();
        let replayed = journal.replay(5, |found| {
            seen.push(*found == record(1, b"a"));
            Ok(())
        });
        replayed.unwrap();
        assert_eq!(seen, [true, false, false]);
        // The same length: what stood behind does not come back to life.
        assert!(journal.stage(6, &record(4, b"d")));
        journal.write(Safety::Synced).unwrap();
        assert_eq!(images(&journal, 6), [4]);
        assert!(images(&journal, 5).is_empty());
    }

    #[test]
    fn replay_ends_at_damage_and_what_a_failed_write_left_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path());
        for n in 1..=3 {
            assert!(journal.stage(1, &record(n, b"x")));
        }
        journal.write(Safety::Synced).unwrap();
        let path = journal.path().to_path_buf();
        let bytes = std::fs::read(&path).unwrap();
        let each = bytes.iter().rposition(|&b| b != 0).unwrap().div_ceil(3);
        let mut torn = bytes.clone();
        torn[each + 60] ^= 1;
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(images(&journal, 1), [1]);
        // Records 2 and 3 stand where an unfinished write left them; another 2 takes their place.
        std::fs::write(&path, &bytes).unwrap();
        let mut again = open(folder.path());
        assert!(again.stage(1, &record(1, b"x")));
        again.write(Safety::Synced).unwrap();
        assert!(again.stage(1, &record(9, b"y")));
        again.write(Safety::Synced).unwrap();
        assert_eq!(images(&again, 1), [1, 9]);
    }

    #[test]
    fn a_full_journal_says_so_and_has_room_after_the_next_commit() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path());
        let large = vec![1; 3000];
        assert!(journal.stage(1, &record(1, &large)));
        assert!(!journal.stage(1, &record(2, &large)));
        assert!(journal.stage(1, &record(3, b"small")));
        journal.write(Safety::Synced).unwrap();
        assert!(!journal.stage(1, &record(4, &large)));
        assert_eq!(images(&journal, 1), [1, 3]);
        assert!(journal.stage(2, &record(5, &large)));
        journal.write(Safety::Synced).unwrap();
        assert_eq!(images(&journal, 2), [5]);
        assert_eq!(std::fs::metadata(journal.path()).unwrap().len(), SIZE);
    }

    proptest! {
        #[test]
        fn damage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _record = decode(&bytes);
        }
    }
}
