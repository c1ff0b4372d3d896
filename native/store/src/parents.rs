//! Patient, study and series rows as the writer holds them: read once, changed in memory, written once per
//! commit. A batch of images of one series touches its three parent rows once.

use std::collections::HashMap;

use crate::heads::ParentHead;
use crate::index::WriteTxn;
use crate::index_error::IndexError;
use crate::lmdb::{Table, Tables};
use crate::schema::Level;

/// Rows kept between transactions, per level. LIMIT: about 1 KiB each.
const ROWS_KEPT_MAX: usize = 1024;

/// A parent row in memory.
#[derive(Debug)]
pub struct Parent {
    /// Fixed part.
    pub head: ParentHead,
    /// Columns as stored.
    pub columns: Vec<u8>,
    /// The last values of an object that changed nothing here, so that its like need no merging.
    pub seen: Vec<u8>,
    /// Whether the row waits to be written.
    dirty: bool,
}

impl Parent {
    /// A row as it stands in its table.
    pub fn new(head: ParentHead, columns: Vec<u8>) -> Self {
        Self {
            head,
            columns,
            seen: Vec::new(),
            dirty: false,
        }
    }
}

/// Where a series hangs, with the identifiers that lead there.
#[derive(Debug, Clone)]
pub struct SeriesPath {
    /// Series number.
    pub series: u32,
    /// Study number.
    pub study: u32,
    /// Patient number, 0 for none.
    pub patient: u32,
    /// Study Instance UID.
    pub study_uid: Vec<u8>,
    /// Patient ID, empty for none.
    pub patient_id: Vec<u8>,
}

/// Everything the writer remembers about parents.
#[derive(Default)]
pub struct Parents {
    rows: [HashMap<u32, Parent>; 3],
    dirty: Vec<(Level, u32)>,
    /// How often values of a row were changed by those of a later object.
    pub merged: u64,
    /// Paths by Series Instance UID.
    pub paths: HashMap<Vec<u8>, SeriesPath>,
}

impl Parents {
    /// A row that is in memory.
    pub fn row(&mut self, level: Level, number: u32) -> Option<&mut Parent> {
        self.rows.get_mut(level.index())?.get_mut(&number)
    }

    /// A row that is in memory and is about to be changed.
    pub fn change(&mut self, level: Level, number: u32) -> Option<&mut Parent> {
        let row = self.rows.get_mut(level.index())?.get_mut(&number)?;
        if !row.dirty {
            row.dirty = true;
            self.dirty.push((level, number));
        }
        Some(row)
    }

    /// Puts a row into memory.
    pub fn insert(&mut self, level: Level, number: u32, parent: Parent) {
        if let Some(rows) = self.rows.get_mut(level.index()) {
            rows.insert(number, parent);
        }
    }

    /// Forgets everything; only right after a flush.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The table of a parent level.
pub fn parent_table(tables: &Tables, level: Level) -> Table {
    match level {
        Level::Patient => tables.patients,
        Level::Study => tables.studies,
        Level::Series | Level::Image => tables.series,
    }
}

impl WriteTxn<'_> {
    /// Brings a parent row into memory; `None` when there is none of this number.
    pub(crate) fn parent(
        &mut self,
        level: Level,
        number: u32,
    ) -> Result<Option<&mut Parent>, IndexError> {
        if self.state.parents.row(level, number).is_none() {
            let table = parent_table(&self.index.tables, level);
            let Some(row) = table.get(&self.txn, &number.to_be_bytes())? else {
                return Ok(None);
            };
            let (head, columns) = ParentHead::split(row)?;
            let parent = Parent::new(head, columns.to_vec());
            self.state.parents.insert(level, number, parent);
        }
        Ok(self.state.parents.row(level, number))
    }

    /// Writes the rows that changed. Every reader of parent rows inside the transaction calls it first.
    pub(crate) fn flush_parents(&mut self) -> Result<(), IndexError> {
        let mut row = Vec::with_capacity(1024);
        let parents = &mut self.state.parents;
        for (level, number) in std::mem::take(&mut parents.dirty) {
            let Some(parent) = parents.row(level, number) else {
                continue;
            };
            row.clear();
            parent.head.put(&mut row);
            row.extend_from_slice(&parent.columns);
            parent.dirty = false;
            let table = parent_table(&self.index.tables, level);
            table.put(&mut self.txn, &number.to_be_bytes(), &row)?;
        }
        let full = |length| length > ROWS_KEPT_MAX;
        if full(parents.paths.len()) || parents.rows.iter().any(|r| full(r.len())) {
            parents.clear();
        }
        Ok(())
    }
}
