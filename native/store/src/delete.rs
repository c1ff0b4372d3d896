//! Deleting: hide at once; `reap` frees in the background.
//!
//! `delete` removes one row, its lookup and search entries, adjusts its ancestors and leaves a tomb: what is
//! below is dead because its ancestor is gone, whatever its number. Parents left without images go too.

use pyserver_proto::tag::Tag;

use crate::changes::{Change, ChangeKind};
use crate::heads::{ImageRow, ParentHead};
use crate::index::WriteTxn;
use crate::index_error::IndexError;
use crate::lmdb::Table;
use crate::lookup::{key_of, patient_entry};
use crate::parents::parent_table;
use crate::row::{ColumnIter, column, put_column};
use crate::schema::{ImageKey, Level, file_key, kid_key, kid_of, text_key, tomb_key};

/// What to delete: one row by its exact identifier, with everything below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteTarget<'a> {
    /// Level of the row.
    pub level: Level,
    /// Patient ID or study, series or SOP instance UID.
    pub id: &'a [u8],
}

/// What a delete has hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteSummary {
    /// Rows per level, parents left empty included.
    pub rows: [u64; 4],
    /// Bytes of the files.
    pub bytes: u64,
}

impl DeleteSummary {
    fn add(&mut self, level: Level, count: u64) {
        if let Some(rows) = self.rows.get_mut(level.index()) {
            *rows += count;
        }
    }
}

