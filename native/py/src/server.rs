//! `Server`: start, reload, stop, statistics and log lines.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use pyserver_server::Server;
use pyserver_server::policy::Policy;
use pyserver_store::archive::Archive;

use crate::archive::PyArchive;
use crate::codecs::PyCodecPool;
use crate::errors;
use crate::policy::PyPolicy;
use crate::settings::{archive_config, server_settings};

/// The listener and everything behind it.
#[pyclass(name = "Server", module = "pyserver._native", frozen)]
pub struct PyServer {
    archive: Arc<Archive>,
    server: Server,
}

fn seconds(text: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|error| errors::config(format!("{text}: {error}")))
}

#[pymethods]
impl PyServer {
    /// Prepare a server; nothing listens before `start`.
    #[new]
    #[pyo3(signature = (archive, settings, codecs=None))]
    fn new(
        archive: &PyArchive,
        settings: &Bound<'_, PyMapping>,
        codecs: Option<&PyCodecPool>,
    ) -> PyResult<Self> {
        let archive = archive.open()?;
        let codecs = codecs.map(PyCodecPool::pool);
        let server = Server::new(Arc::clone(&archive), server_settings(settings)?, codecs);
        Ok(Self { archive, server })
    }

    /// Listen.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.server.start())
            .map_err(|error| errors::server(&error))
    }

    /// Address and port that it listens on.
    #[getter]
    fn address(&self) -> PyResult<(String, u16)> {
        let first = self.server.addresses().into_iter().next();
        first
            .map(|address| (address.ip().to_string(), address.port()))
            .ok_or_else(|| errors::NativeError::new_err("the server is not started"))
    }

    /// Take other settings; associations keep those they began with.
    fn reload(&self, py: Python<'_>, settings: &Bound<'_, PyMapping>) -> PyResult<()> {
        let (archive, settings) = (archive_config(settings)?, server_settings(settings)?);
        py.detach(|| self.archive.reload(archive))
            .map_err(|error| errors::store(&error))?;
        self.server.reload(settings);
        Ok(())
    }

    /// Take no more associations, wait for those open; True when all ended by themselves.
    fn stop(&self, py: Python<'_>, drain_s: f64) -> PyResult<bool> {
        let drain = seconds("drain_s", drain_s)?;
        Ok(py.detach(|| self.server.stop(drain)))
    }

    /// Put rules in force for associations to come; None: there are none.
    #[pyo3(signature = (rules=None))]
    fn set_rules(&self, py: Python<'_>, rules: Option<Py<PyAny>>) -> PyResult<()> {
        let policy = rules.map(|rules| PyPolicy::new(py, rules)).transpose()?;
        let policy = policy.map(|policy| Arc::new(policy) as Arc<dyn Policy>);
        self.server.set_policy(policy);
        Ok(())
    }

    /// Wait until work was queued more often than `seen`; how often it was.
    fn wait_for_work(&self, py: Python<'_>, seen: u64, timeout_s: f64) -> PyResult<u64> {
        let patience = seconds("timeout_s", timeout_s)?;
        Ok(py.detach(|| self.server.wait_for_work(seen, patience)))
    }

    /// Counters since the start, and what goes on now.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let phases = PyDict::new(py);
        let counters = self.server.stats();
        let stores = counters
            .iter()
            .find(|(name, _)| *name == "stores")
            .map_or(0, |(_, n)| *n);
        for (name, value) in counters {
            match name.strip_suffix("_ns") {
                None => dict.set_item(name, value)?,
                Some(phase) => {
                    let row = PyDict::new(py);
                    row.set_item("count", stores)?;
                    row.set_item("ns", value)?;
                    phases.set_item(phase, row)?;
                }
            }
        }
        dict.set_item("phases", phases)?;
        archive_stats(py, &self.archive, &dict)?;
        Ok(dict)
    }

    /// Log lines: time, level (0 error to 3 debug), association, text. Waits for the first.
    fn drain_log(
        &self,
        py: Python<'_>,
        timeout_s: f64,
        max_lines: usize,
    ) -> PyResult<Vec<(f64, u8, String, String)>> {
        let timeout = seconds("timeout_s", timeout_s)?;
        let lines = py.detach(|| self.server.drain_log(timeout, max_lines));
        let row = |line: pyserver_server::log::LogLine| {
            (line.time, line.level as u8, line.association, line.text)
        };
        Ok(lines.into_iter().map(row).collect())
    }
}

fn archive_stats(py: Python<'_>, archive: &Archive, dict: &Bound<'_, PyDict>) -> PyResult<()> {
    let stats = archive.stats();
    dict.set_item("in_flight", stats.in_flight)?;
    dict.set_item("commits", stats.commits)?;
    dict.set_item("changes", stats.changes)?;
    dict.set_item("commit_us", stats.commit_us)?;
    dict.set_item("failed_commits", stats.failed_commits)?;
    dict.set_item("unsettled", stats.unsettled)?;
    dict.set_item("settled", stats.settled)?;
    dict.set_item("reaped_files", stats.reaped_files)?;
    dict.set_item("index_bytes", stats.index_bytes)?;
    dict.set_item("index_read_only", stats.index_read_only)?;
    dict.set_item("index_closed", stats.index_closed)?;
    let device = |device: &pyserver_store::archive::DeviceStats| {
        let row = PyDict::new(py);
        row.set_item("number", device.number)?;
        row.set_item("root", &device.root)?;
        row.set_item("free_bytes", device.free_bytes)?;
        row.set_item("read_only", &device.read_only)?;
        Ok(row)
    };
    dict.set_item(
        "devices",
        stats
            .devices
            .iter()
            .map(device)
            .collect::<PyResult<Vec<_>>>()?,
    )
}
