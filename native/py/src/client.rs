//! Asking peers: echo, send, find, move, get.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use pyserver_proto::association::Limits;
use pyserver_proto::uid::Uid;
use pyserver_server::client::{self, GetTarget, RetrieveReport};
use pyserver_server::peers::{Compression, Destination};
use pyserver_server::scu::Caller;

use crate::archive::PyArchive;
use crate::codecs::PyCodecPool;
use crate::convert::{Progress, answer, identifier, model};
use crate::errors::{self, config};

/// Patience while connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub fn destination(peer: &Bound<'_, PyMapping>) -> PyResult<Destination> {
    let port: Bound<'_, PyAny> = peer.get_item("port")?;
    let port = match port.extract::<u16>() {
        Ok(port) => port,
        Err(_) => port
            .extract::<String>()?
            .parse()
            .map_err(|_| config(format!("port {port} is not a number below 65536")))?,
    };
    Ok(Destination {
        ae: peer.get_item("ae")?.extract()?,
        host: peer.get_item("host")?.extract()?,
        port,
        compression: compression(peer)?,
    })
}

/// What a peer is to get, where its dictionary says so.
fn compression(peer: &Bound<'_, PyMapping>) -> PyResult<Compression> {
    Ok(Compression {
        syntaxes: uids(entry(peer, "syntaxes")?),
        only: entry(peer, "only")?,
        quality: entry(peer, "quality")?,
        mode: entry(peer, "mode")?,
    })
}

/// A value of a dictionary; that of its type where there is none.
fn entry<T>(peer: &Bound<'_, PyMapping>, name: &str) -> PyResult<T>
where
    T: for<'py> FromPyObjectOwned<'py> + Default,
{
    if peer.contains(name)? {
        let value = peer.get_item(name)?;
        return value.extract().map_err(Into::into);
    }
    Ok(T::default())
}

pub(crate) fn caller(calling_ae: &str, timeout_s: f64) -> PyResult<Caller> {
    let dimse_timeout = Duration::try_from_secs_f64(timeout_s)
        .map_err(|error| config(format!("timeout_s: {error}")))?;
    Ok(Caller {
        calling_ae: calling_ae.to_owned(),
        connect_timeout: CONNECT_TIMEOUT.min(dimse_timeout),
        dimse_timeout,
        limits: Limits::default(),
    })
}

/// What is no UID cannot be negotiated and is left out.
fn uids(texts: Vec<String>) -> Vec<Uid> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn retrieved<'py>(py: Python<'py>, report: &RetrieveReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("status", report.status)?;
    dict.set_item("comment", &report.comment)?;
    dict.set_item("completed", report.completed)?;
    dict.set_item("failed", report.failed)?;
    dict.set_item("warning", report.warning)?;
    Ok(dict)
}

/// C-ECHO: status and round-trip time in `ms`.
#[pyfunction]
#[pyo3(signature = (peer, calling_ae, timeout_s=30.0))]
pub fn echo<'py>(
    py: Python<'py>,
    peer: &Bound<'py, PyMapping>,
    calling_ae: &str,
    timeout_s: f64,
) -> PyResult<Bound<'py, PyDict>> {
    let (peer, caller) = (destination(peer)?, caller(calling_ae, timeout_s)?);
    let report = py
        .detach(|| client::echo(&caller, &peer))
        .map_err(|e| errors::link(&e))?;
    let dict = PyDict::new(py);
    dict.set_item("status", report.status)?;
    dict.set_item("ms", report.milliseconds)?;
    dict.set_item("implementation", report.implementation)?;
    Ok(dict)
}

/// C-STORE files: sent, failed, bytes and a list of `failures` with file and reason. With `codecs` also in
/// compressions that they are not in.
#[pyfunction]
#[pyo3(signature = (peer, calling_ae, files, progress=None, timeout_s=300.0, codecs=None, quality=95))]
#[allow(
    clippy::too_many_arguments,
    reason = "keyword arguments of a Python function"
)]
pub fn send<'py>(
    py: Python<'py>,
    peer: &Bound<'py, PyMapping>,
    calling_ae: &str,
    files: Vec<PathBuf>,
    progress: Option<Py<PyAny>>,
    timeout_s: f64,
    codecs: Option<&PyCodecPool>,
    quality: u8,
) -> PyResult<Bound<'py, PyDict>> {
    let (peer, caller) = (destination(peer)?, caller(calling_ae, timeout_s)?);
    let mut progress = Progress::new(progress);
    let pool = codecs.map(PyCodecPool::pool);
    let codecs = pool.as_deref().map(|pool| (pool, quality));
    let report = py
        .detach(|| {
            client::send(&caller, &peer, &files, codecs, &mut |done, total| {
                progress.tell("send", done, total);
            })
        })
        .map_err(|e| errors::link(&e))?;
    progress.finish()?;
    let dict = PyDict::new(py);
    dict.set_item("sent", report.sent)?;
    dict.set_item("failed", report.failures.len())?;
    dict.set_item("bytes", report.bytes)?;
    dict.set_item("lost", report.lost)?;
    let failures = report.failures.into_iter().map(|(file, reason)| {
        let failure = PyDict::new(py);
        failure.set_item("file", file.to_string_lossy())?;
        failure.set_item("reason", reason)?;
        Ok(failure)
    });
    dict.set_item("failures", failures.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}

