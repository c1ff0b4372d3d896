//! From SOP Instance UID to image, for identifiers without any order.
//!
//! One entry per image in a B-tree would dirty one page per image, anywhere in the file, and the larger the
//! index the dearer. Instead entries are gathered in memory and written as sorted runs (`sop_runs`), which are
//! merged as they grow; the amount of merging in a transaction follows the number of images in it. What is in
//! memory is found again at start in the change log, behind the last change that a run covers. The writer, who
//! mostly looks for images that are new, asks a filter before it looks into all runs (`sop_filter`).
//!
//! An entry is 18 bytes: a keyed hash of the identifier u64, image u48, series u32. It is only a hint: the
//! image row has the last word, so entries of deleted images do no harm and are dropped when they are many.
//! A run is cut into chunks by the first bits of the hash: key run u32, chunk u32.

use crate::changes::{Change, ChangeKind};
use crate::heads::ImageRow;
use crate::index::{Index, WriteTxn};
use crate::index_error::IndexError;
use crate::lmdb::from_key;
use crate::lookup::key_of;
use crate::schema::{ImageKey, Level, meta_key};
use crate::sop_memory::Entries;
use crate::sop_state::{ENTRY, SopState, chunk_key, entry, read_state};

/// Entries in memory before they become a run. LIMIT: about 5 MB, twice.
pub const MEMORY_MAX: usize = 1 << 17;

impl Index {
    /// Makes the record of a new index and fills the memory with what is in no run.
    pub(crate) fn load_sop_memory(&self) -> Result<(), IndexError> {
        let mut txn = self.env.write_txn()?;
        let mut state = read_state(&self.tables, &txn)?;
        if state == SopState::default() {
            let mut random = [0; 32];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
                .map_err(|error| IndexError::Lmdb(error.to_string()))?;
            state.key = random;
            self.tables
                .meta
                .put(&mut txn, meta_key::SOP, &state.encode())?;
        }
        txn.commit()?;
        let mut memory = self.sop.current.write();
        let mut after = state.covered;
        loop {
            let changes = self.read()?.changes(after, 1024)?;
            let Some(last) = changes.last() else {
                return Ok(());
            };
            after = last.number;
            for change in &changes {
                if change.kind == ChangeKind::New {
                    let hash = state.hash(&change.key);
                    memory.insert(hash, change.image.image, change.image.series);
                }
                if change.kind == ChangeKind::Cloned {
                    self.load_cloned(&state, change, &mut memory)?;
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
            memory.insert(state.hash(sop_instance), key.image, key.series);
        }
        Ok(())
    }

    /// The youngest image with this SOP Instance UID, whether its series is alive or not.
    pub(crate) fn lookup_sop(
        &self,
        txn: &heed::RoTxn<'_>,
        state: &SopState,
        sop_instance: &[u8],
    ) -> Result<Option<ImageKey>, IndexError> {
        let hash = state.hash(sop_instance);
        let mut found = Vec::new();
        found.extend(self.sop.current.read().images(hash));
        found.extend(self.sop.previous.read().images(hash));
        for run in &state.runs {
            let key = chunk_key(run.id, run.chunk(hash));
            if let Some(chunk) = self.tables.sop_runs.get(txn, &key)? {
                found.extend(entries_of(chunk, hash));
            }
        }
        found.sort_unstable_by_key(|key| std::cmp::Reverse(key.image));
        for key in found {
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
        let hash = self.sop.hash(sop_instance);
        self.state.filters.insert(hash);
        let mut memory = self.index.sop.current.write();
        memory.insert(hash, image.image, image.series);
    }

    /// The youngest image with this SOP Instance UID, whether its series is alive or not.
    pub(crate) fn sop_entry(&self, sop_instance: &[u8]) -> Result<Option<ImageKey>, IndexError> {
        if !self.state.filters.may_contain(self.sop.hash(sop_instance)) {
            return Ok(None);
        }
        self.index.lookup_sop(&self.txn, &self.sop, sop_instance)
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
