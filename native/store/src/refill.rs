//! A changed `dicom.sql`: rows are rewritten with the new columns before the index is used.
//!
//! What the rows already hold is kept; what they lack comes from the header store, never from files. The
//! work is done in small transactions and goes on where it stopped: each row carries the number of the
//! layout it was written with.

use std::collections::HashMap;

use crate::extract::{ExtractPolicy, RowValues};
use crate::headers::decompress;
use crate::heads::{ImageRow, ParentHead, put_image};
use crate::index::{Index, Progress, WriteTxn};
use crate::index_error::IndexError;
use crate::layout::{Layout, LayoutRecord};
use crate::lmdb::behind_key;
use crate::parents::parent_table;
use crate::row::{Choice, ColumnIter, column, merge, put_column};
use crate::schema::{ImageKey, Level, meta_key};

/// Rows per transaction.
const PORTION: usize = 512;

/// A record, copied.
type KeyAndRow = (Vec<u8>, Vec<u8>);

/// Layouts by number.
type Layouts = HashMap<u16, LayoutRecord>;

impl Index {
    /// Makes the layout of the rows and the wanted one agree.
    pub(crate) fn settle_layout(&mut self, progress: Progress<'_>) -> Result<(), IndexError> {
        let (current, layouts) = self.layouts()?;
        let Some(current) = current else {
            return self.finish_layout(1, &layouts);
        };
        let fitting = layouts.values().filter(|r| r.fits(self.layout()));
        let fitting = fitting.map(|r| r.number).max();
        if fitting == Some(current) && layouts.len() == 1 {
            self.layout_number = current;
            return Ok(());
        }
        let next = layouts.keys().max().map_or(1, |n| n.wrapping_add(1));
        // A refill that was interrupted goes on under its number.
        let number = fitting.filter(|&n| n > current).unwrap_or(next);
        self.layout_number = number;
        let mut txn = self.env.write_txn()?;
        let record = self.layout().encode(number);
        self.tables
            .meta
            .put(&mut txn, &layout_key(number), &record)?;
        txn.commit()?;
        self.refill(&layouts, progress)?;
        self.finish_layout(number, &layouts)
    }

    /// The layout in force and all records.
    fn layouts(&self) -> Result<(Option<u16>, Layouts), IndexError> {
        let txn = self.env.read_txn()?;
        let damaged = IndexError::Corrupt("layout record");
        let current = self.tables.meta.get(&txn, meta_key::LAYOUT)?;
        let current = current.map(|b| b.try_into().map(u16::from_be_bytes));
        let Ok(current) = current.transpose() else {
            return Err(damaged);
        };
        let mut layouts = Layouts::new();
        for item in self.tables.meta.prefix_iter(&txn, meta_key::LAYOUTS)? {
            let Some(record) = LayoutRecord::decode(item?.1) else {
                return Err(damaged);
            };
            layouts.insert(record.number, record);
        }
        Ok((current, layouts))
    }

    /// Declares that all rows have layout `number`.
    fn finish_layout(&mut self, number: u16, others: &Layouts) -> Result<(), IndexError> {
        let meta = self.tables.meta;
        let mut txn = self.env.write_txn()?;
        for other in others.keys().filter(|&&other| other != number) {
            meta.delete(&mut txn, &layout_key(*other))?;
        }
        let record = self.layout().encode(number);
        meta.put(&mut txn, &layout_key(number), &record)?;
        meta.put(&mut txn, meta_key::LAYOUT, &number.to_be_bytes())?;
        txn.commit()?;
        self.layout_number = number;
        Ok(())
    }

    fn refill(&self, layouts: &Layouts, progress: Progress<'_>) -> Result<(), IndexError> {
        let mut done = 0;
        let total = self.read()?.counters()?.alive.iter().sum();
        for level in [Level::Patient, Level::Study, Level::Series] {
            let mut after = Vec::new();
            while let Some(last) = self.refill_parents(level, layouts, &after, &mut done)? {
                after = last;
                progress("columns", done, total);
            }
        }
        let mut after = Vec::new();
        while let Some(last) = self.refill_images(layouts, &after, &mut done)? {
            after = last;
            progress("columns", done, total);
        }
        Ok(())
    }

    /// One portion of parent rows: what they hold is moved to its new place.
    fn refill_parents(
        &self,
        level: Level,
        layouts: &Layouts,
        after: &[u8],
        done: &mut u64,
    ) -> Result<Option<Vec<u8>>, IndexError> {
        let table = parent_table(&self.tables, level);
        let mut txn = self.write()?;
        let rows = portion(table, &txn.txn, after)?;
        for (key, row) in &rows {
            let (mut head, columns) = ParentHead::split(row)?;
            if head.layout == self.layout_number {
                continue;
            }
            let columns = moved(self.layout(), level, columns, layouts.get(&head.layout));
            head.layout = self.layout_number;
            let mut row = Vec::with_capacity(512);
            head.put(&mut row);
            row.extend_from_slice(&columns);
            table.put(&mut txn.txn, key, &row)?;
        }
        *done += rows.len() as u64;
        txn.commit_beside_journal()?;
        Ok(rows.into_iter().next_back().map(|(key, _)| key))
    }

