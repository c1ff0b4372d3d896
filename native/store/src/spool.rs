//! The second part of `store.journal`: bytes of large durable objects, until their files are synced.
//!
//! A new file is slow to make safe: its data, its inode, its folder and the disk's cache, one after the other. The
//! spool's blocks were written before, so what is put there needs nothing but its own bytes and the one sync that
//! the journal waits for anyway. A large durable object is therefore written twice while it arrives, to its
//! temporary file and here; its sender waits for the journal alone, and the file is synced later, with many others.
//!
//! The spool is made when the first object wants it and never grows beyond its limit. An object that finds no room
//! does without: under a load that the disk cannot keep up with, files are synced one by one again.
//!
//! Which blocks are whose stands in the journal's records and the pending records, nowhere else. A block is given to
//! another object only when no record names it any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::blob::{BlobFile, Disk};
use crate::bytes::{Reader, put_var_bytes};

/// Blocks begin at multiples of this, so that no two objects share a page.
const ALIGN: u64 = 4096;
/// The spool grows by this at once.
const STEP_BYTES: u64 = 64 << 20;
/// Zeros written at once while it grows.
const ZEROS: usize = 1 << 20;
/// And is synced whenever so much is written.
const SYNC_BYTES: u64 = 4 << 20;
/// It takes at most this part of the free space.
const FREE_SHARE: u64 = 16;
/// LIMIT: a larger object has its own file synced, since most of its time goes into its bytes.
pub(crate) const SPOOL_OBJECT_BYTES_MAX: u64 = 4 << 20;

/// A piece of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where it begins in the journal's file.
    pub offset: u64,
    /// Bytes in use.
    pub bytes: u32,
}

/// The spool of an open archive.
pub(crate) struct Spool {
    disk: Arc<dyn Disk>,
    blob: Arc<BlobFile>,
    state: Mutex<State>,
    growing: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    /// Start and length of what nobody uses.
    free: BTreeMap<u64, u64>,
    /// Where the blocks that were written before end.
    end: u64,
    /// And where they may end.
    limit: u64,
    growing: bool,
}

/// What one object has of the spool; given back when dropped.
pub(crate) struct Blocks {
    spool: Arc<Spool>,
    extents: Vec<Extent>,
}

impl Spool {
    /// The spool from `start` on in the journal's file, which ends at `end` now and may grow to `limit`.
    pub(crate) fn new(
        disk: &Arc<dyn Disk>,
        blob: &Arc<BlobFile>,
        start: u64,
        end: u64,
        limit: u64,
    ) -> Arc<Self> {
        let start = start.next_multiple_of(ALIGN);
        let mut free = BTreeMap::new();
        if end > start {
            free.insert(start, end - start);
        }
        Arc::new(Self {
            disk: Arc::clone(disk),
            blob: Arc::clone(blob),
            state: Mutex::new(State {
                free,
                end: end.max(start),
                limit,
                growing: false,
            }),
            growing: Mutex::new(None),
        })
    }

    /// Nothing yet of the spool, for one object; `None` when there is nothing to be had.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Blocks> {
        if self.state.lock().free.is_empty() {
            self.grow();
            return None;
        }
        Some(Blocks {
            spool: Arc::clone(self),
            extents: Vec::new(),
        })
    }

    /// Ends the growing.
    pub(crate) fn stop(&self) {
        if let Some(thread) = self.growing.lock().take() {
            let _panicked = thread.join();
        }
    }

    fn take(self: &Arc<Self>, bytes: u64) -> Option<u64> {
        let wanted = bytes.next_multiple_of(ALIGN);
        let mut state = self.state.lock();
        let fitting = state.free.iter().find(|&(_, &length)| length >= wanted);
        let Some((&offset, &length)) = fitting else {
            drop(state);
            self.grow();
            return None;
        };
        state.free.remove(&offset);
        if length > wanted {
            state.free.insert(offset + wanted, length - wanted);
        }
        Some(offset)
    }

    fn give_back(&self, extents: &[Extent]) {
        let mut state = self.state.lock();
        for extent in extents {
            let length = u64::from(extent.bytes).next_multiple_of(ALIGN);
            state.put(extent.offset, length);
        }
    }

    /// Makes the spool a step longer, on a thread of its own, unless that is under way or it may not.
    fn grow(self: &Arc<Self>) {
        let (from, to) = {
            let mut state = self.state.lock();
            let to = state.limit.min(state.end + STEP_BYTES);
            if state.growing || to <= state.end {
                return;
            }
            state.growing = true;
            (state.end, to)
        };
        let spool = Arc::clone(self);
        let grown = move || {
            let made = lengthen(spool.disk.as_ref(), &spool.blob, from, to);
            let mut state = spool.state.lock();
            state.growing = false;
            if made.is_ok() {
                state.end = to;
                state.put(from, to - from);
            } else {
                // No space, or worse: objects do without, and whatever is wrong shows where it matters.
                state.limit = from;
            }
        };
        let thread = std::thread::Builder::new().name("spool".into());
        match thread.spawn(grown) {
            Ok(thread) => {
                let before = self.growing.lock().replace(thread);
                drop(before);
            }
            Err(_) => self.state.lock().growing = false,
        }
    }
}

impl State {
    /// Frees a range, joined with its neighbours.
    fn put(&mut self, mut offset: u64, mut length: u64) {
        let before = self.free.range(..offset).next_back();
        if let Some((&start, &found)) = before
            && start + found == offset
        {
            self.free.remove(&start);
            offset = start;
            length += found;
        }
        if let Some(found) = self.free.remove(&(offset + length)) {
            length += found;
        }
        self.free.insert(offset, length);
    }
}

