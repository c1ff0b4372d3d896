//! Keeps a database in step with the index: what the change log says has happened is done there too.
//!
//! The index is committed first. What a batch then brings to the database is not the changes themselves but the
//! rows as they stand now, and deletes where nothing stands: doing it again, or doing only the end of a long
//! history, gives the same tables. So all that is remembered is the number of the last change that was done, and
//! it may lag behind: it is written with a later commit, once what it stands for would survive a power cut. A
//! start goes on from there; so does a connection that comes back.
//!
//! A database that stands before what the change log still has, as a new one may, is first given all rows there
//! are, in the order of the index.
//!
//! A database that cannot be reached is waited for once; after that stores are refused before they are applied,
//! and one of them in a second tries again. One that is away at the start is treated like that from the start on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::adopt::reconcile;
use crate::bytes::Reader;
use crate::changes::{Change, ChangeKind};
use crate::driver::{Cell, Driver, DriverBatch, DriverError, TextForm};
use crate::error::StoreError;
use crate::extract::RowValues;
use crate::failure::Failure;
use crate::index::{Index, Progress, ReadTxn, WriteTxn};
use crate::index_error::IndexError;
use crate::lmdb::behind_key;
use crate::mirror_rows::RowMaker;
use crate::recover::RecoveryReport;
use crate::schema::{ImageKey, Level, meta_key};

/// Changes brought to the database at once.
const CHANGES_MAX: usize = 2048;
/// Images that these may speak of together. LIMIT: some 4 KiB each, as rows of the index, of the driver and of
/// its client library.
const IMAGES_MAX: u32 = 16_384;
/// Images brought to the database at once while it is given all of them.
const FILLED_MAX: usize = 2048;
/// A database that went away is waited for this long before stores are refused.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Pause between two tries while waiting.
const WAIT_PAUSE: Duration = Duration::from_millis(200);
/// The mark is written this often at most: what came since is done again after a crash.
const NOTE_PAUSE: Duration = Duration::from_secs(2);
/// Pause between two tries while stores are refused.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// How far a database has followed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// The last change done.
    pub change: u64,
    /// Rows that the database had more than the index when they were last compared.
    pub surplus: [i64; 4],
    /// Which database.
    pub identity: String,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.change.to_be_bytes().to_vec();
        for surplus in self.surplus {
            out.extend_from_slice(&surplus.to_be_bytes());
        }
        out.extend_from_slice(self.identity.as_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let change = r.u64()?;
        let mut surplus = [0; 4];
        for place in &mut surplus {
            *place = r.u64()? as i64;
        }
        let identity = String::from_utf8(r.rest().to_vec()).ok()?;
        Some(Self {
            change,
            surplus,
            identity,
        })
    }
}

struct State {
    mark: Mark,
    /// As the index has it.
    saved: Mark,
    /// When it was written.
    noted: Instant,
    /// Why the database does nothing, and when it was last tried.
    away: Option<(DriverError, Instant)>,
    /// How far it has been given all rows.
    filled: Filled,
}

/// How far a database has been given all rows, because the change log does not go back to where it stands.
enum Filled {
    /// Up to this key in `images`; empty at the start.
    To(Vec<u8>),
    /// It has them.
    All,
}

/// The database that follows the index.
pub(crate) struct Mirror {
    pub driver: Arc<dyn Driver>,
    state: Mutex<State>,
}

impl Mirror {
    /// Reads how far the database has followed; another database than last time has followed nowhere.
    pub(crate) fn open(driver: Arc<dyn Driver>, index: &Index) -> Result<Self, IndexError> {
        let txn = index.read()?;
        let record = index.tables.meta.get(&txn.txn, meta_key::MIRROR)?;
        let saved = record.and_then(Mark::decode).unwrap_or_default();
        let identity = driver.identity();
        let mark = if saved.identity == identity {
            saved.clone()
        } else {
            Mark {
                identity,
                ..Mark::default()
            }
        };
        index.set_changes_followed(mark.change);
        Ok(Self {
            driver,
            state: Mutex::new(State {
                mark,
                saved,
                noted: Instant::now(),
                away: None,
                filled: Filled::To(Vec::new()),
            }),
        })
    }

