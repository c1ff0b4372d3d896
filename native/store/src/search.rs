//! Entries of the search table: one per live patient or study row and searchable text.
//!
//! An entry may outlive its row until the reaper has passed; readers check the row.

use pyserver_proto::tag::Tag;

use crate::extract::RowValues;
use crate::fold::fold;
use crate::index::WriteTxn;
use crate::index_error::IndexError;
use crate::layout::{CHARSET, Layout};
use crate::row::column;
use crate::schema::{Level, SearchKind, search_key};

/// Level and element behind a kind of search.
pub(crate) const fn origin(kind: SearchKind) -> (Level, Tag) {
    match kind {
        SearchKind::PatientName => (Level::Patient, Tag::PATIENT_NAME),
        SearchKind::StudyPatientName => (Level::Study, Tag::PATIENT_NAME),
        SearchKind::StudyDate => (Level::Study, Tag::STUDY_DATE),
        SearchKind::Accession => (Level::Study, Tag::ACCESSION_NUMBER),
    }
}

/// Folded text of a row for one kind; empty when there is none.
fn text_of(layout: &Layout, kind: SearchKind, columns: &[u8]) -> Vec<u8> {
    let (level, tag) = origin(kind);
    let position = layout.position(level, tag);
    let value = position
        .and_then(|p| column(columns, p))
        .unwrap_or_default();
    fold(value, column(columns, CHARSET).unwrap_or_default())
}

impl WriteTxn<'_> {
    /// Entries of a new row.
    pub(crate) fn enter_search(
        &mut self,
        level: Level,
        number: u32,
        rows: &RowValues,
    ) -> Result<(), IndexError> {
        let mut key = Vec::with_capacity(128);
        for kind in SearchKind::ALL {
            let text = rows.search_text(kind);
            if origin(kind).0 == level && !text.is_empty() {
                search_key(kind, text, number, &mut key);
                self.index.tables.search.put(&mut self.txn, &key, &[])?;
            }
        }
        Ok(())
    }

    /// Entries of a row whose columns have changed; with empty columns before or after, all of one side.
    pub(crate) fn move_search(
        &mut self,
        level: Level,
        number: u32,
        before: &[u8],
        after: &[u8],
    ) -> Result<(), IndexError> {
        let layout = self.index.layout();
        let table = self.index.tables.search;
        let mut key = Vec::with_capacity(128);
        for kind in SearchKind::ALL {
            if origin(kind).0 != level {
                continue;
            }
            let (was, is) = (text_of(layout, kind, before), text_of(layout, kind, after));
            if was == is {
                continue;
            }
            if !was.is_empty() {
                search_key(kind, &was, number, &mut key);
                table.delete(&mut self.txn, &key)?;
            }
            if !is.is_empty() {
                search_key(kind, &is, number, &mut key);
                table.put(&mut self.txn, &key, &[])?;
            }
        }
        Ok(())
    }
}
