//! `clonedb`: the index of a peer, asked for over C-FIND and entered into an archive.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use pyserver_server::client::{self, CloneError, CloneOptions, CloneProgress, Cloned};
use pyserver_store::extract::ExtractPolicy;
use pyserver_store::virtual_device::virtual_device;

use crate::archive::PyArchive;
use crate::client::{caller, destination};
use crate::convert::Progress;
use crate::errors::{self, config};

/// Associations that may ask at the same time (LIMIT: a peer has other work to do).
const ASSOCIATIONS_MAX: usize = 64;
/// Numbers of virtual servers.
const VIRTUAL_SERVERS_MAX: u16 = 0x7FFF;

/// Enter what a peer tells about all its images: counts, failures and refusals.
#[pyfunction]
#[pyo3(signature = (
    archive, peer, calling_ae, virtual_server=0, associations=3, restart=false, progress=None,
    timeout_s=300.0
))]
#[allow(
    clippy::too_many_arguments,
    reason = "keyword arguments of a Python function"
)]
pub fn clonedb<'py>(
    py: Python<'py>,
    archive: &PyArchive,
    peer: &Bound<'py, PyMapping>,
    calling_ae: &str,
    virtual_server: u16,
    associations: usize,
    restart: bool,
    progress: Option<Py<PyAny>>,
    timeout_s: f64,
) -> PyResult<Bound<'py, PyDict>> {
    let archive = archive.open()?;
    let (peer, caller) = (destination(peer)?, caller(calling_ae, timeout_s)?);
    if !(1..=ASSOCIATIONS_MAX).contains(&associations) {
        return Err(config(format!(
            "associations is 1 to {ASSOCIATIONS_MAX}, not {associations}"
        )));
    }
    if virtual_server > VIRTUAL_SERVERS_MAX {
        return Err(config(format!(
            "virtual_server is 0 to {VIRTUAL_SERVERS_MAX}, not {virtual_server}"
        )));
    }
    let settings = archive.config();
    let options = CloneOptions {
        associations,
        device: virtual_device(virtual_server),
        restart,
        policy: ExtractPolicy {
            allow_empty_patient_id: settings.allow_empty_patient_id,
            accept_invalid_uids: settings.accept_invalid_uids,
        },
    };
    let mut progress = Progress::new(progress);
    let report = py.detach(|| {
        client::clone_index(&archive, &caller, &peer, &options, &mut |now| {
            progress.tell(&what(now), now.done, now.total)
        })
    });
    progress.finish()?;
    let report = report.map_err(|error| match error {
        CloneError::Peer(error) => errors::link(&error),
        CloneError::Store(error) => errors::store(&error),
    })?;
    dict(py, &report)
}

/// What the bar says beside the patients.
fn what(now: CloneProgress) -> String {
    if now.total == 0 {
        return "Listing patients".to_owned();
    }
    format!("{} images, {}/s", now.images, now.images_per_s)
}

fn dict<'py>(py: Python<'py>, report: &Cloned) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, count) in [
        ("patients", report.pieces),
        ("resumed", report.resumed),
        ("done", report.done),
        ("failed", report.failed),
        ("images", report.rows.images()),
        ("added", report.rows.added),
        ("updated", report.rows.updated),
        ("unchanged", report.rows.unchanged),
        ("refused", report.rows.refused),
    ] {
        dict.set_item(name, count)?;
    }
    dict.set_item("seconds", report.seconds)?;
    dict.set_item("refusals", &report.rows.refusals)?;
    let failures = report.failures.iter().map(|(what, reason)| {
        let row = PyDict::new(py);
        row.set_item("what", what)?;
        row.set_item("reason", reason)?;
        Ok(row)
    });
    dict.set_item("failures", failures.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}
