//! `Archive`: queries, tables, deletion, import and checks, for commands and for tests.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping};
use pyserver_proto::dataset::{Dataset, DatasetLimits};
use pyserver_proto::query::{Query, QueryOptions};
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_store::archive::{Archive, DeviceStats};
use pyserver_store::blob::SystemDisk;
use pyserver_store::config::Durability;
use pyserver_store::driver::Driver;
use pyserver_store::error::StoreError;
use pyserver_store::find::FindProgress;
use pyserver_store::fsck::FsckOptions;
use pyserver_store::held::Sender;
use pyserver_store::locate::Located;
use pyserver_store::plan::{BindOptions, BoundQuery};
use pyserver_store::recover::RecoveryReport;
use pyserver_store::regen::RegenScope;
use pyserver_store::respond::ResponseEncoder;
use pyserver_store::schema::Level;

use crate::archive_dicts::{fsck_dict, located_dict, recovery_dict, regen_dict, stored_dict};
use crate::codecs::PyCodecPool;
use crate::convert::{self, Progress};
use crate::driver::PyDriver;
use crate::errors::{self, config};
use crate::instance::Instance;
use crate::regen_rules::regen_rules;
use crate::settings::archive_config;

/// Rows read under one read transaction.
const PAGE_ROWS: usize = 256;

/// Files and index. One process at a time; closes on `close` or when collected.
#[pyclass(name = "Archive", module = "pyserver._native", frozen)]
pub struct PyArchive {
    archive: Mutex<Option<Arc<Archive>>>,
    recovery: RecoveryReport,
    ae_title: String,
    driver: Option<Py<PyAny>>,
}

impl PyArchive {
    /// The archive, unless it was closed.
    pub fn open(&self) -> PyResult<Arc<Archive>> {
        self.archive
            .lock()
            .clone()
            .ok_or_else(|| errors::store(&StoreError::Closed))
    }

    fn bind(&self, archive: &Archive, query: &Query) -> PyResult<BoundQuery> {
        let options = BindOptions {
            own_ae: self.ae_title.clone(),
            computed_fields: true,
        };
        BoundQuery::bind(query, archive.index(), &options).map_err(|e| config(e.to_string()))
    }
}

fn query(model: &str, level: &str, keys: &Bound<'_, PyMapping>) -> PyResult<Query> {
    let identifier = convert::identifier(level, keys)?;
    Query::parse(
        convert::model(model)?,
        &identifier,
        &QueryOptions::default(),
    )
    .map_err(|error| config(error.to_string()))
}

fn level_named(text: &str) -> PyResult<Level> {
    let level = Level::ALL
        .into_iter()
        .find(|level| level.name().eq_ignore_ascii_case(text));
    level.ok_or_else(|| {
        config(format!(
            "level is patient, study, series or image, not {text:?}"
        ))
    })
}

#[pymethods]
impl PyArchive {
    /// Open the archive and repair what a crash left. `driver` keeps and answers the rows, see
    /// `pyserver.index.driver`; without one the embedded index does.
    #[new]
    #[pyo3(signature = (settings, progress=None, driver=None))]
    fn new(
        py: Python<'_>,
        settings: &Bound<'_, PyMapping>,
        progress: Option<Py<PyAny>>,
        driver: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let ae_title = settings.get_item("ae_title")?.extract()?;
        let settings = archive_config(settings)?;
        let mut progress = Progress::new(progress);
        let seam = driver
            .as_ref()
            .map(|driver| PyDriver::new(py, driver.clone_ref(py)))
            .transpose()?;
        let seam = seam.map(|seam| Arc::new(seam) as Arc<dyn Driver>);
        let (archive, recovery) = py
            .detach(|| {
                let disk = Arc::new(SystemDisk);
                Archive::open_with(settings, disk, seam, &mut |what: &str, done, total| {
                    progress.tell(what, done, total);
                })
            })
            .map_err(|error| errors::store(&error))?;
        progress.finish()?;
        Ok(Self {
            archive: Mutex::new(Some(Arc::new(archive))),
            recovery,
            ae_title,
            driver,
        })
    }