impl Blocks {
    /// Room for the next bytes of the object: where to write them. `None` when there is none, or when the object
    /// is too large for the spool.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Option<u64> {
        let held: u64 = self.extents.iter().map(|e| u64::from(e.bytes)).sum();
        if held + bytes as u64 > SPOOL_OBJECT_BYTES_MAX {
            return None;
        }
        let bytes = u32::try_from(bytes).ok()?;
        let offset = self.spool.take(bytes.into())?;
        self.extents.push(Extent { offset, bytes });
        Some(offset)
    }

    /// The file that the blocks are in.
    pub(crate) fn file(&self) -> &Arc<BlobFile> {
        &self.spool.blob
    }

    /// Where the bytes are.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Never gives the blocks to another object: a record names them that could not be removed.
    pub(crate) fn keep(mut self) {
        self.extents.clear();
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.spool.give_back(&self.extents);
    }
}

/// What a record says of an object in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spooled {
    /// Name of the temporary file.
    pub temp: String,
    /// The bytes, in order.
    pub extents: Vec<Extent>,
}

impl Spooled {
    /// As records hold it.
    pub(crate) fn encode(temp: &str, extents: &[Extent]) -> Vec<u8> {
        let mut out = Vec::new();
        put_var_bytes(&mut out, temp.as_bytes());
        for extent in extents {
            out.extend_from_slice(&extent.offset.to_be_bytes());
            out.extend_from_slice(&extent.bytes.to_be_bytes());
        }
        out
    }

    /// `None` for bytes that are no such thing.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let temp = r.var_str()?.to_owned();
        let mut extents = Vec::new();
        while !r.rest().is_empty() {
            extents.push(Extent {
                offset: r.u64()?,
                bytes: r.u32()?,
            });
        }
        Some(Self { temp, extents })
    }

    /// The object's file as the spool has it. Whether it is whole is for the caller to find out.
    pub(crate) fn read(&self, journal: &File) -> io::Result<Vec<u8>> {
        let total: u64 = self.extents.iter().map(|e| u64::from(e.bytes)).sum();
        if total > SPOOL_OBJECT_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; total as usize];
        let mut rest = bytes.as_mut_slice();
        for extent in &self.extents {
            let (piece, later) = rest.split_at_mut(extent.bytes as usize);
            journal.read_exact_at(piece, extent.offset)?;
            rest = later;
        }
        Ok(bytes)
    }
}

/// Bytes of spool that a folder with so much free space may have.
pub(crate) fn spool_limit(wanted: u64, free_bytes: u64) -> u64 {
    wanted.min(free_bytes / FREE_SHARE)
}

/// Fills a part of a file with zeros and syncs it, so that later writes find their blocks there. It is synced as it
/// grows: the committer, who syncs the same file, never waits for much of it.
pub(crate) fn lengthen(disk: &dyn Disk, blob: &BlobFile, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    while from < to {
        let count = (to - from).min(ZEROS as u64);
        let piece = zeros.get(..count as usize).unwrap_or(&zeros);
        disk.write_at(blob, piece, from)?;
        from += count;
        if from % SYNC_BYTES == 0 {
            disk.sync(blob)?;
        }
    }
    disk.sync(blob)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::SystemDisk;
    use proptest::prelude::*;

    fn spool(folder: &std::path::Path, end: u64, limit: u64) -> Arc<Spool> {
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let blob = Arc::new(disk.create(&folder.join("journal")).unwrap());
        blob.file.set_len(end).unwrap();
        Spool::new(&disk, &blob, 100, end, limit)
    }

    #[test]
    fn blocks_are_given_once_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path(), 5 * ALIGN, 5 * ALIGN);
        let mut one = spool.begin().unwrap();
        let mut two = spool.begin().unwrap();
        assert_eq!(one.reserve(1), Some(ALIGN));
        assert_eq!(two.reserve(4097), Some(2 * ALIGN));
        assert_eq!(one.reserve(4097), None);
        assert_eq!(one.reserve(4096), Some(4 * ALIGN));
        assert!(spool.begin().is_none());
        drop(two);
        let mut three = spool.begin().unwrap();
        assert_eq!(three.reserve(8192), Some(2 * ALIGN));
        one.keep();
        drop(three);
        assert!(spool.begin().unwrap().reserve(8193).is_none());
        assert_eq!(
            spool.state.lock().free,
            BTreeMap::from([(2 * ALIGN, 2 * ALIGN)])
        );
    }

    #[test]
    fn it_grows_when_the_first_object_asks() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path(), 0, STEP_BYTES / 16);
        assert!(spool.begin().is_none());
        spool.stop();
        let mut blocks = spool.begin().unwrap();
        assert!(
            blocks
                .reserve(SPOOL_OBJECT_BYTES_MAX as usize + 1)
                .is_none()
        );
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        for piece in bytes.chunks(40_000) {
            let at = blocks.reserve(piece.len()).unwrap();
            blocks.file().file.write_all_at(piece, at).unwrap();
        }
        let record = Spooled::encode("a.part", blocks.extents());
        let spooled = Spooled::decode(&record).unwrap();
        assert_eq!(spooled.temp, "a.part");
        assert!(spooled.read(&blocks.file().file).unwrap() == bytes);
        // What was made is found made by the next start.
        assert_eq!(
            blocks.file().file.metadata().unwrap().len(),
            STEP_BYTES / 16
        );
    }

    proptest! {
        #[test]
        fn damaged_records_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(spooled) = Spooled::decode(&bytes) {
                let again = Spooled::encode(&spooled.temp, &spooled.extents);
                prop_assert_eq!(Spooled::decode(&again), Some(spooled));
            }
        }
    }
}
