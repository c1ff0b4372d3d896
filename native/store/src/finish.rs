//! The end of a store: is the object acceptable, what do its rows say, where does it go, is it safe.
//!
//! Three ways lead from here to the acknowledgement; each is safe at every point where power or process may
//! end (the table stands in `recover`):
//! - a small durable object rides in the journal and is written to its place after the journal's sync;
//! - a large durable object is in its temporary file, whose sync follows the journal's write and flushes the device
//!   for both (on another device it runs beside the journal's sync), then it is renamed;
//! - a relaxed object is noted in the journal without a sync, its folder is marked, then it is written or renamed.
//!
//! A re-store waits for the index's commit instead of the journal. A store that fails after either is taken
//! back by a commit of its own before the sender hears of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pyserver_proto::header::Header;
use pyserver_proto::scan::{PixelInfo, Scanned};
use pyserver_proto::tag::Tag;

use crate::apply::{Outcome, Standing, Stored};
use crate::calendar::{local_date, unix_time};
use crate::config::Durability;
use crate::content_hash::ContentHash;
use crate::edit::{Edits, splice};
use crate::error::{STATUS_MISMATCH, STATUS_NOT_UNDERSTOOD, StoreError};
use crate::extract::{ExtractPolicy, RowValues};
use crate::filename::{NameInputs, NameSyntax};
use crate::headers;
use crate::incoming::{Incoming, StoreOutcome, not_understood};
use crate::job::{JobPending, StoreJob};
use crate::journal::Safety;
use crate::mark::Mark;
use crate::pixel;
use crate::place::Place;
use crate::settle::Entry;
use crate::temp_file::TempFile;

/// Ends one store.
pub(crate) fn finish(mut incoming: Incoming) -> Result<StoreOutcome, StoreError> {
    let started = Instant::now();
    // Awake it would look for the store, and take a core from a codec meanwhile.
    if !incoming.shared.arrivals.are_codecs_busy() {
        let alone = !incoming.shared.arrivals.patience().is_zero();
        let committer = &incoming.shared.committer;
        committer.keep_here(alone && incoming.temp.is_some());
        committer.expect();
    }
    let scanner = incoming.scanner.take().ok_or(StoreError::Closed)?;
    let scanned = scanner.finish().map_err(not_understood)?;
    check_identity(&incoming, &scanned.header)?;
    let checked = Instant::now();
    // The disk takes the last bytes while the rest is prepared.
    incoming.complete_file()?;
    let written = Instant::now();
    let mut warnings: Vec<String> = scanned.warnings.iter().map(ToString::to_string).collect();
    let dataset_bytes = scanned.dataset_bytes;
    let (header, pixel) = edited(&mut incoming, scanned)?;
    incoming.convert_gathered()?;
    let in_flight = incoming.shared.in_flight.enter(&incoming.sop_instance);
    let name = file_name(&incoming, &header)?;
    let rows = rows(&incoming, &header)?;
    warnings.extend(rows.warnings.iter().map(|w| format!("{w:?}")));
    let prepared = Instant::now();
    incoming.times.scan += (checked - started) + (prepared - written);
    let hash = incoming.hash();
    incoming.times.write += (written - checked) + prepared.elapsed();
    let job = job(&mut incoming, &header, pixel.as_ref(), rows, name, hash);
    let file_bytes = job.file_bytes;
    let mut store = Store { incoming };
    let stored = match store.incoming.durability {
        _ if !store.incoming.config.keeps_index => store.unindexed(&job)?,
        Durability::Durable => store.durable(job)?,
        Durability::Relaxed => store.relaxed(job)?,
    };
    drop(in_flight);
    warnings.extend(stored.warnings.iter().map(|w| format!("{w:?}")));
    Ok(StoreOutcome {
        kind: stored.outcome,
        sop_instance_uid: std::mem::take(&mut store.incoming.sop_instance),
        image: stored.image,
        device: stored.device,
        file: stored.file,
        file_bytes,
        dataset_bytes,
        warnings,
        times: store.incoming.times,
    })
}

