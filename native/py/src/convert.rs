//! Python values to query keys and back, and progress callbacks.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use pyserver_proto::dataset::Dataset;
use pyserver_proto::query::InformationModel;
use pyserver_server::identifier::{self, Pair};

use crate::errors::config;

/// Progress is told to Python this often at most.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// `patient`, `study` or `patient-study`.
pub fn model(text: &str) -> PyResult<InformationModel> {
    match text {
        "patient" => Ok(InformationModel::PatientRoot),
        "study" => Ok(InformationModel::StudyRoot),
        "patient-study" => Ok(InformationModel::PatientStudyOnly),
        _ => Err(config(format!(
            "model is patient, study or patient-study, not {text:?}"
        ))),
    }
}

/// An identifier from a level and a mapping of keys.
pub fn identifier(level: &str, keys: &Bound<'_, PyMapping>) -> PyResult<Dataset> {
    let mut pairs: Vec<Pair> = Vec::new();
    for item in keys.items()?.iter() {
        let (key, value): (String, Bound<'_, PyAny>) = item.extract()?;
        let values = match value.extract::<String>() {
            Ok(text) => vec![text],
            Err(_) => value.extract()?,
        };
        pairs.push((key, values));
    }
    identifier::build(level, &pairs).map_err(|error| config(error.to_string()))
}

/// A match as a dictionary: one value as text, several as a list.
pub fn answer<'py>(py: Python<'py>, found: &Dataset) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, values) in identifier::pairs(found) {
        match values.as_slice() {
            [one] => dict.set_item(key, one)?,
            _ => dict.set_item(key, values)?,
        }
    }
    Ok(dict)
}

/// Calls a Python progress function from native code, not too often.
pub struct Progress {
    callback: Option<Py<PyAny>>,
    told: Option<Instant>,
    failed: Option<PyErr>,
}

impl Progress {
    /// `None` tells nobody.
    pub fn new(callback: Option<Py<PyAny>>) -> Self {
        Self {
            callback,
            told: None,
            failed: None,
        }
    }

    /// What is being done, how much is done, how much there is. False once the callback raised
    /// (Ctrl-C), which asks the work to end.
    pub fn tell(&mut self, what: &str, done: u64, total: u64) -> bool {
        let Some(callback) = &self.callback else {
            return true;
        };
        if self.failed.is_some() {
            return false;
        }
        let due = self
            .told
            .is_none_or(|told| told.elapsed() >= PROGRESS_INTERVAL);
        if !due && done != total {
            return true;
        }
        self.told = Some(Instant::now());
        let told = Python::attach(|py| {
            py.check_signals()?;
            callback.call1(py, (what, done, total)).map(drop)
        });
        self.failed = told.err();
        self.failed.is_none()
    }

    /// The exception that the callback raised, if any.
    pub fn finish(self) -> PyResult<()> {
        self.failed.map_or(Ok(()), Err)
    }
}
