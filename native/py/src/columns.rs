//! A dicom.sql as Python sees it.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyserver_store::columns::Columns;
use pyserver_store::schema::Level;

use crate::errors::config;

/// The columns of a dicom.sql: table, tag, name, column, length, `sql_type`, `dicom_type`, `hl7`.
#[pyfunction]
pub fn parse_columns<'py>(py: Python<'py>, text: &str) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let columns = Columns::parse(text).map_err(|error| config(error.to_string()))?;
    let tables = Level::ALL.map(|level| (level.name(), columns.level(level)));
    let tables = tables.into_iter().chain([("worklist", columns.worklist())]);
    let mut rows = Vec::new();
    for (table, columns) in tables {
        for column in columns {
            let row = PyDict::new(py);
            row.set_item("table", table)?;
            row.set_item("tag", column.tag.to_string())?;
            row.set_item("name", &column.name)?;
            row.set_item("column", column.db_name())?;
            row.set_item("length", column.length)?;
            row.set_item("sql_type", &column.sql_type)?;
            row.set_item("dicom_type", column.kind.name())?;
            row.set_item("hl7", &column.hl7)?;
            rows.push(row);
        }
    }
    Ok(rows)
}
