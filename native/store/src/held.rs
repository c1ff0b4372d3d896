//! An object held whole before it is stored, so that rules can look at it and change it first.
//!
//! Used only where a site has rules: without them objects go straight into [`Incoming`]. Objects up to
//! [`MEMORY_BYTES`] stay in memory; larger ones go to a file in the device's private folder that has no
//! name any more, so that nothing is left of it whatever happens. What rules change is spliced in when
//! the object is stored or saved; the bulk is copied, never looked at.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use pyserver_proto::convert::{ConvertError, DatasetConverter};
use pyserver_proto::file::{MetaFields, encode_part10};
use pyserver_proto::header::Header;
use pyserver_proto::instance::{Instance, Piece};
use pyserver_proto::scan::{HeaderScanner, ScanLimits, scan};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;

use crate::archive::Archive;
use crate::calendar::{local_date, unix_time};
use crate::codec_pool::{self, CodecPool, Transcoded, Wish};
use crate::config::Durability;
use crate::edit::{Edits, splice};
use crate::error::{STATUS_MISMATCH, STATUS_NOT_UNDERSTOOD, STATUS_OUT_OF_RESOURCES, StoreError};
use crate::file_object::open_object;
use crate::filename::NameInputs;
use crate::incoming::{ReceiveContext, StoreOutcome, not_understood};
use crate::lookahead::{Content, ReadyObject};

/// LIMIT: what one object may take in memory; a 512 x 512 image has half a megabyte.
const MEMORY_BYTES: usize = 4 << 20;
/// Bytes moved at once from a file.
const PIECE_BYTES: usize = 256 << 10;

/// Takes a data set piece by piece.
pub struct Holder {
    scanner: HeaderScanner,
    /// Deflated data are inflated at once: nothing can be spliced into them.
    inflate: Option<DatasetConverter>,
    memory: Vec<u8>,
    file: Option<File>,
    folder: PathBuf,
    bytes: u64,
    bytes_max: u64,
}

/// Where the data set as received is.
#[derive(Debug)]
enum Source {
    Memory(Vec<u8>),
    /// From this byte on.
    File(File, u64),
}

/// A whole object that rules may change.
#[derive(Debug)]
pub struct Received {
    /// What rules see of it.
    pub instance: Instance,
    source: Source,
}

/// Who sent an object, and what is promised about it.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The sender's AE title.
    pub calling_ae: &'a str,
    /// The AE title it called.
    pub called_ae: &'a str,
    /// Overrides what the configuration promises.
    pub durability: Option<Durability>,
}

impl Archive {
    /// Starts to hold an object.
    pub fn hold(&self, syntax: TransferSyntax) -> Result<Holder, StoreError> {
        let config = self.shared.config();
        let (plain, inflate) = if syntax.is_deflated() {
            let plain = TransferSyntax::ExplicitLittleEndian;
            let converter = DatasetConverter::new(syntax, plain, config.scan_limits);
            (plain, Some(converter.map_err(not_convertible)?))
        } else {
            (syntax, None)
        };
        let device = self.shared.devices.first().ok_or(StoreError::Closed)?;
        Ok(Holder {
            scanner: HeaderScanner::new(plain, config.scan_limits),
            inflate,
            memory: Vec::new(),
            file: None,
            folder: device.temp_folder().to_owned(),
            bytes: 0,
            bytes_max: config.dataset_bytes_max,
        })
    }

    /// Stores an object that was held, with its changes, and queues work in the same transaction.
    ///
    /// `device` is where it should go, if there is room (manual, `storage MAGn`).
    pub fn store_received(
        &self,
        received: &Received,
        sender: Sender<'_>,
        device: Option<u16>,
        jobs: Vec<Vec<u8>>,
    ) -> Result<StoreOutcome, StoreError> {
        let instance = &received.instance;
        let (class, uid) = (
            instance.uid(Tag::SOP_CLASS_UID),
            instance.uid(Tag::SOP_INSTANCE_UID),
        );
        let mut incoming = self.begin(&ReceiveContext {
            calling_ae: sender.calling_ae,
            called_ae: sender.called_ae,
            transfer_syntax: instance.syntax(),
            sop_class_uid: class.as_str(),
            sop_instance_uid: uid.as_str(),
            durability: sender.durability,
        })?;
        if let Some(device) = device {
            incoming.prefer_device(device);
        }
        for job in jobs {
            incoming.queue(job);
        }
        received.pieces(|piece| incoming.write(piece))?;
        incoming.finish()
    }

