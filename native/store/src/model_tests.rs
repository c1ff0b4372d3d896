//! Random stores, re-stores, deletes, revokes, settles and reaps against a model made of plain maps.
//!
//! After every transaction counts, lookups, names and tables of the index must be those of the model; after
//! everything has been deleted and reaped, no table may hold anything but the change log.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;
use pyserver_proto::tag::Tag;

use crate::apply::{BlobFacts, Outcome, Standing, StoreChange, StoreRefusal};
use crate::apply_tests::Fixture;
use crate::delete::DeleteTarget;
use crate::extract::tests::header;
use crate::index::WriteTxn;
use crate::pending::{PendingId, PendingKind};
use crate::schema::Level;

#[derive(Debug, Clone)]
enum Action {
    Store {
        /// Patient, study, series, image: small numbers, often in conflict.
        at: [u8; 4],
        number: u8,
        rename: bool,
    },
    Delete(Level, [u8; 4]),
    Revoke(usize),
    Settle(usize),
    Reap(usize),
    Commit,
}

fn action() -> impl Strategy<Value = Action> {
    let place = prop_oneof![
        // Mostly consistent: the numbers of the parents follow from the image.
        4 => (0..16_u8).prop_map(|n| [n / 8, n / 4, n / 2, n]),
        1 => [0..2_u8, 0..4_u8, 0..8_u8, 0..16_u8],
    ];
    let level = (0..4_usize).prop_map(|n| Level::ALL[n]);
    prop_oneof![
        8 => (place.clone(), any::<u8>(), any::<bool>())
            .prop_map(|(at, number, rename)| Action::Store { at, number, rename }),
        2 => (level, place).prop_map(|(level, at)| Action::Delete(level, at)),
        2 => any::<usize>().prop_map(Action::Revoke),
        2 => (1..4_usize).prop_map(Action::Settle),
        1 => (1..9_usize).prop_map(Action::Reap),
        3 => Just(Action::Commit),
    ]
}

/// An image of the model.
#[derive(Debug, Clone, PartialEq)]
struct Image {
    parents: [String; 3],
    number: u8,
    file: String,
    pending: u64,
}

#[derive(Default)]
struct Model {
    images: BTreeMap<String, Image>,
    /// Unsettled stores in order: SOP instance UID, life of the image, what was there before.
    pending: BTreeMap<u64, (String, u64, Option<Image>)>,
    /// Counts the lives of an identifier: a deleted image that is stored again is another image.
    life: BTreeMap<String, u64>,
}

fn ids(at: [u8; 4]) -> [String; 4] {
    let [patient, study, series, image] = at;
    [
        format!("P{patient}"),
        format!("1.{study}"),
        format!("2.{series}"),
        format!("3.{image}"),
    ]
}

impl Model {
    /// Whether the object would move an existing row.
    fn conflicts(&self, ids: &[String; 4]) -> bool {
        let [patient, study, series, sop] = ids;
        let parents = [patient.clone(), study.clone(), series.clone()];
        let moved = self.images.get(sop).is_some_and(|i| i.parents != parents);
        moved
            || self.images.values().any(|i| {
                let [p, st, se] = &i.parents;
                (se == series && st != study) || (st == study && p != patient)
            })
    }

    fn counts(&self) -> [u64; 4] {
        let distinct = |n: usize| {
            let ids: BTreeSet<_> = self.images.values().map(|i| &i.parents[n]).collect();
            ids.len() as u64
        };
        [
            distinct(0),
            distinct(1),
            distinct(2),
            self.images.len() as u64,
        ]
    }

    fn delete(&mut self, level: Level, id: &str) {
        let gone: Vec<_> = self
            .images
            .iter()
            .filter(|(sop, image)| match level {
                Level::Image => sop.as_str() == id,
                _ => image.parents[level.index()] == id,
            })
            .map(|(sop, _)| sop.clone())
            .collect();
        for sop in gone {
            self.images.remove(&sop);
            *self.life.entry(sop).or_default() += 1;
        }
    }

    fn revoke(&mut self, id: u64) {
        let Some((sop, life, before)) = self.pending.remove(&id) else {
            return;
        };
        if self.life.get(&sop).copied().unwrap_or(0) != life {
            return;
        }
        let current = self.images.get(&sop).map(|image| image.pending);
        if current == Some(id) {
            if let Some(image) = before {
                self.images.insert(sop, image);
            } else {
                self.images.remove(&sop);
                *self.life.entry(sop).or_default() += 1;
            }
            return;
        }
        for (_, _, old) in self.pending.values_mut() {
            if old.as_ref().is_some_and(|image| image.pending == id) {
                old.clone_from(&before);
            }
        }
    }
}

