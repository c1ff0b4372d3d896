//! Stores whose files are not yet certain to be on disk.
//!
//! Each store leaves an entry here in the transaction that makes it visible. Recovery reads the entries and
//! finishes or revokes what a crash interrupted, without looking at any other file. `settle` drops entries
//! whose files are synced; `revoke` takes a store back: the old row of a re-store returns, a new image goes
//! with those of its parents that it leaves empty.

use crate::apply::{ReplacedFile, StoreChange};
use crate::bytes::{Reader, put_var_bytes};
use crate::heads::{FileFacts, ImageRow};
use crate::index::{ReadTxn, WriteTxn};
use crate::index_error::IndexError;
use crate::lmdb::from_key;
use crate::schema::{ImageKey, file_key};

/// Number of an unsettled store. Later stores have larger numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PendingId(pub u64);

/// How a file comes to stand under its final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingKind<'a> {
    /// The whole file is here; it is written again when it is missing or differs.
    Journal(&'a [u8]),
    /// The file stands in the private folder of its device under this name and is renamed.
    Temp(&'a str),
    /// The file already stands under its final name.
    Written,
}

/// The same, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingFile {
    /// The bytes of the whole file.
    Journal(Vec<u8>),
    /// Name in the private folder of the device.
    Temp(String),
    /// Nothing but the final file.
    Written,
}

/// An unsettled store, as recovery needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEntry {
    /// Its number.
    pub id: PendingId,
    /// How its file gets its name.
    pub kind: PendingFile,
    /// The image row it wrote.
    pub image: ImageKey,
    /// Device of the file.
    pub device: u16,
    /// Final path below the device.
    pub file: String,
    /// Size of the whole file.
    pub file_bytes: u64,
    /// Where the data set begins in the file.
    pub dataset_offset: u32,
    /// BLAKE3 of the data set.
    pub hash: [u8; 32],
    /// The file that a re-store under another name replaces.
    pub replaced: Option<ReplacedFile>,
    /// Whether image row and file name still are as this store left them. When not, a later store or a
    /// delete has taken over: the file must not be touched any more, only temporary files removed.
    pub current: bool,
}

/// What revoking a store asks of the files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revoked {
    /// A file that no row names any more; it may or may not exist.
    pub file: Option<ReplacedFile>,
}

const JOURNAL: u8 = 1;
const TEMP: u8 = 2;
const WRITTEN: u8 = 3;

/// The record of an entry, decoded in place.
struct Record<'a> {
    kind: PendingKind<'a>,
    image: ImageKey,
    facts: (u16, u32, u64, [u8; 32]),
    file: &'a str,
    replaced: Option<(u16, &'a str)>,
    old_row: &'a [u8],
    old_header: &'a [u8],
}

impl<'a> Record<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, IndexError> {
        let mut r = Reader::new(bytes);
        let mut read = || {
            let kind = r.u8()?;
            let payload = r.var_bytes()?;
            let image = ImageKey {
                series: r.u32()?,
                image: r.u64()?,
            };
            let facts = (r.u16()?, r.u32()?, r.u64()?, r.take(32)?.try_into().ok()?);
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
            })
        };
        read().ok_or(IndexError::Corrupt("pending entry"))
    }

    fn encode(&self) -> Vec<u8> {
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
        out
    }

    fn replaced(&self) -> Option<ReplacedFile> {
        self.replaced.map(|(device, file)| ReplacedFile {
            device,
            file: file.to_owned(),
        })
    }
}

impl ReadTxn<'_> {
    /// Unsettled stores with numbers above `after`, at most `limit`, in the order they were made.
    pub fn pending(
        &self,
        after: Option<PendingId>,
        limit: usize,
    ) -> Result<Vec<PendingEntry>, IndexError> {
        let tables = &self.index.tables;
        let from = after.map_or(0, |id| id.0 + 1).to_be_bytes();
        let mut entries = Vec::new();
        for item in tables
            .pending
            .range(&self.txn, &from_key(&from))?
            .take(limit)
        {
            let (key, value) = item?;
            let id = Reader::new(key)
                .u64()
                .ok_or(IndexError::Corrupt("pending key"))?;
            let record = Record::decode(value)?;
            let (device, dataset_offset, file_bytes, hash) = record.facts;
            let owner = tables
                .files
                .get(&self.txn, &file_key(device, record.file))?;
            let row = tables.images.get(&self.txn, &record.image.encode())?;
            let row_is_ours = match row {
                Some(row) => ImageRow::split(row)?.head.pending == id,
                None => false,
            };
            entries.push(PendingEntry {
                id: PendingId(id),
                kind: match record.kind {
                    PendingKind::Journal(bytes) => PendingFile::Journal(bytes.to_vec()),
                    PendingKind::Temp(name) => PendingFile::Temp(name.to_owned()),
                    PendingKind::Written => PendingFile::Written,
                },
                image: record.image,
                device,
                file: record.file.to_owned(),
                file_bytes,
                dataset_offset,
                hash,
                replaced: record.replaced(),
                current: row_is_ours && owner == Some(record.image.encode().as_slice()),
            });
        }
        Ok(entries)
    }

    /// How many stores are unsettled.
    pub fn pending_count(&self) -> Result<u64, IndexError> {
        Ok(self.index.tables.pending.len(&self.txn)?)
    }
}

