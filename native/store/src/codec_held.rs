//! Objects that are kept in memory as a whole while they arrive, because a codec is to see them first.
//!
//! Memory is bounded for all of them together; what goes beyond is handed back, to be stored as it is.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyserver_proto::transfer_syntax::TransferSyntax;

use crate::codec_pool::{CodecError, CodecPool, Source, Transcoded, Wish};
use crate::error::StoreError;
use crate::incoming::Incoming;
use crate::memory_file::{MemoryFile, MemoryFiles};

/// Bytes copied at once: small enough for memory that the allocator has at hand.
const PIECE_BYTES: usize = 64 * 1024;

/// Bytes of all objects held, and how many may be.
#[derive(Debug)]
pub struct HeldBudget {
    bytes: AtomicU64,
    bytes_max: u64,
    files: Arc<MemoryFiles>,
}

impl HeldBudget {
    /// For at most `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            bytes_max,
            files: Arc::default(),
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
    file: MemoryFile,
    length: u64,
    budget: Arc<HeldBudget>,
}

impl HeldObject {
    /// Begins an empty one.
    pub fn new(budget: &Arc<HeldBudget>) -> io::Result<Self> {
        Ok(Self {
            file: budget.files.take()?,
            length: 0,
            budget: Arc::clone(budget),
        })
    }

    /// Takes the next bytes. False: there is no room, and they were not taken.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        if !self.budget.take(bytes.len() as u64) {
            return false;
        }
        let written = self.file.write_all_at(bytes, self.length);
        self.length += bytes.len() as u64;
        if written.is_err() {
            self.length -= bytes.len() as u64;
            self.budget
                .bytes
                .fetch_sub(bytes.len() as u64, Ordering::AcqRel);
        }
        written.is_ok()
    }

    /// Lets a codec work on the whole object.
    pub fn transcode(
        &self,
        pool: &CodecPool,
        syntax: TransferSyntax,
        wish: &Wish,
    ) -> Result<Transcoded, CodecError> {
        let source = Source {
            file: self.file.as_fd(),
            offset: 0,
            length: self.length,
            syntax,
        };
        pool.transcode(&source, wish)
    }

    /// Stores what was received.
    pub fn write_to(&self, incoming: &mut Incoming) -> Result<(), StoreError> {
        write_file(incoming, &self.file, self.length)
    }
}

impl Drop for HeldObject {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.length, Ordering::AcqRel);
    }
}

/// Stores the first `length` bytes of a file.
pub fn write_file(incoming: &mut Incoming, file: &File, length: u64) -> Result<(), StoreError> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < length {
        let take = (length - at).min(PIECE_BYTES as u64) as usize;
        let part = &mut piece[..take];
        file.read_exact_at(part, at)
            .map_err(|error| StoreError::Codec(format!("a codec's result: {error}")))?;
        incoming.write(part)?;
        at += take as u64;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use super::*;

    #[test]
    fn objects_share_one_budget_and_give_it_back() {
        let budget = Arc::new(HeldBudget::new(10));
        let mut first = HeldObject::new(&budget).unwrap();
        let mut second = HeldObject::new(&budget).unwrap();
        assert!(first.take(b"123456"));
        assert!(!second.take(b"12345"));
        assert!(second.take(b"1234"));
        drop(first);
        assert!(second.take(b"567890"));
        let mut bytes = [0; 10];
        second.file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"1234567890");
        drop(second);
        assert_eq!(budget.bytes.load(Ordering::Acquire), 0);
    }
}