struct Run {
    fixture: Rc<Fixture>,
    model: Model,
    /// Names that files have been given, to see that none is given twice at once.
    clock: u32,
}

impl Run {
    fn store(&mut self, txn: &mut WriteTxn<'_>, at: [u8; 4], number: u8, rename: bool) {
        let ids = ids(at);
        let number_text = number.to_string();
        let header = header(&[
            (Tag::PATIENT_ID, Some(&ids[0])),
            (Tag::STUDY_INSTANCE_UID, Some(&ids[1])),
            (Tag::SERIES_INSTANCE_UID, Some(&ids[2])),
            (Tag::SOP_INSTANCE_UID, Some(&ids[3])),
            (Tag::INSTANCE_NUMBER, Some(&number_text)),
        ]);
        let rows = self
            .fixture
            .index
            .extractor()
            .extract(&header, self.fixture.policy);
        let rows = rows.unwrap();
        // Only four names, so that objects compete for them.
        let candidate = format!("{}/{}.dcm", ids[0], number % 4);
        self.clock += 1;
        let stored = txn.store(&StoreChange {
            rows: &rows,
            blob: BlobFacts {
                device: 0,
                file_candidate: &candidate,
                standing: Standing::Nothing,
                rename_on_rewrite: rename,
                ignore_rewrite: false,
                transfer_syntax: "1.2.840.10008.1.2.1",
                file_bytes: u64::from(number),
                dataset_offset: 0,
                hash: [0; 16],
                pixel: &[],
            },
            header: &[number],
            pending: PendingKind::Written,
            calling_ae: "",
            called_ae: "",
            jobs: &[],
            now: self.clock,
        });
        if self.model.conflicts(&ids) {
            assert!(
                matches!(stored, Err(StoreRefusal::Link { .. })),
                "{stored:?}"
            );
            return;
        }
        let stored = stored.unwrap();
        let [patient, study, series, sop] = ids;
        let before = self.model.images.get(&sop).cloned();
        let outcome = match &before {
            None => Outcome::New,
            Some(old) => {
                if !rename {
                    assert_eq!(stored.file, old.file);
                }
                Outcome::Rewritten
            }
        };
        assert_eq!(stored.outcome, outcome);
        let taken = |(uid, image): (&String, &Image)| *uid != sop && image.file == stored.file;
        assert!(
            !self.model.images.iter().any(taken),
            "{} is shared",
            stored.file
        );
        let id = stored.pending.unwrap().0;
        let life = self.model.life.get(&sop).copied().unwrap_or(0);
        self.model.pending.insert(id, (sop.clone(), life, before));
        let image = Image {
            parents: [patient, study, series],
            number,
            file: stored.file,
            pending: id,
        };
        self.model.images.insert(sop, image);
    }

    fn act(&mut self, txn: &mut WriteTxn<'_>, action: &Action) {
        match action {
            Action::Store { at, number, rename } => self.store(txn, *at, *number, *rename),
            Action::Delete(level, at) => {
                let id = &ids(*at)[level.index()];
                let target = DeleteTarget {
                    level: *level,
                    id: id.as_bytes(),
                };
                let before = self.model.counts();
                self.model.delete(*level, id);
                let gone = txn.delete(target, self.clock).unwrap().rows;
                let after = self.model.counts();
                assert_eq!(gone, [0, 1, 2, 3].map(|n: usize| before[n] - after[n]));
            }
            Action::Revoke(which) => {
                let ids: Vec<_> = self.model.pending.keys().copied().collect();
                if !ids.is_empty() {
                    let id = ids[which % ids.len()];
                    let revoked = txn.revoke(PendingId(id)).unwrap();
                    self.model.revoke(id);
                    if let Some(file) = revoked.file {
                        let named = self.model.images.values().any(|i| i.file == file.file);
                        assert!(!named, "{} still has a row", file.file);
                    }
                }
            }
            Action::Settle(count) => {
                let ids: Vec<_> = self.model.pending.keys().copied().take(*count).collect();
                for id in ids {
                    txn.settle(&[PendingId(id)]).unwrap();
                    self.model.pending.remove(&id);
                }
            }
            Action::Reap(count) => {
                let reaped = txn.reap(*count).unwrap();
                for file in reaped.files {
                    let named = self.model.images.values().any(|i| i.file == file.file);
                    assert!(!named, "{} still has a row", file.file);
                }
            }
            Action::Commit => {}
        }
    }

