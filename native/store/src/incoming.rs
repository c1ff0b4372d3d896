//! One object while it is received: scanned as it comes, kept in memory while small, in a private temporary
//! file when larger, in the form it will be stored in.
//!
//! Memory per object is bounded: what is gathered before a file is opened, one write buffer, and the header
//! that the scanner keeps. Dropping an `Incoming` removes every trace of it. Nothing here decides whether the
//! object is acceptable; `finish` does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pyserver_proto::convert::{ConvertError, DatasetConverter};
use pyserver_proto::file::{MetaFields, encode_part10, encode_v2_start};
use pyserver_proto::scan::{HeaderScanner, ScanError};
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;

use crate::archive::Shared;
use crate::config::{ArchiveConfig, Durability};
use crate::content_hash::{self, ContentHash, ContentHasher};
use crate::device::Device;
use crate::edit::{Edits, reaches_past_patient, splice};
use crate::error::{STATUS_NOT_UNDERSTOOD, StoreError};
use crate::finish::finish;
use crate::look::Arrival;
use crate::temp_file::{TempFile, with_room};

/// Elements before the patient's are waited for up to this many bytes; an object that has more there is
/// stored without edits of its data.
const EDIT_WAIT_BYTES: usize = 1 << 20;

/// Bytes behind the point where a file may be opened that are read before anyone looks.
const LOOK_BYTES: usize = 16 * 1024;

/// What is known when an object begins to arrive.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveContext<'a> {
    /// The sender's AE title.
    pub calling_ae: &'a str,
    /// The AE title it called.
    pub called_ae: &'a str,
    /// Transfer syntax of the data set.
    pub transfer_syntax: TransferSyntax,
    /// Affected SOP Class UID of the command, as received but for padding.
    pub sop_class_uid: &'a str,
    /// Affected SOP Instance UID of the command, as received but for padding.
    pub sop_instance_uid: &'a str,
    /// Overrides what the configuration promises this sender.
    pub durability: Option<Durability>,
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOutcome {
    /// New, rewritten or ignored.
    pub kind: crate::apply::Outcome,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// Number of the image's row.
    pub image: crate::schema::ImageKey,
    /// Device number.
    pub device: u16,
    /// File on that device.
    pub file: String,
    /// Size of the file.
    pub file_bytes: u64,
    /// Bytes of the data set as received.
    pub dataset_bytes: u64,
    /// What the log should hear.
    pub warnings: Vec<String>,
    /// Where the time went.
    pub times: StoreTimes,
}

/// Time spent on one object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreTimes {
    /// Scanning, converting and checking.
    pub scan: Duration,
    /// Hashing and writing.
    pub write: Duration,
    /// Waiting for the file's sync.
    pub sync: Duration,
    /// Waiting for the index, beyond the file's sync.
    pub index: Duration,
    /// Putting the file in its place.
    pub place: Duration,
}

/// An object that is being received.
pub struct Incoming {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Arc<ArchiveConfig>,
    pub(crate) device: Arc<Device>,
    pub(crate) calling_ae: String,
    pub(crate) called_ae: String,
    pub(crate) sop_class: String,
    pub(crate) sop_instance: String,
    pub(crate) durability: Durability,
    /// Work to queue with the object's row.
    pub(crate) jobs: Vec<Vec<u8>>,
    /// Whether the file is a `.v2` one.
    pub(crate) headerless: bool,
    /// Transfer syntax received.
    pub(crate) received: TransferSyntax,
    /// Transfer syntax in the file.
    pub(crate) stored: TransferSyntax,
    /// Bytes before the data set in the file.
    pub(crate) dataset_offset: usize,
    pub(crate) scanner: Option<HeaderScanner>,
    /// The file's beginning while there is no temporary file: meta information, then the data set as received.
    pub(crate) gathered: Vec<u8>,
    /// Where to look again whether a file can be opened.
    look_again: usize,
    pub(crate) edits: Option<Edits>,
    /// How far the edits moved what follows them.
    pub(crate) shift: i64,
    pub(crate) converter: Option<DatasetConverter>,
    converted: Vec<u8>,
    pub(crate) temp: Option<TempFile>,
    pub(crate) hasher: ContentHasher,
    pub(crate) times: StoreTimes,
    _arrival: Arrival,
}

