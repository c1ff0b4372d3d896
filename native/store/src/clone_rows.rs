//! Entering rows that another server's answers describe: patient, study, series and image, without a file.
//!
//! Each image is looked for first. What is new is added; of what is known, values that differ are replaced by
//! the same rules as at a store, and a file that is here stays. A series arrives as one piece, so that the rows
//! above its images are touched once, and all its new images share one record of the change log; so do updated
//! ones that were entered one after the other. Where only rows above have changed, one of the images stands for
//! them.

use crate::apply::StoreRefusal;
use crate::changes::{Change, ChangeKind};
use crate::extract::{RowValues, printable};
use crate::heads::{FileFacts, ImageHead, ImageRow, put_image};
use crate::index::WriteTxn;
use crate::index_error::IndexError;
use crate::lmdb::append;
use crate::parents::SeriesPath;
use crate::row::merge;
use crate::schema::{ImageKey, Level};
use crate::update::UpdateRule;
use crate::virtual_device::is_virtual;

/// Reasons told of one call.
const REFUSALS_MAX: usize = 100;

/// Images of one series that say the same about patient, study and series.
#[derive(Debug, Clone)]
pub struct CloneSeries {
    /// What they say about patient, study and series; the values of the image level are not read.
    pub rows: RowValues,
    /// The images.
    pub images: Vec<CloneImage>,
}

/// What is said about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneImage {
    /// SOP Instance UID.
    pub sop_instance: Vec<u8>,
    /// Stored columns of the image level.
    pub columns: Vec<u8>,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneOrigin {
    /// The virtual device (`virtual_device`) that images without a file here get.
    pub device: u16,
    /// AE title of the server that was asked, for the change log.
    pub source_ae: String,
    /// Our own AE title.
    pub own_ae: String,
    /// Unix time in seconds.
    pub now: u32,
}

/// What became of the rows of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloneReport {
    /// Images that are new.
    pub added: u64,
    /// Images of which something else is said than before.
    pub updated: u64,
    /// Images that were known as they are.
    pub unchanged: u64,
    /// Images whose parents disagree with what is stored, and were left out.
    pub refused: u64,
    /// Why, of the first of these.
    pub refusals: Vec<String>,
}

impl CloneReport {
    /// Adds the figures of another call.
    pub fn add(&mut self, other: Self) {
        self.added += other.added;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.refused += other.refused;
        let room = REFUSALS_MAX.saturating_sub(self.refusals.len());
        self.refusals.extend(other.refusals.into_iter().take(room));
    }

    /// Images looked at.
    pub fn images(&self) -> u64 {
        self.added + self.updated + self.unchanged + self.refused
    }

    /// Counts images that were left out, and keeps why.
    pub fn refuse(&mut self, images: u64, reason: impl FnOnce() -> String) {
        self.refused += images;
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.push(reason());
        }
    }
}