/// The header with the corrections that the configuration wants, made in the data set as well unless that
/// is deflated or was written already.
fn edited(
    incoming: &mut Incoming,
    scanned: Scanned,
) -> Result<(Header, Option<PixelInfo>), StoreError> {
    let header = scanned.header;
    let wanted = Edits::wanted(&incoming.config, header.get(Tag::PATIENT_ID));
    match &incoming.edits {
        None => incoming.edit(&wanted),
        Some(done) if *done == wanted || done.is_empty() => {}
        Some(_) => {
            return Err(StoreError::refused(
                STATUS_NOT_UNDERSTOOD,
                "elements of the patient come after elements of higher groups",
            ));
        }
    }
    if wanted.is_empty() {
        return Ok((header, scanned.pixel));
    }
    Ok((with_edits(&header, &wanted)?, scanned.pixel))
}

fn with_edits(header: &Header, edits: &Edits) -> Result<Header, StoreError> {
    let bytes = splice(header.bytes(), header.encoding(), edits);
    Header::parse(&bytes, header.syntax()).map_err(not_understood)
}

/// The data set must be the object that the command announced (PS3.4 table B.2-1, A900).
fn check_identity(incoming: &Incoming, header: &Header) -> Result<(), StoreError> {
    let pairs = [
        (Tag::SOP_CLASS_UID, &incoming.sop_class, "SOP class"),
        (
            Tag::SOP_INSTANCE_UID,
            &incoming.sop_instance,
            "SOP instance",
        ),
    ];
    for (tag, expected, what) in pairs {
        let found = header.get(tag).unwrap_or_default();
        if found != expected.as_bytes() {
            let found = crate::extract::printable(found);
            return Err(StoreError::refused(
                STATUS_MISMATCH,
                format!("{what} UID of the data set is '{found}', of the command '{expected}'"),
            ));
        }
    }
    Ok(())
}

fn rows(incoming: &Incoming, header: &Header) -> Result<RowValues, StoreError> {
    let policy = ExtractPolicy {
        allow_empty_patient_id: incoming.config.allow_empty_patient_id,
        accept_invalid_uids: incoming.config.accept_invalid_uids,
    };
    let extractor = incoming.shared.index.extractor();
    extractor.extract(header, policy).map_err(|refused| {
        StoreError::refused(incoming.config.store_failed_status, refused.to_string())
    })
}

/// The name that the syntax gives. A counter is taken by objects that are not known yet only, as in Conquest.
fn file_name(incoming: &Incoming, header: &Header) -> Result<String, StoreError> {
    let shared = &incoming.shared;
    let syntax: &NameSyntax = &incoming.config.file_name_syntax;
    let counter = if syntax.uses_counter() && !shared.knows(&incoming.sop_instance)? {
        shared.counter.fetch_add(1, Ordering::Relaxed)
    } else {
        shared.counter.load(Ordering::Relaxed)
    };
    let now = unix_time();
    let (id, name) = (header.get(Tag::PATIENT_ID), header.get(Tag::PATIENT_NAME));
    let stand_ins = Edits::stand_ins(&incoming.config, id, name);
    let named = if stand_ins.is_empty() {
        None
    } else {
        Some(with_edits(header, &stand_ins)?)
    };
    let mut name = syntax.name(
        named.as_ref().unwrap_or(header),
        &NameInputs {
            called_ae: &incoming.called_ae,
            calling_ae: &incoming.calling_ae,
            time_s: now,
            date: &local_date(now),
            counter,
            length_max: incoming.config.file_name_length_max,
            force_dcm: !incoming.headerless,
        },
    );
    name.push_str(&incoming.config.file_suffix);
    Ok(name)
}

