//! A whole data set in one form: ready to be sent, stored or looked at.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use pyserver_proto::transfer_syntax::TransferSyntax;

use crate::error::StoreError;
use crate::held::Received;
use crate::incoming::Incoming;
use crate::memory_file::MemoryFile;
use crate::spare_memory::SpareBytes;

/// Bytes that are stored first: enough for a header, so that the rest goes to the disk from where it is.
const FIRST_BYTES: usize = 68 * 1024;
/// Bytes read from a file at once. LIMIT: each thread that does keeps a buffer of this size.
const PIECE_BYTES: usize = 256 * 1024;

thread_local! {
    /// Memory for pieces; a new one each time would be filled with zeros first.
    static PIECE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Where the bytes of a data set are.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Memory(Vec<u8>),
    /// In memory that is used again.
    Spare(SpareBytes),
    /// In a file in memory, from its beginning.
    Shared(MemoryFile),
    /// In a file, from an offset.
    File {
        /// The open file.
        file: File,
        /// First byte of the data set.
        offset: u64,
    },
}

/// An object that can be sent.
#[derive(Debug)]
pub struct ReadyObject {
    /// How the data set is encoded.
    pub syntax: TransferSyntax,
    /// Its bytes.
    pub content: Content,
    /// How many bytes.
    pub length: u64,
}

impl ReadyObject {
    /// Hands out the bytes: a short piece, then long ones.
    pub fn pieces(
        &self,
        mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match &self.content {
            Content::Memory(bytes) => in_two(bytes, &mut take),
            Content::Spare(bytes) => in_two(bytes, &mut take),
            Content::Shared(file) => read_pieces(file, 0, self.length, take),
            Content::File { file, offset } => read_pieces(file, *offset, self.length, take),
        }
    }

    /// Stores the data set.
    pub fn write_to(&self, incoming: &mut Incoming) -> Result<(), StoreError> {
        match &self.content {
            Content::Memory(_) | Content::Spare(_) => self.pieces(|piece| incoming.write(piece)),
            Content::Shared(file) => store_part(file, (0, self.length), incoming),
            Content::File { file, offset } => store_part(file, (*offset, self.length), incoming),
        }
    }

    /// Appends the data set to a file.
    pub fn copy_to(&self, file: &mut File) -> io::Result<()> {
        let copied = self.pieces(|piece| {
            let written = file.write_all(piece);
            written.map_err(|error| StoreError::io("write", Path::new("a file"), error))
        });
        copied.map_err(io::Error::other)
    }

    /// The object, for rules to see.
    ///
    /// Errors: it is not to be understood.
    pub fn into_received(self) -> Result<Received, StoreError> {
        let (file, offset) = match self.content {
            Content::Memory(bytes) => return Received::from_dataset(bytes, self.syntax),
            Content::Spare(bytes) => {
                return Received::from_dataset(bytes.into_vec(), self.syntax);
            }
            Content::Shared(file) => {
                let file = file.into_file();
                let kept = |e| StoreError::io("keep", Path::new("a file in memory"), e);
                (file.map_err(kept)?, 0)
            }
            Content::File { file, offset } => (file, offset),
        };
        Received::of_file(file, (offset, self.length), self.syntax)
    }
}

/// Stores a part of a file: its offset and length. It is read to where it is written from.
pub(crate) fn store_part(
    file: &File,
    (offset, length): (u64, u64),
    incoming: &mut Incoming,
) -> Result<(), StoreError> {
    let mut done = 0;
    while done < length {
        let at = offset + done;
        let Some(space) = incoming.space() else {
            return read_pieces(file, at, length - done, |piece| incoming.write(piece));
        };
        let most = usize::try_from(length - done).unwrap_or(usize::MAX);
        let read = read_behind(file, at, most, space)
            .and_then(|read| match read {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                read => Ok(read),
            })
            .map_err(|error| StoreError::io("read", Path::new("an object"), error))?;
        incoming.filled(read)?;
        done += read as u64;
    }
    Ok(())
}

/// Reads once, at most `most` bytes, behind what the buffer holds and within its capacity.
fn read_behind(file: &File, at: u64, most: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let filled = buffer.len();
    let room = buffer.spare_capacity_mut();
    let length = room.len().min(most);
    let room = room.get_mut(..length).unwrap_or_default();
    let read = loop {
        match rustix::io::pread(file, &mut *room, at) {
            Err(rustix::io::Errno::INTR) => {}
            read => break read?.0.len(),
        }
    };
    // SAFETY: these bytes of the capacity are those that `pread` gave back as initialised.
    unsafe { buffer.set_len(filled + read) };
    Ok(read)
}

/// Hands out a part of a file, a short piece first.
pub(crate) fn read_pieces(
    file: &File,
    offset: u64,
    length: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut buffer = PIECE.take();
    let longest = length.min(PIECE_BYTES as u64) as usize;
    if buffer.len() < longest {
        buffer.resize(longest, 0);
    }
    let mut read = || {
        for at in (0..length).step_by(PIECE_BYTES) {
            let wanted = (length - at).min(PIECE_BYTES as u64) as usize;
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            file.read_exact_at(part, offset + at)
                .map_err(|error| StoreError::io("read", Path::new("an object"), error))?;
            in_two(part, &mut take)?;
        }
        Ok(())
    };
    let result = read();
    PIECE.set(buffer);
    result
}

fn in_two(
    bytes: &[u8],
    take: &mut impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (first, rest) = bytes.split_at(FIRST_BYTES.min(bytes.len()));
    take(first)?;
    if rest.is_empty() { Ok(()) } else { take(rest) }
}
