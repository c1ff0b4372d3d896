//! From SOP Instance UID to image, for identifiers without any order.
//!
//! One entry per image in a B-tree would dirty one page per image, anywhere in the file, and the larger the
//! index the dearer. Instead entries are gathered in memory and written as sorted runs, which are merged two
//! by two as they grow; the amount of merging in a transaction follows the number of images in it. What is
//! in memory is found again at start in the change log, behind the last change that a run covers.
//!
//! An entry is 18 bytes: a keyed hash of the identifier u64, image u48, series u32. It is only a hint: the
//! image row has the last word, so entries of deleted images do no harm and are dropped when they are many.
//! A run is cut into chunks by the first bits of the hash: key run u32, chunk u32.

use crate::bytes::Reader;
use crate::changes::{Change, ChangeKind};
use crate::heads::ImageRow;
use crate::index::{Index, WriteTxn};
use crate::index_error::IndexError;
use crate::lmdb::{Tables, append, from_key};
use crate::lookup::key_of;
use crate::schema::{ImageKey, Level, meta_key};
use crate::sop_filter::SopFilter;
use crate::sop_memory::Entries;

/// Entries in memory before they become a run. LIMIT: about 5 MB, twice.
pub const MEMORY_MAX: usize = 1 << 17;
/// Most entries of an average chunk: such a chunk shares its page with another one.
const CHUNK_ENTRIES: u64 = 112;
/// Bytes of an entry.
const ENTRY: usize = 18;
/// Making the filter costs about as much for this many entries as looking for one image in all runs.
const FILTER_PAYS: u64 = 64;
/// Images stored for each step of merging or dropping a chunk. Ten million images need seven passes over
/// each entry, an eighth of a step per image.
const IMAGES_PER_STEP: u64 = 4;

/// A run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    id: u32,
    /// Bits of the hash that number its chunks.
    bits: u32,
    entries: u64,
}

/// Two runs on their way to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Merge {
    inputs: [u32; 2],
    output: Run,
    /// The next chunk of the output.
    next: u32,
}

/// The record in `meta`: what runs there are and what is being done with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SopState {
    /// Key of the hash, so that nobody can aim at a chunk.
    key: [u8; 32],
    /// The last change whose images are all in runs.
    covered: u64,
    /// Last run number given.
    last_id: u32,
    runs: Vec<Run>,
    merge: Option<Merge>,
    /// Merged runs whose chunks still have to go.
    dropped: Vec<u32>,
}

impl SopState {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.key.to_vec();
        out.extend_from_slice(&self.covered.to_be_bytes());
        out.extend_from_slice(&self.last_id.to_be_bytes());
        put_runs(&mut out, &self.runs);
        match &self.merge {
            None => out.push(0),
            Some(merge) => {
                out.push(1);
                for id in merge.inputs {
                    out.extend_from_slice(&id.to_be_bytes());
                }
                put_runs(&mut out, &[merge.output]);
                out.extend_from_slice(&merge.next.to_be_bytes());
            }
        }
        out.extend_from_slice(&(self.dropped.len() as u32).to_be_bytes());
        for id in &self.dropped {
            out.extend_from_slice(&id.to_be_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        let mut state = Self {
            key: r.take(32)?.try_into().ok()?,
            covered: r.u64()?,
            last_id: r.u32()?,
            runs: take_runs(&mut r)?,
            merge: None,
            dropped: Vec::new(),
        };
        if r.u8()? != 0 {
            state.merge = Some(Merge {
                inputs: [r.u32()?, r.u32()?],
                output: *take_runs(&mut r)?.first()?,
                next: r.u32()?,
            });
        }
        for _ in 0..r.u32()? {
            state.dropped.push(r.u32()?);
        }
        Some(state)
    }

    fn hash(&self, sop_instance: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.key, sop_instance);
        hash.as_bytes()
            .first_chunk()
            .map_or(0, |b| u64::from_be_bytes(*b))
    }

    fn entries(&self) -> u64 {
        self.runs.iter().map(|run| run.entries).sum()
    }

    fn new_run(&mut self, entries: u64) -> Run {
        self.last_id = self.last_id.wrapping_add(1);
        let chunks = entries.div_ceil(CHUNK_ENTRIES).next_power_of_two();
        Run {
            id: self.last_id,
            bits: chunks.trailing_zeros(),
            entries,
        }
    }

    /// Two runs of about the same size, the smallest such pair: sizes then at least double from run to
    /// run, so that there are few.
    fn pair(&self) -> Option<[Run; 2]> {
        let mut runs = self.runs.clone();
        runs.sort_by_key(|run| run.entries);
        let pairs = runs.iter().zip(runs.iter().skip(1));
        let mut close = pairs.filter(|(a, b)| b.entries <= a.entries.saturating_mul(2));
        close.next().map(|(a, b)| [*a, *b])
    }
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    out.extend_from_slice(&(runs.len() as u32).to_be_bytes());
    for run in runs {
        out.extend_from_slice(&run.id.to_be_bytes());
        out.extend_from_slice(&run.bits.to_be_bytes());
        out.extend_from_slice(&run.entries.to_be_bytes());
    }
}

