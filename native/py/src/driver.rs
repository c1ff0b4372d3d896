//! A database driver written in Python (`pyserver.index.driver.Driver`) behind the store's seam.
//!
//! Each call takes the interpreter for its own time; the caller holds no lock of ours. Exceptions of the class
//! `DatabaseAway` mean that trying again may help.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyString, PyTuple};
use pyserver_store::driver::{
    Cell, Condition, Driver, DriverBatch, DriverError, Row, RowPages, RowQuery, TextForm,
};
use pyserver_store::plan::Counted;
use pyserver_store::schema::Level;

use crate::errors::config;

/// Name of the exception that says that the database cannot be reached.
const AWAY: &str = "DatabaseAway";
/// Name of the one that says that it answered with an error.
const REFUSED: &str = "DatabaseRefused";

/// The driver and what it says about itself.
pub struct PyDriver {
    driver: Py<PyAny>,
    /// The class `Query` that `find` takes.
    query: Py<PyAny>,
    identity: String,
    text_form: TextForm,
    key_lengths: [usize; 4],
}

impl PyDriver {
    /// Asks the driver about itself.
    pub fn new(py: Python<'_>, driver: Py<PyAny>) -> PyResult<Self> {
        let text: String = driver.getattr(py, "text_form")?.extract(py)?;
        let text_form = match text.as_str() {
            "raw" => TextForm::Raw,
            "unicode" => TextForm::Unicode,
            other => return Err(config(format!("a driver's text is not {other:?}"))),
        };
        Ok(Self {
            identity: driver.getattr(py, "identity")?.extract(py)?,
            key_lengths: driver.getattr(py, "key_lengths")?.extract(py)?,
            driver,
            query: py
                .import("pyserver.index.driver")?
                .getattr("Query")?
                .unbind(),
            text_form,
        })
    }
}

/// Number of the worklist among the tables (`pyserver.index.tables.WORKLIST_LEVEL`).
const WORKLIST: usize = 4;