    fn check(&self) {
        let index = &self.fixture.index;
        let txn = index.read().unwrap();
        let counters = txn.counters().unwrap();
        assert_eq!(counters.alive, self.model.counts());
        let bytes: u64 = self
            .model
            .images
            .values()
            .map(|i| u64::from(i.number))
            .sum();
        assert_eq!(counters.file_bytes, bytes);
        for n in 0..16 {
            let sop = format!("3.{n}");
            let found = txn.locate_sop(sop.as_bytes()).unwrap();
            let wanted = self.model.images.get(&sop);
            assert_eq!(
                found.as_ref().map(|f| &f.file),
                wanted.map(|w| &w.file),
                "{sop}"
            );
            assert_eq!(found.map(|f| f.stored_by.0), wanted.map(|w| w.pending));
        }
        drop(txn);
        let table = index.dump_table("DICOMImages").unwrap().unwrap();
        let value = |row: &crate::dump::TableRow, name: &str| {
            let found = row.iter().find(|(n, _)| n == name);
            found.and_then(|(_, v)| v.clone()).unwrap_or_default()
        };
        let rows: BTreeSet<_> = table
            .iter()
            .map(|r| ["SOPInstanc", "ImageNumbe", "SeriesInst", "ImagePat"].map(|n| value(r, n)))
            .collect();
        let wanted: BTreeSet<_> = self
            .model
            .images
            .iter()
            .map(|(sop, i)| {
                let [patient, _, series] = &i.parents;
                [
                    sop.clone(),
                    i.number.to_string(),
                    series.clone(),
                    patient.clone(),
                ]
            })
            .collect();
        assert_eq!(rows, wanted);
        self.check_counts_of_parents();
    }

    /// Stored counts of children against the model.
    fn check_counts_of_parents(&self) {
        let txn = self.fixture.index.read().unwrap();
        for level in [Level::Patient, Level::Study, Level::Series] {
            let mut wanted: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
            for image in self.model.images.values() {
                let entry = wanted.entry(&image.parents[level.index()]).or_default();
                entry.0 += 1;
                entry.1 += u64::from(image.number);
            }
            for (id, (instances, bytes)) in wanted {
                let number = txn.find_row(level, id.as_bytes()).unwrap().unwrap();
                let (head, _) = txn.parent_row(level, number).unwrap().unwrap();
                assert_eq!((head.instances, head.bytes), (instances, bytes), "{id}");
            }
        }
    }

    /// Deletes, settles and reaps everything; nothing may be left.
    fn clear(&mut self) {
        let mut txn = self.fixture.index.write().unwrap();
        for n in 0..2 {
            let id = format!("P{n}");
            let target = DeleteTarget {
                level: Level::Patient,
                id: id.as_bytes(),
            };
            txn.delete(target, self.clock).unwrap();
        }
        let ids: Vec<_> = self.model.pending.keys().map(|id| PendingId(*id)).collect();
        txn.settle(&ids).unwrap();
        while txn.reap(5).unwrap().more {}
        txn.commit().unwrap();
        let orphans = self.fixture.index.read().unwrap().orphans(1000).unwrap();
        let mut txn = self.fixture.index.write().unwrap();
        for file in &orphans {
            txn.file_removed(file).unwrap();
        }
        txn.commit().unwrap();
        let txn = self.fixture.index.read().unwrap();
        let t = &self.fixture.index.tables;
        let tables = [
            ("patients", t.patients),
            ("studies", t.studies),
            ("series", t.series),
            ("images", t.images),
            ("patient_kids", t.patient_kids),
            ("study_kids", t.study_kids),
            ("patient_ids", t.patient_ids),
            ("search", t.search),
            ("files", t.files),
            ("headers", t.headers),
            ("pending", t.pending),
            ("tombs", t.tombs),
            ("orphans", t.orphans),
        ];
        for (name, table) in tables {
            assert_eq!(table.len(&txn.txn).unwrap(), 0, "{name}");
        }
        assert_eq!(txn.counters().unwrap().alive, [0; 4]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_plain_maps(actions in proptest::collection::vec(action(), 1..120)) {
        let mut run = Run { fixture: Rc::new(Fixture::new()), model: Model::default(), clock: 0 };
        let mut rest = actions.as_slice();
        while !rest.is_empty() {
            let end = rest.iter().position(|a| matches!(a, Action::Commit));
            let (now, later) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            let fixture = Rc::clone(&run.fixture);
            let mut txn = fixture.index.write().unwrap();
            for action in now {
                run.act(&mut txn, action);
            }
            txn.commit().unwrap();
            run.check();
            rest = later;
        }
        run.clear();
    }
}
