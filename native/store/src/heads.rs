//! The fixed parts of rows: heads of parents and images, and the facts about an image's file.

use crate::bytes::{Reader, put_var_bytes};
use crate::content_hash::{ContentHash, HASH_BYTES};
use crate::index_error::IndexError;
use crate::virtual_device::is_virtual;

/// Head of a patient, study or series row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ParentHead {
    /// Set of columns the row was written with.
    pub layout: u16,
    /// Unix time of the last store below.
    pub accessed: u32,
    /// Number of the parent row: the patient of a study (0 for none), the study of a series.
    pub parent: u32,
    /// Studies alive below (patients only).
    pub studies: u32,
    /// Series alive below (patients and studies).
    pub series: u32,
    /// Images alive below.
    pub instances: u32,
    /// Bytes of the files of those images.
    pub bytes: u64,
}

impl ParentHead {
    /// Appends the head.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.layout.to_be_bytes());
        for n in [
            self.accessed,
            self.parent,
            self.studies,
            self.series,
            self.instances,
        ] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        out.extend_from_slice(&self.bytes.to_be_bytes());
    }

    /// Splits a row into head and columns.
    #[inline]
    pub fn split(row: &[u8]) -> Result<(Self, &[u8]), IndexError> {
        let mut r = Reader::new(row);
        let mut read = || {
            Some(Self {
                layout: r.u16()?,
                accessed: r.u32()?,
                parent: r.u32()?,
                studies: r.u32()?,
                series: r.u32()?,
                instances: r.u32()?,
                bytes: r.u64()?,
            })
        };
        let head = read().ok_or(IndexError::Corrupt("short row"))?;
        Ok((head, r.rest()))
    }
}

/// Head of an image row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageHead {
    /// Set of columns the row was written with.
    pub layout: u16,
    /// Unix time of the last store.
    pub accessed: u32,
    /// The store that wrote the row.
    pub pending: u64,
}

/// An image row taken apart, without copying.
#[derive(Debug, Clone, Copy)]
pub struct ImageRow<'a> {
    /// Fixed part.
    pub head: ImageHead,
    /// Columns as `row` writes them.
    pub columns: &'a [u8],
    /// Facts about the file, not yet decoded.
    pub facts: &'a [u8],
}

impl<'a> ImageRow<'a> {
    /// Takes a row apart.
    #[inline]
    pub fn split(row: &'a [u8]) -> Result<Self, IndexError> {
        let mut r = Reader::new(row);
        let mut read = || {
            let head = ImageHead {
                layout: r.u16()?,
                accessed: r.u32()?,
                pending: r.u64()?,
            };
            let facts_length = r.u32()? as usize;
            let split = r.rest().len().checked_sub(facts_length)?;
            let (columns, facts) = r.rest().split_at_checked(split)?;
            Some(Self {
                head,
                columns,
                facts,
            })
        };
        read().ok_or(IndexError::Corrupt("short image row"))
    }

    /// The facts about the file.
    pub fn facts(&self) -> Result<FileFacts<'a>, IndexError> {
        FileFacts::decode(self.facts).ok_or(IndexError::Corrupt("facts of an image"))
    }
}

/// Appends an image row.
pub fn put_image(out: &mut Vec<u8>, head: ImageHead, columns: &[u8], facts: &FileFacts<'_>) {
    out.extend_from_slice(&head.layout.to_be_bytes());
    out.extend_from_slice(&head.accessed.to_be_bytes());
    out.extend_from_slice(&head.pending.to_be_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(columns);
    let facts_at = out.len();
    facts.put(out);
    let length = ((out.len() - facts_at) as u32).to_be_bytes();
    if let Some(place) = out.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&length);
    }
}

/// What the index knows about an image's file. Of a virtual device only the number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts<'a> {
    /// Number of the MAG device.
    pub device: u16,
    /// Where the data set begins in the file.
    pub dataset_offset: u32,
    /// Size of the whole file.
    pub file_bytes: u64,
    /// Hash of the data set as stored.
    pub hash: ContentHash,
    /// Transfer syntax of the data set in the file.
    pub transfer_syntax: &'a str,
    /// Path below the device, separated by `/`.
    pub file: &'a str,
    /// Where pixel data and frames are, in a form the store's writer knows; opaque here.
    pub pixel: &'a [u8],
}

impl<'a> FileFacts<'a> {
    /// Of an image whose file another server has.
    pub const fn elsewhere(device: u16) -> Self {
        Self {
            device,
            dataset_offset: 0,
            file_bytes: 0,
            hash: [0; HASH_BYTES],
            transfer_syntax: "",
            file: "",
            pixel: &[],
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.device.to_be_bytes());
        if is_virtual(self.device) {
            return;
        }
        out.extend_from_slice(&self.dataset_offset.to_be_bytes());
        out.extend_from_slice(&self.file_bytes.to_be_bytes());
        out.extend_from_slice(&self.hash);
        put_var_bytes(out, self.transfer_syntax.as_bytes());
        put_var_bytes(out, self.file.as_bytes());
        put_var_bytes(out, self.pixel);
    }

    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let device = r.u16()?;
        if is_virtual(device) {
            return Some(Self::elsewhere(device));
        }
        Some(Self {
            device,
            dataset_offset: r.u32()?,
            file_bytes: r.u64()?,
            hash: r.take(HASH_BYTES)?.try_into().ok()?,
            transfer_syntax: r.var_str()?,
            file: r.var_str()?,
            pixel: r.var_bytes()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_come_back() {
        let head = ParentHead {
            layout: 1,
            accessed: 2,
            parent: 3,
            studies: 4,
            series: 5,
            instances: 6,
            bytes: 7,
        };
        let mut row = Vec::new();
        head.put(&mut row);
        row.extend_from_slice(b"cols");
        let (back, columns) = ParentHead::split(&row).unwrap();
        assert_eq!((back, columns), (head, b"cols".as_slice()));

        let facts = FileFacts {
            device: 1,
            dataset_offset: 340,
            file_bytes: 1 << 33,
            hash: [7; HASH_BYTES],
            transfer_syntax: "1.2.840.10008.1.2.1",
            file: "P/1.dcm",
            pixel: b"\x01\x02",
        };
        let head = ImageHead {
            layout: 1,
            accessed: 5,
            pending: 9,
        };
        let mut row = Vec::new();
        put_image(&mut row, head, b"cols", &facts);
        let image = ImageRow::split(&row).unwrap();
        assert_eq!((image.head, image.columns), (head, b"cols".as_slice()));
        assert_eq!(image.facts().unwrap(), facts);
    }

    proptest! {
        #[test]
        fn damaged_rows_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = ParentHead::split(&bytes);
            if let Ok(row) = ImageRow::split(&bytes) {
                let _ = row.facts();
            }
        }
    }
}
