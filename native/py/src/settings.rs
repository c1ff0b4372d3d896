//! The flat dictionary of `pyserver.config.settings.NativeSettings` as the engine's snapshots.
//!
//! Keys are that class's field names; a missing key or a value of the wrong type is a
//! `ConfigError` that names it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use pyserver_proto::association::Limits;
use pyserver_proto::scan::ScanLimits;
use pyserver_proto::uid::Uid;
use pyserver_server::peers::{Compression, PeerEntry, Peers};
use pyserver_server::settings::{Settings, UnknownPeers};
use pyserver_store::config::{ArchiveConfig, Durability};
use pyserver_store::filename::NameSyntax;

use crate::errors::config;

/// Largest identifier taken (LIMIT: a UID list of 100 000 studies has 6.5 MB).
const IDENTIFIER_BYTES_MAX: usize = 16 << 20;

/// Reads one dictionary.
struct Reader<'a, 'py>(&'a Bound<'py, PyMapping>);

impl<'py> Reader<'_, 'py> {
    fn value<T>(&self, key: &str) -> PyResult<T>
    where
        T: for<'a> FromPyObject<'a, 'py>,
    {
        let item = self
            .0
            .get_item(key)
            .map_err(|_| config(format!("{key} is missing")))?;
        item.extract::<T>().map_err(|error| {
            let error: PyErr = error.into();
            config(format!("{key}: {error}"))
        })
    }

    fn seconds(&self, key: &str) -> PyResult<Duration> {
        self.value::<f64>(key).and_then(|seconds| {
            Duration::try_from_secs_f64(seconds).map_err(|error| config(format!("{key}: {error}")))
        })
    }

    fn uids(&self, key: &str) -> PyResult<Vec<Uid>> {
        let uid = |text: String| {
            text.parse::<Uid>()
                .map_err(|e| config(format!("{key}: {text}: {e}")))
        };
        self.value::<Vec<String>>(key)?
            .into_iter()
            .map(uid)
            .collect()
    }
}

fn durability(text: &str) -> PyResult<Durability> {
    match text {
        "durable" => Ok(Durability::Durable),
        "relaxed" => Ok(Durability::Relaxed),
        _ => Err(config(format!(
            "Durability is durable or relaxed, not {text:?}"
        ))),
    }
}

/// The archive's part.
pub fn archive_config(settings: &Bound<'_, PyMapping>) -> PyResult<ArchiveConfig> {
    let read = Reader(settings);
    let mut archive = ArchiveConfig::new(&read.value::<PathBuf>("home")?);
    archive.devices = read.value("devices")?;
    archive.index_dir = read.value("index_dir")?;
    archive.keeps_index = read.value("keeps_index")?;
    archive.dicom_sql = read.value("dicom_sql")?;
    let syntax: String = read.value("file_name_syntax")?;
    archive.file_name_syntax =
        NameSyntax::parse(&syntax).map_err(|error| config(format!("FileNameSyntax: {error}")))?;
    archive.file_name_length_max = read.value("max_file_name_length")?;
    archive.rename_on_rewrite = read.value("rename_on_rewrite")?;
    archive.ignore_rewrite = read.value("ignore_rewrite")?;
    archive.allow_empty_patient_id = read.value("allow_empty_patient_id")?;
    archive.accept_invalid_uids = read.value("accept_invalid_uids")?;
    archive.fix_philips = read.value("fix_philips")?;
    archive.fix_kodak = read.value("fix_kodak")?;
    archive.store_failed_status = read.value("store_failed_status")?;
    archive.durability = durability(&read.value::<String>("durability")?)?;
    archive.durability_by_ae = read
        .value::<HashMap<String, String>>("durability_by_ae")?
        .into_iter()
        .map(|(ae, text)| Ok((ae, durability(&text)?)))
        .collect::<PyResult<_>>()?;
    archive.nki_as_dicom = read.value("nki_as_dicom")?;
    archive.journal_object_bytes = read.value("journal_object_bytes")?;
    archive.worklist_charset = read.value("worklist_charset")?;
    archive.full_threshold_mb = read.value("mag_device_full_threshold_mb")?;
    archive.dataset_bytes_max = match read.value("dataset_bytes_max")? {
        0 => u64::MAX,
        limit => limit,
    };
    archive.scan_limits = ScanLimits {
        depth_max: read.value("scan_depth_max")?,
        elements_max: read.value("scan_elements_max")?,
        header_bytes_max: read.value("header_bytes_max")?,
        ..ScanLimits::default()
    };
    Ok(archive)
}

