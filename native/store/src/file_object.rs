//! Reads an object from a file: what is in it, is it whole, what is its hash.
//!
//! Serves recovery, `regen`, `fsck` and the import of files. Reads in pieces, keeps the header only, changes
//! nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use pyserver_proto::file::{FileLayout, probe};
use pyserver_proto::scan::{HeaderScanner, ScanLimits, Scanned};

use crate::content_hash::{self, ContentHash, ContentHasher};
use crate::error::{STATUS_NOT_UNDERSTOOD, StoreError};

/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// The data set must begin within this.
const START_BYTES_MAX: usize = (1 << 20) + 4096;

/// An object in a file.
#[derive(Debug)]
pub(crate) struct FileObject {
    /// What stands before the data set.
    pub layout: FileLayout,
    /// What the scanner found.
    pub scanned: Scanned,
    /// Hash of the data set.
    pub hash: ContentHash,
    /// Size of the file.
    pub file_bytes: u64,
}

/// A file's beginning, read and understood, and the rest to come.
pub(crate) struct OpenedObject {
    /// What stands before the data set.
    pub layout: FileLayout,
    file: File,
    path: std::path::PathBuf,
    start: Vec<u8>,
}

/// Opens a file and looks at its beginning.
pub(crate) fn open_object(path: &Path) -> Result<OpenedObject, StoreError> {
    let mut file = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
    let mut start = Vec::new();
    let mut wanted = 4096;
    loop {
        let more = (&mut file)
            .take((wanted - start.len()) as u64)
            .read_to_end(&mut start)
            .map_err(|e| StoreError::io("read", path, e))?;
        match probe(&start) {
            Ok(Some(layout)) => {
                return Ok(OpenedObject {
                    layout,
                    file,
                    path: path.to_path_buf(),
                    start,
                });
            }
            Ok(None) if more > 0 && wanted < START_BYTES_MAX => wanted *= 4,
            Ok(None) => return Err(not_understood("the file ends before the data set")),
            Err(error) => return Err(not_understood(&error.to_string())),
        }
    }
}

impl OpenedObject {
    /// Hands the data set out piece by piece; answers the size of the file.
    pub(crate) fn pieces(
        self,
        mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        self.pieces_while(|piece| take(piece).map(|()| true))
    }

    /// The same, as long as `take` wants more; answers the bytes read.
    pub(crate) fn pieces_while(
        mut self,
        mut take: impl FnMut(&[u8]) -> Result<bool, StoreError>,
    ) -> Result<u64, StoreError> {
        let mut total = self.start.len() as u64;
        let offset = self.layout.dataset_offset as usize;
        if !take(self.start.get(offset..).unwrap_or_default())? {
            return Ok(total);
        }
        let mut buffer = std::mem::take(&mut self.start);
        buffer.resize(PIECE_BYTES, 0);
        loop {
            let read = self
                .file
                .read(&mut buffer)
                .map_err(|e| StoreError::io("read", &self.path, e))?;
            if read == 0 {
                return Ok(total);
            }
            total += read as u64;
            if !take(buffer.get(..read).unwrap_or_default())? {
                return Ok(total);
            }
        }
    }
}

/// Reads a whole object.
pub(crate) fn read_object(path: &Path, limits: ScanLimits) -> Result<FileObject, StoreError> {
    let opened = open_object(path)?;
    let layout = opened.layout.clone();
    let mut scanner = HeaderScanner::new(layout.syntax, limits);
    let mut hasher = ContentHasher::default();
    let file_bytes = opened.pieces(|piece| {
        hasher.update(piece);
        scanner
            .push(piece)
            .map(drop)
            .map_err(|e| not_understood(&e.to_string()))
    })?;
    let scanned = scanner
        .finish()
        .map_err(|e| not_understood(&e.to_string()))?;
    Ok(FileObject {
        layout,
        scanned,
        hash: hasher.finish(),
        file_bytes,
    })
}

/// Reads a whole object from memory.
pub(crate) fn object_of_bytes(bytes: &[u8], limits: ScanLimits) -> Result<FileObject, StoreError> {
    let layout = match probe(bytes) {
        Ok(Some(layout)) => layout,
        Ok(None) => return Err(not_understood("the file ends before the data set")),
        Err(error) => return Err(not_understood(&error.to_string())),
    };
    let dataset = bytes.get(layout.dataset_offset as usize..);
    let dataset = dataset.unwrap_or_default();
    let mut scanner = HeaderScanner::new(layout.syntax, limits);
    scanner
        .push(dataset)
        .map_err(|e| not_understood(&e.to_string()))?;
    let scanned = scanner
        .finish()
        .map_err(|e| not_understood(&e.to_string()))?;
    Ok(FileObject {
        layout,
        scanned,
        hash: content_hash::hash(dataset),
        file_bytes: bytes.len() as u64,
    })
}

/// Whether a file has this size and its data set this hash.
pub(crate) fn matches(
    path: &Path,
    file_bytes: u64,
    dataset_offset: u32,
    hash: &ContentHash,
) -> bool {
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    if file.metadata().map_or(0, |facts| facts.len()) != file_bytes {
        return false;
    }
    hash_from(&mut file, u64::from(dataset_offset)).is_ok_and(|found| found == *hash)
}

/// Hash of a file's bytes from an offset on.
pub(crate) fn hash_from(file: &mut File, offset: u64) -> std::io::Result<ContentHash> {
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    let mut hasher = ContentHasher::default();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

fn not_understood(reason: &str) -> StoreError {
    StoreError::refused(STATUS_NOT_UNDERSTOOD, reason)
}
