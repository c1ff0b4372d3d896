//! The index: one LMDB environment, many short readers, one writer.
//!
//! Opens the environment, checks that rows fit the columns in force and hands out transactions. A failed
//! commit makes the index read-only until it is opened again, unless the disk was merely full. What the
//! transactions can do is spread over the files named after it (`apply`, `find`, `delete`, …).

use std::cell::OnceCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use heed::{Env, WithoutTls};
use parking_lot::{Mutex, MutexGuard};

use crate::ahead::Ahead;
use crate::calendar::unix_time;
use crate::columns::Columns;
use crate::error::StoreError;
use crate::extract::Extractor;
use crate::index_error::IndexError;
use crate::layout::Layout;
use crate::lmdb::{self, RoTxn, RwTxn, Tables};
use crate::parents::Parents;
use crate::schema::{Counters, FORMAT_VERSION, Level, meta_key};
use crate::sop_filter::SopFilters;
use crate::sop_index;
use crate::sop_memory::SopMemory;
use crate::sop_state::{SopState, read_state};

/// The error number of a failed or short write.
const EIO: i32 = 5;
/// With less room than this on its disk, a failed write of the index is taken for a full disk.
const ROOM_MIN: u64 = 16 << 20;

/// How the environment is opened.
#[derive(Debug, Clone, Copy)]
pub struct IndexOptions {
    /// Address space to reserve; also the largest size the index can ever have.
    pub map_bytes: usize,
    /// Entries of the SOP index that are gathered in memory before they are written as a run.
    pub sop_memory_max: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            map_bytes: lmdb::MAP_BYTES,
            sop_memory_max: sop_index::MEMORY_MAX,
        }
    }
}

/// Told now and then how far a long piece of work is: what, done, of how many.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// The open index.
pub struct Index {
    pub(crate) env: Env<WithoutTls>,
    pub(crate) tables: Tables,
    pub(crate) columns: Columns,
    pub(crate) extractor: Extractor,
    /// Number that rows written now carry.
    pub(crate) layout_number: u16,
    pub(crate) sop: SopMemory,
    pub(crate) sop_memory_max: usize,
    ahead: Ahead,
    writer: Mutex<WriterState>,
    read_only: AtomicBool,
    /// See `Index::is_closed`.
    closed: AtomicBool,
    /// Counts commits; see `Index::generation`.
    generation: AtomicU64,
    /// See `Index::changes_followed`.
    followed: AtomicU64,
}

/// What the writer knows between transactions. Empty after a failed or abandoned one.
#[derive(Default)]
pub(crate) struct WriterState {
    pub counters: Option<Counters>,
    pub sop: SopState,
    pub parents: Parents,
    /// Of the SOP index.
    pub filters: SopFilters,
}

impl Index {
    /// Opens or makes the index in `dir`. When `columns` ask for values that rows do not have, they are
    /// filled from the header store before this returns; `progress` hears about it.
    pub fn open(
        dir: &Path,
        columns: &Columns,
        options: IndexOptions,
        progress: Progress<'_>,
    ) -> Result<Self, IndexError> {
        let (env, tables, format) = lmdb::open(dir, options.map_bytes)?;
        let extractor = Extractor::new(columns);
        let mut index = Self {
            env,
            tables,
            columns: columns.clone(),
            extractor,
            layout_number: 1,
            sop: SopMemory::default(),
            sop_memory_max: options.sop_memory_max.max(1),
            ahead: Ahead::open(dir),
            writer: Mutex::new(WriterState::default()),
            read_only: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            followed: AtomicU64::new(0),
        };
        let generation = read_generation(&index)?;
        index.generation.store(generation, Ordering::Release);
        index.settle_layout(progress)?;
        index.settle_sop_state()?;
        if format != FORMAT_VERSION {
            index.enter_parent_uids(progress)?;
        }
        index.load_sop_memory()?;
        Ok(index)
    }

