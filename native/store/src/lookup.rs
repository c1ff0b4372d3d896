//! From identifiers to row numbers. A lookup entry may point at a row that is dead; what looks for live rows
//! ends by asking whether the row and its ancestors are alive.

use crate::extract::printable;
use crate::heads::ParentHead;
use crate::index::{ReadTxn, WriteTxn};
use crate::index_error::IndexError;
use crate::layout::Layout;
use crate::lmdb::Tables;
use crate::parents::parent_table;
use crate::row::column;
use crate::schema::{ImageKey, Level, text_key};
use crate::sop_state::{SopState, read_state};

/// Number that a patient ID points at, dead or alive.
pub(crate) fn patient_entry(
    tables: &Tables,
    txn: &heed::RoTxn<'_>,
    id: &[u8],
) -> Result<Option<u32>, IndexError> {
    let bytes = tables.patient_ids.get(txn, &text_key(id))?;
    let number = bytes.map(|b| b.try_into().map(u32::from_be_bytes));
    number
        .transpose()
        .map_err(|_| IndexError::Corrupt("lookup entry"))
}

/// Identifier in a row's columns.
pub(crate) fn key_of<'c>(layout: &Layout, level: Level, columns: &'c [u8]) -> &'c [u8] {
    column(columns, layout.key_position(level)).unwrap_or_default()
}

impl ReadTxn<'_> {
    /// Head and columns of a parent row, whether its ancestors are alive or not.
    pub(crate) fn parent_row(
        &self,
        level: Level,
        number: u32,
    ) -> Result<Option<(ParentHead, &[u8])>, IndexError> {
        let table = parent_table(&self.index.tables, level);
        let row = table.get(&self.txn, &number.to_be_bytes())?;
        row.map(ParentHead::split).transpose()
    }

    /// Whether the row and all its ancestors exist.
    pub(crate) fn is_live(&self, level: Level, number: u32) -> Result<bool, IndexError> {
        let Some((head, _)) = self.parent_row(level, number)? else {
            return Ok(false);
        };
        match level {
            Level::Patient => Ok(true),
            Level::Study => Ok(head.parent == 0 || self.is_live(Level::Patient, head.parent)?),
            Level::Series | Level::Image => self.is_live(Level::Study, head.parent),
        }
    }

    /// Number of the youngest patient, study or series with this identifier, dead or alive.
    pub(crate) fn entry(&self, level: Level, id: &[u8]) -> Result<Option<u32>, IndexError> {
        if level == Level::Patient {
            return patient_entry(&self.index.tables, &self.txn, id);
        }
        let state = self.sop_state()?;
        let hash = state.hash(level, id);
        for number in self.index.lookup_parents(&self.txn, state, level, hash)? {
            let row = self.parent_row(level, number)?;
            if row.is_some_and(|(_, columns)| key_of(self.index.layout(), level, columns) == id) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Number of a live patient, study or series.
    pub fn find_row(&self, level: Level, id: &[u8]) -> Result<Option<u32>, IndexError> {
        let Some(number) = self.entry(level, id)? else {
            return Ok(None);
        };
        Ok(self.is_live(level, number)?.then_some(number))
    }

    fn sop_state(&self) -> Result<&SopState, IndexError> {
        if let Some(state) = self.sop.get() {
            return Ok(state);
        }
        let state = read_state(&self.index.tables, &self.txn)?;
        Ok(self.sop.get_or_init(|| state))
    }

    /// The youngest image with this SOP Instance UID, whether its series is alive or not.
    pub(crate) fn sop_entry(&self, sop_instance: &[u8]) -> Result<Option<ImageKey>, IndexError> {
        let state = self.sop_state()?;
        self.index.lookup_sop(&self.txn, state, sop_instance)
    }

    /// Place of a live image.
    pub fn find_image(&self, sop_instance: &[u8]) -> Result<Option<ImageKey>, IndexError> {
        let Some(image) = self.sop_entry(sop_instance)? else {
            return Ok(None);
        };
        Ok(self.is_live(Level::Series, image.series)?.then_some(image))
    }
}

impl WriteTxn<'_> {
    /// Head of a parent row.
    pub(crate) fn head(&mut self, level: Level, number: u32) -> Result<ParentHead, IndexError> {
        let row = self.parent(level, number)?;
        row.map(|row| row.head)
            .ok_or(IndexError::Corrupt("parent row"))
    }

    /// Identifier of a parent row, for messages.
    pub(crate) fn key_text(&mut self, level: Level, number: u32) -> Result<String, IndexError> {
        let layout = self.index.layout();
        let row = self.parent(level, number)?;
        Ok(row.map_or_else(String::new, |row| {
            printable(key_of(layout, level, &row.columns))
        }))
    }

    /// Whether the row and all its ancestors exist, rows not yet written included.
    pub(crate) fn parent_is_live(&mut self, level: Level, number: u32) -> Result<bool, IndexError> {
        let Some(parent) = self.parent(level, number)?.map(|row| row.head.parent) else {
            return Ok(false);
        };
        match level {
            Level::Patient => Ok(true),
            Level::Study => Ok(parent == 0 || self.parent_is_live(Level::Patient, parent)?),
            Level::Series | Level::Image => self.parent_is_live(Level::Study, parent),
        }
    }

    /// Number of the youngest patient, study or series with this identifier, dead or alive.
    fn entry(&mut self, level: Level, id: &[u8]) -> Result<Option<u32>, IndexError> {
        let index = self.index;
        if level == Level::Patient {
            return patient_entry(&index.tables, &self.txn, id);
        }
        for number in self.uid_entries(level, id)? {
            let row = self.parent(level, number)?;
            if row.is_some_and(|row| key_of(index.layout(), level, &row.columns) == id) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Number of a live patient, study or series.
    pub(crate) fn live_row(&mut self, level: Level, id: &[u8]) -> Result<Option<u32>, IndexError> {
        let Some(number) = self.entry(level, id)? else {
            return Ok(None);
        };
        Ok(self.parent_is_live(level, number)?.then_some(number))
    }

    /// Place of a live image.
    pub(crate) fn live_image(
        &mut self,
        sop_instance: &[u8],
    ) -> Result<Option<ImageKey>, IndexError> {
        let Some(image) = self.sop_entry(sop_instance)? else {
            return Ok(None);
        };
        let live = self.parent_is_live(Level::Series, image.series)?;
        Ok(live.then_some(image))
    }
}
