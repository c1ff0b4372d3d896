//! Takes objects from files: `add`, the drop folders. The same rules as for a received object.
//!
//! The file given is read, never moved or changed.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pyserver_proto::scan::HeaderScanner;
use pyserver_proto::tag::Tag;
use pyserver_proto::uid::Uid;

use crate::archive::Archive;
use crate::codec_pool::{CodecPool, Source, Transcoded, Wish};
use crate::config::Durability;
use crate::error::{STATUS_NOT_UNDERSTOOD, StoreError};
use crate::file_object::open_object;
use crate::filename::name_of_disk;
use crate::incoming::{Incoming, ReceiveContext, StoreOutcome, not_understood};
use crate::queue::retargeted;
use crate::walk_files::relative_to;

impl Archive {
    /// Stores the object in a file, durable when this returns.
    pub fn add_file(&self, path: &Path, calling_ae: &str) -> Result<StoreOutcome, StoreError> {
        self.add_file_with(path, calling_ae, &[])
    }

    /// The same, with work to queue in the same transaction.
    pub fn add_file_with(
        &self,
        path: &Path,
        calling_ae: &str,
        jobs: &[Vec<u8>],
    ) -> Result<StoreOutcome, StoreError> {
        let opened = open_object(path)?;
        let (sop_class, sop_instance) = self.identity(path)?;
        let mut incoming: Incoming = self.begin(&ReceiveContext {
            calling_ae,
            called_ae: "",
            transfer_syntax: opened.layout.syntax,
            sop_class_uid: &sop_class,
            sop_instance_uid: &sop_instance,
            durability: Some(Durability::Durable),
        })?;
        for job in jobs {
            incoming.queue(job.clone());
        }
        opened.pieces(|piece| incoming.write(piece))?;
        incoming.finish()
    }

    /// The same once more, in a compression mode carried out by `pool`. An object that cannot be changed is stored as
    /// it is, with a warning.
    pub fn add_file_as(
        &self,
        path: &Path,
        calling_ae: &str,
        pool: &CodecPool,
        (mode, quality): (&str, u8),
        jobs: &[Vec<u8>],
    ) -> Result<StoreOutcome, StoreError> {
        let opened = open_object(path)?;
        let wish = Wish::to_store(mode, quality, self.shared.config().keeps_nki());
        if wish.leaves_alone(opened.layout.syntax) {
            return self.add_file_with(path, calling_ae, jobs);
        }
        let (sop_class, sop_instance) = self.identity(path)?;
        let file = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
        let size = file
            .metadata()
            .map_err(|e| StoreError::io("read", path, e))?
            .len();
        let offset = opened.layout.dataset_offset;
        let source = Source {
            file: file.as_fd(),
            offset,
            length: size.saturating_sub(offset),
            syntax: opened.layout.syntax,
        };
        let mut jobs = jobs.to_vec();
        let begin = |syntax, new: Option<Uid>| {
            let uid = new.map(|uid| uid.to_string());
            self.begin(&ReceiveContext {
                calling_ae,
                called_ae: "",
                transfer_syntax: syntax,
                sop_class_uid: &sop_class,
                sop_instance_uid: uid.as_deref().unwrap_or(&sop_instance),
                durability: Some(Durability::Durable),
            })
        };
        let (mut incoming, warning) = match pool.transcode(&source, &wish) {
            Ok(Transcoded::New(new, uid)) => {
                if let Some(uid) = &uid {
                    jobs = retargeted(&jobs, &sop_instance, uid.as_str());
                }
                let mut incoming = begin(new.syntax, uid)?;
                new.write_to(&mut incoming)?;
                (incoming, None)
            }
            kept => {
                let warning = kept.err().map(|error| format!("stored as it is: {error}"));
                let mut incoming = begin(opened.layout.syntax, None)?;
                opened.pieces(|piece| incoming.write(piece))?;
                (incoming, warning)
            }
        };
        for job in jobs {
            incoming.queue(job.clone());
        }
        let mut stored = incoming.finish()?;
        stored.warnings.extend(warning);
        Ok(stored)
    }

    /// Whether a path leads to a file on a device that is only still there because nobody has removed it yet: its
    /// object is deleted, so it is not to be added again.
    pub fn is_being_removed(&self, path: &Path) -> Result<bool, StoreError> {
        let Ok(path) = path.canonicalize() else {
            return Ok(false);
        };
        let txn = self.shared.index.read()?;
        for device in &self.shared.devices {
            let file = relative_to(device.root(), &path);
            let name = file.map(|file| name_of_disk(file.as_os_str().as_bytes()));
            if let Some(name) = name {
                return Ok(txn.file_is_dead(device.number(), &name)?);
            }
        }
        Ok(false)
    }

    /// Who the object is, read from its data set: what the meta information says does not count.
    fn identity(&self, path: &Path) -> Result<(String, String), StoreError> {
        let opened = open_object(path)?;
        let limits = self.shared.config().scan_limits;
        let mut scanner = HeaderScanner::new(opened.layout.syntax, limits);
        let mut identity = (None, None);
        opened.pieces_while(|piece| {
            scanner.push(piece).map_err(not_understood)?;
            let text = |tag| {
                let value = scanner.value(tag)?;
                Some(String::from_utf8_lossy(value).into_owned())
            };
            identity = (text(Tag::SOP_CLASS_UID), text(Tag::SOP_INSTANCE_UID));
            Ok(identity.1.is_none() && !scanner.header_complete())
        })?;
        match identity {
            (Some(class), Some(instance)) => Ok((class, instance)),
            _ => Err(StoreError::refused(
                STATUS_NOT_UNDERSTOOD,
                "the data set has no SOP class or instance UID",
            )),
        }
    }
}
