//! The LMDB environment: opened once per process, one table per line of `schema`.
//!
//! Read transactions are not bound to threads (NOTLS) and there are slots for far more of them than there
//! can be threads. The map is reserved huge once, so that growing never needs a pause. Syncing is never
//! turned off. This file holds the crate's only `unsafe` besides the kernel calls and `mapped_file`: opening a map.

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions, PutFlags, WithoutTls};

use crate::index_error::IndexError;
use crate::schema::{FORMAT_OLD, FORMAT_VERSION, meta_key};

/// A table of bytes to bytes; `schema` says what they mean.
pub type Table = Database<Bytes, Bytes>;
/// A read transaction that may wander between threads.
pub type RoTxn<'e> = heed::RoTxn<'e, WithoutTls>;
/// The one write transaction.
pub type RwTxn<'e> = heed::RwTxn<'e>;

/// A range of keys, as `Table::range` wants it.
pub type KeyRange<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);

/// All keys from this one on.
pub const fn from_key(key: &[u8]) -> KeyRange<'_> {
    (Bound::Included(key), Bound::Unbounded)
}

/// All keys behind this one; all there are when it is empty.
pub fn behind_key(key: &[u8]) -> KeyRange<'_> {
    let start = if key.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(key)
    };
    (start, Bound::Unbounded)
}

/// Puts a record whose key is usually the largest: pages are then filled, not halved.
pub fn append(
    table: Table,
    txn: &mut RwTxn<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(), heed::Error> {
    match table.put_with_flags(txn, PutFlags::APPEND, key, value) {
        Err(heed::Error::Mdb(heed::MdbError::KeyExist)) => table.put(txn, key, value),
        other => other,
    }
}

/// Address space reserved for the map. Costs nothing until used; the disk is the real limit.
pub const MAP_BYTES: usize = 1 << 40;
/// The least address space that is worth trying.
const MAP_MIN: usize = 1 << 32;
/// The error number of a map that is not granted.
const ENOMEM: i32 = 12;
/// LMDB's page is the system's.
pub const PAGE_BYTES: u64 = 4096;
/// Reader slots: one per association, export worker and tool, with room to spare.
pub const READERS_MAX: u32 = 4096;

macro_rules! tables {
    ($($name:ident),* $(,)?) => {
        /// Handles of all tables.
        #[derive(Clone, Copy)]
        pub struct Tables { $(#[doc = concat!("Table `", stringify!($name), "`.")] pub $name: Table),* }

        const TABLE_COUNT: u32 = [$(stringify!($name)),*].len() as u32;

        impl Tables {
            fn create(env: &Env<WithoutTls>, txn: &mut RwTxn<'_>) -> Result<Self, heed::Error> {
                Ok(Self { $($name: env.create_database(txn, Some(stringify!($name)))?),* })
            }
        }
    };
}

tables!(
    meta,
    patients,
    studies,
    series,
    images,
    patient_kids,
    study_kids,
    patient_ids,
    sop_runs,
    search,
    files,
    headers,
    changes,
    queue,
    pending,
    tombs,
    orphans,
    worklist,
    uidmods,
);

/// What format 2 had besides.
const TABLES_OF_FORMAT_2: [&str; 2] = ["study_uids", "series_uids"];

/// Empties the tables that only format 2 had, where there are any.
pub fn clear_tables_of_format_2(
    env: &Env<WithoutTls>,
    txn: &mut RwTxn<'_>,
) -> Result<(), heed::Error> {
    for name in TABLES_OF_FORMAT_2 {
        let table: Option<Table> = env.open_database(txn, Some(name))?;
        if let Some(table) = table {
            table.clear(txn)?;
        }
    }
    Ok(())
}

/// Opens the environment in `dir` (which must exist), makes absent tables, clears readers of dead
/// processes and checks the format. Answers its number, which is `FORMAT_VERSION` or `FORMAT_OLD`.
pub fn open(dir: &Path, map_bytes: usize) -> Result<(Env<WithoutTls>, Tables, u32), IndexError> {
    let env = open_map(dir, map_bytes)?;
    env.clear_stale_readers()?;
    let mut txn = env.write_txn()?;
    let tables = Tables::create(&env, &mut txn)?;
    let format = tables.meta.get(&txn, meta_key::FORMAT)?;
    let format = match format.map(|bytes| bytes.try_into().map(u32::from_be_bytes)) {
        None => {
            let record = FORMAT_VERSION.to_be_bytes();
            tables.meta.put(&mut txn, meta_key::FORMAT, &record)?;
            FORMAT_VERSION
        }
        Some(Ok(known @ (FORMAT_VERSION | FORMAT_OLD))) => known,
        Some(Ok(found)) => {
            return Err(IndexError::Format {
                found,
                known: FORMAT_VERSION,
            });
        }
        Some(Err(_)) => return Err(IndexError::Corrupt("format record")),
    };
    txn.commit()?;
    Ok((env, tables, format))
}

/// Opens the map, in less address space where the system does not grant so much.
fn open_map(dir: &Path, map_bytes: usize) -> Result<Env<WithoutTls>, heed::Error> {
    let mut map_bytes = map_bytes;
    loop {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options
            .map_size(map_bytes)
            .max_readers(READERS_MAX)
            .max_dbs(TABLE_COUNT + TABLES_OF_FORMAT_2.len() as u32);
        // SAFETY: the map is only unsound when the file changes underneath it; the archive's lock on the
        // index folder keeps other writers of this program out, and no flag that relaxes LMDB's own rules
        // is set.
        match unsafe { options.open(dir) } {
            Err(heed::Error::Io(e)) if e.raw_os_error() == Some(ENOMEM) && map_bytes > MAP_MIN => {
                map_bytes /= 4;
            }
            other => return other,
        }
    }
}
