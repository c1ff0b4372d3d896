//! Rows that came from another server: entered, updated, refused, stored over, taken back, deleted.

use pyserver_proto::tag::Tag;

use crate::apply::Outcome;
use crate::apply_tests::{Fixture, options};
use crate::clone_rows::{CloneOrigin, CloneReport, CloneSeries};
use crate::clone_source::CloneBuilder;
use crate::columns::Columns;
use crate::extract::ExtractPolicy;
use crate::extract::tests::header;
use crate::index::Index;
use crate::locate::Located;
use crate::schema::Level;
use crate::virtual_device::{device_name, is_virtual, virtual_device};

type Change<'a> = (Tag, Option<&'a str>);

fn origin(server: u16) -> CloneOrigin {
    CloneOrigin {
        device: virtual_device(server),
        source_ae: "SOURCE".into(),
        own_ae: "OURS".into(),
        now: 1_600_000_000,
    }
}

fn series(index: &Index, records: &[&[Change<'_>]]) -> Vec<CloneSeries> {
    let mut builder = CloneBuilder::new(index.extractor(), ExtractPolicy::default());
    for record in records {
        builder.push(&header(record)).unwrap();
    }
    builder.take()
}

/// Enters records as server `server` tells them.
fn enter(f: &Fixture, server: u16, records: &[&[Change<'_>]]) -> CloneReport {
    let series = series(&f.index, records);
    let mut txn = f.index.write().unwrap();
    let report = txn.enter_clones(&series, &origin(server)).unwrap();
    txn.commit().unwrap();
    report
}

fn counts(report: &CloneReport) -> [u64; 4] {
    [
        report.added,
        report.updated,
        report.unchanged,
        report.refused,
    ]
}

fn located(f: &Fixture, sop: &str) -> Option<Located> {
    f.index.read().unwrap().locate_sop(sop.as_bytes()).unwrap()
}

const A: Change<'_> = (Tag::SOP_INSTANCE_UID, Some("1.2.9.1.1.1.1"));
const B: Change<'_> = (Tag::SOP_INSTANCE_UID, Some("1.2.9.1.1.1.2"));
const C: Change<'_> = (Tag::SOP_INSTANCE_UID, Some("1.2.9.1.1.1.3"));

#[test]
fn records_are_added_once_and_updated_where_they_differ() {
    let f = Fixture::new();
    assert_eq!(counts(&enter(&f, 0, &[&[A], &[B]])), [2, 0, 0, 0]);
    assert_eq!(f.counts(), [1, 1, 1, 2]);
    let number = (Tag::INSTANCE_NUMBER, Some("77"));
    let again = enter(&f, 0, &[&[A], &[B, number], &[C]]);
    assert_eq!(counts(&again), [1, 1, 1, 0]);
    assert_eq!(f.counts(), [1, 1, 1, 3]);
    // Another server that has them, too, is where they are now.
    assert_eq!(counts(&enter(&f, 3, &[&[A]])), [0, 1, 0, 0]);
    let found = located(&f, "1.2.9.1.1.1.1").unwrap();
    assert_eq!(device_name(found.device), "MAG0.3");
    assert_eq!((found.file.as_str(), found.file_bytes), ("", 0));
    // The same record twice in one answer.
    let twice = (Tag::SOP_INSTANCE_UID, Some("1.2.9.1.1.1.4"));
    assert_eq!(counts(&enter(&f, 0, &[&[twice], &[twice]])), [1, 0, 1, 0]);
    let description = (Tag::STUDY_DESCRIPTION, Some("better"));
    enter(&f, 0, &[&[A, description]]);
    let study = f.value(Level::Study, "1.2.9.1.1", Tag::STUDY_DESCRIPTION);
    assert_eq!(study.as_deref(), Some("better"));
}

#[test]
fn images_are_found_again_after_a_start_from_one_record_per_series() {
    let mut f = Fixture::with(crate::index::IndexOptions {
        sop_memory_max: 1000,
        ..options()
    });
    enter(&f, 0, &[&[A], &[B], &[C]]);
    f.delete(Level::Image, "1.2.9.1.1.1.2");
    let changes = f.index.read().unwrap().changes(0, 10).unwrap();
    assert_eq!(changes.len(), 2);
    assert_eq!(
        (changes[0].images, changes[0].calling_ae.as_str()),
        (3, "SOURCE")
    );
    drop(f.index);
    let columns = Columns::default();
    f.index = Index::open(f.dir.path(), &columns, options(), &mut |_, _, _| {}).unwrap();
    assert!(located(&f, "1.2.9.1.1.1.1").is_some());
    assert!(located(&f, "1.2.9.1.1.1.2").is_none());
    assert!(located(&f, "1.2.9.1.1.1.3").is_some());
}

#[test]
fn what_changed_is_in_the_change_log() {
    let f = Fixture::new();
    enter(&f, 0, &[&[A], &[B], &[C]]);
    let after = |number: u64| f.index.read().unwrap().changes(number, 10).unwrap();
    let runs = |number: u64| -> Vec<(u64, u32)> {
        let changes = after(number);
        changes.iter().map(|c| (c.image.image, c.images)).collect()
    };
    assert_eq!(runs(0), [(1, 3)]);
    let number = (Tag::INSTANCE_NUMBER, Some("77"));
    enter(&f, 0, &[&[A], &[B], &[C]]);
    assert_eq!(runs(1), []);
    // Images one after the other share a record.
    enter(&f, 0, &[&[A, number], &[B], &[C, number]]);
    assert_eq!(runs(1), [(1, 1), (3, 1)]);
    let other = (Tag::INSTANCE_NUMBER, Some("78"));
    enter(&f, 0, &[&[A, number], &[B, other], &[C, other]]);
    assert_eq!(runs(3), [(2, 2)]);
    // Rows above alone.
    let name = (Tag::PATIENT_NAME, Some("Other^Name"));
    enter(&f, 0, &[&[A, number, name]]);
    assert_eq!(runs(4), [(1, 1)]);
    let last = after(4);
    assert_eq!(
        (last[0].key.as_slice(), last[0].calling_ae.as_str()),
        (&b"1.2.9.1.1.1"[..], "SOURCE")
    );
}

#[test]
fn clashes_are_refused_and_leave_no_rows() {
    let f = Fixture::new();
    enter(&f, 0, &[&[A]]);
    let other_patient = (Tag::PATIENT_ID, Some("OTHER"));
    let report = enter(&f, 0, &[&[B, other_patient], &[C, other_patient]]);
    assert_eq!(counts(&report), [0, 0, 0, 2]);
    assert!(report.refusals[0].contains("SC1"), "{report:?}");
    let elsewhere = [
        (Tag::SERIES_INSTANCE_UID, Some("1.2.9.1.2.1")),
        (Tag::STUDY_INSTANCE_UID, Some("1.2.9.1.2")),
        other_patient,
    ];
    let mut moved = elsewhere.to_vec();
    moved.push(A);
    assert_eq!(counts(&enter(&f, 0, &[&moved])), [0, 0, 0, 1]);
    assert_eq!(f.counts(), [1, 1, 1, 1]);
    // Beside one that is taken, the other is still refused.
    let mut fresh = elsewhere.to_vec();
    fresh.push(B);
    assert_eq!(counts(&enter(&f, 0, &[&moved, &fresh])), [1, 0, 0, 1]);
    assert_eq!(f.counts(), [2, 2, 2, 2]);
}

#[test]
fn a_file_that_is_here_stays_and_one_that_arrives_takes_the_row() {
    let f = Fixture::new();
    let here = f.store(&[A]).unwrap();
    f.settle(&here);
    let number = (Tag::INSTANCE_NUMBER, Some("5"));
    assert_eq!(counts(&enter(&f, 0, &[&[A, number], &[B]])), [1, 1, 0, 0]);
    assert_eq!(located(&f, "1.2.9.1.1.1.1").unwrap().file, here.file);

    // `IgnoreRewrite` must not drop an object of which only the row is here.
    let arrived = f.store_as(&[B], |blob| blob.ignore_rewrite = true).unwrap();
    assert_eq!(
        (arrived.outcome, arrived.replaced.as_ref()),
        (Outcome::Rewritten, None)
    );
    assert_eq!(arrived.file, "1.2.9.1.1.1.2.dcm");
    assert_eq!(located(&f, "1.2.9.1.1.1.2").unwrap().device, 0);
    assert_eq!(f.counts(), [1, 1, 1, 2]);
    // Taken back: the row is as before, and the name is free.
    let revoked = f.revoke(arrived.pending.unwrap());
    assert_eq!(
        revoked.file.map(|file| file.file),
        Some(arrived.file.clone())
    );
    assert!(is_virtual(located(&f, "1.2.9.1.1.1.2").unwrap().device));
    assert!(
        !f.index
            .read()
            .unwrap()
            .file_is_named(0, &arrived.file)
            .unwrap()
    );
    let bytes = f.index.read().unwrap().counters().unwrap().file_bytes;
    assert_eq!(bytes, 1000);
}

#[test]
fn of_two_stores_over_a_row_the_first_is_taken_back_alone() {
    let f = Fixture::new();
    enter(&f, 0, &[&[A]]);
    let first = f.store(&[A]).unwrap();
    let second = f.store_as(&[A], |blob| {
        blob.rename_on_rewrite = true;
        blob.file_candidate = "new.dcm";
    });
    let second = second.unwrap();
    let revoked = f.revoke(first.pending.unwrap());
    assert_eq!(revoked.file.map(|file| file.file), Some(first.file));
    let revoked = f.revoke(second.pending.unwrap());
    assert_eq!(
        revoked.file.map(|file| file.file),
        Some("new.dcm".to_owned())
    );
    assert!(is_virtual(located(&f, "1.2.9.1.1.1.1").unwrap().device));
}

#[test]
fn deleted_rows_ask_for_no_file() {
    let f = Fixture::new();
    enter(&f, 0, &[&[A], &[B]]);
    assert_eq!(f.delete(Level::Image, "1.2.9.1.1.1.1"), [0, 0, 0, 1]);
    assert_eq!(f.delete(Level::Patient, "SC1"), [1, 1, 1, 1]);
    assert!(f.reap().is_empty());
    assert_eq!(f.counts(), [0; 4]);
}