fn job(
    incoming: &mut Incoming,
    header: &Header,
    pixel: Option<&PixelInfo>,
    rows: RowValues,
    file_candidate: String,
    hash: ContentHash,
) -> Box<StoreJob> {
    let path = incoming.device.path(&file_candidate);
    let standing = if path.symlink_metadata().is_ok() {
        Standing::Other
    } else {
        Standing::Nothing
    };
    let file_bytes = match &incoming.temp {
        Some(temp) => temp.written(),
        None => incoming.gathered.len() as u64,
    };
    if incoming.temp.is_some() {
        let usual = &incoming.shared.usual_bytes;
        usual.store(file_bytes, Ordering::Relaxed);
    }
    let pending = match (&incoming.temp, incoming.durability) {
        (Some(temp), _) => JobPending::Temp(temp.name.clone()),
        (None, Durability::Durable) => {
            JobPending::Journal(Arc::new(std::mem::take(&mut incoming.gathered)))
        }
        (None, Durability::Relaxed) => JobPending::Written,
    };
    let safety = match (incoming.durability, &incoming.temp) {
        (Durability::Relaxed, _) => Safety::None,
        (Durability::Durable, Some(_)) if incoming.device.covers_journal() => Safety::Through,
        (Durability::Durable, _) => Safety::Synced,
    };
    let config = &incoming.config;
    Box::new(StoreJob {
        uid: incoming.sop_instance.clone(),
        rows,
        device: incoming.device.number(),
        file_candidate,
        standing,
        rename_on_rewrite: config.rename_on_rewrite,
        ignore_rewrite: config.ignore_rewrite,
        transfer_syntax: incoming.stored.uid().as_str().to_owned(),
        file_bytes,
        dataset_offset: incoming.dataset_offset as u32,
        hash,
        pixel: if incoming.received != incoming.stored || incoming.received.is_deflated() {
            Vec::new()
        } else {
            pixel::pack(pixel, incoming.shift)
        },
        header: headers::compress(header),
        pending,
        calling_ae: incoming.calling_ae.clone(),
        called_ae: incoming.called_ae.clone(),
        jobs: std::mem::take(&mut incoming.jobs),
        now: unix_time() as u32,
        safety,
        refusal_status: config.store_failed_status,
    })
}

/// A store whose job is ready.
pub(crate) struct Store {
    pub(crate) incoming: Incoming,
}

impl Store {
    /// Journal or commit, beside it the file's sync, then the place. Where that sync makes the journal's record safe
    /// too, it comes last: one flush of the device for both.
    fn durable(&mut self, job: Box<StoreJob>) -> Result<Stored, StoreError> {
        let started = Instant::now();
        let journal = match &job.pending {
            JobPending::Journal(bytes) => Some(Arc::clone(bytes)),
            JobPending::Temp(_) | JobPending::Written => None,
        };
        let awaited = self.incoming.shared.committer.store(job);
        let temp = self.incoming.temp.as_ref();
        let written = temp.map_or(Ok(()), TempFile::wait);
        let sync_is_last = self.incoming.device.covers_journal();
        let mut synced = temp
            .filter(|_| written.is_ok() && !sync_is_last)
            .map(TempFile::sync);
        let synced_at = Instant::now();
        let patience = self.incoming.shared.arrivals.patience();
        let answer = awaited.wait_looking(patience);
        let answer = answer.ok_or(StoreError::Closed)?;
        let answered = Instant::now();
        self.incoming.times.sync = synced_at - started;
        self.incoming.times.index = answered - synced_at;
        let stored = answer?;
        if stored.outcome == Outcome::Ignored {
            return Ok(stored);
        }
        if let Err(error) = written {
            self.revoke(&stored);
            return Err(error);
        }
        if sync_is_last {
            synced = self.incoming.temp.as_ref().map(TempFile::sync);
            self.incoming.times.sync += answered.elapsed();
        }
        if let Some(Err(error)) = synced {
            self.device_failed(&error);
            self.revoke(&stored);
            return Err(StoreError::ReadOnly(error.to_string()));
        }
        let journal = journal.as_ref().map(|bytes| bytes.as_slice());
        let placed = self.place(&stored, journal, false);
        let journal_bytes = journal.map_or(0, |bytes| bytes.len() as u64);
        self.placed(placed, stored, journal_bytes, None)
    }