    /// The path that an object would be stored under now (manual, `%f`). A name with a counter or the time
    /// in it is another one by the time it is stored.
    pub fn predicted_path(
        &self,
        received: &Received,
        sender: Sender<'_>,
    ) -> Result<PathBuf, StoreError> {
        let config = self.shared.config();
        let device = self.shared.pick_device(&config)?;
        let header = received.instance.header();
        let (id, name) = (header.get(Tag::PATIENT_ID), header.get(Tag::PATIENT_NAME));
        let stand_ins = Edits::stand_ins(&config, id, name);
        let bytes = splice(header.bytes(), header.encoding(), &stand_ins);
        let named = Header::parse(&bytes, header.syntax()).map_err(not_understood)?;
        let now = unix_time();
        let headerless = config.file_name_syntax.is_v2() && header.syntax().is_uncompressed();
        let mut file = config.file_name_syntax.name(
            &named,
            &NameInputs {
                called_ae: sender.called_ae,
                calling_ae: sender.calling_ae,
                time_s: now,
                date: &local_date(now),
                counter: self.shared.counter.load(Ordering::Relaxed),
                length_max: config.file_name_length_max,
                force_dcm: !headerless,
            },
        );
        file.push_str(&config.file_suffix);
        Ok(device.path(&file))
    }

    /// What an object that cannot be stored is answered with.
    pub fn failed_status(&self) -> u16 {
        self.shared.config().store_failed_status
    }
}

impl Holder {
    /// Takes the next bytes. After an error the object is lost; drop it.
    pub fn write(&mut self, fragment: &[u8]) -> Result<(), StoreError> {
        let Some(mut inflate) = self.inflate.take() else {
            return self.take(fragment);
        };
        let mut plain = Vec::new();
        inflate
            .push(fragment, &mut plain)
            .map_err(not_convertible)?;
        self.inflate = Some(inflate);
        self.take(&plain)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.scanner.push(bytes).map_err(not_understood)?;
        self.bytes += bytes.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(StoreError::refused(
                STATUS_OUT_OF_RESOURCES,
                format!("the data set is larger than {} bytes", self.bytes_max),
            ));
        }
        if self.file.is_none() && self.memory.len() + bytes.len() > MEMORY_BYTES {
            self.file = Some(nameless_file(&self.folder)?);
        }
        let Some(file) = &mut self.file else {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        };
        let failed = |error| StoreError::io("write", &self.folder, error);
        if !self.memory.is_empty() {
            file.write_all(&self.memory).map_err(failed)?;
            self.memory = Vec::new();
        }
        file.write_all(bytes).map_err(failed)
    }

    /// Ends the data set, which must be the object that the command announced (PS3.4 table B.2-1, A900).
    pub fn finish(mut self, sop_class: &str, sop_instance: &str) -> Result<Received, StoreError> {
        if let Some(inflate) = self.inflate.take() {
            inflate.finish().map_err(not_convertible)?;
        }
        let scanned = self.scanner.finish().map_err(not_understood)?;
        for (tag, announced, what) in [
            (Tag::SOP_CLASS_UID, sop_class, "SOP class"),
            (Tag::SOP_INSTANCE_UID, sop_instance, "SOP instance"),
        ] {
            let found = scanned.header.get(tag).unwrap_or_default();
            if found != announced.as_bytes() {
                let found = crate::extract::printable(found);
                return Err(StoreError::refused(
                    STATUS_MISMATCH,
                    format!(
                        "{what} UID of the data set is '{found}', of the command '{announced}'"
                    ),
                ));
            }
        }
        Ok(Received {
            instance: Instance::new(scanned),
            source: match self.file {
                Some(file) => Source::File(file, 0),
                None => Source::Memory(self.memory),
            },
        })
    }
}