impl WriteTxn<'_> {
    /// Writes the entry of a store.
    pub(crate) fn put_pending(
        &mut self,
        id: PendingId,
        image: ImageKey,
        change: &StoreChange<'_>,
        facts: &FileFacts<'_>,
        old_row: Option<&[u8]>,
        replaced: Option<&ReplacedFile>,
    ) -> Result<(), IndexError> {
        let tables = self.index.tables;
        let old_header = match old_row {
            Some(_) => tables.headers.get(&self.txn, &image.image.to_be_bytes())?,
            None => None,
        };
        let record = Record {
            kind: change.pending,
            image,
            facts: (
                facts.device,
                facts.dataset_offset,
                facts.file_bytes,
                facts.hash,
            ),
            file: facts.file,
            replaced: replaced.map(|r| (r.device, r.file.as_str())),
            old_row: old_row.unwrap_or_default(),
            old_header: old_header.unwrap_or_default(),
        };
        let record = record.encode();
        tables
            .pending
            .put(&mut self.txn, &id.0.to_be_bytes(), &record)?;
        Ok(())
    }

    /// Whether a store with this number still waits to be settled.
    pub(crate) fn is_pending(&self, id: u64) -> Result<bool, IndexError> {
        let found = self
            .index
            .tables
            .pending
            .get(&self.txn, &id.to_be_bytes())?;
        Ok(found.is_some())
    }

    /// These stores are safe on disk: their entries go, and files that they replaced become orphans.
    pub fn settle(&mut self, ids: &[PendingId]) -> Result<(), IndexError> {
        let table = self.index.tables.pending;
        for id in ids {
            let key = id.0.to_be_bytes();
            let Some(bytes) = table.get(&self.txn, &key)? else {
                continue;
            };
            let record = Record::decode(bytes)?;
            let (image, replaced) = (record.image, record.replaced());
            table.delete(&mut self.txn, &key)?;
            if let Some(file) = replaced {
                self.orphan_if_owned(image, &file)?;
            }
        }
        Ok(())
    }

    /// Takes a store back. A store that has been settled, or that a later one has replaced, leaves the
    /// rows as they are.
    pub fn revoke(&mut self, id: PendingId) -> Result<Revoked, IndexError> {
        let table = self.index.tables.pending;
        let key = id.0.to_be_bytes();
        let Some(bytes) = table.get(&self.txn, &key)?.map(<[u8]>::to_vec) else {
            return Ok(Revoked::default());
        };
        self.flush_parents()?;
        self.state.parents.clear();
        let record = Record::decode(&bytes)?;
        table.delete(&mut self.txn, &key)?;
        let row = self
            .index
            .tables
            .images
            .get(&self.txn, &record.image.encode())?;
        let ours = match row {
            Some(row) => ImageRow::split(row)?.head.pending == id.0,
            None => return Ok(Revoked::default()),
        };
        if !ours {
            self.forget_in_later(id, &record)?;
            return Ok(Revoked::default());
        }
        let (device, .., file) = (record.facts.0, record.file);
        if record.old_row.is_empty() {
            let freed = self.remove_image(record.image)?;
            let file = freed.then(|| ReplacedFile {
                device,
                file: file.to_owned(),
            });
            return Ok(Revoked { file });
        }
        self.restore_old(&record)
    }

    /// Puts the row of a re-stored image back.
    fn restore_old(&mut self, record: &Record<'_>) -> Result<Revoked, IndexError> {
        let tables = self.index.tables;
        let image = record.image;
        let old = ImageRow::split(record.old_row)?.facts()?.file_bytes as i64;
        let (device, _, new, _) = record.facts;
        tables
            .images
            .put(&mut self.txn, &image.encode(), record.old_row)?;
        let number = image.image.to_be_bytes();
        tables
            .headers
            .put(&mut self.txn, &number, record.old_header)?;
        self.adjust_bytes(image, old - new as i64)?;
        if record.replaced.is_none() {
            return Ok(Revoked::default());
        }
        let key = file_key(device, record.file);
        tables.files.delete(&mut self.txn, &key)?;
        Ok(Revoked {
            file: Some(ReplacedFile {
                device,
                file: record.file.to_owned(),
            }),
        })
    }

    /// A store that later stores have replaced is taken back: they must not bring it back when they are
    /// revoked in turn.
    fn forget_in_later(&mut self, id: PendingId, gone: &Record<'_>) -> Result<(), IndexError> {
        let table = self.index.tables.pending;
        let from = id.0.to_be_bytes();
        let mut heirs = Vec::new();
        for item in table.range(&self.txn, &from_key(&from))? {
            let (key, value) = item?;
            let record = Record::decode(value)?;
            if record.image != gone.image || record.old_row.is_empty() {
                continue;
            }
            if ImageRow::split(record.old_row)?.head.pending == id.0 {
                let heir = Record {
                    old_row: gone.old_row,
                    old_header: gone.old_header,
                    ..record
                };
                heirs.push((key.to_vec(), heir.encode()));
            }
        }
        for (key, value) in heirs {
            table.put(&mut self.txn, &key, &value)?;
        }
        Ok(())
    }
}