/// C-FIND: the matches, at most `limit` (0: all).
#[pyfunction]
#[pyo3(signature = (peer, calling_ae, model, level, keys, limit=0, timeout_s=300.0))]
#[allow(
    clippy::too_many_arguments,
    reason = "keyword arguments of a Python function"
)]
pub fn find<'py>(
    py: Python<'py>,
    peer: &Bound<'py, PyMapping>,
    calling_ae: &str,
    model: &str,
    level: &str,
    keys: &Bound<'py, PyMapping>,
    limit: usize,
    timeout_s: f64,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let (peer, caller) = (destination(peer)?, caller(calling_ae, timeout_s)?);
    let (model, identifier) = (self::model(model)?, identifier(level, keys)?);
    let found = py
        .detach(|| client::find(&caller, &peer, model, &identifier, limit))
        .map_err(|e| errors::link(&e))?;
    found.iter().map(|dataset| answer(py, dataset)).collect()
}

/// C-MOVE to `destination`: status, completed, failed, warning.
#[pyfunction(name = "move")]
#[pyo3(signature = (
    peer, calling_ae, model, level, keys, destination, progress=None, timeout_s=300.0
))]
#[allow(
    clippy::too_many_arguments,
    reason = "keyword arguments of a Python function"
)]
pub fn move_<'py>(
    py: Python<'py>,
    peer: &Bound<'py, PyMapping>,
    calling_ae: &str,
    model: &str,
    level: &str,
    keys: &Bound<'py, PyMapping>,
    destination: &str,
    progress: Option<Py<PyAny>>,
    timeout_s: f64,
) -> PyResult<Bound<'py, PyDict>> {
    let (peer, caller) = (self::destination(peer)?, caller(calling_ae, timeout_s)?);
    let (model, identifier) = (self::model(model)?, identifier(level, keys)?);
    let mut progress = Progress::new(progress);
    let report = py
        .detach(|| {
            client::move_to(
                &caller,
                &peer,
                model,
                &identifier,
                destination,
                &mut |done, total| {
                    progress.tell("move", done, total);
                },
            )
        })
        .map_err(|e| errors::link(&e))?;
    progress.finish()?;
    retrieved(py, &report)
}

/// C-GET into a folder or an archive: status, completed, failed, warning.
#[pyfunction]
#[pyo3(signature = (
    peer, calling_ae, model, level, keys, sop_classes, transfer_syntaxes, directory=None,
    archive=None, progress=None, timeout_s=300.0
))]
#[allow(
    clippy::too_many_arguments,
    reason = "keyword arguments of a Python function"
)]
pub fn get<'py>(
    py: Python<'py>,
    peer: &Bound<'py, PyMapping>,
    calling_ae: &str,
    model: &str,
    level: &str,
    keys: &Bound<'py, PyMapping>,
    sop_classes: Vec<String>,
    transfer_syntaxes: Vec<String>,
    directory: Option<PathBuf>,
    archive: Option<&PyArchive>,
    progress: Option<Py<PyAny>>,
    timeout_s: f64,
) -> PyResult<Bound<'py, PyDict>> {
    let (peer, caller) = (destination(peer)?, caller(calling_ae, timeout_s)?);
    let (model, identifier) = (self::model(model)?, identifier(level, keys)?);
    let target = match (directory, archive) {
        (Some(folder), None) => GetTarget::Folder(folder),
        (None, Some(archive)) => GetTarget::Archive(archive.open()?),
        _ => return Err(config("get takes either a directory or an archive")),
    };
    let (classes, syntaxes) = (uids(sop_classes), uids(transfer_syntaxes));
    let mut progress = Progress::new(progress);
    let report = py
        .detach(|| {
            let offer = (classes.as_slice(), syntaxes.as_slice());
            client::get(
                &caller,
                &peer,
                model,
                &identifier,
                offer,
                &target,
                &mut |done, total| {
                    progress.tell("get", done, total);
                },
            )
        })
        .map_err(|e| errors::link(&e))?;
    progress.finish()?;
    retrieved(py, &report)
}