    /// Opens the mirror of a driver and brings both in step.
    pub(crate) fn start(
        driver: Option<Arc<dyn Driver>>,
        index: &Index,
        report: &mut RecoveryReport,
        progress: Progress<'_>,
    ) -> Result<Option<Arc<Self>>, StoreError> {
        let Some(driver) = driver else {
            index.set_changes_followed(u64::MAX);
            return Ok(None);
        };
        let mirror = Self::open(driver, index)?;
        let adopted = reconcile(&mirror, index, progress)?;
        report.adopted = adopted.images;
        report.problems.extend(adopted.problems);
        Ok(Some(Arc::new(mirror)))
    }

    /// Whether the database cannot be reached.
    pub(crate) fn is_away(&self) -> bool {
        self.state.lock().away.is_some()
    }

    /// How far it has followed.
    pub(crate) fn mark(&self) -> Mark {
        self.state.lock().mark.clone()
    }

    /// Sets how far it has followed, and what it had more.
    pub(crate) fn set_mark(&self, change: u64, surplus: [i64; 4]) {
        let mut state = self.state.lock();
        (state.mark.change, state.mark.surplus) = (change, surplus);
        state.filled = Filled::To(Vec::new());
    }

    /// Writes the mark with a commit of the index, now and then.
    pub(crate) fn note(&self, txn: &mut WriteTxn<'_>) -> Result<(), IndexError> {
        let (mark, due) = {
            let state = self.state.lock();
            let due = state.saved != state.mark && state.noted.elapsed() >= NOTE_PAUSE;
            (state.mark.clone(), due)
        };
        // A database that cannot be synced now keeps the older mark, which is as good.
        if !due || self.driver.sync().is_err() {
            return Ok(());
        }
        let meta = txn.index.tables.meta;
        meta.put(&mut txn.txn, meta_key::MIRROR, &mark.encode())?;
        let mut state = self.state.lock();
        // The mark before this one is surely committed.
        let before = state.saved.identity == mark.identity;
        let before = if before { state.saved.change } else { 0 };
        txn.index.set_changes_followed(before.min(mark.change));
        state.saved = mark;
        state.noted = Instant::now();
        Ok(())
    }

    /// Has the next commit write the mark.
    pub(crate) fn note_now(&self) {
        let now = Instant::now();
        self.state.lock().noted = now.checked_sub(NOTE_PAUSE).unwrap_or(now);
    }

    /// Whether a mark waits to be written.
    pub(crate) fn is_noted(&self) -> bool {
        let state = self.state.lock();
        state.saved == state.mark
    }

    /// Whether stores may be applied. While the database is away, tries it now and then.
    pub(crate) fn ready(&self, index: &Index) -> Result<(), Failure> {
        let away = self.state.lock().away.clone();
        match away {
            None => Ok(()),
            Some((_, tried)) if tried.elapsed() >= AWAY_PAUSE => self.follow(index),
            Some((error, _)) => Err(error.into()),
        }
    }

    /// Refuses what the tables cannot hold as it is: a key that would be cut could become another's.
    pub(crate) fn check(&self, rows: &RowValues) -> Result<(), String> {
        let keys = [
            (Level::Patient, &rows.patient_id),
            (Level::Study, &rows.study_uid),
            (Level::Series, &rows.series_uid),
            (Level::Image, &rows.sop_instance),
        ];
        for (level, key) in keys {
            let most = self.driver.key_length_max(level);
            if most > 0 && key.len() > most {
                let level = level.name();
                return Err(format!(
                    "the {level} identifier has {} characters, the database's column {most}",
                    key.len()
                ));
            }
        }
        Ok(())
    }

