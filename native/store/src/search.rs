//! Entries of the search table: one or more per patient or study row and searchable text.
//!
//! An entry may outlive its row until the reaper has passed; readers check the row.

use pyserver_proto::datetime::parse_date;
use pyserver_proto::tag::Tag;
use pyserver_proto::vr::Vr;

use crate::fold::{decode, fold, name_groups};
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

/// Folded texts of a row for one kind.
fn texts_of(layout: &Layout, kind: SearchKind, columns: &[u8]) -> Vec<String> {
    let (level, tag) = origin(kind);
    let position = layout.position(level, tag);
    let value = position
        .and_then(|p| column(columns, p))
        .unwrap_or_default();
    if value.is_empty() {
        return Vec::new();
    }
    let charset = column(columns, CHARSET).unwrap_or_default();
    match kind {
        SearchKind::PatientName | SearchKind::StudyPatientName => {
            name_groups(&decode(value, charset, Vr::Pn))
        }
        SearchKind::Accession => vec![fold(&decode(value, charset, Vr::Sh))],
        SearchKind::StudyDate => {
            let text = decode(value, charset, Vr::Da);
            vec![parse_date(&text).map_or(text, |(day, _)| date_text(day))]
        }
    }
}

/// A date as it stands in the search table.
pub(crate) fn date_text(day: u32) -> String {
    format!("{day:08}")
}

impl WriteTxn<'_> {
    /// Moves the entries of a row whose columns have changed; empty columns stand for no row.
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
            let (was, is) = (
                texts_of(layout, kind, before),
                texts_of(layout, kind, after),
            );
            for text in was.iter().filter(|text| !is.contains(text)) {
                search_key(kind, text.as_bytes(), number, &mut key);
                table.delete(&mut self.txn, &key)?;
            }
            for text in is.iter().filter(|text| !was.contains(text)) {
                search_key(kind, text.as_bytes(), number, &mut key);
                table.put(&mut self.txn, &key, &[])?;
            }
        }
        Ok(())
    }
}
