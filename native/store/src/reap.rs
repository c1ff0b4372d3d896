//! Freeing what has been deleted, in small portions.
//!
//! A tomb names a hidden row. A patient's or study's children become tombs of their own, a series' images
//! are freed one by one, and their files are named to be unlinked; the name of a file stays reserved until
//! `file_removed` says that it is gone. An image whose store is unsettled waits: its file may be on its way.

use crate::apply::ReplacedFile;
use crate::bytes::Reader;
use crate::delete::kids;
use crate::heads::ImageRow;
use crate::index::{ReadTxn, WriteTxn};
use crate::index_error::IndexError;
use crate::schema::{ImageKey, Level, kid_key, tomb_key};

/// One portion of freeing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Files to unlink once the transaction is committed; then `file_removed`. Also in `orphans`.
    pub files: Vec<ReplacedFile>,
    /// Whether the next portion has something to do.
    pub more: bool,
    /// Tombs that wait for a store to be settled.
    pub blocked: usize,
}

impl ReadTxn<'_> {
    /// Files that wait to be unlinked, at most `limit`.
    pub fn orphans(&self, limit: usize) -> Result<Vec<ReplacedFile>, IndexError> {
        let table = self.index.tables.orphans;
        let mut files = Vec::new();
        for item in table.iter(&self.txn)?.take(limit) {
            let (key, path) = item?;
            let device = Reader::new(key).u16();
            let file = std::str::from_utf8(path).ok().map(str::to_owned);
            let (Some(device), Some(file)) = (device, file) else {
                return Err(IndexError::Corrupt("orphan"));
            };
            files.push(ReplacedFile { device, file });
        }
        Ok(files)
    }
}

impl WriteTxn<'_> {
    /// Frees at most `rows_max` dead rows.
    pub fn reap(&mut self, rows_max: usize) -> Result<Reaped, IndexError> {
        self.flush_parents()?;
        self.state.parents.clear();
        let mut reaped = Reaped::default();
        let mut budget = rows_max.max(1);
        let mut after: Option<Vec<u8>> = None;
        while budget > 0 {
            let Some((level, number, key)) = self.next_tomb(after.as_deref())? else {
                return Ok(reaped);
            };
            let done = match level {
                Level::Patient => self.reap_parent(Level::Patient, number as u32, &mut budget)?,
                Level::Study => self.reap_parent(Level::Study, number as u32, &mut budget)?,
                Level::Series => self.reap_series(number as u32, &mut budget, &mut reaped)?,
                Level::Image => self.reap_image(&key, &mut budget, &mut reaped)?,
            };
            if done {
                self.index.tables.tombs.delete(&mut self.txn, &key)?;
            } else {
                after = Some(key);
            }
        }
        reaped.more = self.next_tomb(None)?.is_some();
        Ok(reaped)
    }

    fn next_tomb(&self, after: Option<&[u8]>) -> Result<Option<(Level, u64, Vec<u8>)>, IndexError> {
        let table = self.index.tables.tombs;
        let found = match after {
            None => table.first(&self.txn)?,
            Some(key) => table.get_greater_than(&self.txn, key)?,
        };
        let Some((key, _)) = found else {
            return Ok(None);
        };
        let mut r = Reader::new(key);
        let level = r.u8().and_then(|n| Level::from_index(usize::from(n)));
        match (level, r.u64()) {
            (Some(level), Some(number)) => Ok(Some((level, number, key.to_vec()))),
            _ => Err(IndexError::Corrupt("tomb")),
        }
    }

    /// Turns the children of a dead patient or study into tombs of their own.
    fn reap_parent(
        &mut self,
        level: Level,
        number: u32,
        budget: &mut usize,
    ) -> Result<bool, IndexError> {
        let (table, below) = match level {
            Level::Patient => (self.index.tables.patient_kids, Level::Study),
            _ => (self.index.tables.study_kids, Level::Series),
        };
        for kid in kids(table, &self.txn, number, *budget)? {
            self.drop_row(below, kid)?;
            let tomb = tomb_key(below, u64::from(kid));
            self.index.tables.tombs.put(&mut self.txn, &tomb, &[])?;
            table.delete(&mut self.txn, &kid_key(number, kid))?;
            *budget = budget.saturating_sub(1);
        }
        Ok(kids(table, &self.txn, number, 1)?.is_empty())
    }

    fn reap_series(
        &mut self,
        series: u32,
        budget: &mut usize,
        reaped: &mut Reaped,
    ) -> Result<bool, IndexError> {
        let images = self.index.tables.images;
        let mut rows = Vec::new();
        let prefix = series.to_be_bytes();
        for item in images.prefix_iter(&self.txn, &prefix)?.take(*budget + 1) {
            let (key, row) = item?;
            let image = ImageKey::decode(key).ok_or(IndexError::Corrupt("image key"))?;
            rows.push((image, row.to_vec()));
        }
        let all = rows.len() <= *budget;
        for (image, row) in rows.iter().take(*budget) {
            if !self.free_image(*image, row, reaped)? {
                reaped.blocked += 1;
                return Ok(false);
            }
            *budget = budget.saturating_sub(1);
        }
        Ok(all)
    }

    fn reap_image(
        &mut self,
        key: &[u8],
        budget: &mut usize,
        reaped: &mut Reaped,
    ) -> Result<bool, IndexError> {
        let damaged = || IndexError::Corrupt("tomb of an image");
        let record = self.index.tables.tombs.get(&self.txn, key)?;
        let record = record.ok_or_else(damaged)?.to_vec();
        let mut r = Reader::new(&record);
        let series = r.u32().ok_or_else(damaged)?;
        let number = Reader::new(key.get(1..).unwrap_or_default()).u64();
        let image = ImageKey {
            series,
            image: number.ok_or_else(damaged)?,
        };
        *budget = budget.saturating_sub(1);
        let freed = self.free_image(image, r.rest(), reaped)?;
        reaped.blocked += usize::from(!freed);
        Ok(freed)
    }

    /// Frees one dead image; not while its store is unsettled, since its file may still be on the way.
    fn free_image(
        &mut self,
        image: ImageKey,
        row: &[u8],
        reaped: &mut Reaped,
    ) -> Result<bool, IndexError> {
        let row = ImageRow::split(row)?;
        if self.is_pending(row.head.pending)? {
            return Ok(false);
        }
        let facts = row.facts()?;
        let file = ReplacedFile {
            device: facts.device,
            file: facts.file.to_owned(),
        };
        if self.orphan_if_owned(image, &file)? {
            reaped.files.push(file);
        }
        let tables = self.index.tables;
        tables
            .headers
            .delete(&mut self.txn, &image.image.to_be_bytes())?;
        tables.images.delete(&mut self.txn, &image.encode())?;
        Ok(true)
    }
}