impl WriteTxn<'_> {
    /// Hides a row and everything below it. An unknown identifier changes nothing.
    pub fn delete(
        &mut self,
        target: DeleteTarget<'_>,
        now: u32,
    ) -> Result<DeleteSummary, IndexError> {
        self.flush_parents()?;
        self.state.parents.clear();
        let mut summary = DeleteSummary::default();
        let image = match target.level {
            Level::Image => match self.live_image(target.id)? {
                None => return Ok(summary),
                Some(image) => {
                    self.hide_image(image, &mut summary)?;
                    image
                }
            },
            level => match self.live_row(level, target.id)? {
                None => return Ok(summary),
                Some(number) => {
                    self.hide_row(level, number, &mut summary)?;
                    ImageKey::default()
                }
            },
        };
        self.log(&Change {
            number: 0,
            kind: ChangeKind::Deleted,
            level: target.level,
            time: now,
            image,
            images: 0,
            key: target.id.to_vec(),
            calling_ae: String::new(),
            called_ae: String::new(),
        })?;
        Ok(summary)
    }

    /// Hides one image; its row waits in its tomb.
    fn hide_image(
        &mut self,
        image: ImageKey,
        summary: &mut DeleteSummary,
    ) -> Result<(), IndexError> {
        let tables = self.index.tables;
        let row = tables.images.get(&self.txn, &image.encode())?;
        let row = row.ok_or(IndexError::Corrupt("image row"))?.to_vec();
        let bytes = self.drop_image_row(image, &row)?;
        let tomb = tomb_key(Level::Image, image.image);
        let mut record = image.series.to_be_bytes().to_vec();
        record.extend_from_slice(&row);
        tables.tombs.put(&mut self.txn, &tomb, &record)?;
        summary.add(Level::Image, 1);
        summary.bytes += bytes;
        self.shrink(image.series, bytes, summary)
    }

    /// Removes an image and its name completely, for a store that is taken back. Answers whether it was
    /// there to be removed.
    pub(crate) fn remove_image(&mut self, image: ImageKey) -> Result<bool, IndexError> {
        let tables = self.index.tables;
        if !self.parent_is_live(Level::Series, image.series)? {
            return Ok(false);
        }
        let Some(row) = tables.images.get(&self.txn, &image.encode())? else {
            return Ok(false);
        };
        let row = row.to_vec();
        let facts = ImageRow::split(&row)?.facts()?;
        let key = file_key(facts.device, facts.file);
        if tables.files.get(&self.txn, &key)? == Some(image.encode().as_slice()) {
            tables.files.delete(&mut self.txn, &key)?;
        }
        tables
            .headers
            .delete(&mut self.txn, &image.image.to_be_bytes())?;
        let bytes = self.drop_image_row(image, &row)?;
        self.shrink(image.series, bytes, &mut DeleteSummary::default())?;
        Ok(true)
    }

    /// Removes an image's row; answers the bytes of its file.
    fn drop_image_row(&mut self, image: ImageKey, row: &[u8]) -> Result<u64, IndexError> {
        let tables = self.index.tables;
        let row = ImageRow::split(row)?;
        let bytes = row.facts()?.file_bytes;
        tables.images.delete(&mut self.txn, &image.encode())?;
        let [.., images] = &mut self.counters.alive;
        *images = images.saturating_sub(1);
        self.counters.file_bytes = self.counters.file_bytes.saturating_sub(bytes);
        Ok(bytes)
    }

    /// One image less below a series; rows left empty go.
    fn shrink(
        &mut self,
        series: u32,
        bytes: u64,
        summary: &mut DeleteSummary,
    ) -> Result<(), IndexError> {
        let head = self.change_head(Level::Series, series, |head| {
            head.instances = head.instances.saturating_sub(1);
            head.bytes = head.bytes.saturating_sub(bytes);
        })?;
        let gone = ParentHead {
            instances: 1,
            bytes,
            ..ParentHead::default()
        };
        self.shrink_ancestors(Level::Series, head.parent, gone)?;
        if head.instances == 0 {
            self.hide_row(Level::Series, series, summary)?;
        }
        Ok(())
    }

    /// Takes what is gone below `level` out of the ancestors' counts.
    fn shrink_ancestors(
        &mut self,
        level: Level,
        parent: u32,
        gone: ParentHead,
    ) -> Result<(), IndexError> {
        let above = match level {
            Level::Series | Level::Image => Level::Study,
            Level::Study => Level::Patient,
            Level::Patient => return Ok(()),
        };
        if parent == 0 {
            return Ok(());
        }
        let head = self.change_head(above, parent, |head| {
            head.studies = head.studies.saturating_sub(gone.studies);
            head.series = head.series.saturating_sub(gone.series);
            head.instances = head.instances.saturating_sub(gone.instances);
            head.bytes = head.bytes.saturating_sub(gone.bytes);
        })?;
        self.shrink_ancestors(above, head.parent, gone)
    }

    fn change_head(
        &mut self,
        level: Level,
        number: u32,
        change: impl FnOnce(&mut ParentHead),
    ) -> Result<ParentHead, IndexError> {
        self.parent(level, number)?
            .ok_or(IndexError::Corrupt("parent row"))?;
        let Some(row) = self.state.parents.change(level, number) else {
            return Err(IndexError::Corrupt("parent row"));
        };
        change(&mut row.head);
        Ok(row.head)
    }

    /// Removes a parent row with its entries, leaves a tomb for what is below and tells the ancestors.
    fn hide_row(
        &mut self,
        level: Level,
        number: u32,
        summary: &mut DeleteSummary,
    ) -> Result<(), IndexError> {
        self.flush_parents()?;
        self.state.parents.clear();
        let head = self.drop_row(level, number)?;
        self.drop_kid(level, head.parent, number)?;
        let tomb = tomb_key(level, u64::from(number));
        self.index.tables.tombs.put(&mut self.txn, &tomb, &[])?;
        let (studies, series) = match level {
            Level::Patient => (head.studies, head.series),
            Level::Study => (1, head.series),
            Level::Series | Level::Image => (0, 1),
        };
        let below = [
            (Level::Patient, u64::from(level == Level::Patient)),
            (Level::Study, u64::from(studies)),
            (Level::Series, u64::from(series)),
            (Level::Image, u64::from(head.instances)),
        ];
        for (at, count) in below {
            summary.add(at, count);
            if let Some(alive) = self.counters.alive.get_mut(at.index()) {
                *alive = alive.saturating_sub(count);
            }
        }
        summary.bytes += head.bytes;
        self.counters.file_bytes = self.counters.file_bytes.saturating_sub(head.bytes);
        let gone = ParentHead {
            studies,
            series,
            ..head
        };
        self.shrink_ancestors(level, head.parent, gone)?;
        self.prune_parent(level, head.parent, summary)
    }

    /// Hides the parent of a hidden row when nothing is left below; else brings its modalities up to date.
    fn prune_parent(
        &mut self,
        level: Level,
        parent: u32,
        summary: &mut DeleteSummary,
    ) -> Result<(), IndexError> {
        let above = match level {
            Level::Series => Level::Study,
            Level::Study if parent != 0 => Level::Patient,
            _ => return Ok(()),
        };
        if self.head(above, parent)?.instances == 0 {
            return self.hide_row(above, parent, summary);
        }
        if above == Level::Study {
            self.recount_modalities(parent)?;
        }
        Ok(())
    }

    /// Takes modalities that no series has any more out of the study's list.
    fn recount_modalities(&mut self, study: u32) -> Result<(), IndexError> {
        let layout = self.index.layout();
        let list_at = layout.position(Level::Study, Tag::MODALITIES_IN_STUDY);
        let modality_at = layout.position(Level::Series, Tag::MODALITY);
        let (Some(list_at), Some(modality_at)) = (list_at, modality_at) else {
            return Ok(());
        };
        self.flush_parents()?;
        let mut present = Vec::new();
        for series in kids(self.index.tables.study_kids, &self.txn, study, usize::MAX)? {
            let row = self
                .index
                .tables
                .series
                .get(&self.txn, &series.to_be_bytes())?;
            if let Some(row) = row {
                let (_, columns) = ParentHead::split(row)?;
                present.push(column(columns, modality_at).unwrap_or_default().to_vec());
            }
        }
        self.parent(Level::Study, study)?;
        let Some(row) = self.state.parents.change(Level::Study, study) else {
            return Ok(());
        };
        let mut columns = Vec::with_capacity(row.columns.len());
        for (position, value) in ColumnIter::new(&row.columns).enumerate() {
            if position != list_at {
                put_column(&mut columns, value);
                continue;
            }
            let members = value.unwrap_or_default().split(|&b| b == b'\\');
            let kept: Vec<_> = members.filter(|m| present.iter().any(|p| p == m)).collect();
            put_column(&mut columns, value.map(|_| kept.join(&b'\\')).as_deref());
        }
        row.columns = columns;
        row.seen.clear();
        Ok(())
    }

    /// Removes a parent row, its lookup and its search entries; answers its head.
    pub(crate) fn drop_row(&mut self, level: Level, number: u32) -> Result<ParentHead, IndexError> {
        let tables = self.index.tables;
        let table = parent_table(&tables, level);
        let row = table.get(&self.txn, &number.to_be_bytes())?;
        let row = row.ok_or(IndexError::Corrupt("parent row"))?.to_vec();
        let (head, columns) = ParentHead::split(&row)?;
        let id = key_of(self.index.layout(), level, columns);
        // Of studies and series only hints are left, which lead nowhere.
        if level == Level::Patient && patient_entry(&tables, &self.txn, id)? == Some(number) {
            tables.patient_ids.delete(&mut self.txn, &text_key(id))?;
        }
        self.move_search(level, number, columns, &[])?;
        table.delete(&mut self.txn, &number.to_be_bytes())?;
        Ok(head)
    }

    fn drop_kid(&mut self, level: Level, parent: u32, number: u32) -> Result<(), IndexError> {
        let table = match level {
            Level::Study => self.index.tables.patient_kids,
            Level::Series => self.index.tables.study_kids,
            Level::Patient | Level::Image => return Ok(()),
        };
        table.delete(&mut self.txn, &kid_key(parent, number))?;
        Ok(())
    }

    /// Changes the bytes counted for an image, when it is alive.
    pub(crate) fn adjust_bytes(&mut self, image: ImageKey, by: i64) -> Result<(), IndexError> {
        if !self.parent_is_live(Level::Series, image.series)? {
            return Ok(());
        }
        self.counters.file_bytes = self.counters.file_bytes.saturating_add_signed(by);
        let mut number = image.series;
        for level in [Level::Series, Level::Study, Level::Patient] {
            if number == 0 {
                break;
            }
            let add = |head: &mut ParentHead| head.bytes = head.bytes.saturating_add_signed(by);
            number = self.change_head(level, number, add)?.parent;
        }
        Ok(())
    }
}

/// Children of a patient or study.
pub(crate) fn kids(
    table: Table,
    txn: &heed::RoTxn<'_>,
    parent: u32,
    limit: usize,
) -> Result<Vec<u32>, IndexError> {
    table
        .prefix_iter(txn, &parent.to_be_bytes())?
        .take(limit)
        .map(|item| kid_of(item?.0).ok_or(IndexError::Corrupt("child key")))
        .collect()
}