    /// One portion of images: new columns come from their headers, also for the rows above.
    fn refill_images(
        &self,
        layouts: &Layouts,
        after: &[u8],
        done: &mut u64,
    ) -> Result<Option<Vec<u8>>, IndexError> {
        let mut txn = self.write()?;
        let rows = portion(self.tables.images, &txn.txn, after)?;
        for (key, row) in &rows {
            let row = ImageRow::split(row)?;
            let key = ImageKey::decode(key).ok_or(IndexError::Corrupt("image key"))?;
            if row.head.layout != self.layout_number {
                txn.refill_image(key, row, layouts)?;
            }
        }
        *done += rows.len() as u64;
        txn.commit_beside_journal()?;
        Ok(rows.into_iter().next_back().map(|(key, _)| key))
    }
}

impl WriteTxn<'_> {
    fn refill_image(
        &mut self,
        key: ImageKey,
        row: ImageRow<'_>,
        layouts: &Layouts,
    ) -> Result<(), IndexError> {
        let index = self.index;
        let old = layouts.get(&row.head.layout);
        let mut columns = moved(index.layout(), Level::Image, row.columns, old);
        let record = index
            .tables
            .headers
            .get(&self.txn, &key.image.to_be_bytes())?;
        let values = record
            .and_then(|record| decompress(record).ok())
            .and_then(|header| {
                let policy = ExtractPolicy {
                    allow_empty_patient_id: true,
                    accept_invalid_uids: true,
                };
                index.extractor.extract(&header, policy).ok()
            });
        if let Some(values) = &values {
            columns = filled(&columns, values.level(Level::Image));
            self.refill_above(key.series, values)?;
        }
        let mut head = row.head;
        head.layout = index.layout_number;
        let mut out = Vec::with_capacity(512);
        put_image(&mut out, head, &columns, &row.facts()?);
        index
            .tables
            .images
            .put(&mut self.txn, &key.encode(), &out)?;
        Ok(())
    }

    /// Fills what the rows above an image lack.
    fn refill_above(&mut self, series: u32, values: &RowValues) -> Result<(), IndexError> {
        let mut number = series;
        for level in [Level::Series, Level::Study, Level::Patient] {
            let Some(row) = self.parent(level, number)? else {
                return Ok(());
            };
            let parent = row.head.parent;
            let columns = filled(&row.columns, values.level(level));
            if columns != row.columns
                && let Some(row) = self.state.parents.change(level, number)
            {
                let before = std::mem::replace(&mut row.columns, columns.clone());
                self.move_search(level, number, &before, &columns)?;
            }
            number = parent;
        }
        Ok(())
    }
}

fn layout_key(number: u16) -> Vec<u8> {
    let mut key = meta_key::LAYOUTS.to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The next rows of a table, copied.
fn portion(
    table: crate::lmdb::Table,
    txn: &heed::RoTxn<'_>,
    after: &[u8],
) -> Result<Vec<KeyAndRow>, IndexError> {
    let rows = table.range(txn, &behind_key(after))?.take(PORTION);
    rows.map(|item| {
        item.map(|(k, v)| (k.to_vec(), v.to_vec()))
            .map_err(IndexError::from)
    })
    .collect()
}

/// The columns of a row of another layout, each at its new place. A value that may have been cut where it
/// now has room is left out, so that the header fills it again.
fn moved(layout: &Layout, level: Level, columns: &[u8], old: Option<&LayoutRecord>) -> Vec<u8> {
    let old = old.and_then(|record| record.levels.get(level.index()));
    let old = old.map_or(&[][..], Vec::as_slice);
    let mut out = Vec::with_capacity(columns.len() + 64);
    for wanted in layout.stored(level) {
        let at = old.iter().position(|(tag, _)| *tag == wanted.tag);
        let value = at.and_then(|at| column(columns, at));
        let was = at.and_then(|at| old.get(at)).map_or(0, |(_, width)| *width);
        let width = usize::from(wanted.width);
        let value = match value {
            Some(value) if width > 0 && value.len() > width => value.get(..width),
            Some(value) if was > 0 && value.len() == usize::from(was) && width != value.len() => {
                None
            }
            other => other,
        };
        put_column(&mut out, value);
    }
    out
}

/// Columns with the absent ones taken from `values`.
fn filled(columns: &[u8], values: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(columns.len() + 64);
    merge(columns, values, &mut |_, _, _| Choice::Old, &mut out);
    debug_assert_eq!(
        ColumnIter::new(&out).count(),
        ColumnIter::new(values).count()
    );
    out
}