impl Incoming {
    /// Starts an object.
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        context: &ReceiveContext<'_>,
    ) -> Result<Self, StoreError> {
        let config = shared.config();
        let device = shared.pick_device(&config)?;
        let received = context.transfer_syntax;
        let headerless = config.file_name_syntax.is_v2() && received.is_uncompressed();
        let stored = if headerless {
            TransferSyntax::ImplicitLittleEndian
        } else if received.is_big_endian() {
            TransferSyntax::ExplicitLittleEndian
        } else {
            received
        };
        let converter = (received != stored)
            .then(|| DatasetConverter::new(received, stored, config.scan_limits))
            .transpose()
            .map_err(not_convertible)?;
        let start = if headerless {
            encode_v2_start()
        } else {
            encode_part10(&MetaFields {
                sop_class_uid: context.sop_class_uid.as_bytes(),
                sop_instance_uid: context.sop_instance_uid.as_bytes(),
                transfer_syntax: stored,
            })
        };
        let mut gathered = shared.buffers.take();
        gathered.extend_from_slice(&start);
        let arrival = shared.arrivals.enter();
        let usual = shared.usual_bytes.load(Ordering::Relaxed);
        if usual > config.journal_object_bytes as u64 {
            if shared.arrivals.patience().is_zero() {
                shared.writers.set_free();
            } else {
                shared.writers.expect();
            }
        }
        Ok(Self {
            durability: context
                .durability
                .unwrap_or_else(|| config.durability_of(context.calling_ae)),
            look_again: start.len() + config.journal_object_bytes,
            dataset_offset: start.len(),
            scanner: Some(HeaderScanner::new(received, config.scan_limits)),
            converter,
            shared: Arc::clone(shared),
            config,
            device,
            calling_ae: context.calling_ae.to_owned(),
            called_ae: context.called_ae.to_owned(),
            sop_class: context.sop_class_uid.to_owned(),
            sop_instance: context.sop_instance_uid.to_owned(),
            jobs: Vec::new(),
            headerless,
            received,
            stored,
            gathered,
            edits: None,
            shift: 0,
            converted: Vec::new(),
            temp: None,
            hasher: ContentHasher::default(),
            times: StoreTimes::default(),
            _arrival: arrival,
        })
    }

    /// Queues work in the transaction that stores the object.
    pub fn queue(&mut self, payload: Vec<u8>) {
        self.jobs.push(payload);
    }

    /// Puts the object on this device, if it takes objects and has room; before the first byte only.
    pub fn prefer_device(&mut self, number: u16) {
        let threshold = self.config.full_threshold_mb.saturating_mul(1 << 20);
        let wanted = self.shared.devices.get(usize::from(number));
        if let Some(device) = wanted
            && device.read_only().is_none()
            && device.room_bytes(self.shared.disk.as_ref(), threshold) > 0
        {
            self.device = Arc::clone(device);
        }
    }

    /// Takes the next bytes of the data set. After an error the object is lost; drop it.
    pub fn write(&mut self, fragment: &[u8]) -> Result<(), StoreError> {
        let status = self.config.store_failed_status;
        self.take(fragment)
            .map_err(|e| e.with_failed_status(status))
    }

    /// A buffer that the next bytes of the data set may be read to, behind what it holds; then `filled` is to be
    /// called. `None` when `write` must take them.
    pub fn space(&mut self) -> Option<&mut Vec<u8>> {
        if self.converter.is_some() {
            return None;
        }
        match &mut self.temp {
            Some(temp) => temp.space(),
            None => with_room(&mut self.gathered, self.look_again + LOOK_BYTES),
        }
    }

    /// So many bytes were read to `space`. After an error the object is lost; drop it.
    pub fn filled(&mut self, bytes: usize) -> Result<(), StoreError> {
        let status = self.config.store_failed_status;
        self.take_filled(bytes)
            .map_err(|e| e.with_failed_status(status))
    }

    /// Checks the object, stores it and gives it its name, as durable as was promised.
    pub fn finish(self) -> Result<StoreOutcome, StoreError> {
        let status = self.config.store_failed_status;
        finish(self).map_err(|e| e.with_failed_status(status))
    }

    fn take(&mut self, fragment: &[u8]) -> Result<(), StoreError> {
        let scanned = scan(&mut self.scanner, &mut self.times, fragment)?;
        if self.temp.is_some() {
            self.append(fragment)?;
        } else {
            self.gathered.extend_from_slice(fragment);
            if self.gathered.len() > self.look_again {
                self.open_file()?;
            }
        }
        self.times.write += scanned.elapsed();
        Ok(())
    }

    fn take_filled(&mut self, bytes: usize) -> Result<(), StoreError> {
        let buffer = match &self.temp {
            Some(temp) => temp.gathered(),
            None => &self.gathered,
        };
        let fragment = buffer
            .len()
            .checked_sub(bytes)
            .and_then(|at| buffer.get(at..));
        let fragment = fragment.ok_or(StoreError::Closed)?;
        let scanned = scan(&mut self.scanner, &mut self.times, fragment)?;
        if self.temp.is_some() {
            self.hasher.update(fragment);
        }
        if let Some(temp) = &mut self.temp {
            temp.filled()?;
            let written = temp.written();
            self.check_size(written)?;
        } else if self.gathered.len() > self.look_again {
            self.open_file()?;
        }
        self.times.write += scanned.elapsed();
        Ok(())
    }

    /// Moves what is gathered to a temporary file, if the edits can be made by now.
    fn open_file(&mut self) -> Result<(), StoreError> {
        let dataset = self.gathered.get(self.dataset_offset..).unwrap_or_default();
        self.check_size(dataset.len() as u64)?;
        if !self.received.is_deflated() && !reaches_past_patient(dataset, self.received.encoding())
        {
            if dataset.len() < EDIT_WAIT_BYTES {
                self.look_again = self.gathered.len() + self.gathered.len() / 2;
                return Ok(());
            }
            self.edits = Some(Edits::default());
        }
        if self.edits.is_none() {
            let wanted = self.wanted_edits();
            self.edit(&wanted);
        }
        let buffer = self.shared.buffers.take();
        let mut temp = TempFile::create(
            &self.shared.disk,
            &self.device,
            &self.shared.writers,
            buffer,
            self.durability == Durability::Durable,
            &self.shared.spare_files,
            self.shared.usual_bytes.load(Ordering::Relaxed),
        )?;
        if self.shared.arrivals.are_codecs_busy() {
            temp.write_alone();
        }
        let gathered = std::mem::take(&mut self.gathered);
        let (start, dataset) = gathered.split_at(self.dataset_offset.min(gathered.len()));
        let unused = if self.converter.is_none() {
            self.hasher.update(dataset);
            let empty = temp.adopt(gathered)?;
            self.temp = Some(temp);
            empty
        } else {
            temp.append(start)?;
            self.temp = Some(temp);
            self.append(dataset)?;
            gathered
        };
        self.shared.buffers.give(unused);
        Ok(())
    }

    /// Makes edits in what is gathered. Deflated data stays as it is; its rows alone get the values.
    pub(crate) fn edit(&mut self, wanted: &Edits) {
        if !wanted.is_empty() && !self.received.is_deflated() {
            let dataset = self.gathered.get(self.dataset_offset..).unwrap_or_default();
            let edited = splice(dataset, self.received.encoding(), wanted);
            self.shift = edited.len() as i64 - dataset.len() as i64;
            self.gathered.truncate(self.dataset_offset);
            self.gathered.extend_from_slice(&edited);
        }
        self.edits = Some(wanted.clone());
    }

    fn wanted_edits(&self) -> Edits {
        let id = self.scanner.as_ref().and_then(|s| s.value(Tag::PATIENT_ID));
        Edits::wanted(&self.config, id)
    }

    fn append(&mut self, fragment: &[u8]) -> Result<(), StoreError> {
        let Some(temp) = &mut self.temp else {
            return Err(StoreError::Closed);
        };
        let bytes = match &mut self.converter {
            None => fragment,
            Some(converter) => {
                self.converted.clear();
                converter
                    .push(fragment, &mut self.converted)
                    .map_err(not_convertible)?;
                &self.converted
            }
        };
        // Hashed after it is written: the disk may be at work on it by then.
        temp.append(bytes)?;
        self.hasher.update(bytes);
        let written = temp.written();
        self.check_size(written)
    }

    fn check_size(&self, dataset_bytes: u64) -> Result<(), StoreError> {
        if dataset_bytes > self.config.dataset_bytes_max {
            return Err(StoreError::refused(
                crate::error::STATUS_OUT_OF_RESOURCES,
                format!(
                    "the data set is larger than {} bytes",
                    self.config.dataset_bytes_max
                ),
            ));
        }
        Ok(())
    }

    /// Hash of the stored data set.
    pub(crate) fn hash(&self) -> ContentHash {
        if self.temp.is_some() {
            return self.hasher.finish();
        }
        let dataset = self.gathered.get(self.dataset_offset..).unwrap_or_default();
        content_hash::hash(dataset)
    }

    /// Converts what is gathered in memory to the stored form.
    pub(crate) fn convert_gathered(&mut self) -> Result<(), StoreError> {
        if self.temp.is_some() {
            return Ok(());
        }
        let Some(mut converter) = self.converter.take() else {
            return Ok(());
        };
        let mut out = self.shared.buffers.take();
        out.extend_from_slice(self.gathered.get(..self.dataset_offset).unwrap_or_default());
        let dataset = self.gathered.get(self.dataset_offset..).unwrap_or_default();
        converter.push(dataset, &mut out).map_err(not_convertible)?;
        converter.finish().map_err(not_convertible)?;
        let old = std::mem::replace(&mut self.gathered, out);
        self.shared.buffers.give(old);
        Ok(())
    }

    /// Writes what is gathered to the temporary file and ends its conversion.
    pub(crate) fn complete_file(&mut self) -> Result<(), StoreError> {
        let Some(temp) = &mut self.temp else {
            return Ok(());
        };
        if let Some(converter) = self.converter.take() {
            converter.finish().map_err(not_convertible)?;
        }
        temp.complete()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.buffers.give(std::mem::take(&mut self.gathered));
        self.shared
            .buffers
            .give(std::mem::take(&mut self.converted));
    }
}

/// Shows the scanner the next bytes; when it was done with them.
fn scan(
    scanner: &mut Option<HeaderScanner>,
    times: &mut StoreTimes,
    fragment: &[u8],
) -> Result<Instant, StoreError> {
    let started = Instant::now();
    let scanner = scanner.as_mut().ok_or(StoreError::Closed)?;
    scanner.push(fragment).map_err(not_understood)?;
    let scanned = Instant::now();
    times.scan += scanned - started;
    Ok(scanned)
}

/// The scanner's verdict as a refusal.
pub(crate) fn not_understood(error: ScanError) -> StoreError {
    StoreError::refused(STATUS_NOT_UNDERSTOOD, error.to_string())
}

/// The converter's verdict as a refusal.
fn not_convertible(error: ConvertError) -> StoreError {
    StoreError::refused(STATUS_NOT_UNDERSTOOD, error.to_string())
}