/// A condition as `pyserver.index.driver.Condition`.
type PlainCondition = ((usize, usize), &'static str, Vec<String>);

fn plain_condition(place: (usize, usize), condition: &Condition) -> PlainCondition {
    let (kind, values) = match condition {
        Condition::AnyOf(values) => ("any", values.clone()),
        Condition::Like(pattern) => ("like", vec![pattern.clone()]),
        Condition::AtLeast(value) => ("least", vec![value.clone()]),
        Condition::AtMost(value) => ("most", vec![value.clone()]),
    };
    (place, kind, values)
}

impl PyDriver {
    /// Starts a query that is made already.
    fn pages(&self, py: Python<'_>, query: Py<PyAny>) -> PyResult<Box<dyn RowPages>> {
        let pages = self.driver.call_method1(py, "find", (query,))?;
        let pages = pages.bind(py).try_iter()?.unbind().into_any();
        Ok(Box::new(PyPages { pages }))
    }
}

impl Driver for PyDriver {
    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn text_form(&self) -> TextForm {
        self.text_form
    }

    fn key_length_max(&self, level: Level) -> usize {
        self.key_lengths.get(level.index()).copied().unwrap_or(0)
    }

    fn apply(&self, batch: &DriverBatch) -> Result<Vec<Vec<u8>>, DriverError> {
        Python::attach(|py| {
            let deletes = batch
                .deletes
                .iter()
                .map(|(level, key)| Ok((level.index(), cell_object(py, key)?)))
                .collect::<PyResult<Vec<_>>>()?;
            let mut rows = Vec::with_capacity(batch.rows.len());
            for level in &batch.rows {
                let tuples = level.iter().map(|row| row_object(py, row));
                rows.push(PyList::new(py, tuples.collect::<PyResult<Vec<_>>>()?)?);
            }
            let studies = self.driver.call_method1(py, "apply", (deletes, rows))?;
            let keys: Vec<Bound<'_, PyAny>> = studies.extract(py)?;
            let key = |key: &Bound<'_, PyAny>| cell_of(key).map(Cell::into_bytes);
            let keys = keys.iter().map(key).collect::<PyResult<Vec<_>>>()?;
            Ok(keys.into_iter().flatten().collect())
        })
        .map_err(failure)
    }

    fn find(&self, query: &RowQuery) -> Result<Box<dyn RowPages>, DriverError> {
        Python::attach(|py| {
            let place = |(level, column): (Level, usize)| (level.index(), column);
            let columns: Vec<_> = query.columns.iter().copied().map(place).collect();
            let counts: Vec<_> = query.counts.iter().map(|c| counted_level(*c)).collect();
            let conditions = query.conditions.iter();
            let conditions: Vec<_> = conditions
                .map(|(at, condition)| plain_condition(place(*at), condition))
                .collect();
            let query = self.query.call1(
                py,
                (
                    query.level.index(),
                    columns,
                    counts,
                    query.sop_classes,
                    query.file,
                    conditions,
                    query.sort.map(place),
                ),
            )?;
            self.pages(py, query)
        })
        .map_err(failure)
    }

    fn worklist(
        &self,
        columns: usize,
        conditions: &[(usize, Condition)],
    ) -> Result<Box<dyn RowPages>, DriverError> {
        Python::attach(|py| {
            let columns: Vec<_> = (0..columns).map(|number| (WORKLIST, number)).collect();
            let conditions: Vec<_> = conditions
                .iter()
                .map(|(number, condition)| plain_condition((WORKLIST, *number), condition))
                .collect();
            let none: Vec<usize> = Vec::new();
            let query = (WORKLIST, columns, none, false, false, conditions);
            let query = self.query.call1(py, query)?;
            self.pages(py, query)
        })
        .map_err(failure)
    }

    fn change_worklist(
        &self,
        removed: &[Vec<(usize, Cell)>],
        added: &[Row],
    ) -> Result<u64, DriverError> {
        Python::attach(|py| {
            let mut keys = Vec::with_capacity(removed.len());
            for key in removed {
                let cells = key
                    .iter()
                    .map(|(number, cell)| Ok((*number, cell_object(py, cell)?)));
                keys.push(cells.collect::<PyResult<Vec<_>>>()?);
            }
            let rows = added.iter().map(|row| row_object(py, row));
            let rows = rows.collect::<PyResult<Vec<_>>>()?;
            self.driver
                .call_method1(py, "change_worklist", (keys, rows))?
                .extract(py)
        })
        .map_err(failure)
    }

    fn sync(&self) -> Result<(), DriverError> {
        Python::attach(|py| self.driver.call_method0(py, "sync").map(drop)).map_err(failure)
    }

    fn counts(&self) -> Result<[u64; 4], DriverError> {
        Python::attach(|py| self.driver.call_method0(py, "counts")?.extract(py)).map_err(failure)
    }
}

/// Index of the level whose rows are counted.
const fn counted_level(counted: Counted) -> usize {
    match counted {
        Counted::Studies => Level::Study.index(),
        Counted::Series => Level::Series.index(),
        Counted::Instances => Level::Image.index(),
    }
}

/// A generator of pages.
struct PyPages {
    pages: Py<PyAny>,
}

impl RowPages for PyPages {
    fn next_page(&mut self) -> Result<Vec<Row>, DriverError> {
        Python::attach(|py| {
            let page = match self.pages.call_method0(py, "__next__") {
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => return Ok(Vec::new()),
                page => page?,
            };
            let page = page.bind(py).cast::<PyList>()?;
            let mut rows = Vec::with_capacity(page.len());
            for row in page.iter() {
                let row = row.cast::<PyTuple>()?;
                let cells = row.iter().map(|value| cell_of(&value));
                rows.push(cells.collect::<PyResult<Row>>()?);
            }
            Ok(rows)
        })
        .map_err(failure)
    }
}

impl Drop for PyPages {
    fn drop(&mut self) {
        // The generator gives its connection back; what it says about that concerns nobody.
        Python::attach(|py| {
            let _ended = self.pages.call_method0(py, "close");
        });
    }
}

fn row_object<'py>(py: Python<'py>, row: &Row) -> PyResult<Bound<'py, PyTuple>> {
    let cells = row.iter().map(|cell| cell_object(py, cell));
    PyTuple::new(py, cells.collect::<PyResult<Vec<_>>>()?)
}

fn cell_object<'py>(py: Python<'py>, cell: &Cell) -> PyResult<Bound<'py, PyAny>> {
    Ok(match cell {
        Cell::Null => py.None().into_bound(py),
        Cell::Raw(bytes) => PyBytes::new(py, bytes).into_any(),
        Cell::Text(text) => PyString::new(py, text).into_any(),
        Cell::Number(number) => number.into_pyobject(py)?.into_any(),
    })
}

fn cell_of(value: &Bound<'_, PyAny>) -> PyResult<Cell> {
    if value.is_none() {
        Ok(Cell::Null)
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        Ok(Cell::Raw(bytes.as_bytes().to_vec()))
    } else if let Ok(text) = value.cast::<PyString>() {
        Ok(Cell::Text(text.to_str()?.to_owned()))
    } else if value.is_instance_of::<PyInt>() {
        Ok(Cell::Number(value.extract()?))
    } else {
        Ok(Cell::Text(value.str()?.to_str()?.to_owned()))
    }
}

/// An exception of a driver as the store hears of it.
fn failure(error: PyErr) -> DriverError {
    Python::attach(|py| {
        let text = error.value(py).to_string();
        let kind = error.get_type(py).name().map(|name| name.to_string());
        match kind.as_deref() {
            Ok(AWAY) => DriverError::Away(text),
            Ok(REFUSED) | Err(_) => DriverError::Refused(text),
            Ok(kind) => DriverError::Refused(format!("{kind}: {text}")),
        }
    })
}