fn take_runs(r: &mut Reader<'_>) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    for _ in 0..r.u32()? {
        runs.push(Run {
            id: r.u32()?,
            bits: r.u32().filter(|bits| *bits <= 32)?,
            entries: r.u64()?,
        });
    }
    Some(runs)
}

impl Run {
    /// The chunk that holds a hash.
    fn chunk(self, hash: u64) -> u32 {
        hash.checked_shr(64 - self.bits).unwrap_or(0) as u32
    }
}

fn chunk_key(run: u32, chunk: u32) -> [u8; 8] {
    crate::schema::kid_key(run, chunk)
}

fn put_entry(out: &mut Vec<u8>, hash: u64, image: u64, series: u32) {
    out.extend_from_slice(&hash.to_be_bytes());
    out.extend_from_slice(image.to_be_bytes().get(2..).unwrap_or_default());
    out.extend_from_slice(&series.to_be_bytes());
}

/// Hash, image and series of an entry.
fn entry(bytes: &[u8]) -> Option<(u64, u64, u32)> {
    let mut r = Reader::new(bytes);
    let hash = r.u64()?;
    let image = u64::from(r.u16()?) << 32 | u64::from(r.u32()?);
    Some((hash, image, r.u32()?))
}

/// The record, or a fresh one.
pub(crate) fn read_state(tables: &Tables, txn: &heed::RoTxn<'_>) -> Result<SopState, IndexError> {
    match tables.meta.get(txn, meta_key::SOP)? {
        None => Ok(SopState::default()),
        Some(bytes) => SopState::decode(bytes).ok_or(IndexError::Corrupt("sop record")),
    }
}

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
        if let Some(filter) = &mut self.state.filter {
            filter.insert(hash);
        }
        let mut memory = self.index.sop.current.write();
        memory.insert(hash, image.image, image.series);
    }

    /// Told of images that are about to be entered: makes the filter once reading all runs costs little beside
    /// looking for each image in each of them.
    pub(crate) fn prepare_sop_filter(&mut self, images: u64) -> Result<(), IndexError> {
        let fits = self
            .state
            .filter
            .as_ref()
            .is_some_and(|filter| !filter.is_full());
        if let Some(filter) = self.state.filter.as_mut().filter(|_| fits) {
            filter.touch();
            return Ok(());
        }
        self.state.filter = None;
        self.state.unfiltered += images;
        let in_memory = self.index.sop.current.read().len() + self.index.sop.previous.read().len();
        let entries = self.sop.entries() + in_memory as u64;
        if self.state.unfiltered < entries / FILTER_PAYS {
            return Ok(());
        }
        let mut filter = SopFilter::new(entries + images);
        for memory in [&self.index.sop.current, &self.index.sop.previous] {
            for hash in memory.read().hashes() {
                filter.insert(hash);
            }
        }
        for chunk in self.index.tables.sop_runs.iter(&self.txn)? {
            let entries = chunk?.1.chunks_exact(ENTRY);
            for (hash, ..) in entries.map_while(entry) {
                filter.insert(hash);
            }
        }
        self.state.filter = Some(filter);
        self.state.unfiltered = 0;
        Ok(())
    }

    /// The youngest image with this SOP Instance UID, whether its series is alive or not.
    pub(crate) fn sop_entry(&self, sop_instance: &[u8]) -> Result<Option<ImageKey>, IndexError> {
        if let Some(filter) = &self.state.filter
            && !filter.may_contain(self.sop.hash(sop_instance))
        {
            return Ok(None);
        }
        self.index.lookup_sop(&self.txn, &self.sop, sop_instance)
    }

    /// Before a commit: a full memory becomes a run, and runs are merged a little. Answers whether the
    /// memory may be forgotten once the transaction is committed.
    pub(crate) fn tend_sop_runs(&mut self, new_images: u64) -> Result<bool, IndexError> {
        let before = self.sop.clone();
        for _ in 0..new_images.div_ceil(IMAGES_PER_STEP) {
            self.step_sop_runs()?;
        }
        let flushed = self.index.sop.current.read().len() >= self.index.sop_memory_max;
        if flushed {
            self.flush_sop_memory()?;
        }
        if self.sop != before {
            let meta = self.index.tables.meta;
            meta.put(&mut self.txn, meta_key::SOP, &self.sop.encode())?;
        }
        Ok(flushed)
    }

    fn flush_sop_memory(&mut self) -> Result<(), IndexError> {
        let index = self.index;
        let entries = index.sop.current.read().sorted();
        let run = self.sop.new_run(entries.len() as u64);
        let mut chunk = Vec::with_capacity(4096);
        let mut number = 0;
        for (hash, image, series) in entries {
            if run.chunk(hash) != number {
                put_chunk(self, run.id, number, &mut chunk)?;
                number = run.chunk(hash);
            }
            put_entry(&mut chunk, hash, image, series);
        }
        put_chunk(self, run.id, number, &mut chunk)?;
        self.sop.runs.push(run);
        self.sop.covered = self.counters.change;
        Ok(())
    }

    /// One chunk of work: dropping what has been merged, or merging.
    fn step_sop_runs(&mut self) -> Result<(), IndexError> {
        if let Some(id) = self.sop.dropped.last().copied() {
            return self.drop_sop_chunk(id);
        }
        let Some(merge) = self.sop.merge.clone() else {
            if let Some([a, b]) = self.sop.pair() {
                let mut output = self.sop.new_run(a.entries + b.entries);
                output.entries = 0;
                output.bits = output.bits.max(a.bits).max(b.bits);
                self.sop.merge = Some(Merge {
                    inputs: [a.id, b.id],
                    output,
                    next: 0,
                });
            }
            return Ok(());
        };
        self.merge_sop_chunk(merge)
    }

    /// Removes two chunks of a run, so that dropping keeps ahead of merging.
    fn drop_sop_chunk(&mut self, id: u32) -> Result<(), IndexError> {
        let table = self.index.tables.sop_runs;
        for _ in 0..2 {
            let found = table.get_greater_than_or_equal_to(&self.txn, &chunk_key(id, 0))?;
            let key = found.map(|(key, _)| key.to_vec());
            let Some(key) = key.filter(|key| key.starts_with(&id.to_be_bytes())) else {
                self.sop.dropped.retain(|dropped| *dropped != id);
                return Ok(());
            };
            table.delete(&mut self.txn, &key)?;
        }
        Ok(())
    }

    /// Writes the next chunk of a merge.
    fn merge_sop_chunk(&mut self, mut merge: Merge) -> Result<(), IndexError> {
        let alive = self.counters.alive.last().copied().unwrap_or(0);
        let many_dead = self.sop.entries() > 2 * alive + self.index.sop_memory_max as u64;
        let mut merged = Vec::with_capacity(256);
        for id in merge.inputs {
            let Some(run) = self.sop.runs.iter().find(|run| run.id == id).copied() else {
                return Err(IndexError::Corrupt("sop merge"));
            };
            // The output has at least as many chunks: one chunk of it lies in one chunk of the input.
            let finer = merge.output.bits.saturating_sub(run.bits);
            let key = chunk_key(id, merge.next.checked_shr(finer).unwrap_or(0));
            let chunk = self.index.tables.sop_runs.get(&self.txn, &key)?;
            let entries = chunk.unwrap_or_default().chunks_exact(ENTRY);
            for (hash, image, series) in entries.map_while(entry) {
                if merge.output.chunk(hash) == merge.next
                    && (!many_dead || self.has_row(ImageKey { series, image })?)
                {
                    merged.push((hash, image, series));
                }
            }
        }
        merged.sort_unstable();
        let mut chunk = Vec::with_capacity(merged.len() * ENTRY);
        for (hash, image, series) in &merged {
            put_entry(&mut chunk, *hash, *image, *series);
        }
        merge.output.entries += merged.len() as u64;
        put_chunk(self, merge.output.id, merge.next, &mut chunk)?;
        merge.next += 1;
        let done = u64::from(merge.next) == 1 << merge.output.bits;
        self.sop.merge = Some(merge);
        if done && let Some(merge) = self.sop.merge.take() {
            self.sop.runs.retain(|run| !merge.inputs.contains(&run.id));
            self.sop.runs.push(merge.output);
            self.sop.dropped.extend(merge.inputs);
        }
        Ok(())
    }

    fn has_row(&self, image: ImageKey) -> Result<bool, IndexError> {
        let row = self.index.tables.images.get(&self.txn, &image.encode())?;
        Ok(row.is_some())
    }
}

