//! `WorkQueue`: the work that was committed with images.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyserver_store::queue::QueueEdit;

use crate::archive::PyArchive;
use crate::errors;

/// A queued record: number and payload.
type Job<'py> = (u64, Bound<'py, PyBytes>);

/// Durable work of an archive, in the order it was queued.
#[pyclass(module = "pyserver._native", frozen)]
pub struct WorkQueue {
    archive: Py<PyArchive>,
}

#[pymethods]
impl WorkQueue {
    /// The queue of this archive.
    #[new]
    fn new(archive: Py<PyArchive>) -> Self {
        Self { archive }
    }

    /// Records with numbers above `after`, at most `limit`.
    fn jobs<'py>(&self, py: Python<'py>, after: u64, limit: usize) -> PyResult<Vec<Job<'py>>> {
        let archive = self.archive.get().open()?;
        let jobs = py
            .detach(|| archive.jobs(after, limit))
            .map_err(|error| errors::store(&error))?;
        let pair = |(number, payload): (u64, Vec<u8>)| (number, PyBytes::new(py, &payload));
        Ok(jobs.into_iter().map(pair).collect())
    }

    /// Take records off, change others, add new ones: all or none, durable on return.
    #[pyo3(signature = (done=Vec::new(), changed=Vec::new(), added=Vec::new()))]
    fn edit(
        &self,
        py: Python<'_>,
        done: Vec<u64>,
        changed: Vec<(u64, Vec<u8>)>,
        added: Vec<Vec<u8>>,
    ) -> PyResult<()> {
        let archive = self.archive.get().open()?;
        let edit = QueueEdit {
            done,
            changed,
            added,
        };
        py.detach(|| archive.edit_queue(edit))
            .map_err(|error| errors::store(&error))
    }
}