impl Received {
    /// An object in memory.
    pub fn from_dataset(bytes: Vec<u8>, syntax: TransferSyntax) -> Result<Self, StoreError> {
        let (bytes, syntax) = if syntax.is_deflated() {
            let plain = TransferSyntax::ExplicitLittleEndian;
            let limits = ScanLimits::default();
            let mut out = Vec::new();
            let mut inflate =
                DatasetConverter::new(syntax, plain, limits).map_err(not_convertible)?;
            inflate.push(&bytes, &mut out).map_err(not_convertible)?;
            inflate.finish().map_err(not_convertible)?;
            (out, plain)
        } else {
            (bytes, syntax)
        };
        let scanned = scan(&bytes, syntax, ScanLimits::default()).map_err(not_understood)?;
        Ok(Self {
            instance: Instance::new(scanned),
            source: Source::Memory(bytes),
        })
    }

    /// The object in a file, which must stay as it is while this lives.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = open_object(path)?;
        let (syntax, offset) = (opened.layout.syntax, opened.layout.dataset_offset);
        let length = path.metadata().map_or(0, |facts| facts.len());
        if syntax.is_deflated() || length <= MEMORY_BYTES as u64 {
            let mut bytes = Vec::with_capacity(length as usize);
            opened.pieces(|piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
            return Self::from_dataset(bytes, syntax);
        }
        let mut scanner = HeaderScanner::new(syntax, ScanLimits::default());
        opened.pieces(|piece| scanner.push(piece).map(drop).map_err(not_understood))?;
        let scanned = scanner.finish().map_err(not_understood)?;
        let file = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
        Ok(Self {
            instance: Instance::new(scanned),
            source: Source::File(file, offset),
        })
    }