    /// What opening it repaired.
    #[getter]
    fn recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        recovery_dict(py, &self.recovery)
    }

    /// Matches of a query: model `patient`, `study` or `patient-study`, level as in C-FIND.
    #[pyo3(signature = (model, level, keys, limit=0, offset=0))]
    fn find<'py>(
        &self,
        py: Python<'py>,
        model: &str,
        level: &str,
        keys: &Bound<'py, PyMapping>,
        limit: u64,
        offset: u64,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let archive = self.open()?;
        let mut query = query(model, level, keys)?;
        query.limit = (limit > 0).then_some(limit);
        query.offset = offset;
        let bound = self.bind(&archive, &query)?;
        let found = py
            .detach(|| find_all(&archive, &bound))
            .map_err(|e| errors::store(&e))?;
        found
            .iter()
            .map(|dataset| convert::answer(py, dataset))
            .collect()
    }

    /// How a query would be answered: which index, what is scanned.
    fn explain(&self, model: &str, level: &str, keys: &Bound<'_, PyMapping>) -> PyResult<String> {
        let archive = self.open()?;
        Ok(self.bind(&archive, &query(model, level, keys)?)?.explain())
    }

    /// Numbers of patients, studies, series, images and bytes.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let archive = self.open()?;
        let counts = py
            .detach(|| archive.counts())
            .map_err(|e| errors::store(&e))?;
        let dict = PyDict::new(py);
        dict.set_item("patients", counts.patients)?;
        dict.set_item("studies", counts.studies)?;
        dict.set_item("series", counts.series)?;
        dict.set_item("images", counts.images)?;
        dict.set_item("bytes", counts.file_bytes)?;
        Ok(dict)
    }

    /// All rows of one table (`DICOMPatients`, ...), columns as Conquest has them.
    fn dump_table<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let archive = self.open()?;
        if let Some(driver) = &self.driver
            && name != "UIDMODS"
        {
            py.detach(|| archive.flush())
                .map_err(|e| errors::store(&e))?;
            return driver.call_method1(py, "dump", (name,))?.extract(py);
        }
        let rows = py
            .detach(|| archive.dump_table(name))
            .map_err(|e| errors::store(&e))?
            .ok_or_else(|| config(format!("there is no table {name}")))?;
        let row_of = |row: pyserver_store::dump::TableRow| {
            let dict = PyDict::new(py);
            for (column, value) in row {
                dict.set_item(column, value)?;
            }
            Ok(dict)
        };
        rows.into_iter().map(row_of).collect()
    }

    /// Have a text put behind the names of files of objects that arrive from now on (`testmode`).
    fn set_file_suffix(&self, suffix: &str) -> PyResult<()> {
        let archive = self.open()?;
        archive
            .set_file_suffix(suffix)
            .map_err(|e| errors::store(&e))
    }

    /// Delete exactly these patients (by ID), studies, series or images; files follow soon.
    fn delete<'py>(
        &self,
        py: Python<'py>,
        level: &str,
        uid: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let archive = self.open()?;
        let level = level_named(level)?;
        let ids = match uid.extract::<String>() {
            Ok(one) => vec![one],
            Err(_) => uid.extract::<Vec<String>>()?,
        };
        let mut rows = [0; 4];
        let mut bytes = 0;
        for id in ids {
            let summary = py
                .detach(|| archive.delete(level, id.as_bytes()))
                .map_err(|e| errors::store(&e))?;
            for (total, n) in rows.iter_mut().zip(summary.rows) {
                *total += n;
            }
            bytes += summary.bytes;
        }
        let dict = PyDict::new(py);
        for (name, n) in ["patients", "studies", "series", "images"]
            .into_iter()
            .zip(rows)
        {
            dict.set_item(name, n)?;
        }
        dict.set_item("bytes", bytes)?;
        Ok(dict)
    }

    /// Store one file as C-STORE would: status, outcome, sop_instance_uid, file, reason.
    #[pyo3(signature = (path, calling_ae="", codecs=None, mode="", quality=95, jobs=Vec::new()))]
    #[allow(
        clippy::too_many_arguments,
        reason = "keyword arguments of a Python function"
    )]
    fn add_file<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        calling_ae: &str,
        codecs: Option<&PyCodecPool>,
        mode: &str,
        quality: u8,
        jobs: Vec<Vec<u8>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let archive = self.open()?;
        let pool = codecs.map(PyCodecPool::pool);
        let added = py.detach(|| match &pool {
            Some(pool) => archive.add_file_as(&path, calling_ae, pool, (mode, quality), &jobs),
            None => archive.add_file_with(&path, calling_ae, &jobs),
        });
        stored_dict(py, added)
    }

    /// Whether a file is on a device and of a deleted object, and waits to be removed.
    fn is_being_removed(&self, path: PathBuf) -> PyResult<bool> {
        let archive = self.open()?;
        archive
            .is_being_removed(&path)
            .map_err(|e| errors::store(&e))
    }

    /// Store an object that rules have seen, with work to queue in the same transaction; answers as
    /// `add_file`. `device`: where it should go, if there is room.
    #[pyo3(signature = (instance, calling_ae="", called_ae="", device=None, jobs=Vec::new()))]
    fn store<'py>(
        &self,
        py: Python<'py>,
        instance: &Instance,
        calling_ae: &str,
        called_ae: &str,
        device: Option<u16>,
        jobs: Vec<Vec<u8>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let archive = self.open()?;
        let stored = instance.detached(py, |object| {
            let sender = Sender {
                calling_ae,
                called_ae,
                durability: Some(Durability::Durable),
            };
            Ok(archive.store_received(object, sender, device, jobs))
        })?;
        stored_dict(py, stored)
    }

    /// Rebuild the index from files: all, or those of `device`, `dir` or `file`. `rules` see each file
    /// (`Regen`) and those that are refused (`RegenFail`).
    #[pyo3(signature = (scope, progress=None, rules=None))]
    fn regen<'py>(
        &self,
        py: Python<'py>,
        scope: &Bound<'py, PyMapping>,
        progress: Option<Py<PyAny>>,
        rules: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let archive = self.open()?;
        let scope = regen_scope(&archive, scope)?;
        let mut progress = Progress::new(progress);
        let rules = rules.map(|rules| regen_rules(py, rules)).transpose()?;
        let report = py
            .detach(|| {
                archive.regen_with(&scope, rules.as_ref(), &mut |what: &str, done, total| {
                    progress.tell(what, done, total);
                })
            })
            .map_err(|e| errors::store(&e))?;
        progress.finish()?;
        regen_dict(py, report)
    }

    /// Compare index and files both ways.
    #[pyo3(signature = (repair=false, verify_hash=false, progress=None))]
    fn fsck<'py>(
        &self,
        py: Python<'py>,
        repair: bool,
        verify_hash: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let archive = self.open()?;
        let mut progress = Progress::new(progress);
        let report = py
            .detach(|| {
                let options = FsckOptions {
                    verify_hash,
                    repair,
                };
                archive.fsck(options, &mut |what: &str, done, total| {
                    progress.tell(what, done, total);
                })
            })
            .map_err(|e| errors::store(&e))?;
        progress.finish()?;
        fsck_dict(py, &report)
    }

    /// The elements before the pixel data, as kept in the index.
    fn header<'py>(
        &self,
        py: Python<'py>,
        sop_instance_uid: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let archive = self.open()?;
        let header = py
            .detach(|| {
                archive.flush()?;
                let transaction = archive.index().read()?;
                match transaction.locate_sop(sop_instance_uid.as_bytes())? {
                    Some(located) => Ok(transaction.header(located.image)?),
                    None => Ok(None),
                }
            })
            .map_err(|e: StoreError| errors::store(&e))?;
        let header = header.ok_or_else(|| config(format!("no image {sop_instance_uid}")))?;
        Ok(PyBytes::new(py, header.bytes()))
    }

    /// Where the objects of a patient, study, series or image are: files and facts.
    fn locate<'py>(
        &self,
        py: Python<'py>,
        level: &str,
        uid: &str,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let archive = self.open()?;
        let level = level_named(level)?;
        let keys = PyDict::new(py);
        let key = match level {
            Level::Patient => "PatientID",
            Level::Study => "StudyInstanceUID",
            Level::Series => "SeriesInstanceUID",
            Level::Image => "SOPInstanceUID",
        };
        keys.set_item(key, uid)?;
        let query = query("patient", level.name(), keys.as_mapping())?;
        let bound = BoundQuery::bind_retrieve(&query, archive.index())
            .map_err(|error| config(error.to_string()))?;
        let located = py
            .detach(|| locate_all(&archive, &bound))
            .map_err(|e| errors::store(&e))?;
        located
            .iter()
            .map(|object| located_dict(py, &archive, object))
            .collect()
    }

    /// Wait for work under way and release the archive.
    fn close(&self, py: Python<'_>) {
        let archive = self.archive.lock().take();
        // The committer may need the interpreter for its last words to a database.
        py.detach(move || {
            if let Some(archive) = archive {
                archive.shut_down();
            }
        });
    }
}

