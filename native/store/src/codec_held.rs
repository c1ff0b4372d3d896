//! Objects that are kept in memory as a whole while they arrive, because a codec is to see them first.
//!
//! Memory is bounded for all of them together; what goes beyond is handed back, to be stored as it is.

use std::fs::File;
use std::io;
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
use crate::ready_object::read_pieces;

/// Memory kept for later (LIMIT: times `SPARE_BYTES_MAX` is what idles).
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
    spare: Mutex<Spare>,
}

#[derive(Debug, Default)]
struct Spare {
    memory: Vec<Vec<u8>>,
    files: Vec<MappedFile>,
}

impl HeldBudget {
    /// For at most `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            bytes_max,
            spare: Mutex::default(),
        }
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

/// One object, as received so far.
#[derive(Debug)]
pub struct HeldObject {
    place: Place,
    length: u64,
    budget: Arc<HeldBudget>,
}

/// Where the bytes are: a worker takes them from a file.
#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    File(MappedFile),
}

impl HeldObject {
    /// Begins an empty one, which `wish` is for.
    pub fn new(budget: &Arc<HeldBudget>, wish: &Wish, syntax: TransferSyntax) -> io::Result<Self> {
        let place = if wish.is_done_here(syntax) {
            Place::Memory(budget.spare.lock().memory.pop().unwrap_or_default())
        } else {
            let spare = budget.spare.lock().files.pop();
            Place::File(spare.map_or_else(MappedFile::new, Ok)?)
        };
        Ok(Self {
            place,
            length: 0,
            budget: Arc::clone(budget),
        })
    }

    /// Takes the next bytes. False: there is no room, and they were not taken.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        let count = bytes.len() as u64;
        if !self.budget.take(count) {
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
            self.length += count;
        } else {
            self.budget.bytes.fetch_sub(count, Ordering::AcqRel);
        }
        taken
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
                if let Some(done) = codec_here::transcode(dataset, syntax, wish) {
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
            Place::File(file) => write_file(incoming, file, self.length),
        }
    }
}

impl Drop for HeldObject {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.length, Ordering::AcqRel);
        let mut spare = self.budget.spare.lock();
        match std::mem::replace(&mut self.place, Place::Memory(Vec::new())) {
            Place::Memory(mut memory) => {
                if memory.capacity() <= SPARE_BYTES_MAX && spare.memory.len() < SPARE_MAX {
                    memory.clear();
                    spare.memory.push(memory);
                }
            }
            Place::File(file) => {
                if file.capacity() <= SPARE_BYTES_MAX && spare.files.len() < SPARE_MAX {
                    spare.files.push(file);
                }
            }
        }
    }
}

/// Stores the first `length` bytes of a file.
fn write_file(incoming: &mut Incoming, file: &File, length: u64) -> Result<(), StoreError> {
    read_pieces(file, 0, length, |piece| incoming.write(piece))
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
            let bytes = match &second.place {
                Place::Memory(memory) => memory.clone(),
                Place::File(file) => {
                    let mut bytes = vec![0; 10];
                    file.read_exact_at(&mut bytes, 0).unwrap();
                    bytes
                }
            };
            assert_eq!(bytes, b"1234567890");
            drop(second);
            assert_eq!(budget.bytes.load(Ordering::Acquire), 0);
        }
        let spare = budget.spare.lock();
        assert_eq!((spare.memory.len(), spare.files.len()), (1, 1));
        assert!(spare.memory[0].is_empty());
    }
}
