//! The change log and a database that follows it: what is taken off, and what a database is given instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use pyserver_proto::tag::Tag;

use crate::apply_tests::{Fixture, options};
use crate::changes::ChangeKind;
use crate::driver::{
    Cell, Condition, Driver, DriverBatch, DriverError, Row, RowPages, RowQuery, TextForm,
};
use crate::index::{Index, IndexOptions};
use crate::mirror::Mirror;
use crate::schema::Level;

/// A database that knows which images it has, and which goes away now and then.
#[derive(Default)]
struct Images {
    names: Mutex<BTreeSet<String>>,
    /// Batches until it is away once.
    away_in: Mutex<Option<u32>>,
}

impl Driver for Images {
    fn identity(&self) -> String {
        "images".into()
    }

    fn text_form(&self) -> TextForm {
        TextForm::Unicode
    }

    fn key_length_max(&self, _level: Level) -> usize {
        0
    }

    fn apply(&self, batch: &DriverBatch) -> Result<Vec<Vec<u8>>, DriverError> {
        let mut away_in = self.away_in.lock();
        if *away_in == Some(0) {
            *away_in = None;
            return Err(DriverError::Refused("once".into()));
        }
        *away_in = away_in.map(|left| left - 1);
        let mut names = self.names.lock();
        for (level, key) in &batch.deletes {
            if let (Level::Image, Cell::Text(key)) = (level, key) {
                names.remove(key);
            }
        }
        let [.., images] = &batch.rows;
        for row in images {
            // The file's name comes last but one; the fixture names files after their objects.
            if let [.., Cell::Text(file), _] = row.as_slice() {
                names.insert(file.trim_end_matches(".dcm").to_owned());
            }
        }
        Ok(Vec::new())
    }

    fn sync(&self) -> Result<(), DriverError> {
        Ok(())
    }

    fn find(&self, _query: &RowQuery) -> Result<Box<dyn RowPages>, DriverError> {
        Err(DriverError::Refused("it only counts".into()))
    }

    fn worklist(
        &self,
        _columns: usize,
        _conditions: &[(usize, Condition)],
    ) -> Result<Box<dyn RowPages>, DriverError> {
        Err(DriverError::Refused("it has none".into()))
    }

    fn change_worklist(
        &self,
        _removed: &[Vec<(usize, Cell)>],
        _added: &[Row],
    ) -> Result<u64, DriverError> {
        Err(DriverError::Refused("it has none".into()))
    }

    fn counts(&self) -> Result<[u64; 4], DriverError> {
        Ok([0, 0, 0, self.names.lock().len() as u64])
    }
}

fn fixture() -> Fixture {
    Fixture::with(IndexOptions {
        sop_memory_max: 10,
        ..options()
    })
}

fn uid(number: u32) -> String {
    format!("1.7.{number}")
}

fn store(f: &Fixture, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let sop = uid(number);
        let stored = f.store(&[(Tag::SOP_INSTANCE_UID, Some(&sop))]).unwrap();
        f.settle(&stored);
    }
}

/// Numbers and kinds of the records that are left.
fn log(index: &Index) -> Vec<(u64, ChangeKind)> {
    let changes = index.read().unwrap().changes(0, 10_000).unwrap();
    changes.iter().map(|c| (c.number, c.kind)).collect()
}

#[test]
fn the_log_keeps_what_is_still_needed() {
    let mut f = fixture();
    store(&f, 0..100);
    assert_eq!(log(&f.index).len(), 100, "nobody has said that it may go");
    f.index.set_changes_followed(40);
    store(&f, 100..150);
    let left = log(&f.index);
    assert_eq!((left[0].0, left.len()), (41, 110));
    f.index.set_changes_followed(u64::MAX);
    f.delete(Level::Image, &uid(7));
    store(&f, 150..300);
    let left = log(&f.index);
    assert_eq!(left[0], (151, ChangeKind::Deleted));
    assert!(left.len() < 30, "{left:?}");
    // What the SOP index has in memory only is still there.
    drop(f.index);
    f.index = Index::open(
        f.dir.path(),
        &crate::columns::Columns::default(),
        options(),
        &mut |_, _, _| {},
    )
    .unwrap();
    let txn = f.index.read().unwrap();
    let found = |number: &u32| txn.find_image(uid(*number).as_bytes()).unwrap().is_some();
    assert_eq!((0..300).filter(found).count(), 299);
}

/// Re-stores make no entries of the SOP index, and yet the log must not grow with them.
#[test]
fn the_log_of_the_same_images_again_is_short() {
    let f = fixture();
    f.index.set_changes_followed(u64::MAX);
    for _ in 0..60 {
        store(&f, 0..3);
    }
    let left = log(&f.index);
    assert!(left.len() < 60, "{}", left.len());
}

#[test]
fn a_database_before_the_log_is_given_all_rows() {
    let f = fixture();
    f.index.set_changes_followed(u64::MAX);
    store(&f, 0..200);
    f.delete(Level::Image, &uid(3));
    store(&f, 200..300);
    assert!(log(&f.index).len() < 50);
    let driver = Arc::new(Images::default());
    // It still has what was deleted since.
    driver.names.lock().insert(uid(3));
    *driver.away_in.lock() = Some(1);
    let mirror = Mirror::open(Arc::clone(&driver) as Arc<dyn Driver>, &f.index).unwrap();
    assert!(mirror.follow(&f.index).is_err(), "it goes away once");
    store(&f, 300..310);
    mirror.follow(&f.index).unwrap();
    let wanted: BTreeSet<String> = (0..310).filter(|n| *n != 3).map(uid).collect();
    assert_eq!(*driver.names.lock(), wanted);
    assert_eq!(mirror.mark().change, log(&f.index).last().unwrap().0);
    // Nothing is taken off that it has not noted.
    store(&f, 310..330);
    let kept = log(&f.index).len();
    store(&f, 330..350);
    assert_eq!(log(&f.index).len(), kept + 20);
    mirror.follow(&f.index).unwrap();
    for numbers in [350..351, 351..352] {
        mirror.note_now();
        let mut txn = f.index.write().unwrap();
        mirror.note(&mut txn).unwrap();
        txn.commit().unwrap();
        store(&f, numbers);
        mirror.follow(&f.index).unwrap();
    }
    store(&f, 352..380);
    assert!(log(&f.index).len() < kept, "{:?}", log(&f.index));
}
