//! Storing one object in the index: links, rows, lookups, counts, file name, header, change, pending entry
//! and queued work, all in the caller's transaction.
//!
//! Every reason to refuse is found before the first write, so that a refused change leaves the others of
//! its batch alone. The parent link of an existing image, series or study is compared exactly: patients
//! `SC1` and `sc1` are two. Values follow Conquest's rule: the last object wins, but what an object does
//! not say stays.

use crate::changes::ChangeKind;
use crate::content_hash::ContentHash;
use crate::extract::{RowValues, Warning, printable};
use crate::heads::{FileFacts, ImageHead, ImageRow, put_image};
use crate::index::WriteTxn;
use crate::index_error::IndexError;
use crate::lmdb::append;
use crate::parents::SeriesPath;
use crate::pending::{PendingId, PendingKind};
use crate::row::merge;
use crate::schema::{ImageKey, Level};
use crate::update::UpdateRule;

/// What is known about the object's bytes.
#[derive(Debug, Clone, Copy)]
pub struct BlobFacts<'a> {
    /// MAG device the file goes to.
    pub device: u16,
    /// Path below the device that `FileNameSyntax` gives, separated by `/`.
    pub file_candidate: &'a str,
    /// What stands there already.
    pub standing: Standing,
    /// `RenameOnRewrite`: a re-store takes the new name instead of keeping the old one.
    pub rename_on_rewrite: bool,
    /// `IgnoreRewrite`: a re-store is acknowledged and dropped.
    pub ignore_rewrite: bool,
    /// Transfer syntax of the data set in the file.
    pub transfer_syntax: &'a str,
    /// Size of the whole file.
    pub file_bytes: u64,
    /// Where the data set begins in the file.
    pub dataset_offset: u32,
    /// Hash of the data set.
    pub hash: ContentHash,
    /// Pixel data and frame offsets, opaque to the index.
    pub pixel: &'a [u8],
}

/// What stands under the name that an object's file is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, or what the index knows of.
    Nothing,
    /// A file that is not this object's.
    Other,
    /// The object itself: this name or none.
    Object,
}

/// One object to store.
#[derive(Debug, Clone, Copy)]
pub struct StoreChange<'a> {
    /// Values of its rows.
    pub rows: &'a RowValues,
    /// Its bytes.
    pub blob: BlobFacts<'a>,
    /// Header for the header store, as `headers::compress` makes it.
    pub header: &'a [u8],
    /// How its file comes to stand under its final name.
    pub pending: PendingKind<'a>,
    /// AE title of the sender, for the change log.
    pub calling_ae: &'a str,
    /// AE title the sender called.
    pub called_ae: &'a str,
    /// Payloads to queue in the same transaction.
    pub jobs: &'a [&'a [u8]],
    /// Unix time in seconds.
    pub now: u32,
}

/// What became of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new image.
    New,
    /// The image was known; its row and file are replaced.
    Rewritten,
    /// The image was known and `IgnoreRewrite` is set: nothing changed, the bytes are to be dropped.
    Ignored,
}

/// A file that a re-store under another name leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacedFile {
    /// Device.
    pub device: u16,
    /// Path below the device.
    pub file: String,
}

/// The answer to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// To settle or revoke; none when the store was ignored.
    pub pending: Option<PendingId>,
    /// Where the image row is.
    pub image: ImageKey,
    /// Device the file belongs to.
    pub device: u16,
    /// Its final path, unique on that device.
    pub file: String,
    /// An earlier store, not yet settled, whose file has the same path: its file must stand there before
    /// this one is put in its place, or the older bytes would win.
    pub follows: Option<PendingId>,
    /// Whether an older file of this image, or of a deleted one whose name this is now, may stand there: it is
    /// to be replaced. Otherwise nothing that the index knows of stands there.
    pub overwrites: bool,
    /// The old file of a re-store under another name. It goes when this store is settled (as an orphan);
    /// whoever removes it earlier calls `WriteTxn::file_removed`.
    pub replaced: Option<ReplacedFile>,
    /// What happened.
    pub outcome: Outcome,
    /// What the log should hear besides `RowValues::warnings`.
    pub warnings: Vec<Warning>,
}

/// Why a store was not applied.
#[derive(Debug, thiserror::Error)]
pub enum StoreRefusal {
    /// The object would move an existing row to another parent. Nothing was changed.
    #[error(
        "refused to enter inconsistent link {link} at {level:?} level: {key}, old {old}, refused {new}"
    )]
    Link {
        /// Level of the row that exists.
        level: Level,
        /// Element that would change.
        link: pyserver_proto::tag::Tag,
        /// Identifier of the row.
        key: String,
        /// Its parent.
        old: String,
        /// The parent the object names.
        new: String,
    },
    /// The object's file, which stands in its place, is another image's or a deleted one's. Nothing was changed.
    #[error("{file} is the file of another image, or of a deleted one and about to be removed")]
    Owned {
        /// The file's path below its device.
        file: String,
    },
    /// The index failed; the whole transaction is to be dropped.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Numbers of the rows an object belongs to, as far as they exist.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub patient: Option<u32>,
    pub study: Option<u32>,
    pub series: Option<u32>,
    pub image: Option<ImageKey>,
}

