//! Stores, re-stores, refusals, revokes and deletes over a real environment.

use pyserver_proto::tag::Tag;
use tempfile::TempDir;

use crate::apply::{BlobFacts, Outcome, Standing, StoreChange, StoreRefusal, Stored};
use crate::columns::Columns;
use crate::delete::DeleteTarget;
use crate::extract::ExtractPolicy;
use crate::extract::tests::header;
use crate::index::{Index, IndexOptions};
use crate::pending::{PendingId, PendingKind, Revoked};
use crate::row::column;
use crate::schema::Level;

/// An index in a folder that goes with it.
pub struct Fixture {
    pub index: Index,
    pub policy: ExtractPolicy,
    pub dir: TempDir,
}

pub fn options() -> IndexOptions {
    IndexOptions {
        map_bytes: 1 << 28,
        // Few, so that runs are written and merged.
        sop_memory_max: 3,
    }
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(options())
    }

    pub fn with(options: IndexOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path(), &Columns::default(), options, &mut |_, _, _| {});
        Self {
            index: index.unwrap(),
            policy: ExtractPolicy::default(),
            dir,
        }
    }

    pub fn store(&self, changes: &[(Tag, Option<&str>)]) -> Result<Stored, StoreRefusal> {
        self.store_as(changes, |_| {})
    }

    pub fn store_as(
        &self,
        changes: &[(Tag, Option<&str>)],
        edit: impl FnOnce(&mut BlobFacts<'_>),
    ) -> Result<Stored, StoreRefusal> {
        let header = header(changes);
        let rows = self
            .index
            .extractor()
            .extract(&header, self.policy)
            .unwrap();
        let file = format!("{}.dcm", String::from_utf8_lossy(&rows.sop_instance));
        let mut blob = BlobFacts {
            device: 0,
            file_candidate: &file,
            standing: Standing::Nothing,
            rename_on_rewrite: false,
            ignore_rewrite: false,
            transfer_syntax: "1.2.840.10008.1.2.1",
            file_bytes: 1000,
            dataset_offset: 340,
            hash: [1; 16],
            pixel: &[],
        };
        edit(&mut blob);
        let mut txn = self.index.write().unwrap();
        let stored = txn.store(&StoreChange {
            rows: &rows,
            blob,
            header: &[],
            pending: PendingKind::Temp("1.part"),
            calling_ae: "SCU",
            called_ae: "SCP",
            jobs: &[],
            now: 1_600_000_000,
        });
        txn.commit().unwrap();
        stored
    }

    pub fn settle(&self, stored: &Stored) {
        let mut txn = self.index.write().unwrap();
        txn.settle(&[stored.pending.unwrap()]).unwrap();
        txn.commit().unwrap();
    }

    pub fn revoke(&self, id: PendingId) -> Revoked {
        let mut txn = self.index.write().unwrap();
        let revoked = txn.revoke(id).unwrap();
        txn.commit().unwrap();
        revoked
    }

    pub fn delete(&self, level: Level, id: &str) -> [u64; 4] {
        let mut txn = self.index.write().unwrap();
        let target = DeleteTarget {
            level,
            id: id.as_bytes(),
        };
        let summary = txn.delete(target, 1_600_000_001).unwrap();
        txn.commit().unwrap();
        summary.rows
    }

    pub fn reap(&self) -> Vec<String> {
        let mut files = Vec::new();
        loop {
            let mut txn = self.index.write().unwrap();
            let reaped = txn.reap(3).unwrap();
            for file in &reaped.files {
                txn.file_removed(file).unwrap();
            }
            txn.commit().unwrap();
            files.extend(reaped.files.into_iter().map(|f| f.file));
            if !reaped.more || reaped.blocked > 0 {
                return files;
            }
        }
    }

    pub fn counts(&self) -> [u64; 4] {
        self.index.read().unwrap().counters().unwrap().alive
    }

    pub fn value(&self, level: Level, id: &str, tag: Tag) -> Option<String> {
        let txn = self.index.read().unwrap();
        let number = txn.find_row(level, id.as_bytes()).unwrap()?;
        let (_, columns) = txn.parent_row(level, number).unwrap()?;
        let position = self.index.layout().position(level, tag)?;
        column(columns, position).map(|v| String::from_utf8_lossy(v).into_owned())
    }
}