    /// Brings everything committed to the database. When it is away it is waited for, unless it was before.
    pub(crate) fn follow(&self, index: &Index) -> Result<(), Failure> {
        loop {
            let after = self.state.lock().mark.change;
            if after < index.read()?.pruned()? {
                self.fill(index)?;
            }
            let mut changes = index.read()?.changes(after, CHANGES_MAX)?;
            changes.truncate(portion(&changes));
            let Some(last) = changes.last().map(|change| change.number) else {
                return self.answers_again();
            };
            if let Some(change) = changes.first_mut() {
                self.bring_ahead(index, change)?;
            }
            self.bring(index, &changes)?;
            let mut state = self.state.lock();
            state.mark.change = last;
            state.away = None;
        }
    }

    /// Gives the database all rows there are, unless it has had them; goes on where it was interrupted, since what
    /// happened meanwhile is in the change log.
    fn fill(&self, index: &Index) -> Result<(), Failure> {
        loop {
            let after = match &self.state.lock().filled {
                Filled::All => return Ok(()),
                Filled::To(key) => key.clone(),
            };
            let txn = index.read()?;
            let mut maker = RowMaker::new(&txn, self.driver.text_form());
            let images = txn.index.tables.images;
            let mut last = None;
            for item in images
                .range(&txn.txn, &behind_key(&after))
                .map_err(IndexError::from)?
                .take(FILLED_MAX)
            {
                let (key, _) = item.map_err(IndexError::from)?;
                maker.image(ImageKey::decode(key).ok_or(IndexError::Corrupt("image key"))?)?;
                last = Some(key.to_vec());
            }
            let batch = maker.finish(Vec::new());
            drop(txn);
            self.bring_rows(index, &batch)?;
            self.state.lock().filled = last.map_or(Filled::All, Filled::To);
        }
    }

    /// Nothing is left to bring: a database that was away is asked whether it is there.
    fn answers_again(&self) -> Result<(), Failure> {
        if self.is_away() {
            let asked = self.driver.apply(&DriverBatch::default());
            asked.map_err(|error| self.gone(error))?;
        }
        self.state.lock().away = None;
        Ok(())
    }

    /// Of a change with more images than are brought at once, brings all but the last of them and takes those off.
    fn bring_ahead(&self, index: &Index, change: &mut Change) -> Result<(), Failure> {
        while change.images > IMAGES_MAX {
            let mut part = change.clone();
            part.images = IMAGES_MAX;
            self.bring(index, &[part])?;
            change.image.image += u64::from(IMAGES_MAX);
            change.images -= IMAGES_MAX;
        }
        Ok(())
    }

    /// Brings some changes; those of one transaction are there as a whole or not at all.
    fn bring(&self, index: &Index, changes: &[Change]) -> Result<(), Failure> {
        let batch = self.batch(&index.read()?, changes)?;
        self.bring_rows(index, &batch)
    }

    /// Applies a batch, and what the database then asks for of the studies in it.
    fn bring_rows(&self, index: &Index, batch: &DriverBatch) -> Result<(), Failure> {
        let studies = self.apply(batch)?;
        if studies.is_empty() {
            return Ok(());
        }
        let txn = index.read()?;
        let mut maker = RowMaker::new(&txn, self.driver.text_form());
        for study in studies {
            maker.study(&study)?;
        }
        let batch = maker.finish(Vec::new());
        drop(txn);
        self.apply(&batch)?;
        Ok(())
    }

    /// What the rows are now that the changes speak of.
    fn batch(&self, txn: &ReadTxn<'_>, changes: &[Change]) -> Result<DriverBatch, IndexError> {
        let form = self.driver.text_form();
        let mut maker = RowMaker::new(txn, form);
        let mut deletes: HashSet<(Level, &[u8])> = HashSet::new();
        let mut gone = Vec::new();
        for change in changes {
            // What is there now, if anything: it may have come again since.
            let stands = match (change.level, change.kind) {
                (Level::Image, _) => match txn.find_image(&change.key)? {
                    Some(image) => maker.image(image)?,
                    None => false,
                },
                (Level::Study, ChangeKind::Rewritten) => maker.whole_study(&change.key)?,
                (Level::Series, ChangeKind::Cloned) => {
                    maker.images(change.image, change.images)?;
                    true
                }
                _ => false,
            };
            let goes = change.kind == ChangeKind::Deleted || !stands;
            if goes && deletes.insert((change.level, &change.key)) {
                gone.push((change.level, key_cell(&change.key, form)));
            }
        }
        Ok(maker.finish(gone))
    }