/// Writes a chunk, if there is anything in it, and empties it.
fn put_chunk(
    txn: &mut WriteTxn<'_>,
    run: u32,
    number: u32,
    chunk: &mut Vec<u8>,
) -> Result<(), IndexError> {
    if !chunk.is_empty() {
        let table = txn.index.tables.sop_runs;
        append(table, &mut txn.txn, &chunk_key(run, number), chunk)?;
        chunk.clear();
    }
    Ok(())
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
        fn damaged_records_are_no_states(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            if let Some(state) = SopState::decode(&bytes) {
                prop_assert_eq!(SopState::decode(&state.encode()), Some(state));
            }
        }

        #[test]
        fn damaged_chunks_are_searched_without_harm(
            chunk in proptest::collection::vec(any::<u8>(), 0..120),
            hash: u64,
        ) {
            prop_assert!(entries_of(&chunk, hash).count() <= chunk.len() / ENTRY);
        }
    }

    #[test]
    fn the_record_comes_back() {
        let run = Run {
            id: 3,
            bits: 4,
            entries: 99,
        };
        let state = SopState {
            key: [7; 32],
            covered: 1,
            last_id: 5,
            runs: vec![run],
            merge: Some(Merge {
                inputs: [1, 2],
                output: run,
                next: 9,
            }),
            dropped: vec![4],
        };
        assert_eq!(SopState::decode(&state.encode()), Some(state));
    }
}