impl WriteTxn<'_> {
    /// Applies one store. After `StoreRefusal::Index` the transaction can only be dropped; after any other refusal
    /// it goes on as if nothing had been asked.
    pub fn store(&mut self, change: &StoreChange<'_>) -> Result<Stored, StoreRefusal> {
        if self.broken {
            return Err(IndexError::Corrupt("a change failed half-way").into());
        }
        let place = self.place(change.rows)?;
        if let Some(image) = place.image
            && change.blob.ignore_rewrite
            && !self.is_elsewhere(image)?
        {
            return Ok(self.ignored(image)?);
        }
        self.check_owner(&change.blob, place.image)?;
        let applied = self.apply(change, place);
        self.broken = applied.is_err();
        Ok(applied?)
    }

    /// Finds the rows the object belongs to and refuses links that disagree. Writes nothing.
    fn place(&mut self, rows: &RowValues) -> Result<Place, StoreRefusal> {
        let image = self.live_image(&rows.sop_instance)?;
        self.place_beside(rows, image)
    }

    /// The same for an image that has been looked up.
    pub(crate) fn place_beside(
        &mut self,
        rows: &RowValues,
        image: Option<ImageKey>,
    ) -> Result<Place, StoreRefusal> {
        if let Some(path) = self.state.parents.paths.get(&rows.series_uid) {
            let same_image = image.is_none_or(|image| image.series == path.series);
            if same_image && path.study_uid == rows.study_uid && path.patient_id == rows.patient_id
            {
                return Ok(Place {
                    patient: (path.patient != 0).then_some(path.patient),
                    study: Some(path.study),
                    series: Some(path.series),
                    image,
                });
            }
        }
        let place = Place {
            patient: self.live_row(Level::Patient, &rows.patient_id)?,
            study: self.live_row(Level::Study, &rows.study_uid)?,
            series: self.live_row(Level::Series, &rows.series_uid)?,
            image,
        };
        self.check_links(rows, place)?;
        Ok(place)
    }

    /// Compares the parents of existing rows with those the object names.
    fn check_links(&mut self, rows: &RowValues, place: Place) -> Result<(), StoreRefusal> {
        use pyserver_proto::tag::Tag;
        if let Some(image) = place.image
            && place.series != Some(image.series)
        {
            let old = self.key_text(Level::Series, image.series)?;
            let (key, new) = (&rows.sop_instance, &rows.series_uid);
            return Err(link(Level::Image, Tag::SERIES_INSTANCE_UID, key, old, new));
        }
        if let Some(series) = place.series {
            let study = self.head(Level::Series, series)?.parent;
            if place.study != Some(study) {
                let old = self.key_text(Level::Study, study)?;
                let (key, new) = (&rows.series_uid, &rows.study_uid);
                return Err(link(Level::Series, Tag::STUDY_INSTANCE_UID, key, old, new));
            }
        }
        if let Some(study) = place.study {
            let patient = self.head(Level::Study, study)?.parent;
            // An object without a patient ID (where that is allowed) joins the study's patient, and one
            // with an ID gives it to a study that has none.
            let free = patient == 0 || rows.patient_id.is_empty();
            if !free && place.patient != Some(patient) {
                let old = self.key_text(Level::Patient, patient)?;
                let (key, new) = (&rows.study_uid, &rows.patient_id);
                return Err(link(Level::Study, Tag::PATIENT_ID, key, old, new));
            }
        }
        Ok(())
    }

    /// Refuses an object whose file stands already when that file is not its own.
    fn check_owner(
        &self,
        blob: &BlobFacts<'_>,
        image: Option<ImageKey>,
    ) -> Result<(), StoreRefusal> {
        if blob.standing != Standing::Object {
            return Ok(());
        }
        match self.file_owner(blob.device, blob.file_candidate)? {
            Some(owner) if Some(owner) != image => Err(StoreRefusal::Owned {
                file: blob.file_candidate.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The answer to a re-store that is to be dropped.
    fn ignored(&mut self, image: ImageKey) -> Result<Stored, IndexError> {
        let row = self.index.tables.images.get(&self.txn, &image.encode())?;
        let row = ImageRow::split(row.ok_or(IndexError::Corrupt("image row"))?)?;
        let facts = row.facts()?;
        Ok(Stored {
            pending: None,
            image,
            device: facts.device,
            file: facts.file.to_owned(),
            follows: None,
            overwrites: false,
            replaced: None,
            outcome: Outcome::Ignored,
            warnings: Vec::new(),
        })
    }

    /// Writes everything. Any error leaves the transaction broken.
    fn apply(&mut self, change: &StoreChange<'_>, place: Place) -> Result<Stored, IndexError> {
        let mut warnings = Vec::new();
        let path = self.enter_parents(change.rows, change.now, place, &mut warnings)?;
        let image = place.image.unwrap_or_else(|| {
            self.counters.image += 1;
            ImageKey {
                series: path.series,
                image: self.counters.image,
            }
        });
        let old_row = match place.image {
            Some(image) => {
                let row = self.index.tables.images.get(&self.txn, &image.encode())?;
                Some(row.ok_or(IndexError::Corrupt("image row"))?.to_vec())
            }
            None => None,
        };
        let name = self.choose_file(image, old_row.as_deref(), &change.blob)?;
        self.counters.pending += 1;
        let pending = PendingId(self.counters.pending);
        let facts = FileFacts {
            device: change.blob.device,
            dataset_offset: change.blob.dataset_offset,
            file_bytes: change.blob.file_bytes,
            hash: change.blob.hash,
            transfer_syntax: change.blob.transfer_syntax,
            file: &name.file,
            pixel: change.blob.pixel,
        };
        self.put_pending(
            pending,
            image,
            change,
            &facts,
            old_row.as_deref(),
            name.replaced.as_ref(),
        )?;
        let added = self.put_image_row(image, change, pending, &facts, old_row.as_deref())?;
        self.count(&path, u32::from(place.image.is_none()), added);
        let kind = if old_row.is_some() {
            ChangeKind::Rewritten
        } else {
            ChangeKind::New
        };
        self.put_change(kind, image, change)?;
        self.put_jobs(change.jobs)?;
        Ok(Stored {
            pending: Some(pending),
            image,
            device: facts.device,
            follows: name.follows,
            overwrites: name.overwrites,
            replaced: name.replaced,
            outcome: if old_row.is_some() {
                Outcome::Rewritten
            } else {
                Outcome::New
            },
            warnings,
            file: name.file,
        })
    }

    /// Writes image row, lookup and header; answers by how much the bytes of files below have changed.
    fn put_image_row(
        &mut self,
        image: ImageKey,
        change: &StoreChange<'_>,
        pending: PendingId,
        facts: &FileFacts<'_>,
        old_row: Option<&[u8]>,
    ) -> Result<i64, IndexError> {
        let head = ImageHead {
            layout: self.index.layout_number,
            accessed: change.now,
            pending: pending.0,
        };
        let values = change.rows.level(Level::Image);
        let mut row = Vec::with_capacity(512);
        let mut added = facts.file_bytes as i64;
        if let Some(old) = old_row {
            let old = ImageRow::split(old)?;
            added -= old.facts()?.file_bytes as i64;
            let mut columns = Vec::with_capacity(256);
            let rule = UpdateRule::new(self.index.layout(), Level::Image, change.rows);
            merge(
                old.columns,
                values,
                &mut |p, was, is| rule.choose(p, was, is),
                &mut columns,
            );
            put_image(&mut row, head, &columns, facts);
        } else {
            put_image(&mut row, head, values, facts);
            self.enter_sop(&change.rows.sop_instance, image);
        }
        let tables = self.index.tables;
        tables.images.put(&mut self.txn, &image.encode(), &row)?;
        let number = image.image.to_be_bytes();
        append(tables.headers, &mut self.txn, &number, change.header)?;
        Ok(added)
    }

    /// Adjusts counts and bytes of the three parents and the totals.
    pub(crate) fn count(&mut self, path: &SeriesPath, new: u32, added: i64) {
        let rows = [
            (Level::Series, path.series),
            (Level::Study, path.study),
            (Level::Patient, path.patient),
        ];
        for (level, number) in rows {
            if let Some(row) = self.state.parents.change(level, number) {
                row.head.instances += new;
                row.head.bytes = row.head.bytes.saturating_add_signed(added);
            }
        }
        let [.., images] = &mut self.counters.alive;
        *images += u64::from(new);
        self.counters.file_bytes = self.counters.file_bytes.saturating_add_signed(added);
    }
}

fn link(
    level: Level,
    link: pyserver_proto::tag::Tag,
    key: &[u8],
    old: String,
    new: &[u8],
) -> StoreRefusal {
    StoreRefusal::Link {
        level,
        link,
        key: printable(key),
        old,
        new: printable(new),
    }
}
