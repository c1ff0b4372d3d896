//! Objects that are kept in memory as a whole while they arrive, because a codec is to see them first.
//!
//! Memory is bounded for all of them together; what goes beyond is handed back, to be stored as it is.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pyserver_proto::scan::{HeaderScanner, ScanLimits};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;

use crate::codec_here;
use crate::codec_pool::{CodecError, CodecPool, Source, Transcoded, Wish};
use crate::error::StoreError;
use crate::incoming::Incoming;
use crate::mapped_file::MappedFile;
use crate::memory_file::file_of;
use crate::ready_object::store_part;
use crate::spare_memory::{SpareBytes, SpareMemory};

/// Files kept for later (LIMIT: times `SPARE_BYTES_MAX` is what idles).
const SPARE_MAX: usize = 8;
/// More is given back to the system.
const SPARE_BYTES_MAX: usize = 4 << 20;
/// The elements that say who an object is stand within its first bytes.
const HEAD_BYTES: u64 = 64 * 1024;

/// Why an object is not held.
pub const NO_ROOM: &str = "no memory left to keep it for a codec";

/// Bytes of all objects held, and how many may be.
#[derive(Debug)]
pub struct HeldBudget {
    bytes: AtomicU64,
    bytes_max: u64,
    /// Memory that was used before.
    memory: Arc<SpareMemory>,
    /// Files that were.
    files: Mutex<Vec<MappedFile>>,
}

impl HeldBudget {
    /// For at most `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            bytes_max,
            memory: Arc::default(),
            files: Mutex::default(),
        }
    }

    /// Memory for objects that none is held for.
    pub(crate) fn memory(&self) -> &Arc<SpareMemory> {
        &self.memory
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |held: u64| {
            held.checked_add(bytes)
                .filter(|held| *held <= self.bytes_max)
        };
        self.bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }
}

/// Where bytes may be read to.
#[derive(Debug)]
pub enum Space<'a> {
    /// Behind what a buffer holds, within its capacity; its length is to be set.
    Behind(&'a mut Vec<u8>),
    /// To this place.
    At(&'a mut [MaybeUninit<u8>]),
}

/// One object, as received so far.
#[derive(Debug)]
pub struct HeldObject {
    place: Place,
    length: u64,
    /// Bytes of the budget that are taken for what is to come.
    ahead: u64,
    budget: Arc<HeldBudget>,
}

/// Where the bytes are: a worker takes them from a file.
#[derive(Debug)]
enum Place {
    Memory(SpareBytes),
    File(MappedFile),
}

impl HeldObject {
    /// Begins an empty one, which `wish` is for.
    pub fn new(budget: &Arc<HeldBudget>, wish: &Wish, syntax: TransferSyntax) -> io::Result<Self> {
        let place = if wish.is_done_here(syntax) {
            Place::Memory(budget.memory.take())
        } else {
            let spare = budget.files.lock().pop();
            Place::File(spare.map_or_else(MappedFile::new, Ok)?)
        };
        Ok(Self {
            place,
            length: 0,
            ahead: 0,
            budget: Arc::clone(budget),
        })
    }

    /// Takes the next bytes. False: there is no room, and they were not taken.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        let count = bytes.len() as u64;
        if !self.make_room(count) {
            return false;
        }
        let taken = match &mut self.place {
            Place::Memory(memory) => {
                memory.extend_from_slice(bytes);
                true
            }
            Place::File(file) => file.write_at(bytes, self.length as usize).is_ok(),
        };
        if taken {
            self.took(count);
        }
        taken
    }

    /// A place for the next `bytes` of the object to be read to; then `filled` is to be called. `None`: there is no
    /// room.
    pub fn space(&mut self, bytes: usize) -> Option<Space<'_>> {
        if !self.make_room(bytes as u64) {
            return None;
        }
        match &mut self.place {
            Place::Memory(memory) => {
                memory.reserve(bytes);
                Some(Space::Behind(memory))
            }
            Place::File(file) => file.space(self.length as usize, bytes).ok().map(Space::At),
        }
    }

    /// So many bytes were read to `space`.
    pub fn filled(&mut self, bytes: usize) {
        self.took(bytes as u64);
    }

    fn make_room(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.ahead);
        let is_there = self.budget.take(more);
        if is_there {
            self.ahead += more;
        }
        is_there
    }

    fn took(&mut self, bytes: u64) {
        self.ahead -= bytes;
        self.length += bytes;
    }

    /// Lets a codec work on the whole object.
    pub fn transcode(
        &self,
        pool: &CodecPool,
        syntax: TransferSyntax,
        wish: &Wish,
    ) -> Result<Transcoded, CodecError> {
        let work = |file: &File| {
            let source = Source {
                file: file.as_fd(),
                offset: 0,
                length: self.length,
                syntax,
            };
            pool.work(&source, wish)
        };
        pool.check_size(self.length)?;
        match &self.place {
            Place::File(file) => work(file),
            Place::Memory(dataset) => {
                let memory = self.budget.memory();
                if let Some(done) = codec_here::transcode(memory, dataset, syntax, wish) {
                    return Ok(done);
                }
                work(&file_of(dataset)?)
            }
        }
    }

    /// Whether its own SOP Instance UID is this one; no, where that does not stand near its beginning.
    pub fn is(&self, sop_instance: &Uid, syntax: TransferSyntax) -> bool {
        let length = self.length.min(HEAD_BYTES) as usize;
        let head = match &self.place {
            Place::Memory(memory) => Ok(memory.get(..length).unwrap_or_default().to_vec()),
            Place::File(file) => {
                let mut head = vec![0; length];
                file.read_exact_at(&mut head, 0).map(|()| head)
            }
        };
        let mut scanner = HeaderScanner::new(syntax, ScanLimits::default());
        head.is_ok_and(|head| scanner.push(&head).is_ok())
            && scanner.value(Tag::SOP_INSTANCE_UID) == Some(sop_instance.as_bytes())
    }

    /// Stores what was received.
    pub fn write_to(&self, incoming: &mut Incoming) -> Result<(), StoreError> {
        match &self.place {
            Place::Memory(dataset) => incoming.write(dataset),
            Place::File(file) => store_part(file, (0, self.length), incoming),
        }
    }
}

