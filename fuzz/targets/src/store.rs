//! A whole store: any data set into an archive of its own, on disk, and out again.
//!
//! The first bytes choose transfer syntax, file names and settings. Whatever is sent is either refused with a
//! status and leaves nothing behind, or its file can be read, its rows and its file agree before and after a
//! restart, it can be stored once more, and after a delete nothing of it is left.

use std::fs;
use std::path::{Path, PathBuf};

use pyserver_proto::file::probe;
use pyserver_proto::header::Header;
use pyserver_proto::scan::{ScanLimits, scan};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::Uid;
use pyserver_store::apply::Outcome;
use pyserver_store::archive::Archive;
use pyserver_store::config::{ArchiveConfig, Durability};
use pyserver_store::error::StoreError;
use pyserver_store::filename::NameSyntax;
use pyserver_store::fsck::FsckOptions;
use pyserver_store::incoming::{ReceiveContext, StoreOutcome};
use pyserver_store::schema::Level;

use crate::input::{Input, piece_bytes};

const SYNTAXES: [TransferSyntax; 5] = [
    TransferSyntax::ExplicitLittleEndian,
    TransferSyntax::ImplicitLittleEndian,
    TransferSyntax::ExplicitBigEndian,
    TransferSyntax::Deflated,
    TransferSyntax::Encapsulated(Uid::from_static("1.2.840.10008.1.2.5")),
];
const NAMES: [&str; 6] = [
    "4",
    "0",
    "%name/%id/%sopuid.dcm",
    "%V0008,0060/%V*0008,1155_%sopuid.v2",
    "%id",
    "12",
];

/// Bits of the byte with the settings; its upper three choose the size of pieces.
mod choice {
    pub(super) const RELAXED: u8 = 1;
    pub(super) const FIX_IDS: u8 = 2;
    pub(super) const LENIENT: u8 = 4;
    pub(super) const TO_FILE: u8 = 8;
    pub(super) const PIECES: u8 = 5;
}

/// One object.
pub fn store(data: &[u8]) {
    let mut input = Input::new(data);
    let (Some(syntax), Some(names)) = (input.choose(&SYNTAXES), input.choose(&NAMES)) else {
        return;
    };
    let choices = input.byte();
    let bytes = input.rest();
    let Some((folder, config)) = settings(names, choices) else {
        panic!("no archive can be configured");
    };
    let header = header(bytes, syntax);
    let uids = [Tag::SOP_CLASS_UID, Tag::SOP_INSTANCE_UID].map(|tag| {
        let value = header.as_ref().and_then(|header| header.get(tag));
        String::from_utf8_lossy(value.unwrap_or(b"1.2")).into_owned()
    });
    let object = Object {
        bytes,
        syntax,
        class: &uids[0],
        instance: &uids[1],
        piece: piece_bytes(choices >> choice::PIECES),
    };
    let archive = open(&config);
    match object.send(&archive) {
        Err(error) => {
            assert!(
                matches!(error, StoreError::Refused { .. }),
                "an object alone made the archive fail: {error}"
            );
            assert!(header.is_none() || error.status() != 0);
            left(&archive, &config, 0);
        }
        Ok(outcome) => {
            assert!(header.is_some(), "stored though it cannot be read");
            assert_eq!(outcome.kind, Outcome::New);
            object.check(&archive, &outcome);
            let again = object.send(&archive);
            assert!(again.is_ok(), "not stored a second time: {again:?}");
            drop(archive);
            restarted(&object, &config);
        }
    }
    drop(folder);
}

/// An object on its way.
struct Object<'a> {
    bytes: &'a [u8],
    syntax: TransferSyntax,
    class: &'a str,
    instance: &'a str,
    piece: usize,
}

