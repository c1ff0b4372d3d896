//! `dicom.sql`, and the values that an object gives for its columns.

use std::collections::BTreeMap;

use pyserver_proto::scan::{ScanLimits, scan};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_store::columns::{ColumnType, Columns};
use pyserver_store::extract::{ExtractPolicy, Extractor, RowValues};
use pyserver_store::layout::{Layout, LayoutRecord};
use pyserver_store::schema::Level;

use crate::input::Input;

/// Longest identifier that the index takes as a key.
const IDENTIFIER_MAX: usize = 200;

/// The text of a `dicom.sql`: errors point into the text, and what parses can be used.
pub fn parse(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let columns = match Columns::parse(&text) {
        Ok(columns) => columns,
        Err(error) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&error.line), "{error}");
            assert!(error.column >= 1 && !error.message.is_empty());
            return;
        }
    };
    let layout = Layout::new(&columns);
    let stored = LayoutRecord::decode(&layout.encode(7));
    assert!(stored.is_some_and(|stored| stored.fits(&layout)));
    let mut header = BTreeMap::new();
    for level in Level::ALL {
        for column in columns.level(level) {
            assert!(column.length >= 1 && column.db_name().chars().count() <= 10);
            header.insert(column.tag, b"1.2.3".to_vec());
        }
    }
    header.insert(Tag::SOP_INSTANCE_UID, b"1.2.3.4".to_vec());
    let rows = Extractor::new(&columns).extract(&header, ExtractPolicy::default());
    assert!(rows.is_ok(), "a plain object has no rows: {rows:?}");
    for column in columns.worklist() {
        assert!(column.kind == ColumnType::StartSequence || !column.name.is_empty());
    }
}

/// A data set in explicit little endian: its rows hold identifiers that the index can keep, and the name of
/// its file does not depend on luck.
pub fn extract(data: &[u8]) {
    let mut input = Input::new(data);
    let choices = input.byte();
    let policy = ExtractPolicy {
        allow_empty_patient_id: choices & 1 != 0,
        accept_invalid_uids: choices & 2 != 0,
    };
    let syntax = TransferSyntax::ExplicitLittleEndian;
    let Ok(scanned) = scan(input.rest(), syntax, ScanLimits::default()) else {
        return;
    };
    let extractor = Extractor::new(&Columns::default());
    let Ok(rows) = extractor.extract(&scanned.header, policy) else {
        return;
    };
    check(&rows, policy);
}

fn check(rows: &RowValues, policy: ExtractPolicy) {
    for uid in [&rows.study_uid, &rows.series_uid, &rows.sop_instance] {
        assert!(!uid.is_empty() && uid.len() <= IDENTIFIER_MAX);
        let plain = uid.iter().all(|b| b.is_ascii_digit() || *b == b'.');
        assert!(plain || policy.accept_invalid_uids, "{uid:?}");
    }
    assert!(!rows.patient_id.is_empty() || policy.allow_empty_patient_id);
    assert!(rows.patient_id.len() <= IDENTIFIER_MAX);
    for level in Level::ALL {
        assert!(!rows.level(level).is_empty());
    }
}
