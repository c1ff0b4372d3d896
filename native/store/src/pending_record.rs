//! The record of an unsettled store, as it stands in `pending`.

use crate::apply::ReplacedFile;
use crate::bytes::{Reader, put_var_bytes};
use crate::content_hash::{ContentHash, HASH_BYTES};
use crate::heads::ImageRow;
use crate::index_error::IndexError;
use crate::pending::PendingKind;
use crate::schema::ImageKey;
use crate::virtual_device::is_virtual;

const JOURNAL: u8 = 1;
const TEMP: u8 = 2;
const WRITTEN: u8 = 3;

/// The record of an entry, decoded in place.
pub(crate) struct Record<'a> {
    pub kind: PendingKind<'a>,
    pub image: ImageKey,
    pub facts: (u16, u32, u64, ContentHash),
    pub file: &'a str,
    pub replaced: Option<(u16, &'a str)>,
    pub old_row: &'a [u8],
    pub old_header: &'a [u8],
    /// The file is nobody's once this store is settled: it waits only for whoever still writes it.
    pub abandoned: bool,
}

impl<'a> Record<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<Self, IndexError> {
        let mut r = Reader::new(bytes);
        let mut read = || {
            let kind = r.u8()?;
            let payload = r.var_bytes()?;
            let image = ImageKey {
                series: r.u32()?,
                image: r.u64()?,
            };
            let facts = (
                r.u16()?,
                r.u32()?,
                r.u64()?,
                r.take(HASH_BYTES)?.try_into().ok()?,
            );
            let file = r.var_str()?;
            let replaced = match r.u8()? {
                0 => None,
                _ => Some((r.u16()?, r.var_str()?)),
            };
            Some(Self {
                kind: match kind {
                    JOURNAL => PendingKind::Journal(payload),
                    TEMP => PendingKind::Temp(std::str::from_utf8(payload).ok()?),
                    WRITTEN => PendingKind::Written,
                    _ => return None,
                },
                image,
                facts,
                file,
                replaced,
                old_row: r.var_bytes()?,
                old_header: r.var_bytes()?,
                abandoned: r.u8()? != 0,
            })
        };
        read().ok_or(IndexError::Corrupt("pending entry"))
    }

    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self.kind {
            PendingKind::Journal(bytes) => (JOURNAL, bytes),
            PendingKind::Temp(name) => (TEMP, name.as_bytes()),
            PendingKind::Written => (WRITTEN, [].as_slice()),
        };
        let mut out = Vec::with_capacity(payload.len() + self.old_row.len() + 256);
        out.push(kind);
        put_var_bytes(&mut out, payload);
        out.extend_from_slice(&self.image.encode());
        let (device, dataset_offset, file_bytes, hash) = self.facts;
        out.extend_from_slice(&device.to_be_bytes());
        out.extend_from_slice(&dataset_offset.to_be_bytes());
        out.extend_from_slice(&file_bytes.to_be_bytes());
        out.extend_from_slice(&hash);
        put_var_bytes(&mut out, self.file.as_bytes());
        match self.replaced {
            None => out.push(0),
            Some((device, file)) => {
                out.push(1);
                out.extend_from_slice(&device.to_be_bytes());
                put_var_bytes(&mut out, file.as_bytes());
            }
        }
        put_var_bytes(&mut out, self.old_row);
        put_var_bytes(&mut out, self.old_header);
        out.push(u8::from(self.abandoned));
        out
    }

    /// Whether the row before this store had a file.
    pub fn had_file(&self) -> bool {
        let old = ImageRow::split(self.old_row).and_then(|row| Ok(row.facts()?.device));
        old.is_ok_and(|device| !is_virtual(device))
    }

    pub fn own_file(&self) -> ReplacedFile {
        ReplacedFile {
            device: self.facts.0,
            file: self.file.to_owned(),
        }
    }

    pub fn replaced(&self) -> Option<ReplacedFile> {
        self.replaced.map(|(device, file)| ReplacedFile {
            device,
            file: file.to_owned(),
        })
    }
}