impl WriteTxn<'_> {
    /// Enters these series. Images that clash with what is stored are reported and left out.
    ///
    /// Errors: the index failed; the transaction can only be dropped.
    pub fn enter_clones(
        &mut self,
        series: &[CloneSeries],
        origin: &CloneOrigin,
    ) -> Result<CloneReport, IndexError> {
        if self.broken {
            return Err(IndexError::Corrupt("a change failed half-way"));
        }
        let mut report = CloneReport::default();
        // Until the end, so that an error on the way spoils the transaction.
        self.broken = true;
        for one in series {
            self.enter_series(one, origin, &mut report)?;
        }
        self.broken = false;
        Ok(report)
    }

    fn enter_series(
        &mut self,
        series: &CloneSeries,
        origin: &CloneOrigin,
        report: &mut CloneReport,
    ) -> Result<(), IndexError> {
        let rows = &series.rows;
        let place = match self.place_beside(rows, None) {
            Ok(place) => place,
            Err(StoreRefusal::Index(error)) => return Err(error),
            Err(refusal) => {
                report.refuse(series.images.len() as u64, || refusal.to_string());
                return Ok(());
            }
        };
        // Entered with the first image that is taken, so that refused ones leave no empty rows behind.
        let mut path: Option<SeriesPath> = None;
        let first = self.counters.image + 1;
        let merged = self.state.parents.merged;
        let mut changed: Vec<(ImageKey, u32)> = Vec::new();
        let mut unchanged: Option<ImageKey> = None;
        for image in &series.images {
            let known = self.live_image(&image.sop_instance)?;
            let here = path.as_ref().map(|path| path.series).or(place.series);
            if known.is_some_and(|key| Some(key.series) != here) {
                report.refuse(1, || moved(image, rows));
                continue;
            }
            let number = if let Some(path) = &path {
                path.series
            } else {
                let entered = self.enter_parents(rows, origin.now, place, &mut Vec::new())?;
                path.insert(entered).series
            };
            match known {
                Some(key) if self.update_clone(key, image, rows, origin)? => {
                    report.updated += 1;
                    note_changed(&mut changed, key);
                }
                Some(key) => {
                    report.unchanged += 1;
                    unchanged = Some(key);
                }
                None => self.add_clone(number, image, origin)?,
            }
        }
        let added = (self.counters.image + 1 - first) as u32;
        report.added += u64::from(added);
        if let Some(path) = path.filter(|_| added > 0) {
            self.count(&path, added, 0);
            let image = ImageKey {
                series: path.series,
                image: first,
            };
            self.log_clones(image, added, rows, origin)?;
        }
        if self.state.parents.merged != merged && added == 0 && changed.is_empty() {
            changed.extend(unchanged.map(|key| (key, 1)));
        }
        for (image, images) in changed {
            self.log_clones(image, images, rows, origin)?;
        }
        Ok(())
    }

    fn add_clone(
        &mut self,
        series: u32,
        image: &CloneImage,
        origin: &CloneOrigin,
    ) -> Result<(), IndexError> {
        self.counters.image += 1;
        let key = ImageKey {
            series,
            image: self.counters.image,
        };
        self.put_clone(key, &image.columns, origin)?;
        self.enter_sop(&image.sop_instance, key);
        Ok(())
    }

    fn put_clone(
        &mut self,
        key: ImageKey,
        columns: &[u8],
        origin: &CloneOrigin,
    ) -> Result<(), IndexError> {
        let head = ImageHead {
            layout: self.index.layout_number,
            accessed: origin.now,
            pending: 0,
        };
        let mut row = Vec::with_capacity(columns.len() + 32);
        put_image(
            &mut row,
            head,
            columns,
            &FileFacts::elsewhere(origin.device),
        );
        append(self.index.tables.images, &mut self.txn, &key.encode(), &row)?;
        Ok(())
    }

    /// Brings a known image up to date; answers whether anything is different now.
    fn update_clone(
        &mut self,
        key: ImageKey,
        image: &CloneImage,
        rows: &RowValues,
        origin: &CloneOrigin,
    ) -> Result<bool, IndexError> {
        let images = self.index.tables.images;
        let row = images.get(&self.txn, &key.encode())?;
        let row = row.ok_or(IndexError::Corrupt("image row"))?.to_vec();
        let old = ImageRow::split(&row)?;
        let facts = old.facts()?;
        let rule = UpdateRule::new(self.index.layout(), Level::Image, rows);
        let before = rule.recoded(old.columns);
        let mut columns = Vec::with_capacity(before.len() + 64);
        let choose = &mut |p: usize, was: &[u8], is: &[u8]| rule.choose(p, was, is);
        let changed = merge(&before, &image.columns, choose, &mut columns);
        let elsewhere = is_virtual(facts.device);
        if !changed && (!elsewhere || facts.device == origin.device) {
            return Ok(false);
        }
        if elsewhere {
            self.put_clone(key, &columns, origin)?;
        } else {
            let mut row = Vec::with_capacity(512);
            put_image(&mut row, old.head, &columns, &facts);
            images.put(&mut self.txn, &key.encode(), &row)?;
        }
        Ok(true)
    }

    fn log_clones(
        &mut self,
        image: ImageKey,
        images: u32,
        rows: &RowValues,
        origin: &CloneOrigin,
    ) -> Result<(), IndexError> {
        self.log(&Change {
            number: 0,
            kind: ChangeKind::Cloned,
            level: Level::Series,
            time: origin.now,
            image,
            images,
            key: rows.series_uid.clone(),
            calling_ae: origin.source_ae.clone(),
            called_ae: origin.own_ae.clone(),
        })
    }

    /// Whether the file of an image is elsewhere.
    pub(crate) fn is_elsewhere(&self, image: ImageKey) -> Result<bool, IndexError> {
        let row = self.index.tables.images.get(&self.txn, &image.encode())?;
        let row = ImageRow::split(row.ok_or(IndexError::Corrupt("image row"))?)?;
        Ok(is_virtual(row.facts()?.device))
    }
}

/// Adds an image to the runs of consecutive ones.
fn note_changed(changed: &mut Vec<(ImageKey, u32)>, key: ImageKey) {
    match changed.last_mut() {
        Some((first, images)) if first.image + u64::from(*images) == key.image => *images += 1,
        _ => changed.push((key, 1)),
    }
}

fn moved(image: &CloneImage, rows: &RowValues) -> String {
    format!(
        "{} is known in another series than {}",
        printable(&image.sop_instance),
        printable(&rows.series_uid)
    )
}
