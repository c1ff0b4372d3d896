//! `CodecPool`: worker processes that recompress objects.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyserver_proto::uid::Uid;
use pyserver_store::codec_file::recompress_file;
use pyserver_store::codec_pool::{CodecPool, PoolConfig, Wish};
use pyserver_store::mode_text::ModeText;

use crate::errors;

/// Worker processes that recompress objects.
#[pyclass(name = "CodecPool", module = "pyserver._native", frozen)]
pub struct PyCodecPool {
    pool: Arc<CodecPool>,
}

impl PyCodecPool {
    pub fn pool(&self) -> Arc<CodecPool> {
        Arc::clone(&self.pool)
    }
}

#[pymethods]
impl PyCodecPool {
    /// Prepare a pool; no process starts before the first job.
    #[new]
    fn new(
        command: Vec<String>,
        workers: usize,
        timeout_s: f64,
        object_bytes_max: u64,
        held_bytes_max: u64,
    ) -> PyResult<Self> {
        let timeout = Duration::try_from_secs_f64(timeout_s)
            .map_err(|error| errors::config(format!("timeout_s: {error}")))?;
        let pool = CodecPool::new(PoolConfig {
            command,
            workers,
            timeout,
            object_bytes_max,
            held_bytes_max,
        });
        Ok(Self {
            pool: Arc::new(pool),
        })
    }

    /// Put one file into a compression mode or transfer syntax.
    #[pyo3(signature = (path, target, mode="", syntax="", quality=95))]
    fn recompress_file(
        &self,
        py: Python<'_>,
        path: PathBuf,
        target: PathBuf,
        mode: &str,
        syntax: &str,
        quality: u8,
    ) -> PyResult<Option<String>> {
        let wish = wish(mode, syntax, quality)?;
        let pool = self.pool();
        let done = py.detach(|| recompress_file(&pool, &path, &target, &wish));
        let syntax = done.map_err(|error| errors::store(&error))?;
        Ok(syntax.map(|syntax| syntax.uid().to_string()))
    }
}

/// The letters, the quality (0: none) and the mark of a compression mode; None: too short for one.
#[pyfunction]
pub fn read_mode_text(text: &Bound<'_, PyString>) -> Option<(String, u8, bool)> {
    // What is no text means no mode.
    let mode = ModeText::parse(&text.to_string_lossy())?;
    Some((mode.name, mode.quality.unwrap_or(0), mode.only))
}

/// A mode, or a transfer syntax where there is none.
pub fn wish(mode: &str, syntax: &str, quality: u8) -> PyResult<Wish> {
    if syntax.is_empty() {
        return Ok(Wish::Mode {
            name: mode.to_owned(),
            quality,
        });
    }
    let uid = syntax
        .parse::<Uid>()
        .map_err(|error| errors::config(format!("transfer syntax {syntax}: {error}")))?;
    Ok(Wish::Syntax { uid, quality })
}