    /// The object whose data set stands in an open file: its first byte and its length.
    pub fn of_file(
        file: File,
        (offset, length): (u64, u64),
        syntax: TransferSyntax,
    ) -> Result<Self, StoreError> {
        let failed = |error| StoreError::io("read", Path::new("an object"), error);
        if syntax.is_deflated() || length <= MEMORY_BYTES as u64 {
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, offset).map_err(failed)?;
            return Self::from_dataset(bytes, syntax);
        }
        let mut scanner = HeaderScanner::new(syntax, ScanLimits::default());
        let mut buffer = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < length {
            let wanted = (length - at).min(PIECE_BYTES as u64) as usize;
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            file.read_exact_at(part, offset + at).map_err(failed)?;
            scanner.push(part).map_err(not_understood)?;
            at += wanted as u64;
        }
        let scanned = scanner.finish().map_err(not_understood)?;
        Ok(Self {
            instance: Instance::new(scanned),
            source: Source::File(file, offset),
        })
    }

    /// The object as it is now, in another compression; `None` when it has that already.
    ///
    /// Errors: the codecs cannot do it (`Codec`).
    pub fn recompressed(&self, pool: &CodecPool, wish: &Wish) -> Result<Option<Self>, StoreError> {
        let syntax = self.instance.syntax();
        if wish.leaves_alone(syntax) {
            return Ok(None);
        }
        let (file, length) = self.memory_file()?;
        let source = codec_pool::Source {
            file: file.as_fd(),
            offset: 0,
            length,
            syntax,
        };
        let worked = pool.transcode(&source, wish);
        match worked.map_err(|error| StoreError::Codec(error.to_string()))? {
            Transcoded::Kept => Ok(None),
            Transcoded::New {
                file,
                length,
                syntax,
            } => {
                let file = file
                    .into_file()
                    .map_err(|e| StoreError::io("keep", Path::new("a file in memory"), e))?;
                Self::of_file(file, (0, length), syntax).map(Some)
            }
        }
    }

    /// The data set as it is now, in a file that is nowhere but in memory, and its length.
    pub(crate) fn memory_file(&self) -> Result<(File, u64), StoreError> {
        let failed = |error| StoreError::io("create", Path::new("a file in memory"), error);
        let file = rustix::fs::memfd_create("pyserver-object", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|error| failed(error.into()))?;
        let mut file = File::from(file);
        let mut length = 0;
        self.pieces(|piece| {
            length += piece.len() as u64;
            file.write_all(piece).map_err(failed)
        })?;
        Ok((file, length))
    }

    /// Hands out the data set as it is now.
    pub fn pieces(
        &self,
        mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let header = self.instance.header().bytes();
        for piece in self.instance.pieces() {
            match piece {
                Piece::Header(range) => take(header.get(range).unwrap_or_default())?,
                Piece::Source(range) => self.source_piece(range, &mut take)?,
            }
        }
        Ok(())
    }

    fn source_piece(
        &self,
        range: Range<u64>,
        take: &mut impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match &self.source {
            Source::Memory(bytes) => {
                let range = range.start as usize..range.end as usize;
                take(bytes.get(range).unwrap_or_default())
            }
            Source::File(file, offset) => {
                let mut at = range.start;
                let mut buffer = vec![0; PIECE_BYTES];
                while at < range.end {
                    let wanted = (range.end - at).min(PIECE_BYTES as u64) as usize;
                    let part = buffer.get_mut(..wanted).unwrap_or_default();
                    file.read_exact_at(part, offset + at)
                        .map_err(|e| StoreError::io("read", Path::new("an object"), e))?;
                    take(part)?;
                    at += wanted as u64;
                }
                Ok(())
            }
        }
    }

    /// The data set as it is now, in memory.
    pub fn dataset(&self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.pieces(|piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// The data set as it is now, ready to be sent.
    pub fn ready(&self) -> Result<ReadyObject, StoreError> {
        let syntax = self.instance.syntax();
        if let (Source::File(file, offset), false) = (&self.source, self.instance.is_changed()) {
            let failed = |error| StoreError::io("open", Path::new("an object"), error);
            let size = file.metadata().map_err(failed)?.len();
            return Ok(ReadyObject {
                syntax,
                length: size.saturating_sub(*offset),
                content: Content::File {
                    file: file.try_clone().map_err(failed)?,
                    offset: *offset,
                },
            });
        }
        let bytes = self.dataset()?;
        Ok(ReadyObject {
            syntax,
            length: bytes.len() as u64,
            content: Content::Memory(bytes),
        })
    }

    /// Writes a DICOM file (PS3.10) that is whole and durable when this returns. What stood there is
    /// replaced at once or not at all.
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let failed = |error| StoreError::io("write", path, error);
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{:016x}", random_number()));
        let temporary = folder.join(name);
        let written = self.write_file(&temporary).and_then(|()| {
            std::fs::rename(&temporary, path).map_err(failed)?;
            let folder = File::open(folder).map_err(failed)?;
            folder.sync_all().map_err(failed)
        });
        if written.is_err() {
            // The cause is reported; what is left of the attempt must not stay.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    fn write_file(&self, path: &Path) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("write", path, error);
        let mut file = File::create(path).map_err(failed)?;
        let instance = &self.instance;
        file.write_all(&encode_part10(&MetaFields {
            sop_class_uid: instance.uid(Tag::SOP_CLASS_UID).as_bytes(),
            sop_instance_uid: instance.uid(Tag::SOP_INSTANCE_UID).as_bytes(),
            transfer_syntax: instance.syntax(),
        }))
        .map_err(failed)?;
        self.pieces(|piece| file.write_all(piece).map_err(failed))?;
        file.sync_all().map_err(failed)
    }
}

/// A file that is gone when it is closed.
fn nameless_file(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(format!("held-{:016x}", random_number()));
    let failed = |error| StoreError::io("create", &path, error);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}

/// For names that must differ from those of other threads and of an earlier run.
fn random_number() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

fn not_convertible(error: ConvertError) -> StoreError {
    StoreError::refused(STATUS_NOT_UNDERSTOOD, error.to_string())
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