    fn apply(&self, batch: &DriverBatch) -> Result<Vec<Vec<u8>>, Failure> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        loop {
            match self.driver.apply(batch) {
                Ok(studies) => return Ok(studies),
                Err(error @ DriverError::Away(_)) => {
                    let was_away = self.state.lock().away.is_some();
                    if was_away || started.elapsed() >= WAIT_MAX {
                        return Err(self.gone(error));
                    }
                    std::thread::sleep(WAIT_PAUSE);
                }
                Err(error) => return Err(self.gone(error)),
            }
        }
    }

    /// Whether an error of the start only means that the database has to be waited for.
    pub(crate) fn may_come_back(&self) -> Option<String> {
        match &self.state.lock().away {
            Some((error @ DriverError::Away(_), _)) => Some(error.to_string()),
            _ => None,
        }
    }

    /// Notes why the database does nothing.
    pub(crate) fn gone(&self, error: DriverError) -> Failure {
        self.state.lock().away = Some((error.clone(), Instant::now()));
        error.into()
    }
}

/// How many of the changes are brought together: the first, and others while their images are not too many.
fn portion(changes: &[Change]) -> usize {
    let mut images = 0;
    let fits = |change: &&Change| {
        let before = images;
        images += change.images.max(1);
        before == 0 || images <= IMAGES_MAX
    };
    changes.iter().take_while(fits).count()
}

impl WriteTxn<'_> {
    /// Whether the transaction has anything for the change log.
    pub(crate) fn logs_changes(&self) -> bool {
        let before = self.state.counters.map_or(0, |counters| counters.change);
        self.counters.change != before
    }
}

/// A key as the database has it. Keys beyond ASCII in an unknown character set are Latin-1.
pub(crate) fn key_cell(key: &[u8], form: TextForm) -> Cell {
    match (form, std::str::from_utf8(key)) {
        (_, Ok(text)) if key.is_ascii() => Cell::Text(text.to_owned()),
        (TextForm::Raw, _) => Cell::Raw(key.to_vec()),
        (TextForm::Unicode, Ok(text)) => Cell::Text(text.to_owned()),
        (TextForm::Unicode, Err(_)) => Cell::Text(key.iter().map(|&b| char::from(b)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_mark_comes_back() {
        let mark = Mark {
            change: 7,
            surplus: [1, -2, 0, i64::MAX],
            identity: "sqlite:/a".into(),
        };
        assert_eq!(Mark::decode(&mark.encode()), Some(mark));
    }

    #[test]
    fn a_portion_has_no_more_images_than_are_brought_at_once() {
        let change = |images| Change {
            number: 0,
            kind: ChangeKind::Cloned,
            level: Level::Series,
            time: 0,
            image: crate::schema::ImageKey::default(),
            images,
            key: Vec::new(),
            calling_ae: String::new(),
            called_ae: String::new(),
        };
        let of = |images: &[u32]| portion(&images.iter().copied().map(change).collect::<Vec<_>>());
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[0, 0, IMAGES_MAX - 2, 1]), 3);
        assert_eq!(of(&[IMAGES_MAX * 3, 1]), 1);
        assert_eq!(of(&[1, IMAGES_MAX]), 1);
    }

    proptest! {
        #[test]
        fn damaged_marks_are_none(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(mark) = Mark::decode(&bytes) {
                prop_assert_eq!(mark.encode(), bytes);
            }
        }
    }
}