impl Drop for PyArchive {
    fn drop(&mut self) {
        if let Some(archive) = self.archive.lock().take() {
            Python::attach(|py| py.detach(move || archive.shut_down()));
        }
    }
}

/// `{}`, `{"device": "MAG0"}`, `{"dir": …}` or `{"file": …}`.
fn regen_scope(archive: &Archive, scope: &Bound<'_, PyMapping>) -> PyResult<RegenScope> {
    let text = |key: &str| -> PyResult<Option<String>> {
        if !scope.contains(key)? {
            return Ok(None);
        }
        scope.get_item(key)?.extract()
    };
    if let Some(device) = text("device")? {
        let number = device
            .to_ascii_uppercase()
            .strip_prefix("MAG")
            .map(str::parse);
        return match number {
            Some(Ok(number)) => Ok(RegenScope::Device(number)),
            _ => Err(config(format!("a device is MAG0, MAG1, …, not {device:?}"))),
        };
    }
    if let Some(file) = text("file")? {
        return Ok(RegenScope::File(file.into()));
    }
    let Some(folder) = text("dir")? else {
        return Ok(RegenScope::All);
    };
    let folder = PathBuf::from(folder);
    let devices = archive.stats().devices;
    let holds = |device: &&DeviceStats| {
        folder.starts_with(&device.root) || device.root.join(&folder).is_dir()
    };
    let device = devices.iter().find(holds);
    let device = device.ok_or_else(|| config(format!("{} is on no device", folder.display())))?;
    Ok(RegenScope::Folder(device.number, folder))
}

fn find_all(archive: &Archive, bound: &BoundQuery) -> Result<Vec<Dataset>, StoreError> {
    let mut encoder = ResponseEncoder::new(bound, true);
    let mut answers = archive.answers(bound)?;
    let mut found = Vec::new();
    let mut record = Vec::new();
    loop {
        let progress = answers.page(PAGE_ROWS, &mut |row| {
            record.clear();
            encoder.encode(row, &mut record);
            let limits = DatasetLimits::default();
            // What the encoder wrote decodes; a failure would show as a missing match.
            if let Ok(dataset) =
                Dataset::decode(&record, TransferSyntax::ExplicitLittleEndian, &limits)
            {
                found.push(dataset);
            }
            ControlFlow::Continue(())
        })?;
        if progress == FindProgress::Done {
            return Ok(found);
        }
    }
}

fn locate_all(archive: &Archive, bound: &BoundQuery) -> Result<Vec<Located>, StoreError> {
    let mut images = archive.images(bound)?;
    let mut all = Vec::new();
    loop {
        let (page, progress) = images.locate(PAGE_ROWS)?;
        all.extend(page);
        if progress == FindProgress::Done {
            return Ok(all);
        }
    }
}