impl Drop for HeldObject {
    fn drop(&mut self) {
        let held = self.length + self.ahead;
        self.budget.bytes.fetch_sub(held, Ordering::AcqRel);
        let empty = Place::Memory(self.budget.memory.take());
        if let Place::File(file) = std::mem::replace(&mut self.place, empty)
            && file.capacity() <= SPARE_BYTES_MAX
        {
            let mut files = self.budget.files.lock();
            if files.len() < SPARE_MAX {
                files.push(file);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use super::*;

    fn wish(name: &str) -> Wish {
        Wish::Mode {
            name: name.into(),
            quality: 95,
        }
    }

    #[test]
    fn room_is_taken_ahead_of_what_is_read() {
        let budget = Arc::new(HeldBudget::new(10));
        let syntax = TransferSyntax::ImplicitLittleEndian;
        for mode in ["j1", "r1"] {
            let mut object = HeldObject::new(&budget, &wish(mode), syntax).unwrap();
            for (ahead, bytes) in [(10, &b"012"[..]), (7, b"3456"), (3, b"789")] {
                match object.space(ahead).unwrap() {
                    Space::Behind(memory) => memory.extend_from_slice(bytes),
                    Space::At(place) => {
                        assert_eq!(place.len(), ahead);
                        for (to, from) in place.iter_mut().zip(bytes) {
                            to.write(*from);
                        }
                    }
                }
                object.filled(bytes.len());
                assert_eq!(budget.bytes.load(Ordering::Acquire), 10);
            }
            assert_eq!(held(&object), b"0123456789");
            drop(object);
            let mut other = HeldObject::new(&budget, &wish(mode), syntax).unwrap();
            assert!(other.space(11).is_none());
            assert!(other.space(8).is_some() && other.take(b"01234567") && !other.take(b"012"));
            assert!(other.take(b"89"));
            drop(other);
            assert_eq!(budget.bytes.load(Ordering::Acquire), 0);
        }
    }

    fn held(object: &HeldObject) -> Vec<u8> {
        match &object.place {
            Place::Memory(memory) => memory.to_vec(),
            Place::File(file) => {
                let mut bytes = vec![0; object.length as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                bytes
            }
        }
    }

    #[test]
    fn objects_share_one_budget_and_give_it_back() {
        let budget = Arc::new(HeldBudget::new(10));
        let begin = |mode| {
            let syntax = TransferSyntax::ImplicitLittleEndian;
            HeldObject::new(&budget, &wish(mode), syntax).unwrap()
        };
        for (one, other) in [("j1", "r1"), ("R1", "j1")] {
            let (mut first, mut second) = (begin(one), begin(other));
            assert!(first.take(b"123456"));
            assert!(!second.take(b"12345"));
            assert!(second.take(b"1234"));
            drop(first);
            assert!(second.take(b"567890"));
            assert!(second.space(1).is_none());
            assert_eq!(held(&second), b"1234567890");
            drop(second);
            assert_eq!(budget.bytes.load(Ordering::Acquire), 0);
        }
        assert_eq!(budget.files.lock().len(), 1);
    }
}
