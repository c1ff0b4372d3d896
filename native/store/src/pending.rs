//! Stores whose files are not yet certain to be on disk.
//!
//! Each store leaves an entry here in the transaction that makes it visible. Recovery reads the entries and
//! finishes or revokes what a crash interrupted, without looking at any other file. `settle` drops entries
//! whose files are synced; `revoke` takes a store back: the old row of a re-store returns, a new image goes
//! with those of its parents that it leaves empty.

use crate::apply::{ReplacedFile, StoreChange};
use crate::bytes::Reader;
use crate::changes::{Change, ChangeKind};
use crate::content_hash::ContentHash;
use crate::heads::{FileFacts, ImageRow};
use crate::index::{ReadTxn, WriteTxn};
use crate::index_error::IndexError;
use crate::lmdb::{append, from_key};
use crate::lookup::key_of;
use crate::pending_record::Record;
use crate::schema::{ImageKey, Level, file_key};
use crate::virtual_device::is_virtual;

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
    /// Hash of the data set.
    pub hash: ContentHash,
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
            abandoned: false,
        };
        let record = record.encode();
        append(tables.pending, &mut self.txn, &id.0.to_be_bytes(), &record)?;
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
            let abandoned = record.abandoned.then(|| record.own_file());
            table.delete(&mut self.txn, &key)?;
            for file in replaced.iter().chain(&abandoned) {
                self.orphan_unless_used(image, file)?;
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
        let revoked = self.take_back(id, &record)?;
        if record.abandoned && revoked.file.is_none() {
            self.orphan_unless_used(record.image, &record.own_file())?;
        }
        Ok(revoked)
    }

    fn take_back(&mut self, id: PendingId, record: &Record<'_>) -> Result<Revoked, IndexError> {
        let images = self.index.tables.images;
        let Some(row) = images.get(&self.txn, &record.image.encode())? else {
            // The image has been deleted; what its tomb does not name is to go as well.
            if let Some(file) = record.replaced() {
                self.orphan_unless_used(record.image, &file)?;
            }
            return Ok(Revoked::default());
        };
        if ImageRow::split(row)?.head.pending != id.0 {
            return self.forget_in_later(id, record);
        }
        let columns = ImageRow::split(row)?.columns;
        let sop_instance = key_of(self.index.layout(), Level::Image, columns).to_vec();
        self.log(&Change {
            number: 0,
            kind: ChangeKind::Revoked,
            level: Level::Image,
            time: 0,
            image: record.image,
            images: 0,
            key: sop_instance,
            calling_ae: String::new(),
            called_ae: String::new(),
        })?;
        if !record.old_row.is_empty() {
            return self.restore_old(record);
        }
        let removed = self.remove_image(record.image)?;
        Ok(Revoked {
            file: removed.then(|| record.own_file()),
        })
    }

    /// Puts the row of a re-stored image back.
    fn restore_old(&mut self, record: &Record<'_>) -> Result<Revoked, IndexError> {
        let tables = self.index.tables;
        let image = record.image;
        let old = ImageRow::split(record.old_row)?.facts()?;
        let (old, had_file) = (old.file_bytes as i64, !is_virtual(old.device));
        let new = record.facts.2 as i64;
        tables
            .images
            .put(&mut self.txn, &image.encode(), record.old_row)?;
        let number = image.image.to_be_bytes();
        if record.old_header.is_empty() {
            tables.headers.delete(&mut self.txn, &number)?;
        } else {
            let header = record.old_header;
            tables.headers.put(&mut self.txn, &number, header)?;
        }
        self.adjust_bytes(image, old - new)?;
        if record.replaced.is_none() && had_file {
            return Ok(Revoked::default());
        }
        self.release_name(image, record.own_file())
    }

    /// Marks a file to be unlinked, unless the image has come back to its name or may do so.
    fn orphan_unless_used(
        &mut self,
        image: ImageKey,
        file: &ReplacedFile,
    ) -> Result<(), IndexError> {
        if !self.is_used(image, file)? {
            self.orphan_if_owned(image, file)?;
        }
        Ok(())
    }

    /// Whether the image's row, or one that revoking an unsettled store would bring back, has this file.
    /// An unsettled store that alone keeps it is told to give it up when it is settled.
    fn is_used(&mut self, image: ImageKey, file: &ReplacedFile) -> Result<bool, IndexError> {
        let wanted = (file.device, file.file.as_str());
        let names = |row: &[u8]| {
            let facts = ImageRow::split(row)?.facts()?;
            Ok::<_, IndexError>((facts.device, facts.file) == wanted)
        };
        let tables = self.index.tables;
        let row = tables.images.get(&self.txn, &image.encode())?;
        if let Some(row) = row
            && names(row)?
        {
            return Ok(true);
        }
        // No store brings a deleted image back.
        let deleted = row.is_none();
        let mut keeper = None;
        for item in tables.pending.iter(&self.txn)? {
            let (key, value) = item?;
            let record = Record::decode(value)?;
            if record.image != image {
                continue;
            }
            if !deleted && !record.old_row.is_empty() && names(record.old_row)? {
                return Ok(true);
            }
            if (record.facts.0, record.file) == wanted {
                let abandoned = true;
                keeper = Some((
                    key.to_vec(),
                    Record {
                        abandoned,
                        ..record
                    }
                    .encode(),
                ));
            }
        }
        let Some((key, value)) = keeper else {
            return Ok(false);
        };
        tables.pending.put(&mut self.txn, &key, &value)?;
        Ok(true)
    }

    /// A store that a later one has replaced is taken back: the later one must not bring it back when it
    /// is revoked in turn, but what was there before.
    fn forget_in_later(&mut self, id: PendingId, gone: &Record<'_>) -> Result<Revoked, IndexError> {
        let table = self.index.tables.pending;
        let mut heir = None;
        for item in table.range(&self.txn, &from_key(&id.0.to_be_bytes()))? {
            let (key, value) = item?;
            let record = Record::decode(value)?;
            if record.image == gone.image
                && !record.old_row.is_empty()
                && ImageRow::split(record.old_row)?.head.pending == id.0
            {
                heir = Some((key.to_vec(), value.to_vec()));
                break;
            }
        }
        let Some((key, value)) = heir else {
            if let Some(file) = gone.replaced() {
                self.orphan_unless_used(gone.image, &file)?;
            }
            return Ok(Revoked::default());
        };
        let heir = Record::decode(&value)?;
        let (replaced, frees) = inherited(heir.replaced, gone);
        let heir = Record {
            old_row: gone.old_row,
            old_header: gone.old_header,
            replaced,
            ..heir
        };
        table.put(&mut self.txn, &key, &heir.encode())?;
        if !frees {
            return Ok(Revoked::default());
        }
        self.release_name(gone.image, gone.own_file())
    }

    /// Frees the name of a file that no row of the image will have again. A file whose name another image
    /// has taken over is none of our business.
    fn release_name(&mut self, image: ImageKey, file: ReplacedFile) -> Result<Revoked, IndexError> {
        let files = self.index.tables.files;
        let key = file_key(file.device, &file.file);
        let owned = files.get(&self.txn, &key)? == Some(image.encode().as_slice());
        if !owned || self.is_used(image, &file)? {
            return Ok(Revoked::default());
        }
        files.delete(&mut self.txn, &key)?;
        Ok(Revoked { file: Some(file) })
    }
}

/// The file that a store replaces when the store before it is taken back, and whether the file of the one
/// taken back is then nobody's.
fn inherited<'a>(
    heir: Option<(u16, &'a str)>,
    gone: &Record<'a>,
) -> (Option<(u16, &'a str)>, bool) {
    match (heir, gone.replaced) {
        // The heir kept the name.
        (None, replaced) => (replaced, false),
        (Some(_), Some(replaced)) => (Some(replaced), true),
        (Some(_), None) if !gone.had_file() => (None, true),
        (Some(file), None) => (Some(file), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn damaged_records_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(record) = Record::decode(&bytes) {
                let again = record.encode();
                let record = Record::decode(&again);
                prop_assert_eq!(record.map(|r| r.encode()).ok(), Some(again));
            }
        }
    }
}
