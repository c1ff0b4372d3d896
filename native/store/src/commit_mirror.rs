//! What the committer does about the database that follows the index.
//!
//! A store is answered after both have it. One that the index has and the database could not be told of is taken
//! back before its sender hears of it; everything else is done once the index has it, and reaches the database
//! as soon as that is back.

use crate::batch::Batch;
use crate::commit::Waiter;
use crate::commit_worker::Worker;
use crate::error::StoreError;
use crate::failure::Failure;
use crate::index::{Index, WriteTxn};
use crate::job::StoreJob;
use crate::pending::PendingId;

impl Worker {
    /// Whether there is a database that cannot be reached.
    pub(crate) fn mirror_is_away(&self) -> bool {
        let mirror = self.parts.mirror.as_ref();
        mirror.is_some_and(|mirror| mirror.is_away())
    }

    /// Whether the database can take a store, as far as can be said before it is applied.
    pub(crate) fn mirror_takes(&self, job: &StoreJob) -> Result<(), StoreError> {
        let Some(mirror) = &self.parts.mirror else {
            return Ok(());
        };
        mirror
            .ready(&self.parts.index)
            .map_err(|failure| StoreError::from(&failure))?;
        mirror
            .check(&job.rows)
            .map_err(|reason| StoreError::refused(job.refusal_status, reason))
    }

    /// Writes with a commit how far the database has followed.
    pub(crate) fn note(&self, txn: &mut WriteTxn<'_>) -> Result<(), Failure> {
        if let Some(mirror) = &self.parts.mirror {
            mirror.note(txn)?;
        }
        Ok(())
    }

    /// The same at the end, so that the next start has nothing to do again.
    pub(crate) fn note_mirror(&mut self, index: &Index) {
        let mirror = self.parts.mirror.as_ref();
        let Some(mirror) = mirror.filter(|mirror| !mirror.is_noted()) else {
            return;
        };
        mirror.note_now();
        if let Ok(txn) = index.write() {
            self.commit(Batch::new(txn));
        }
    }

    /// Tells the database of what was committed. Stores that it was not told of are taken back.
    pub(crate) fn follow(
        &self,
        changed: bool,
        stores: &[(Option<PendingId>, Waiter)],
    ) -> Result<(), Failure> {
        let Some(mirror) = &self.parts.mirror else {
            return Ok(());
        };
        if !changed && !mirror.is_away() {
            return Ok(());
        }
        let followed = mirror.follow(&self.parts.index);
        let pending: Vec<PendingId> = stores.iter().filter_map(|(id, _)| *id).collect();
        if followed.is_err() && !pending.is_empty() {
            // When this fails too the index takes no more stores, and the next start takes them back.
            let _left = self.take_back_all(&pending);
        }
        followed
    }

    fn take_back_all(&self, pending: &[PendingId]) -> Result<(), Failure> {
        let mut txn = self.parts.index.write()?;
        // The newest first: each brings back the row of the store before it.
        for &id in pending.iter().rev() {
            txn.revoke(id)?;
        }
        Ok(txn.commit()?)
    }
}