/// The server's part.
pub fn server_settings(settings: &Bound<'_, PyMapping>) -> PyResult<Settings> {
    let read = Reader(settings);
    let port: u16 = read.value("port")?;
    let address = |text: String| {
        let ip = text
            .parse()
            .map_err(|e| config(format!("ListenAddress: {text}: {e}")))?;
        Ok(SocketAddr::new(ip, port))
    };
    let listen: Vec<String> = read.value("listen_addresses")?;
    Ok(Settings {
        ae_title: read.value("ae_title")?,
        listen: listen.into_iter().map(address).collect::<PyResult<_>>()?,
        peers: peers(&read)?,
        unknown_peers: match read.value::<String>("unknown_peers")?.as_str() {
            "store" => UnknownPeers::Store,
            "refuse" => UnknownPeers::Refuse,
            "all" => UnknownPeers::All,
            other => return Err(config(format!("UnknownPeers: {other:?}"))),
        },
        local_aes: read.value("local_aes")?,
        remote_aes: read.value("remote_aes")?,
        storage_classes: read.uids("sop_classes")?,
        transfer_syntaxes: read.uids("transfer_syntaxes")?,
        associations_max: read.value("associations_max")?,
        connections_max: read.value("connections_max")?,
        limits: Limits {
            pdu_bytes_max: read.value("pdu_bytes_max")?,
            artim: read.seconds("artim_s")?,
            idle: read.seconds("idle_timeout_s")?,
            ..Limits::default()
        },
        identifier_bytes_max: IDENTIFIER_BYTES_MAX,
        dimse_timeout: read.seconds("dimse_timeout_s")?,
        connect_timeout: read.seconds("connect_timeout_s")?,
        read_ahead: read.value("read_ahead")?,
        read_ahead_bytes: read.value("read_ahead_bytes")?,
        modes: read
            .value::<HashMap<String, Bound<'_, PyDict>>>("modes")?
            .into_iter()
            .map(|(name, mode)| Ok((name, compression(&Reader(mode.as_mapping()))?)))
            .collect::<PyResult<_>>()?,
        incoming_compression: read.value("incoming_compression")?,
        lossy_quality: read.value("lossy_quality")?,
        find_results_max: read.value("find_results_max")?,
        computed_fields: read.value("enable_computed_fields")?,
        export_converters: read.value("export_converters")?,
        has_mirrors: read.value("has_mirrors")?,
        debug_level: read.value("debug_level")?,
    })
}

fn peers(read: &Reader<'_, '_>) -> PyResult<Peers> {
    let lines: Vec<Bound<'_, PyDict>> = read.value("peers")?;
    let entry = |line: &Bound<'_, PyDict>| {
        let mapping = line.as_mapping();
        let read = Reader(mapping);
        Ok(PeerEntry {
            ae: read.value("ae")?,
            host: read.value("host")?,
            port: read.value("port")?,
            compression: compression(&read)?,
        })
    };
    Ok(Peers::new(
        lines.iter().map(entry).collect::<PyResult<_>>()?,
    ))
}

fn compression(read: &Reader<'_, '_>) -> PyResult<Compression> {
    Ok(Compression {
        syntaxes: read.uids("syntaxes")?,
        only: read.value("only")?,
        quality: read.value("quality")?,
        mode: read.value("mode")?,
    })
}
