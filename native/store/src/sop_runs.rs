//! Writing the runs of the SOP index: from memory, by merging, by dropping what was merged.

use crate::index::WriteTxn;
use crate::index_error::IndexError;
use crate::lmdb::{RwTxn, Table, append, behind_key};
use crate::parents::parent_table;
use crate::schema::{ImageKey, Level, meta_key};
use crate::sop_filter::SopFilter;
use crate::sop_memory::Entry;
use crate::sop_state::{ENTRY, Merge, SopState, chunk_key, entry, entry_level, put_entry};

/// Images stored for each step of merging or dropping a chunk. Ten million images need four passes over each
/// entry, an eighth of a step per image.
const IMAGES_PER_STEP: u64 = 4;
/// Chunks that a filter in the making takes in with a commit, at least: a fraction of a millisecond.
const SWEPT_MIN: u64 = 64;
/// The memory becomes a run, however little is in it, when this many times as many changes as it can hold entries
/// wait in the log for it.
const LOG_FACTOR: u64 = 4;

impl WriteTxn<'_> {
    /// Before a commit: a full memory becomes a run, and runs are merged a little. Answers whether the
    /// memory may be forgotten once the transaction is committed.
    pub(crate) fn tend_sop_runs(&mut self, new_images: u64) -> Result<bool, IndexError> {
        let before = self.sop.clone();
        for _ in 0..new_images.div_ceil(IMAGES_PER_STEP) {
            self.step_sop_runs()?;
        }
        let most = self.index.sop_memory_max;
        let waiting = self.counters.change.saturating_sub(self.sop.covered);
        let flushed =
            self.index.sop.current.read().len() >= most || waiting >= most as u64 * LOG_FACTOR;
        if flushed {
            self.flush_sop_memory()?;
        }
        if self.sop != before {
            let meta = self.index.tables.meta;
            meta.put(&mut self.txn, meta_key::SOP, &self.sop.encode())?;
        }
        self.tend_sop_filter(new_images)?;
        Ok(flushed)
    }

    fn flush_sop_memory(&mut self) -> Result<(), IndexError> {
        let index = self.index;
        let entries = index.sop.current.read().sorted();
        self.sop.covered = self.counters.change;
        write_run(
            index.tables.sop_runs,
            &mut self.txn,
            &mut self.sop,
            &entries,
        )
    }

    /// One chunk of work: dropping what has been merged, or merging.
    fn step_sop_runs(&mut self) -> Result<(), IndexError> {
        if let Some(id) = self.sop.dropped.last().copied() {
            return self.drop_sop_chunk(id);
        }
        let Some(merge) = self.sop.merge.clone() else {
            if let Some(runs) = self.sop.group(self.has_many_dead()) {
                let entries = runs.iter().map(|run| run.entries).sum();
                let mut output = self.sop.new_run(entries);
                output.entries = 0;
                let finest = runs.iter().map(|run| run.bits).max();
                output.bits = output.bits.max(finest.unwrap_or(0));
                self.sop.merge = Some(Merge {
                    inputs: runs.iter().map(|run| run.id).collect(),
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
        let many_dead = self.has_many_dead();
        let mut merged = Vec::with_capacity(256);
        for &id in &merge.inputs {
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
                    && (!many_dead || self.has_row_of(ImageKey { series, image })?)
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
        let table = self.index.tables.sop_runs;
        put_chunk(
            table,
            &mut self.txn,
            (merge.output.id, merge.next),
            &mut chunk,
        )?;
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

    /// Whether most entries are of rows that were deleted.
    fn has_many_dead(&self) -> bool {
        let [_patients, alive @ ..] = self.counters.alive;
        let alive: u64 = alive.iter().sum();
        self.sop.entries() > 2 * alive + self.index.sop_memory_max as u64
    }

    /// Makes a filter when there is none, or it has become too small, a little with each commit: it takes in the
    /// runs in the order of their numbers, and entries only ever move to runs with higher ones.
    fn tend_sop_filter(&mut self, new_images: u64) -> Result<(), IndexError> {
        let filters = &mut self.state.filters;
        let memory = self.index.sop.current.read();
        let entries = self.sop.entries() + memory.len() as u64;
        if filters.wants_another() && !self.sop.runs.is_empty() {
            let mut filter = SopFilter::new(entries);
            memory.hashes().for_each(|hash| filter.insert(hash));
            filters.begin(filter);
        }
        drop(memory);
        let Some((filter, after)) = filters.in_the_making() else {
            return Ok(());
        };
        let chunks = new_images.max(SWEPT_MIN);
        let table = self.index.tables.sop_runs;
        let mut swept = 0;
        for item in table
            .range(&self.txn, &behind_key(after))?
            .take(chunks as usize)
        {
            let (key, chunk) = item?;
            let entries = chunk.chunks_exact(ENTRY).map_while(entry);
            entries.for_each(|(hash, ..)| filter.insert(hash));
            *after = key.to_vec();
            swept += 1;
        }
        if swept < chunks {
            filters.end(entries);
        }
        Ok(())
    }

    /// Whether there is a row that an entry stands for.
    fn has_row_of(&self, entry: ImageKey) -> Result<bool, IndexError> {
        let tables = &self.index.tables;
        let row = match entry_level(entry) {
            None => None,
            Some(Level::Image) => tables.images.get(&self.txn, &entry.encode())?,
            Some(level) => {
                parent_table(tables, level).get(&self.txn, &entry.series.to_be_bytes())?
            }
        };
        Ok(row.is_some())
    }
}

/// Writes entries, which are sorted, as a run.
pub(crate) fn write_run(
    table: Table,
    txn: &mut RwTxn<'_>,
    state: &mut SopState,
    entries: &[Entry],
) -> Result<(), IndexError> {
    if entries.is_empty() {
        return Ok(());
    }
    let run = state.new_run(entries.len() as u64);
    let mut chunk = Vec::with_capacity(4096);
    let mut number = 0;
    for &(hash, image, series) in entries {
        if run.chunk(hash) != number {
            put_chunk(table, txn, (run.id, number), &mut chunk)?;
            number = run.chunk(hash);
        }
        put_entry(&mut chunk, hash, image, series);
    }
    put_chunk(table, txn, (run.id, number), &mut chunk)?;
    state.runs.push(run);
    Ok(())
}

/// Writes a chunk of a run, if there is anything in it, and empties it.
fn put_chunk(
    table: Table,
    txn: &mut RwTxn<'_>,
    (run, number): (u32, u32),
    chunk: &mut Vec<u8>,
) -> Result<(), IndexError> {
    if !chunk.is_empty() {
        append(table, txn, &chunk_key(run, number), chunk)?;
        chunk.clear();
    }
    Ok(())
}