const SOP: Tag = Tag::SOP_INSTANCE_UID;
const SERIES: Tag = Tag::SERIES_INSTANCE_UID;
const STUDY: Tag = Tag::STUDY_INSTANCE_UID;
const PATIENT: Tag = Tag::PATIENT_ID;

#[test]
fn a_store_makes_four_rows_and_a_restore_none() {
    let f = Fixture::new();
    let first = f.store(&[]).unwrap();
    assert_eq!(first.outcome, Outcome::New);
    assert_eq!(f.counts(), [1, 1, 1, 1]);
    let changes = [
        (Tag::STUDY_DESCRIPTION, Some("second desc")),
        (Tag::SERIES_DESCRIPTION, Some("")),
        (Tag::PATIENT_NAME, Some("Scen^Changed")),
        (Tag::PATIENT_SEX, Some("O")),
        (Tag::PATIENT_BIRTH_DATE, Some("19600101")),
    ];
    let second = f.store(&changes).unwrap();
    assert_eq!(second.outcome, Outcome::Rewritten);
    assert_eq!((second.image, &second.file), (first.image, &first.file));
    assert_eq!(second.follows, first.pending);
    assert_eq!(f.counts(), [1, 1, 1, 1]);
    let value = |level, id, tag| f.value(level, id, tag).unwrap();
    assert_eq!(
        value(Level::Study, "1.2.9.1.1", Tag::STUDY_DESCRIPTION),
        "second desc"
    );
    assert_eq!(
        value(Level::Series, "1.2.9.1.1.1", Tag::SERIES_DESCRIPTION),
        "ser desc"
    );
    for (level, id) in [(Level::Patient, "SC1"), (Level::Study, "1.2.9.1.1")] {
        assert_eq!(value(level, id, Tag::PATIENT_NAME), "Scen^Changed");
        assert_eq!(value(level, id, Tag::PATIENT_SEX), "M");
        assert_eq!(value(level, id, Tag::PATIENT_BIRTH_DATE), "19600304");
    }
    assert_eq!(second.warnings.len(), 2, "{:?}", second.warnings);
}

#[test]
fn inconsistent_links_are_refused_and_change_nothing() {
    let f = Fixture::new();
    f.store(&[]).unwrap();
    let cases: [&[(Tag, Option<&str>)]; 6] = [
        &[(PATIENT, Some("SC2"))],
        &[
            (PATIENT, Some("SC2")),
            (STUDY, Some("1.2.9.2.1")),
            (SERIES, Some("1.2.9.2.1.1")),
        ],
        &[(SOP, Some("1.2.9.1.1.1.2")), (PATIENT, Some("SC2"))],
        &[(SOP, Some("1.2.9.1.1.1.2")), (STUDY, Some("1.2.9.1.2"))],
        &[(SERIES, Some("1.2.9.1.1.2"))],
        &[(SOP, Some("1.2.9.1.1.1.2")), (PATIENT, Some("sc1"))],
    ];
    for changes in cases {
        let refused = f.store(changes);
        assert!(
            matches!(refused, Err(StoreRefusal::Link { .. })),
            "{refused:?}"
        );
        assert_eq!(f.counts(), [1, 1, 1, 1]);
    }
    let other = [
        (SOP, Some("9.1")),
        (STUDY, Some("9.2")),
        (SERIES, Some("9.3")),
        (PATIENT, Some("sc1")),
    ];
    f.store(&other).unwrap();
    assert_eq!(f.counts(), [2, 2, 2, 2]);
}

