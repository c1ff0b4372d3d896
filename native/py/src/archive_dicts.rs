//! What an archive answers, as dictionaries.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyserver_store::apply::Outcome;
use pyserver_store::archive::Archive;
use pyserver_store::error::StoreError;
use pyserver_store::fsck::{FaultKind, FsckReport};
use pyserver_store::incoming::StoreOutcome;
use pyserver_store::locate::Located;
use pyserver_store::recover::RecoveryReport;
use pyserver_store::regen::RegenReport;
use pyserver_store::virtual_device::device_name;

/// What opening an archive repaired.
pub fn recovery_dict<'py>(
    py: Python<'py>,
    report: &RecoveryReport,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, count) in [
        ("pending", report.pending),
        ("rewritten", report.rewritten),
        ("renamed", report.renamed),
        ("revoked", report.revoked),
        ("entered", report.entered),
        ("adopted", report.adopted),
        ("partial", report.partial),
        ("temporary", report.temporary),
    ] {
        dict.set_item(name, count)?;
    }
    dict.set_item("problems", &report.problems)?;
    dict.set_item("seconds", report.took.as_secs_f64())?;
    Ok(dict)
}

/// What a rebuild did.
pub fn regen_dict(py: Python<'_>, report: RegenReport) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("files", report.files)?;
    dict.set_item("entered", report.entered)?;
    dict.set_item("updated", report.updated)?;
    dict.set_item("duplicates", report.duplicates)?;
    dict.set_item("refused_count", report.refused_count)?;
    dict.set_item("resumed_after", report.resumed_after)?;
    let refused = report.refused.into_iter().map(|(file, reason)| {
        let row = PyDict::new(py);
        row.set_item("file", file)?;
        row.set_item("reason", reason)?;
        Ok(row)
    });
    dict.set_item("refused", refused.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}

/// What a check found.
pub fn fsck_dict<'py>(py: Python<'py>, report: &FsckReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("clean", report.fault_count == 0)?;
    dict.set_item("rows", report.rows)?;
    dict.set_item("files", report.files)?;
    dict.set_item("elsewhere", report.elsewhere)?;
    dict.set_item("fault_count", report.fault_count)?;
    let faults = report.faults.iter().map(|fault| {
        let row = PyDict::new(py);
        let kind = match fault.kind {
            FaultKind::MissingFile => "missing file",
            FaultKind::WrongSize => "wrong size",
            FaultKind::WrongHash => "wrong hash",
            FaultKind::NoRow => "no row",
            FaultKind::Stranger => "stranger",
        };
        row.set_item("kind", kind)?;
        row.set_item("device", device_name(fault.device))?;
        row.set_item("file", &fault.file)?;
        row.set_item("about", &fault.about)?;
        row.set_item("repaired", fault.repaired)?;
        Ok(row)
    });
    dict.set_item("faults", faults.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}

/// What became of an object that was to be stored.
pub fn stored_dict(
    py: Python<'_>,
    stored: Result<StoreOutcome, StoreError>,
) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    match stored {
        Ok(stored) => {
            let outcome = match stored.kind {
                Outcome::New => "new",
                Outcome::Rewritten => "rewritten",
                Outcome::Ignored => "ignored",
            };
            dict.set_item("status", 0)?;
            dict.set_item("outcome", outcome)?;
            dict.set_item("sop_instance_uid", stored.sop_instance_uid)?;
            dict.set_item("file", stored.file)?;
            dict.set_item("reason", stored.warnings.join("; "))?;
        }
        Err(error) => {
            dict.set_item("status", error.status())?;
            dict.set_item("outcome", "refused")?;
            dict.set_item("sop_instance_uid", "")?;
            dict.set_item("file", "")?;
            dict.set_item("reason", error.to_string())?;
        }
    }
    Ok(dict)
}

/// Where an object is.
pub fn located_dict<'py>(
    py: Python<'py>,
    archive: &Archive,
    object: &Located,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("sop_class_uid", &object.sop_class)?;
    dict.set_item("sop_instance_uid", &object.sop_instance)?;
    dict.set_item("device", device_name(object.device))?;
    dict.set_item("file", &object.file)?;
    dict.set_item("path", archive.path(object.device, &object.file))?;
    dict.set_item("transfer_syntax", &object.transfer_syntax)?;
    dict.set_item("file_bytes", object.file_bytes)?;
    dict.set_item("dataset_offset", object.dataset_offset)?;
    let hash = PyBytes::new(py, &object.hash).call_method0("hex")?;
    dict.set_item("hash", hash)?;
    Ok(dict)
}