    /// Starts a read transaction. Keep it short: pages freed meanwhile cannot be used again.
    pub fn read(&self) -> Result<ReadTxn<'_>, IndexError> {
        Ok(ReadTxn {
            index: self,
            txn: self.env.read_txn()?,
            sop: OnceCell::new(),
        })
    }

    /// Starts the write transaction; waits while there is one.
    pub fn write(&self) -> Result<WriteTxn<'_>, IndexError> {
        if self.is_read_only() {
            return Err(IndexError::ReadOnly);
        }
        self.write_acknowledged()
    }

    /// The same after a failure, for nothing but what was acknowledged before it. A transaction writes every page
    /// that is new in it, so one that is committed does not depend on what an earlier one failed to write.
    pub(crate) fn write_acknowledged(&self) -> Result<WriteTxn<'_>, IndexError> {
        let mut state = Writer {
            state: self.writer.lock(),
            keep: false,
        };
        let txn = self.env.write_txn()?;
        if state.counters.is_none() {
            state.parents = Parents::default();
            state.filters = SopFilters::default();
            state.counters = Some(read_counters(self, &txn)?);
            state.sop = read_state(&self.tables, &txn)?;
        }
        let counters = state.counters.unwrap_or_default();
        Ok(WriteTxn {
            counters,
            images_before: counters.image,
            sop: state.sop.clone(),
            index: self,
            txn,
            state,
            broken: false,
        })
    }

    /// Refuses to go on without an index where one has rows: they would be kept, and not found.
    pub(crate) fn check_empty(&self) -> Result<(), StoreError> {
        let images = self.read()?.count(Level::Image)?;
        if images == 0 {
            return Ok(());
        }
        let folder = self.env.path().display();
        Err(StoreError::Config(format!(
            "no index is to be kept, but {folder} has rows of {images} images; remove that folder, or \
             write Index = lmdb"
        )))
    }

    /// The columns in force.
    pub const fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Reads headers into `RowValues` for this index.
    pub const fn extractor(&self) -> &Extractor {
        &self.extractor
    }

    pub(crate) const fn layout(&self) -> &Layout {
        self.extractor.layout()
    }

    /// Whether a failed commit has made the index read-only.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    /// Whether LMDB answers nothing any more, because a page that says which commit counts could not be written. All
    /// that has the index open must let go of it before it can be opened again.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What a failed commit means. LMDB answers EIO to a write that was cut short by the end of the space.
    fn commit_error(&self, error: heed::Error) -> IndexError {
        let short = matches!(&error, heed::Error::Io(e) if e.raw_os_error() == Some(EIO));
        let full = short
            && rustix::fs::statvfs(self.env.path())
                .is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) < ROOM_MIN);
        if full {
            return IndexError::Full(error.to_string());
        }
        error.into()
    }

    /// Lets nothing be written any more until the index is opened again.
    pub(crate) fn set_read_only(&self) {
        self.read_only.store(true, Ordering::Release);
    }

    /// Number of the commit in force. What `journal` holds counts only if it was written on top of this one.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The last change that a database has taken in for good; all, where none is to follow. Nothing, until
    /// `set_changes_followed` says so.
    pub(crate) fn changes_followed(&self) -> u64 {
        self.followed.load(Ordering::Acquire)
    }

    /// Told by whoever knows of all databases: up to here the change log may be taken off.
    pub fn set_changes_followed(&self, change: u64) {
        self.followed.store(change, Ordering::Release);
    }

    /// Bytes of the environment's file that are in use.
    pub fn used_bytes(&self) -> u64 {
        self.env.non_free_pages_size().unwrap_or(0)
    }
}

/// The number of the last commit. A new index starts at a number that no other one had, so that it takes
/// nothing from a journal that is not its own.
fn read_generation(index: &Index) -> Result<u64, IndexError> {
    let meta = index.tables.meta;
    let mut txn = index.env.write_txn()?;
    if let Some(bytes) = meta.get(&txn, meta_key::GENERATION)? {
        return bytes
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| IndexError::Corrupt("generation"));
    }
    let generation = unix_time() << 20;
    meta.put(&mut txn, meta_key::GENERATION, &generation.to_be_bytes())?;
    txn.commit()?;
    Ok(generation)
}

fn read_counters(index: &Index, txn: &heed::RoTxn<'_>) -> Result<Counters, IndexError> {
    match index.tables.meta.get(txn, meta_key::COUNTERS)? {
        None => Ok(Counters::default()),
        Some(bytes) => Counters::decode(bytes).ok_or(IndexError::Corrupt("counters")),
    }
}