#[test]
fn modalities_are_collected_and_forgotten_with_their_series() {
    let f = Fixture::new();
    f.store(&[]).unwrap();
    for (n, modality) in [("2", "RTSTRUCT"), ("3", "PT"), ("4", "CT")] {
        let (sop, series) = (format!("1.2.9.1.1.{n}.1"), format!("1.2.9.1.1.{n}"));
        let changes = [
            (SOP, Some(sop.as_str())),
            (SERIES, Some(&series)),
            (Tag::MODALITY, Some(modality)),
        ];
        f.store(&changes).unwrap();
    }
    let list = || {
        f.value(Level::Study, "1.2.9.1.1", Tag::MODALITIES_IN_STUDY)
            .unwrap()
    };
    assert_eq!(list(), "PT\\RTSTRUCT\\CT");
    assert_eq!(f.delete(Level::Series, "1.2.9.1.1.2"), [0, 0, 1, 1]);
    assert_eq!(list(), "PT\\CT");
    assert_eq!(f.delete(Level::Image, "1.2.9.1.1.4.1"), [0, 0, 1, 1]);
    assert_eq!(list(), "PT\\CT");
}

#[test]
fn names_are_never_shared() {
    let f = Fixture::new();
    let name = |n: &str| {
        let stored = f.store_as(&[(SOP, Some(n))], |b| b.file_candidate = "SC1.dcm");
        stored.unwrap()
    };
    assert_eq!(name("1.1").file, "SC1.dcm");
    assert_eq!(name("1.2").file, "SC1_2.dcm");
    assert_eq!(name("1.1").file, "SC1.dcm");
    let taken = f.store_as(&[(SOP, Some("1.3"))], |b| {
        b.file_candidate = "x.dcm";
        b.standing = Standing::Other;
    });
    assert_eq!(taken.unwrap().file, "x_3.dcm");
}

#[test]
fn an_object_in_its_place_takes_no_name_of_another() {
    let f = Fixture::new();
    let enter = |sop: &str, file: &'static str| {
        f.store_as(&[(SOP, Some(sop))], |b| {
            b.file_candidate = file;
            b.standing = Standing::Object;
        })
    };
    let owned = |stored: Result<Stored, StoreRefusal>| {
        assert!(
            matches!(stored, Err(StoreRefusal::Owned { .. })),
            "{stored:?}"
        );
    };
    assert_eq!(enter("1.1", "a.dcm").unwrap().outcome, Outcome::New);
    assert_eq!(enter("1.1", "a.dcm").unwrap().outcome, Outcome::Rewritten);
    owned(enter("1.2", "a.dcm"));
    f.delete(Level::Image, "1.1");
    owned(enter("1.1", "a.dcm"));
    owned(enter("1.2", "a.dcm"));
    assert_eq!(enter("1.2", "b.dcm").unwrap().file, "b.dcm");
}

#[test]
fn rewrites_may_be_ignored_or_renamed() {
    let f = Fixture::new();
    let first = f.store(&[]).unwrap();
    let ignored = f.store_as(&[], |b| b.ignore_rewrite = true).unwrap();
    assert_eq!((ignored.outcome, ignored.pending), (Outcome::Ignored, None));
    let renamed = f.store_as(&[], |b| {
        b.rename_on_rewrite = true;
        b.file_candidate = "new.dcm";
    });
    let renamed = renamed.unwrap();
    assert_eq!(renamed.file, "new.dcm");
    assert_eq!(renamed.replaced.as_ref().unwrap().file, first.file);
    f.settle(&renamed);
    let orphans = || f.index.read().unwrap().orphans(10).unwrap();
    assert!(orphans().is_empty(), "the first store may still be writing");
    f.settle(&first);
    assert_eq!(orphans(), [renamed.replaced.unwrap()]);
}

#[test]
fn revoking_takes_back_what_the_store_did() {
    let f = Fixture::new();
    let first = f.store(&[]).unwrap();
    let second = f.store(&[(Tag::INSTANCE_NUMBER, Some("7"))]).unwrap();
    // The first is replaced: taking it back only keeps the second from restoring it.
    assert_eq!(f.revoke(first.pending.unwrap()), Revoked::default());
    assert_eq!(f.counts(), [1, 1, 1, 1]);
    let revoked = f.revoke(second.pending.unwrap());
    assert_eq!(revoked.file.unwrap().file, second.file);
    assert_eq!(f.counts(), [0, 0, 0, 0]);
    assert!(
        f.index
            .read()
            .unwrap()
            .find_image(b"1.2.9.1.1.1.1")
            .unwrap()
            .is_none()
    );
    f.store(&[]).unwrap();
    assert_eq!(f.counts(), [1, 1, 1, 1]);
}

