//! The change log, numbered without end, and the queue of work that must survive a crash.
//!
//! Records are written in the transaction of the change they tell of, so a reader that follows the numbers
//! misses nothing and sees nothing that did not happen. What the SOP index has in runs and a database has taken
//! in is taken off again, in the transactions that write new records. A database that comes later, or stands
//! further back, gets all rows instead (`mirror`); records of deletes stay for it, since no row tells of them.

use std::ops::Bound;

use crate::apply::StoreChange;
use crate::bytes::{Reader, put_var_bytes};
use crate::index::{Index, ReadTxn, WriteTxn};
use crate::index_error::IndexError;
use crate::lmdb::{KeyRange, append, from_key};
use crate::schema::{ImageKey, Level, meta_key};
use crate::uidmods::UidMod;

/// Records looked at, to be taken off, for each that is written: a long log becomes short while stores go on.
const PRUNED_PER_CHANGE: u64 = 2;
/// At most as many in one transaction.
const PRUNED_MAX: u64 = 4096;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ChangeKind {
    /// An image is new.
    New = 1,
    /// An image was stored again.
    Rewritten = 2,
    /// A row and all below it were deleted.
    Deleted = 3,
    /// A store was taken back.
    Revoked = 4,
    /// Images were entered or updated from another server's answers: `images` numbers of one series from `image`
    /// on. The record's level is the series, and its key the series' UID.
    Cloned = 5,
}

/// One record of the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number; later changes have larger ones.
    pub number: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// Level of the row.
    pub level: Level,
    /// Unix time, 0 when unknown.
    pub time: u32,
    /// The image, for changes of images.
    pub image: ImageKey,
    /// How many images, one after the other, for `Cloned`; else 0.
    pub images: u32,
    /// Identifier of the row: SOP instance, series or study UID or patient ID.
    pub key: Vec<u8>,
    /// AE title of the sender.
    pub calling_ae: String,
    /// AE title it called.
    pub called_ae: String,
}

impl Change {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend_from_slice(&[self.kind as u8, self.level as u8]);
        out.extend_from_slice(&self.time.to_be_bytes());
        out.extend_from_slice(&self.image.encode());
        put_var_bytes(&mut out, &self.key);
        put_var_bytes(&mut out, self.calling_ae.as_bytes());
        put_var_bytes(&mut out, self.called_ae.as_bytes());
        if self.kind == ChangeKind::Cloned {
            out.extend_from_slice(&self.images.to_be_bytes());
        }
        out
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut r = Reader::new(value);
        let kind = match r.u8()? {
            1 => ChangeKind::New,
            2 => ChangeKind::Rewritten,
            3 => ChangeKind::Deleted,
            4 => ChangeKind::Revoked,
            5 => ChangeKind::Cloned,
            _ => return None,
        };
        Some(Self {
            number: Reader::new(key).u64()?,
            kind,
            level: Level::from_index(usize::from(r.u8()?))?,
            time: r.u32()?,
            image: ImageKey {
                series: r.u32()?,
                image: r.u64()?,
            },
            key: r.var_bytes()?.to_vec(),
            calling_ae: r.var_str()?.to_owned(),
            called_ae: r.var_str()?.to_owned(),
            images: match kind {
                ChangeKind::Cloned => r.u32()?,
                _ => 0,
            },
        })
    }
}

fn read_pruned(index: &Index, txn: &heed::RoTxn<'_>) -> Result<u64, IndexError> {
    match index.tables.meta.get(txn, meta_key::PRUNED)? {
        None => Ok(0),
        Some(bytes) => Reader::new(bytes)
            .u64()
            .ok_or(IndexError::Corrupt("pruned")),
    }
}

impl ReadTxn<'_> {
    /// Changes with numbers above `after`, at most `limit`.
    pub fn changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, IndexError> {
        let from = after.saturating_add(1).to_be_bytes();
        let table = self.index.tables.changes;
        let records = table.range(&self.txn, &from_key(&from))?.take(limit);
        records
            .map(|item| {
                let (key, value) = item?;
                Change::decode(key, value).ok_or(IndexError::Corrupt("change record"))
            })
            .collect()
    }

    /// The last change up to which records have been taken off.
    pub(crate) fn pruned(&self) -> Result<u64, IndexError> {
        read_pruned(self.index, &self.txn)
    }

    /// Queued jobs with numbers above `after`, at most `limit`: number and payload.
    pub fn jobs(&self, after: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, IndexError> {
        let from = after.saturating_add(1).to_be_bytes();
        let table = self.index.tables.queue;
        let records = table.range(&self.txn, &from_key(&from))?.take(limit);
        records
            .map(|item| {
                let (key, value) = item?;
                let number = Reader::new(key)
                    .u64()
                    .ok_or(IndexError::Corrupt("job key"))?;
                Ok((number, value.to_vec()))
            })
            .collect()
    }
}

