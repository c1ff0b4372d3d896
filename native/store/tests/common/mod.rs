//! Objects and archives for the tests.
#![allow(dead_code)] // no test file needs all of it

use std::path::Path;

use pyserver_proto::element::write_head;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::{Encoding, TransferSyntax};
use pyserver_proto::vr::Vr;
use pyserver_store::archive::Archive;
use pyserver_store::config::{ArchiveConfig, Durability};
use pyserver_store::error::StoreError;
use pyserver_store::filename::NameSyntax;
use pyserver_store::incoming::{ReceiveContext, StoreOutcome};

pub const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.7";

/// One object to store.
#[derive(Debug, Clone)]
pub struct Sample {
    pub patient: &'static str,
    pub study: String,
    pub series: String,
    pub sop: String,
    pub description: String,
    pub pixels: Vec<u8>,
}

impl Sample {
    /// An object of series `series` with number `number` and this many bytes of pixels.
    pub fn new(series: u32, number: u32, pixel_bytes: usize) -> Self {
        let pixels = (0..pixel_bytes).map(|n| (n as u32 * 31 + number) as u8);
        Self {
            patient: "P1",
            study: "1.2.3.1".into(),
            series: format!("1.2.3.1.{series}"),
            sop: format!("1.2.3.1.{series}.{number}"),
            description: "first".into(),
            pixels: pixels.collect(),
        }
    }

    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |tag, vr: Vr, value: &[u8]| {
            let padded = value.len() + value.len() % 2;
            write_head(&mut out, tag, vr, padded as u32, encoding);
            out.extend_from_slice(value);
            out.resize(out.len() + padded - value.len(), vr.padding());
        };
        put(Tag::SOP_CLASS_UID, Vr::Ui, SOP_CLASS.as_bytes());
        put(Tag::SOP_INSTANCE_UID, Vr::Ui, self.sop.as_bytes());
        put(Tag::MODALITY, Vr::Cs, b"OT");
        put(Tag::STUDY_DESCRIPTION, Vr::Lo, self.description.as_bytes());
        put(Tag::PATIENT_NAME, Vr::Pn, b"Test^Object");
        put(Tag::PATIENT_ID, Vr::Lo, self.patient.as_bytes());
        put(Tag::STUDY_INSTANCE_UID, Vr::Ui, self.study.as_bytes());
        put(Tag::SERIES_INSTANCE_UID, Vr::Ui, self.series.as_bytes());
        let rows: [u8; 2] = if encoding.big_endian { [0, 4] } else { [4, 0] };
        put(Tag::ROWS, Vr::Us, &rows);
        put(Tag::PIXEL_DATA, Vr::Ow, &self.pixels);
        out
    }

    pub fn context(&self, durability: Durability) -> ReceiveContext<'_> {
        ReceiveContext {
            calling_ae: "SENDER",
            called_ae: "ARCHIVE",
            transfer_syntax: TransferSyntax::ExplicitLittleEndian,
            sop_class_uid: SOP_CLASS,
            sop_instance_uid: &self.sop,
            durability: Some(durability),
        }
    }
}

/// A folder in memory where there is one: what these tests lose on purpose need not reach a disk.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Settings with syntax 8 below a folder.
pub fn config(home: &Path) -> ArchiveConfig {
    ArchiveConfig {
        file_name_syntax: NameSyntax::BuiltIn(8),
        full_threshold_mb: 0,
        journal_bytes: 512 << 10,
        ..ArchiveConfig::new(home)
    }
}

pub fn open(config: ArchiveConfig) -> Archive {
    Archive::open(config, &mut |_, _, _| {}).unwrap().0
}

/// Stores an object in pieces of `piece` bytes.
pub fn store_pieces(
    archive: &Archive,
    sample: &Sample,
    durability: Durability,
    piece: usize,
) -> Result<StoreOutcome, StoreError> {
    let mut incoming = archive.begin(&sample.context(durability))?;
    for fragment in sample.encode(Encoding::EXPLICIT_LE).chunks(piece) {
        incoming.write(fragment)?;
    }
    incoming.finish()
}

pub fn store(
    archive: &Archive,
    sample: &Sample,
    durability: Durability,
) -> Result<StoreOutcome, StoreError> {
    store_pieces(archive, sample, durability, 16 * 1024)
}

/// The data set in the file of an outcome.
pub fn stored_dataset(archive: &Archive, device: u16, file: &str) -> Vec<u8> {
    let bytes = std::fs::read(archive.path(device, file).unwrap()).unwrap();
    let layout = pyserver_proto::file::probe(&bytes).unwrap().unwrap();
    bytes[layout.dataset_offset as usize..].to_vec()
}

/// All files below a folder, relative.
pub fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap();
                found.push(name.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// A small generator, so that a run can be repeated.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 ^ seed.wrapping_mul(0x2545_F491_4F6C_DD1D))
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % sides
    }
}