#[test]
fn deleting_hides_at_once_and_frees_later() {
    let f = Fixture::new();
    for n in 1..=5 {
        let sop = format!("1.2.9.1.1.1.{n}");
        let stored = f.store(&[(SOP, Some(&sop))]).unwrap();
        f.settle(&stored);
    }
    assert_eq!(f.delete(Level::Study, "1.2.9.1.1"), [1, 1, 1, 5]);
    assert_eq!(f.counts(), [0; 4]);
    assert!(
        f.index
            .read()
            .unwrap()
            .find_image(b"1.2.9.1.1.1.3")
            .unwrap()
            .is_none()
    );
    // Stored again before the reaper has passed: the new image takes the name over.
    let again = f.store(&[(SOP, Some("1.2.9.1.1.1.3"))]).unwrap();
    assert_eq!(again.file, "1.2.9.1.1.1.3.dcm");
    f.settle(&again);
    let mut files = f.reap();
    files.sort();
    let wanted = ["1", "2", "4", "5"].map(|n| format!("1.2.9.1.1.1.{n}.dcm"));
    assert_eq!(files, wanted);
    assert_eq!(f.counts(), [1, 1, 1, 1]);
    assert!(
        f.index
            .read()
            .unwrap()
            .find_image(b"1.2.9.1.1.1.3")
            .unwrap()
            .is_some()
    );
    assert_eq!(f.delete(Level::Image, "1.2.9.1.1.1.3"), [1, 1, 1, 1]);
    assert_eq!(f.reap(), ["1.2.9.1.1.1.3.dcm"]);
    let txn = f.index.read().unwrap();
    let tables = &f.index.tables;
    for table in [
        tables.images,
        tables.files,
        tables.headers,
        tables.search,
        tables.tombs,
    ] {
        assert!(table.is_empty(&txn.txn).unwrap());
    }
}

#[test]
fn an_unsettled_store_is_not_reaped() {
    let f = Fixture::new();
    let stored = f.store(&[]).unwrap();
    f.delete(Level::Patient, "SC1");
    assert!(f.reap().is_empty());
    f.settle(&stored);
    assert_eq!(f.reap(), ["1.2.9.1.1.1.1.dcm"]);
}

#[test]
fn a_study_without_patient_finds_one_later() {
    let mut f = Fixture::new();
    f.policy.allow_empty_patient_id = true;
    f.store(&[(PATIENT, Some(""))]).unwrap();
    assert_eq!(f.counts(), [0, 1, 1, 1]);
    f.store(&[(SOP, Some("1.2.9.1.1.1.2")), (PATIENT, Some("LATE1"))])
        .unwrap();
    assert_eq!(f.counts(), [1, 1, 1, 2]);
    f.store(&[(SOP, Some("1.2.9.1.1.1.3")), (PATIENT, Some(""))])
        .unwrap();
    assert_eq!(f.counts(), [1, 1, 1, 3]);
    assert_eq!(f.delete(Level::Patient, "LATE1"), [1, 1, 1, 3]);
    assert_eq!(f.counts(), [0; 4]);
}

#[test]
fn changes_and_pending_entries_can_be_read() {
    let f = Fixture::new();
    let stored = f.store(&[]).unwrap();
    f.store(&[]).unwrap();
    let txn = f.index.read().unwrap();
    let changes = txn.changes(0, 10).unwrap();
    assert_eq!(changes.iter().map(|c| c.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(changes[0].calling_ae, "SCU");
    assert_eq!(txn.changes(1, 10).unwrap().len(), 1);
    let pending = txn.pending(None, 10).unwrap();
    assert_eq!(pending.len(), 2);
    assert!(!pending[0].current && pending[1].current);
    assert_eq!(pending[0].id, stored.pending.unwrap());
    assert_eq!(txn.pending(stored.pending, 10).unwrap().len(), 1);
}
