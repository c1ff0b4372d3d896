//! The index as Conquest's tables: one row per patient, study, series, image or worklist entry, with the
//! column names and values that its database would have.

use std::ops::ControlFlow;

use crate::columns::Column;
use crate::find::{FindCursor, FindProgress};
use crate::heads::ParentHead;
use crate::index::ReadTxn;
use crate::index_error::IndexError;
use crate::plan::BoundQuery;
use crate::row::ColumnIter;
use crate::schema::Level;
use crate::walk::RowView;

/// A row: column names and values, NULL as `None`. Bytes become the Latin-1 characters of the same number.
pub type TableRow = Vec<(String, Option<String>)>;

/// Images per transaction.
const PAGE: usize = 1024;
/// Conquest clears these bits of its access times.
const ACCESS_TIME_STEP: u32 = 31;

impl crate::index::Index {
    /// All rows of a table: `DICOMPatients`, `DICOMStudies`, `DICOMSeries`, `DICOMImages`, `DICOMWorkList`
    /// or `UIDMODS`. `None` when there is no such table.
    pub fn dump_table(&self, name: &str) -> Result<Option<Vec<TableRow>>, IndexError> {
        let level = match name {
            "DICOMPatients" => Level::Patient,
            "DICOMStudies" => Level::Study,
            "DICOMSeries" => Level::Series,
            "DICOMImages" => Level::Image,
            "DICOMWorkList" => return self.read()?.dump_worklist().map(Some),
            "UIDMODS" => return self.read()?.dump_uid_mods().map(Some),
            _ => return Ok(None),
        };
        let query = BoundQuery::dump(self, level);
        let mut cursor = FindCursor::default();
        let mut rows = Vec::new();
        let columns = self.columns().level(level);
        loop {
            let txn = self.read()?;
            let progress = txn.find(&query, &mut cursor, PAGE, &mut |view| {
                let number = if level == Level::Image {
                    view.image().image
                } else {
                    u64::from(view.number(level))
                };
                rows.push((number, table_row(&query, columns, level, view)));
                ControlFlow::Continue(())
            })?;
            if progress == FindProgress::Done {
                break;
            }
        }
        rows.sort_by_key(|(number, _)| *number);
        Ok(Some(rows.into_iter().map(|(_, row)| row).collect()))
    }
}

fn table_row(
    query: &BoundQuery,
    columns: &[Column],
    level: Level,
    view: &RowView<'_, '_>,
) -> TableRow {
    let mut row = TableRow::with_capacity(columns.len() + 6);
    for (column, value) in columns.iter().zip(query.dumped()) {
        let value = view.value(*value);
        row.push((column.db_name().to_owned(), value.map(latin1)));
    }
    let accessed = if level == Level::Image {
        view.image_head().accessed
    } else {
        view.head(level).accessed
    };
    let accessed = accessed & !ACCESS_TIME_STEP;
    row.push(("AccessTime".to_owned(), Some(accessed.to_string())));
    for name in ["qTimeStamp", "qFlags", "qSpare"] {
        row.push((name.to_owned(), None));
    }
    if level == Level::Image
        && let Ok(facts) = view.facts()
    {
        row.push(("ObjectFile".to_owned(), Some(facts.file.to_owned())));
        row.push((
            "DeviceName".to_owned(),
            Some(format!("MAG{}", facts.device)),
        ));
    }
    row
}

/// Bytes as the Latin-1 characters of the same number.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

impl ReadTxn<'_> {
    fn dump_worklist(&self) -> Result<Vec<TableRow>, IndexError> {
        let columns = self.index.columns().worklist();
        let columns: Vec<_> = columns.iter().filter(|c| !c.is_sequence_mark()).collect();
        let mut rows = Vec::new();
        for item in self.index.tables.worklist.iter(&self.txn)? {
            let (head, values) = ParentHead::split(item?.1)?;
            let mut row = TableRow::with_capacity(columns.len() + 4);
            for (column, value) in columns.iter().zip(ColumnIter::new(values)) {
                row.push((column.db_name().to_owned(), value.map(latin1)));
            }
            let accessed = head.accessed & !ACCESS_TIME_STEP;
            row.push(("AccessTime".to_owned(), Some(accessed.to_string())));
            for name in ["qTimeStamp", "qFlags", "qSpare"] {
                row.push((name.to_owned(), None));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}