impl WriteTxn<'_> {
    /// Writes the record of a store.
    pub(crate) fn put_change(
        &mut self,
        kind: ChangeKind,
        image: ImageKey,
        change: &StoreChange<'_>,
    ) -> Result<(), IndexError> {
        self.log(&Change {
            number: 0,
            kind,
            level: Level::Image,
            time: change.now,
            image,
            images: 0,
            key: change.rows.sop_instance.clone(),
            calling_ae: change.calling_ae.to_owned(),
            called_ae: change.called_ae.to_owned(),
        })
    }

    /// Writes a record under the next number.
    pub(crate) fn log(&mut self, change: &Change) -> Result<(), IndexError> {
        self.counters.change += 1;
        let key = self.counters.change.to_be_bytes();
        let table = self.index.tables.changes;
        append(table, &mut self.txn, &key, &change.encode())?;
        Ok(())
    }

    /// Takes off records that nobody needs any more, as many as follows from what the transaction has written.
    pub(crate) fn prune_changes(&mut self) -> Result<(), IndexError> {
        let before = self.state.counters.map_or(0, |counters| counters.change);
        let written = self.counters.change.saturating_sub(before);
        let limit = (written * PRUNED_PER_CHANGE).min(PRUNED_MAX);
        let end = self.sop.covered.min(self.index.changes_followed());
        let pruned = read_pruned(self.index, &self.txn)?;
        let end = end.min(pruned.saturating_add(limit));
        if end <= pruned {
            return Ok(());
        }
        let tables = self.index.tables;
        let (first, last) = ((pruned + 1).to_be_bytes(), end.to_be_bytes());
        let range: KeyRange<'_> = (Bound::Included(&first), Bound::Included(&last));
        let mut deletes = Vec::new();
        for item in tables.changes.range(&self.txn, &range)? {
            let (key, record) = item?;
            if record.first() == Some(&(ChangeKind::Deleted as u8)) {
                deletes.push((key.to_vec(), record.to_vec()));
            }
        }
        tables.changes.delete_range(&mut self.txn, &range)?;
        for (key, record) in deletes {
            tables.changes.put(&mut self.txn, &key, &record)?;
        }
        tables.meta.put(&mut self.txn, meta_key::PRUNED, &last)?;
        Ok(())
    }

    /// Queues payloads; changed UIDs among them go to their table.
    pub(crate) fn put_jobs(&mut self, jobs: &[&[u8]]) -> Result<(), IndexError> {
        for job in jobs {
            if let Some(change) = UidMod::from_record(job) {
                if self.uid_mod(&change.old, &change.stage)?.is_none() {
                    self.put_uid_mod(&change)?;
                }
                continue;
            }
            self.counters.job += 1;
            let key = self.counters.job.to_be_bytes();
            append(self.index.tables.queue, &mut self.txn, &key, job)?;
        }
        Ok(())
    }

    /// Gives a queued job another payload; nothing happens when it is done with.
    pub fn change_job(&mut self, number: u64, payload: &[u8]) -> Result<(), IndexError> {
        let table = self.index.tables.queue;
        let key = number.to_be_bytes();
        if table.get(&self.txn, &key)?.is_some() {
            table.put(&mut self.txn, &key, payload)?;
        }
        Ok(())
    }

    /// A queued job is done with.
    pub fn job_done(&mut self, number: u64) -> Result<(), IndexError> {
        let table = self.index.tables.queue;
        table.delete(&mut self.txn, &number.to_be_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn damaged_records_are_no_changes(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(change) = Change::decode(&[0; 8], &bytes) {
                prop_assert_eq!(Change::decode(&[0; 8], &change.encode()), Some(change));
            }
        }
    }
}