    /// Journal without a sync, then the place; a re-store waits for the commit.
    fn relaxed(&mut self, job: Box<StoreJob>) -> Result<Stored, StoreError> {
        let started = Instant::now();
        let awaited = self.incoming.shared.committer.store(job);
        let patience = self.incoming.shared.arrivals.patience();
        let answer = awaited.wait_looking(patience);
        let answer = answer.ok_or(StoreError::Closed)?;
        self.incoming.times.index = started.elapsed();
        let stored = answer?;
        if stored.outcome == Outcome::Ignored {
            return Ok(stored);
        }
        let written = self.incoming.temp.as_ref().map_or(Ok(()), TempFile::wait);
        if let Err(error) = written {
            self.revoke(&stored);
            return Err(error);
        }
        let mark = {
            let marks = &self.incoming.shared.marks;
            marks.enter(&self.incoming.device, &stored.file)
        };
        let mark = match mark {
            Ok(mark) => mark,
            Err(error) => {
                self.revoke(&stored);
                return Err(error);
            }
        };
        let bytes = std::mem::take(&mut self.incoming.gathered);
        let journal = self.incoming.temp.is_none().then_some(bytes.as_slice());
        let rewritten = stored.outcome == Outcome::Rewritten;
        let placed = self.place(&stored, journal, rewritten);
        self.incoming.shared.buffers.give(bytes);
        self.placed(placed, stored, 0, Some(mark))
    }

    /// Puts the file where the index says. `sync`: its bytes must be durable before they replace others.
    fn place(
        &mut self,
        stored: &Stored,
        bytes: Option<&[u8]>,
        sync: bool,
    ) -> Result<(), StoreError> {
        let started = Instant::now();
        let shared = &self.incoming.shared;
        if let (Some(_), Some(pending)) = (stored.follows, stored.pending) {
            shared
                .in_flight
                .wait_for_file(pending, stored.device, &stored.file);
        }
        let place = Place {
            disk: &shared.disk,
            device: &self.incoming.device,
            file: &stored.file,
            replace: stored.overwrites,
        };
        let result = match (&self.incoming.temp, bytes) {
            (Some(temp), _) => {
                if sync {
                    temp.sync()?;
                }
                place.renamed(&self.incoming.device.temp_path(&temp.name))
            }
            (None, Some(bytes)) => place.bytes(bytes, sync),
            (None, None) => Err(StoreError::Index("the bytes of a store are gone".into())),
        };
        self.incoming.times.place = started.elapsed();
        result
    }

    /// Ends a store whose file is in place, or takes it back.
    fn placed(
        &mut self,
        placed: Result<(), StoreError>,
        stored: Stored,
        journal_bytes: u64,
        mark: Option<Arc<Mark>>,
    ) -> Result<Stored, StoreError> {
        if let Err(error) = placed {
            self.revoke(&stored);
            return Err(error);
        }
        let mut unwritten = None;
        if let Some(temp) = self.incoming.temp.take() {
            self.incoming.shared.buffers.give(temp.hand_over());
            unwritten = mark.as_ref().map(|_relaxed| stored.file.clone());
        }
        if let Some(pending) = stored.pending {
            let entry = Entry {
                pending,
                device: stored.device,
                journal_bytes,
                mark,
                unwritten,
            };
            self.incoming.shared.settler.add(entry);
        }
        Ok(stored)
    }

    fn device_failed(&self, error: &StoreError) {
        self.incoming.device.set_read_only(&error.to_string());
    }

    /// Takes an entered store back.
    fn revoke(&self, stored: &Stored) {
        let Some(pending) = stored.pending else {
            return;
        };
        let shared = &self.incoming.shared;
        let revoked = shared.committer.revoke(pending);
        if let Ok(Some(file)) = revoked.map(|revoked| revoked.file) {
            shared.remove_unnamed(file.device, &file.file);
        }
    }
}
