//! The index as Conquest's tables: one row per patient, study, series, image or worklist entry, with the
//! column names and values that its database would have.

use std::ops::ControlFlow;

use crate::calendar::local_date;
use crate::columns::Column;
use crate::config::ArchiveConfig;
use crate::filename::{ElementPath, ElementText, NameInputs};
use crate::find::{FindCursor, FindProgress};
use crate::index::ReadTxn;
use crate::index_error::IndexError;
use crate::plan::BoundQuery;
use crate::schema::Level;
use crate::virtual_device::{device_name, is_virtual};
use crate::walk::RowView;
use crate::worklist::value_columns;

/// A row: column names and values, NULL as `None`. Bytes become the Latin-1 characters of the same number; the
/// worklist is text.
pub type TableRow = Vec<(String, Option<String>)>;

/// Images per transaction.
const PAGE: usize = 1024;
/// Conquest clears these bits of its access times.
const ACCESS_TIME_STEP: u32 = 31;

impl crate::index::Index {
    /// All rows of a table: `DICOMPatients`, `DICOMStudies`, `DICOMSeries`, `DICOMImages`, `DICOMWorkList`
    /// or `UIDMODS`. `None` when there is no such table.
    pub fn dump_table(&self, name: &str) -> Result<Option<Vec<TableRow>>, IndexError> {
        self.dump_table_with(name, None)
    }

    /// The same; images whose file another server has show the name that it would get here.
    pub(crate) fn dump_table_with(
        &self,
        name: &str,
        names: Option<&ArchiveConfig>,
    ) -> Result<Option<Vec<TableRow>>, IndexError> {
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
                rows.push((number, table_row(&query, columns, names, view)));
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
    names: Option<&ArchiveConfig>,
    view: &RowView<'_, '_>,
) -> TableRow {
    let level = query.level;
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
        let file = match names {
            Some(config) if is_virtual(facts.device) => future_name(config, query, view),
            _ => facts.file.to_owned(),
        };
        row.push(("ObjectFile".to_owned(), Some(file)));
        row.push(("DeviceName".to_owned(), Some(device_name(facts.device))));
    }
    row
}

/// The name that the file of an image would get, had it come when its row did.
fn future_name(config: &ArchiveConfig, query: &BoundQuery, view: &RowView<'_, '_>) -> String {
    let time = u64::from(view.image_head().accessed);
    let inputs = NameInputs {
        called_ae: "",
        calling_ae: "",
        time_s: time,
        date: &local_date(time),
        counter: view.image().image as u16,
        length_max: config.file_name_length_max,
        force_dcm: false,
    };
    config
        .file_name_syntax
        .name(&Columns { query, view }, &inputs)
}

/// The columns of an image and of the rows above it, as a name's elements.
struct Columns<'a, 'w, 't> {
    query: &'a BoundQuery,
    view: &'a RowView<'w, 't>,
}

impl ElementText for Columns<'_, '_, '_> {
    fn text(&self, path: &ElementPath) -> Option<Vec<u8>> {
        if !path.steps.is_empty() {
            return None;
        }
        let mut returned = self.query.returned.iter();
        let column = returned.find(|column| column.tag == path.tag)?;
        self.view.value(column.value).map(<[u8]>::to_vec)
    }
}

/// Bytes as the Latin-1 characters of the same number.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

impl ReadTxn<'_> {
    fn dump_worklist(&self) -> Result<Vec<TableRow>, IndexError> {
        let columns: Vec<_> = value_columns(self.index.columns()).collect();
        let mut rows = Vec::new();
        for (time, entry) in self.worklist_with_times()? {
            let mut row = TableRow::with_capacity(columns.len() + 4);
            for column in &columns {
                let value = entry.get(column.tag).map(str::to_owned);
                row.push((column.db_name().to_owned(), value));
            }
            let added = time & !ACCESS_TIME_STEP;
            row.push(("AccessTime".to_owned(), Some(added.to_string())));
            for name in ["qTimeStamp", "qFlags", "qSpare"] {
                row.push((name.to_owned(), None));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}
