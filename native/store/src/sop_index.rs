//! From UIDs to images, series and studies, for identifiers without any order.
//!
//! One entry per row in a B-tree would dirty one page per row, anywhere in the file, each a write of its own in
//! the commit, and the larger the index the more pages. Instead entries are gathered in memory and written as
//! sorted runs (`sop_runs`), which are merged as they grow; the amount of merging in a transaction follows the
//! number of images in it. What is in memory is found again at start in the change log, behind the last change
//! that a run covers: the rows of its images lead to series and studies. The writer, who mostly looks for what is new, asks a filter before it looks
//! into all runs (`sop_filter`).
//!
//! An entry is 18 bytes: a keyed hash of the identifier u64, image u48, series u32; for a series or study, which
//! have hashes of their own, `sop_state::parent_entry` stands for the image. It is only a hint: the row has the
//! last word, so entries of deleted rows do no harm and are dropped when they are many. A run is cut into chunks
//! by the first bits of the hash: key run u32, chunk u32.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::changes::{Change, ChangeKind};
use crate::heads::{ImageRow, ParentHead};
use crate::index::{Index, Progress, ReadTxn, WriteTxn};
use crate::index_error::IndexError;
use crate::lmdb::{self, from_key};
use crate::lookup::key_of;
use crate::parents::parent_table;
use crate::schema::{FORMAT_VERSION, ImageKey, Level, meta_key};
use crate::sop_memory::Entries;
use crate::sop_runs::write_run;
use crate::sop_state::{ENTRY, SopState, chunk_key, entry, entry_level, parent_entry, read_state};

/// Entries in memory before they become a run. LIMIT: about 5 MB, twice.
pub const MEMORY_MAX: usize = 1 << 17;