/// A consistent view of the index.
pub struct ReadTxn<'i> {
    pub(crate) index: &'i Index,
    pub(crate) txn: RoTxn<'i>,
    /// The runs of the SOP index, once they have been needed.
    pub(crate) sop: OnceCell<SopState>,
}

impl ReadTxn<'_> {
    /// The counters and totals.
    pub fn counters(&self) -> Result<Counters, IndexError> {
        read_counters(self.index, &self.txn)
    }

    /// Rows alive at a level.
    pub fn count(&self, level: Level) -> Result<u64, IndexError> {
        let counters = self.counters()?;
        Ok(counters.alive.get(level.index()).copied().unwrap_or(0))
    }
}

/// Holds the writer's knowledge; forgets it unless the transaction was committed.
pub(crate) struct Writer<'i> {
    state: MutexGuard<'i, WriterState>,
    keep: bool,
}

impl std::ops::Deref for Writer<'_> {
    type Target = WriterState;

    fn deref(&self) -> &WriterState {
        &self.state
    }
}

impl std::ops::DerefMut for Writer<'_> {
    fn deref_mut(&mut self) -> &mut WriterState {
        &mut self.state
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.keep {
            *self.state = WriterState::default();
        }
    }
}

/// The write transaction. Nothing is visible or durable before `commit`; dropping it takes all back.
pub struct WriteTxn<'i> {
    // Declared before `state`, so that it is aborted before the next writer may start.
    pub(crate) txn: RwTxn<'i>,
    pub(crate) index: &'i Index,
    pub(crate) counters: Counters,
    /// Last image number of the transactions before.
    images_before: u64,
    pub(crate) sop: SopState,
    /// Set when a change failed half-way: the transaction can only be dropped.
    pub(crate) broken: bool,
    pub(crate) state: Writer<'i>,
}

impl WriteTxn<'_> {
    /// Makes everything durable and visible, and what the journal held of it superfluous. On an error nothing
    /// has changed; anything but a full disk turns the index read-only.
    pub fn commit(self) -> Result<(), IndexError> {
        let generation = self.index.generation() + 1;
        self.commit_as(generation)
    }

    /// The same for a change that leaves open what the journal holds.
    pub(crate) fn commit_beside_journal(self) -> Result<(), IndexError> {
        let generation = self.index.generation();
        self.commit_as(generation)
    }

    /// Gives the next store these numbers, unless they have been given.
    pub(crate) fn number_from(&mut self, image: u64, pending: u64) {
        let counters = &mut self.counters;
        counters.image = counters.image.max(image.saturating_sub(1));
        counters.pending = counters.pending.max(pending.saturating_sub(1));
    }

    fn commit_as(mut self, generation: u64) -> Result<(), IndexError> {
        if self.broken {
            return Err(IndexError::Corrupt("a change failed half-way"));
        }
        self.flush_parents()?;
        let sop_flushed = self.tend_sop_runs(self.counters.image - self.images_before)?;
        self.prune_changes()?;
        let record = self.counters.encode();
        let meta = self.index.tables.meta;
        meta.put(&mut self.txn, meta_key::COUNTERS, &record)?;
        meta.put(
            &mut self.txn,
            meta_key::GENERATION,
            &generation.to_be_bytes(),
        )?;
        let Self {
            txn,
            index,
            counters,
            sop,
            mut state,
            ..
        } = self;
        let result = txn.commit().map_err(|error| index.commit_error(error));
        match &result {
            Ok(()) => {
                index.generation.store(generation, Ordering::Release);
                state.counters = Some(counters);
                state.sop = sop;
                state.keep = true;
                let pages = index.env.info().last_page_number as u64 + 1;
                index.ahead.keep(pages * lmdb::PAGE_BYTES);
                if sop_flushed {
                    index.sop.forget();
                }
            }
            Err(error) => {
                // A full disk passes, unless it was met where it must not be.
                let closed = matches!(index.read(), Err(IndexError::Closed));
                index.closed.store(closed, Ordering::Release);
                if closed || !matches!(error, IndexError::Full(_)) {
                    index.set_read_only();
                }
            }
        }
        result
    }
}