impl Object<'_> {
    fn send(&self, archive: &Archive) -> Result<StoreOutcome, StoreError> {
        let mut incoming = archive.begin(&ReceiveContext {
            calling_ae: "SCU",
            called_ae: "SCP",
            transfer_syntax: self.syntax,
            sop_class_uid: self.class,
            sop_instance_uid: self.instance,
            durability: None,
        })?;
        for piece in self.bytes.chunks(self.piece) {
            incoming.write(piece)?;
        }
        incoming.finish()
    }

    /// File, row and kept header are those of this object.
    fn check(&self, archive: &Archive, outcome: &StoreOutcome) {
        let Ok(()) = archive.flush() else {
            panic!("cannot be flushed");
        };
        let path = archive.path(outcome.device, &outcome.file);
        let path = path.unwrap_or_else(|| PathBuf::from("/"));
        let Ok(file) = fs::read(&path) else {
            panic!("{} is not there", path.display());
        };
        let Ok(Some(layout)) = probe(&file) else {
            panic!("what was stored is no file");
        };
        let offset = usize::try_from(layout.dataset_offset).unwrap_or(usize::MAX);
        let dataset = file.get(offset..).unwrap_or_default();
        let Some(header) = header(dataset, layout.syntax) else {
            panic!("what was stored as {} is no data set", layout.syntax.uid());
        };
        let instance = header.get(Tag::SOP_INSTANCE_UID).unwrap_or_default();
        assert_eq!(instance, self.instance.as_bytes());
        let Ok(txn) = archive.index().read() else {
            panic!("the index cannot be read");
        };
        let Ok(Some(located)) = txn.locate_sop(self.instance.as_bytes()) else {
            panic!("what was stored is not found");
        };
        assert_eq!(located.file, outcome.file);
        assert_eq!(located.file_bytes, file.len() as u64);
        assert_eq!(u64::from(located.dataset_offset), layout.dataset_offset);
        let kept = txn.header(located.image);
        let Ok(Some(kept)) = kept else {
            panic!("its header is not kept: {kept:?}");
        };
        assert_eq!(kept.get(Tag::SOP_INSTANCE_UID), Some(instance));
    }
}

/// After a restart everything agrees, and a delete takes everything away.
fn restarted(object: &Object<'_>, config: &ArchiveConfig) {
    let archive = open(config);
    let options = FsckOptions {
        verify_hash: true,
        repair: false,
    };
    let report = archive.fsck(options, &mut |_, _, _| {});
    let Ok(report) = report else {
        panic!("cannot be checked: {report:?}");
    };
    assert_eq!((report.rows, report.fault_count), (1, 0), "{report:?}");
    left(&archive, config, 1);
    let deleted = archive.delete(Level::Image, object.instance.as_bytes());
    assert!(deleted.is_ok());
    archive.wait_for_reaper();
    left(&archive, config, 0);
}

/// So many images and files are there, and none on its way.
fn left(archive: &Archive, config: &ArchiveConfig, count: u64) {
    let images = archive.counts().map(|counts| counts.images);
    assert!(
        matches!(images, Ok(images) if images == count),
        "{images:?}"
    );
    let files: u64 = config.devices.iter().map(|device| files(device)).sum();
    assert_eq!(files, count, "files below the device");
}

fn files(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            _ => 1,
        })
        .sum()
}

fn header(bytes: &[u8], syntax: TransferSyntax) -> Option<Header> {
    let scanned = scan(bytes, syntax, ScanLimits::default());
    scanned.ok().map(|scanned| scanned.header)
}

fn settings(names: &str, choices: u8) -> Option<(tempfile::TempDir, ArchiveConfig)> {
    // In memory where that is possible: a disk would be all that is measured.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory).ok()?
    } else {
        tempfile::tempdir().ok()?
    };
    let mut config = ArchiveConfig::new(folder.path());
    config.file_name_syntax = NameSyntax::parse(names).ok()?;
    config.full_threshold_mb = 0;
    if choices & choice::RELAXED != 0 {
        config.durability = Durability::Relaxed;
    }
    config.fix_philips = choices & choice::FIX_IDS != 0;
    config.fix_kodak = config.fix_philips;
    config.accept_invalid_uids = choices & choice::LENIENT != 0;
    config.allow_empty_patient_id = config.accept_invalid_uids;
    if choices & choice::TO_FILE != 0 {
        config.journal_object_bytes = 64;
    }
    Some((folder, config))
}

fn open(config: &ArchiveConfig) -> Archive {
    match Archive::open(config.clone(), &mut |_, _, _| {}) {
        Ok((archive, _)) => archive,
        Err(error) => panic!("the archive cannot be opened: {error}"),
    }
}