impl Index {
    /// Makes the record of a new index.
    pub(crate) fn settle_sop_state(&self) -> Result<(), IndexError> {
        let mut txn = self.env.write_txn()?;
        let mut state = read_state(&self.tables, &txn)?;
        if state != SopState::default() {
            return Ok(());
        }
        let mut random = [0; 32];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| IndexError::Lmdb(error.to_string()))?;
        state.key = random;
        let meta = self.tables.meta;
        meta.put(&mut txn, meta_key::SOP, &state.encode())?;
        txn.commit()?;
        Ok(())
    }

    /// Format 2 had tables from the UIDs of studies and series to their numbers: what they said becomes a run.
    pub(crate) fn enter_parent_uids(&self, progress: Progress<'_>) -> Result<(), IndexError> {
        let mut txn = self.env.write_txn()?;
        let mut state = read_state(&self.tables, &txn)?;
        let mut entries = Vec::new();
        for level in [Level::Study, Level::Series] {
            let table = parent_table(&self.tables, level);
            let rows = table.len(&txn)?;
            for (done, item) in table.iter(&txn)?.enumerate() {
                let (key, row) = item?;
                let number = key.try_into().map(u32::from_be_bytes);
                let number = number.map_err(|_| IndexError::Corrupt("key of a row"))?;
                let (_, columns) = ParentHead::split(row)?;
                let uid = key_of(self.layout(), level, columns);
                let entry = parent_entry(level, number);
                entries.push((state.hash(level, uid), entry.image, entry.series));
                progress("moving UIDs of the index", done as u64 + 1, rows);
            }
        }
        entries.sort_unstable();
        write_run(self.tables.sop_runs, &mut txn, &mut state, &entries)?;
        let meta = self.tables.meta;
        meta.put(&mut txn, meta_key::SOP, &state.encode())?;
        meta.put(&mut txn, meta_key::FORMAT, &FORMAT_VERSION.to_be_bytes())?;
        lmdb::clear_tables_of_format_2(&self.env, &mut txn)?;
        txn.commit()?;
        Ok(())
    }

    /// Fills the memory with what is in no run.
    pub(crate) fn load_sop_memory(&self) -> Result<(), IndexError> {
        let state = read_state(&self.tables, &*self.env.read_txn()?)?;
        let mut memory = self.sop.current.write();
        let mut parents = HashSet::new();
        let mut after = state.covered;
        loop {
            let txn = self.read()?;
            let changes = txn.changes(after, 1024)?;
            let Some(last) = changes.last() else {
                return Ok(());
            };
            after = last.number;
            for change in &changes {
                if !matches!(change.kind, ChangeKind::New | ChangeKind::Cloned) {
                    continue;
                }
                if change.kind == ChangeKind::New {
                    let hash = state.hash(Level::Image, &change.key);
                    memory.insert(hash, change.image.image, change.image.series);
                } else {
                    self.load_cloned(&state, change, &mut memory)?;
                }
                if parents.insert((Level::Series, change.image.series)) {
                    load_parents(&txn, &state, change.image.series, &mut parents, &mut memory)?;
                }
            }
        }
    }

    /// Images that were entered together have one record of the change log: their rows say who they are.
    fn load_cloned(
        &self,
        state: &SopState,
        change: &Change,
        memory: &mut Entries,
    ) -> Result<(), IndexError> {
        let txn = self.env.read_txn()?;
        let first = change.image.encode();
        let rows = self.tables.images.range(&txn, &from_key(&first))?;
        for item in rows.take(change.images as usize) {
            let (key, row) = item?;
            let key = ImageKey::decode(key).ok_or(IndexError::Corrupt("image key"))?;
            // Rows that were deleted since are missing; the hints of others do no harm.
            if key.series != change.image.series {
                break;
            }
            let row = ImageRow::split(row)?;
            let sop_instance = key_of(self.layout(), Level::Image, row.columns);
            memory.insert(
                state.hash(Level::Image, sop_instance),
                key.image,
                key.series,
            );
        }
        Ok(())
    }

    /// What memory and runs have under a hash, the youngest first.
    fn lookup(
        &self,
        txn: &heed::RoTxn<'_>,
        state: &SopState,
        hash: u64,
    ) -> Result<Vec<ImageKey>, IndexError> {
        let mut found = Vec::new();
        found.extend(self.sop.current.read().images(hash));
        found.extend(self.sop.previous.read().images(hash));
        for run in &state.runs {
            let key = chunk_key(run.id, run.chunk(hash));
            if let Some(chunk) = self.tables.sop_runs.get(txn, &key)? {
                found.extend(entries_of(chunk, hash));
            }
        }
        found.sort_unstable_by_key(|key| Reverse(key.image));
        Ok(found)
    }

    /// Numbers of studies or series that may be what a hash was made of, the youngest first.
    pub(crate) fn lookup_parents(
        &self,
        txn: &heed::RoTxn<'_>,
        state: &SopState,
        level: Level,
        hash: u64,
    ) -> Result<Vec<u32>, IndexError> {
        let found = self.lookup(txn, state, hash)?.into_iter();
        let found = found.filter(|key| entry_level(*key) == Some(level));
        Ok(found.map(|key| key.series).collect())
    }

    /// The youngest image with this SOP Instance UID, whether its series is alive or not.
    pub(crate) fn lookup_sop(
        &self,
        txn: &heed::RoTxn<'_>,
        state: &SopState,
        sop_instance: &[u8],
    ) -> Result<Option<ImageKey>, IndexError> {
        let hash = state.hash(Level::Image, sop_instance);
        for key in self.lookup(txn, state, hash)? {
            let Some(row) = self.tables.images.get(txn, &key.encode())? else {
                continue;
            };
            let row = ImageRow::split(row)?;
            if key_of(self.layout(), Level::Image, row.columns) == sop_instance {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

/// Takes in a series and its study, if their rows are there.
fn load_parents(
    txn: &ReadTxn<'_>,
    state: &SopState,
    series: u32,
    known: &mut HashSet<(Level, u32)>,
    memory: &mut Entries,
) -> Result<(), IndexError> {
    let mut take = |level, number| {
        let row = txn.parent_row(level, number)?;
        if let Some((_, columns)) = row {
            let uid = key_of(txn.index.layout(), level, columns);
            let entry = parent_entry(level, number);
            memory.insert(state.hash(level, uid), entry.image, entry.series);
        }
        Ok::<_, IndexError>(row.map(|(head, _)| head.parent))
    };
    if let Some(study) = take(Level::Series, series)?
        && known.insert((Level::Study, study))
    {
        take(Level::Study, study)?;
    }
    Ok(())
}

/// The entries of a chunk with this hash.
fn entries_of(chunk: &[u8], hash: u64) -> impl Iterator<Item = ImageKey> {
    let wanted = hash.to_be_bytes();
    let (mut low, mut high) = (0, chunk.len() / ENTRY);
    while low < high {
        let middle = usize::midpoint(low, high);
        let at = middle * ENTRY;
        if chunk.get(at..at + 8).is_some_and(|h| h < wanted.as_slice()) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let rest = chunk.get(low * ENTRY..).unwrap_or_default();
    rest.chunks_exact(ENTRY)
        .map_while(entry)
        .take_while(move |(h, ..)| *h == hash)
        .map(|(_, image, series)| ImageKey { series, image })
}

impl WriteTxn<'_> {
    /// Remembers a new image.
    pub(crate) fn enter_sop(&mut self, sop_instance: &[u8], image: ImageKey) {
        let hash = self.sop.hash(Level::Image, sop_instance);
        self.enter_hash(hash, image);
    }

    /// Remembers a new study or series.
    pub(crate) fn enter_uid(&mut self, level: Level, uid: &[u8], number: u32) {
        let hash = self.sop.hash(level, uid);
        self.enter_hash(hash, parent_entry(level, number));
    }

    fn enter_hash(&mut self, hash: u64, entry: ImageKey) {
        self.state.filters.insert(hash);
        let mut memory = self.index.sop.current.write();
        memory.insert(hash, entry.image, entry.series);
    }

    /// The youngest image with this SOP Instance UID, whether its series is alive or not.
    pub(crate) fn sop_entry(&self, sop_instance: &[u8]) -> Result<Option<ImageKey>, IndexError> {
        let hash = self.sop.hash(Level::Image, sop_instance);
        if !self.state.filters.may_contain(hash) {
            return Ok(None);
        }
        self.index.lookup_sop(&self.txn, &self.sop, sop_instance)
    }

    /// Numbers of studies or series that may have this UID, the youngest first.
    pub(crate) fn uid_entries(&self, level: Level, uid: &[u8]) -> Result<Vec<u32>, IndexError> {
        let hash = self.sop.hash(level, uid);
        if !self.state.filters.may_contain(hash) {
            return Ok(Vec::new());
        }
        self.index.lookup_parents(&self.txn, &self.sop, level, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{BlobFacts, Standing, StoreChange};
    use crate::apply_tests::{Fixture, options};
    use crate::columns::Columns;
    use crate::delete::DeleteTarget;
    use crate::extract::ExtractPolicy;
    use crate::extract::tests::header;
    use crate::pending::PendingKind;
    use proptest::prelude::*;
    use pyserver_proto::tag::Tag;

    const BATCH: u32 = 50;

    fn uid(n: u32) -> String {
        format!("2.25.{}", n.wrapping_mul(2_654_435_761))
    }

    /// Stores a batch of images of one series and settles them.
    fn store(index: &Index, series: u32) {
        let series_uid = format!("1.{series}");
        let mut txn = index.write().unwrap();
        for n in series * BATCH..(series + 1) * BATCH {
            let sop = uid(n);
            let header = header(&[
                (Tag::SOP_INSTANCE_UID, Some(&sop)),
                (Tag::SERIES_INSTANCE_UID, Some(&series_uid)),
            ]);
            let rows = index.extractor().extract(&header, ExtractPolicy::default());
            let stored = txn.store(&StoreChange {
                rows: &rows.unwrap(),
                blob: BlobFacts {
                    device: 0,
                    file_candidate: &sop,
                    standing: Standing::Nothing,
                    rename_on_rewrite: false,
                    ignore_rewrite: false,
                    transfer_syntax: "",
                    file_bytes: 1,
                    dataset_offset: 0,
                    hash: [0; 16],
                    pixel: &[],
                },
                header: &[],
                pending: PendingKind::Written,
                calling_ae: "",
                called_ae: "",
                jobs: &[],
                now: 0,
            });
            txn.settle(&[stored.unwrap().pending.unwrap()]).unwrap();
        }
        txn.commit().unwrap();
    }

    fn found(index: &Index, range: std::ops::Range<u32>) -> usize {
        let txn = index.read().unwrap();
        range
            .filter(|n| txn.find_image(uid(*n).as_bytes()).unwrap().is_some())
            .count()
    }

    #[test]
    fn runs_stay_few_and_everything_is_found() {
        let mut f = Fixture::with(crate::index::IndexOptions {
            sop_memory_max: 70,
            ..options()
        });
        for series in 0..40 {
            store(&f.index, series);
        }
        let all = 40 * BATCH;
        assert_eq!(found(&f.index, 0..all + 10), all as usize);
        let state = |index: &Index| read_state(&index.tables, &index.read().unwrap().txn).unwrap();
        let before = state(&f.index);
        assert!(before.runs.len() < 8, "{before:?}");
        // What is in memory only comes back from the change log.
        drop(f.index);
        f.index = Index::open(
            f.dir.path(),
            &Columns::default(),
            options(),
            &mut |_, _, _| {},
        )
        .unwrap();
        assert_eq!(found(&f.index, 0..all + 10), all as usize);

        let mut txn = f.index.write().unwrap();
        for series in 0..39 {
            let id = format!("1.{series}");
            let target = DeleteTarget {
                level: Level::Series,
                id: id.as_bytes(),
            };
            txn.delete(target, 0).unwrap();
        }
        while txn.reap(500).unwrap().more {}
        txn.commit().unwrap();
        assert_eq!(found(&f.index, 0..all), BATCH as usize);
        for series in 100..140 {
            store(&f.index, series);
        }
        let after = state(&f.index);
        assert!(
            after.entries() < u64::from(all) * 3 / 2,
            "the dead are dropped: {after:?}"
        );
        assert_eq!(found(&f.index, 0..140 * BATCH), 41 * BATCH as usize);
    }

    #[test]
    fn studies_and_series_of_format_2_are_found() {
        let f = Fixture::with(crate::index::IndexOptions {
            sop_memory_max: 20,
            ..options()
        });
        for series in 0..4 {
            store(&f.index, series);
        }
        let numbers = |index: &Index| {
            let txn = index.read().unwrap();
            let series = (0..5).map(|n| txn.find_row(Level::Series, format!("1.{n}").as_bytes()));
            let study = txn.find_row(Level::Study, b"1.2.9.1.1").unwrap();
            let series: Vec<_> = series.map(Result::unwrap).collect();
            (study, series)
        };
        let wanted = numbers(&f.index);
        assert_eq!(wanted.0, Some(1));
        assert_eq!(wanted.1, [Some(1), Some(2), Some(3), Some(4), None]);
        // As format 2 had it: no such entries, and tables of their own.
        let mut txn = f.index.env.write_txn().unwrap();
        let runs = f.index.tables.sop_runs;
        let mut chunks: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for item in runs.iter(&txn).unwrap() {
            let (key, chunk) = item.unwrap();
            let images = chunk.chunks_exact(ENTRY).filter(|bytes| {
                let (_, image, series) = entry(bytes).unwrap();
                entry_level(ImageKey { series, image }) == Some(Level::Image)
            });
            chunks.push((key.to_vec(), images.flatten().copied().collect()));
        }
        for (key, chunk) in chunks {
            runs.put(&mut txn, &key, &chunk).unwrap();
        }
        let old: lmdb::Table = f
            .index
            .env
            .create_database(&mut txn, Some("series_uids"))
            .unwrap();
        old.put(&mut txn, b"uid", &[0; 4]).unwrap();
        let format = 2_u32.to_be_bytes();
        f.index
            .tables
            .meta
            .put(&mut txn, meta_key::FORMAT, &format)
            .unwrap();
        txn.commit().unwrap();
        let (study, series) = numbers(&f.index);
        assert_eq!((study, series[..3].to_vec()), (None, vec![None; 3]));

        let dir = f.dir;
        drop(f.index);
        let open = || {
            Index::open(
                dir.path(),
                &Columns::default(),
                options(),
                &mut |_, _, _| {},
            )
        };
        for _ in 0..2 {
            let index = open().unwrap();
            assert_eq!(numbers(&index), wanted);
            let txn = index.read().unwrap();
            let format = index.tables.meta.get(&txn.txn, meta_key::FORMAT).unwrap();
            assert_eq!(format, Some(FORMAT_VERSION.to_be_bytes().as_slice()));
            let old = index.env.open_database(&txn.txn, Some("series_uids"));
            let old: lmdb::Table = old.unwrap().unwrap();
            assert_eq!(old.len(&txn.txn).unwrap(), 0);
        }
    }

    proptest! {
        #[test]
        fn damaged_chunks_are_searched_without_harm(
            chunk in proptest::collection::vec(any::<u8>(), 0..120),
            hash: u64,
        ) {
            prop_assert!(entries_of(&chunk, hash).count() <= chunk.len() / ENTRY);
        }
    }
}
