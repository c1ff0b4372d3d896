//! The committer's thread: waits for work, applies it in one transaction, makes it safe, answers it. What is
//! promised about all this stands in `commit`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::apply::{Outcome, StoreRefusal, Stored};
use crate::batch::{Acknowledged, Batch, Fresh};
use crate::commit::{CommitStats, Parts, StoreAnswer, Work};
use crate::error::StoreError;
use crate::failure::Failure;
use crate::index::{Index, WriteTxn};
use crate::job::StoreJob;
use crate::journal::Safety;
use crate::look::{LOOK_MAX, look};
use crate::pending::PendingId;
use crate::reply::Promise;

/// Changes answered together. LIMIT: with 64 KiB journal objects a batch holds at most 16 MiB.
const BATCH_MAX: usize = 256;
/// Work that follows the one before it within `LOOK_MAX` is looked for after so many that came alone.
const LOOK_AFTER: u32 = 32;
/// Pause before changes of a failed commit are tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The thread's own.
pub(crate) struct Worker {
    pub(crate) parts: Parts,
    waiting: Receiver<Work>,
    stats: Arc<CommitStats>,
    awake: Arc<AtomicBool>,
    /// Whether a store was announced that has not come yet.
    expecting: bool,
    /// Acknowledged stores of a failed transaction.
    redo: Vec<Acknowledged>,
    /// Stores that a failed transaction took back.
    revoke_again: Vec<PendingId>,
    /// Whether there is a core to look with.
    may_look: bool,
    /// Whether the work before came within `LOOK_MAX`.
    dense: bool,
    /// Pieces of work that came alone, one after the other.
    single: u32,
}

impl Worker {
    pub(crate) fn new(
        parts: Parts,
        waiting: Receiver<Work>,
        stats: Arc<CommitStats>,
        awake: Arc<AtomicBool>,
    ) -> Self {
        Self {
            parts,
            waiting,
            stats,
            awake,
            expecting: false,
            redo: Vec::new(),
            revoke_again: Vec::new(),
            may_look: std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
            dense: false,
            single: 0,
        }
    }

    pub(crate) fn run(mut self) {
        let index = Arc::clone(&self.parts.index);
        let mut open: Option<Batch<'_>> = None;
        loop {
            let Ok(first) = self.next(open.as_ref()) else {
                break;
            };
            let mut batch = match open.take().map_or_else(|| self.begin(&index), Ok) {
                Ok(batch) => batch,
                Err(failure) => {
                    if let Some(work) = first {
                        self.refuse(work, &failure);
                    }
                    continue;
                }
            };
            open = match self.fill(&mut batch, first) {
                Ok(()) => self.make_safe(batch, &index),
                Err(failure) => {
                    self.abandon(batch, &failure);
                    None
                }
            };
        }
        if let Some(batch) = open.take() {
            self.commit(batch);
        }
        self.note_mirror(&index);
    }

    /// The next piece of work; nothing when the open transaction is due, or a retry is.
    fn next(&mut self, open: Option<&Batch<'_>>) -> Result<Option<Work>, ()> {
        loop {
            let work = self.look();
            let work = match work {
                Some(work) => Some(work),
                None => self.sleep(open)?,
            };
            self.expecting = matches!(work, Some(Work::Expect));
            if !self.expecting {
                return Ok(work);
            }
        }
    }

    fn sleep(&mut self, open: Option<&Batch<'_>>) -> Result<Option<Work>, ()> {
        let deadline = match open {
            Some(batch) => Some(batch.deadline),
            None if self.redo.is_empty()
                && self.revoke_again.is_empty()
                && !self.mirror_is_away() =>
            {
                None
            }
            None => Some(Instant::now() + RETRY_PAUSE),
        };
        let started = Instant::now();
        self.awake.store(false, Ordering::Relaxed);
        let work = match deadline {
            Some(deadline) => self.waiting.recv_deadline(deadline),
            None => self.waiting.recv().map_err(Into::into),
        };
        self.awake.store(true, Ordering::Relaxed);
        self.dense = self.may_look && started.elapsed() < LOOK_MAX;
        match work {
            Ok(work) => Ok(Some(work)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// Looks for work that was announced, or that is about to come because one sender is alone and quick. Among
    /// several, looking would take the core away from those it waits for.
    fn look(&mut self) -> Option<Work> {
        let quick = self.dense && self.single >= LOOK_AFTER;
        if !self.may_look || !(quick || self.expecting) {
            return None;
        }
        let found = look(LOOK_MAX, || self.waiting.try_recv().ok());
        if found.is_none() {
            self.dense = false;
        }
        found
    }

    fn begin<'i>(&mut self, index: &'i Index) -> Result<Batch<'i>, Failure> {
        if index.is_read_only() {
            self.commit_acknowledged(index);
        }
        let txn = index.write()?;
        self.begin_in(txn)
    }

    /// After a failure: commits the acknowledged stores that are left, and nothing else. Should this fail, it is
    /// tried again; until then they stay in the journal.
    fn commit_acknowledged(&mut self, index: &Index) {
        if self.redo.is_empty() && self.revoke_again.is_empty() {
            return;
        }
        let batch = index.write_acknowledged().map_err(Failure::from);
        if let Ok(batch) = batch.and_then(|txn| self.begin_in(txn)) {
            self.commit(batch);
        }
    }

    fn begin_in<'i>(&mut self, txn: WriteTxn<'i>) -> Result<Batch<'i>, Failure> {
        let mut batch = Batch::new(txn);
        for kept in &mut self.redo {
            let (image, pending) = (kept.image, kept.pending.0);
            let again = kept
                .job
                .apply_as(&mut batch.txn, image, pending, &kept.file);
            // The index is as it was when the store was first applied, so it is not refused now.
            if let Err(StoreRefusal::Index(error)) = again {
                return Err(error.into());
            }
            batch.changes += 1;
            batch.commit_now = true;
        }
        for &pending in &self.revoke_again {
            batch.txn.revoke(pending)?;
            batch.commit_now = true;
        }
        batch.acknowledged.append(&mut self.redo);
        batch.revoked.append(&mut self.revoke_again);
        Ok(batch)
    }

    /// Applies the first piece of work and everything else that waits.
    fn fill(&mut self, batch: &mut Batch<'_>, first: Option<Work>) -> Result<(), Failure> {
        let mut next = first;
        let mut taken = 0;
        while let Some(work) = next {
            if !matches!(work, Work::Expect) {
                self.apply(batch, work)?;
                taken += 1;
            }
            if taken >= BATCH_MAX {
                break;
            }
            next = self.waiting.try_recv().ok();
        }
        self.single = if taken == 1 {
            self.single.saturating_add(1)
        } else {
            0
        };
        Ok(())
    }

    fn apply(&mut self, batch: &mut Batch<'_>, work: Work) -> Result<(), Failure> {
        batch.changes += 1;
        match work {
            Work::Store(job, answer) => return self.apply_store(batch, job, answer),
            Work::Change(change, fail, revokes) => {
                batch.revoked.extend(revokes);
                match change(&mut batch.txn) {
                    Ok(waiter) => batch.waiters.push(waiter),
                    Err(error) => {
                        let failure = error.into();
                        fail(Err(&failure));
                        return Err(failure);
                    }
                }
            }
            Work::Expect => return Ok(()),
            Work::Flush(answer) => {
                batch.waiters.push(Box::new(move |outcome| {
                    answer.answer(outcome.map_err(Into::into));
                }));
            }
        }
        batch.commit_now = true;
        Ok(())
    }

    fn apply_store(
        &mut self,
        batch: &mut Batch<'_>,
        job: Box<StoreJob>,
        answer: Promise<StoreAnswer>,
    ) -> Result<(), Failure> {
        if let Err(error) = self.mirror_takes(&job) {
            batch.changes -= 1;
            answer.answer(Err(error));
            return Ok(());
        }
        let stored = match job.apply(&mut batch.txn) {
            Ok(stored) => stored,
            Err(refusal @ (StoreRefusal::Link { .. } | StoreRefusal::Owned { .. })) => {
                batch.changes -= 1;
                let refused = StoreError::refused(job.refusal_status, refusal.to_string());
                answer.answer(Err(refused));
                return Ok(());
            }
            Err(StoreRefusal::Index(error)) => {
                let failure = error.into();
                answer.answer(Err(StoreError::from(&failure)));
                return Err(failure);
            }
        };
        if let Some(pending) = stored.pending {
            let in_flight = &self.parts.in_flight;
            in_flight.set_file(&job.uid, pending, stored.device, &stored.file);
        }
        if let Some(pending) = self.stage(batch, &job, &stored) {
            batch.fresh.push(Fresh {
                kept: Acknowledged {
                    job,
                    image: stored.image.image,
                    pending,
                    file: stored.file.clone(),
                },
                stored,
                answer,
            });
            return Ok(());
        }
        batch.commit_now = true;
        batch.answer_after_commit(stored, answer);
        Ok(())
    }

    /// Gets a new store ready for the journal. `None`: it is to wait for the commit, since it is no new object
    /// (the old file stays until the new row is committed), takes over a name that the committed index may still
    /// give to another, follows a change that waits, or has no room.
    fn stage(&mut self, batch: &Batch<'_>, job: &StoreJob, stored: &Stored) -> Option<PendingId> {
        let pending = stored.pending?;
        let generation = self.parts.index.generation();
        let fits = stored.outcome == Outcome::New
            && self.parts.mirror.is_none()
            && !stored.overwrites
            && !batch.commit_now
            && self
                .parts
                .journal
                .stage(generation, &job.record(stored, pending));
        fits.then_some(pending)
    }

    /// Makes what the batch has taken in safe and answers it; hands the batch back when it stays open.
    fn make_safe<'i>(&mut self, mut batch: Batch<'i>, index: &'i Index) -> Option<Batch<'i>> {
        if batch.commit_now {
            self.parts.journal.unstage();
            for fresh in std::mem::take(&mut batch.fresh) {
                batch.answer_after_commit(fresh.stored, fresh.answer);
            }
        } else if !batch.fresh.is_empty() {
            let safety = batch.fresh.iter().map(|fresh| fresh.kept.job.safety);
            let safety = safety.max().unwrap_or(Safety::None);
            if let Err(error) = self.parts.journal.write(safety) {
                self.take_back(batch, &error, index);
                return None;
            }
            for fresh in std::mem::take(&mut batch.fresh) {
                batch.acknowledged.push(fresh.kept);
                self.stats.uncommitted.fetch_add(1, Ordering::Release);
                fresh.answer.answer(Ok(fresh.stored));
            }
        }
        if batch.is_due() {
            self.commit(batch);
            return None;
        }
        Some(batch)
    }

    /// The journal failed: refuses the stores that it was to hold. Those acknowledged before are committed
    /// without them, which also makes dead whatever was written. Unless there was merely no space, nothing is
    /// written any more until the next start.
    fn take_back(&mut self, batch: Batch<'_>, error: &std::io::Error, index: &Index) {
        self.stats.failures.fetch_add(1, Ordering::Relaxed);
        let path = self.parts.journal.path().display();
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let failure = if full {
            Failure::Full(format!("{path}: {error}"))
        } else {
            Failure::ReadOnly(format!("{path}: {error}"))
        };
        let Batch {
            txn,
            acknowledged,
            revoked,
            fresh,
            ..
        } = batch;
        drop(txn);
        self.keep(acknowledged, revoked);
        self.commit_acknowledged(index);
        if !full {
            index.set_read_only();
        }
        for fresh in fresh {
            fresh.answer.answer(Err(StoreError::from(&failure)));
        }
    }

    pub(crate) fn commit(&mut self, mut batch: Batch<'_>) {
        let started = Instant::now();
        let changed = batch.txn.logs_changes();
        let outcome = self
            .parts
            .disk
            .commit_point()
            .map_err(|e| Failure::Other(e.to_string()))
            .and_then(|()| self.note(&mut batch.txn))
            .and_then(|()| batch.txn.commit().map_err(Failure::from))
            .and_then(|()| {
                let after = self.parts.disk.commit_point();
                after.map_err(|e| Failure::Other(e.to_string()))
            });
        if outcome.is_ok() {
            let took = started.elapsed().as_micros() as u64;
            let changes = batch.changes as u64;
            self.stats.commits.fetch_add(1, Ordering::Relaxed);
            self.stats.changes.fetch_add(changes, Ordering::Relaxed);
            self.stats.commit_us.fetch_add(took, Ordering::Relaxed);
            let acknowledged = batch.acknowledged.len() as u64;
            self.stats
                .uncommitted
                .fetch_sub(acknowledged, Ordering::Release);
        } else {
            self.stats.failures.fetch_add(1, Ordering::Relaxed);
            self.keep(batch.acknowledged, batch.revoked);
        }
        let followed = match &outcome {
            Ok(()) => self.follow(changed, &batch.stores),
            Err(failure) => Err(failure.clone()),
        };
        for waiter in batch.waiters {
            waiter(outcome.as_ref().copied());
        }
        for (_, waiter) in batch.stores {
            waiter(followed.as_ref().copied());
        }
    }

    /// Keeps for the next transaction what a failed one would have committed: its acknowledged stores without those
    /// taken back, and what it took back of earlier ones.
    fn keep(&mut self, acknowledged: Vec<Acknowledged>, mut revoked: Vec<PendingId>) {
        self.redo.extend(acknowledged);
        let redo = self.redo.len();
        let mut gone = Vec::new();
        self.redo.retain(|kept| {
            let keep = !revoked.contains(&kept.pending);
            if !keep {
                gone.push(kept.pending);
            }
            keep
        });
        revoked.retain(|pending| !gone.contains(pending));
        self.revoke_again.extend(revoked);
        let dropped = (redo - self.redo.len()) as u64;
        self.stats.uncommitted.fetch_sub(dropped, Ordering::Release);
    }

    /// Answers work that no transaction could be begun for. A disk that fails takes the index's writing away, not
    /// its reading: a flush is content with what could be committed.
    fn refuse(&mut self, work: Work, failure: &Failure) {
        match work {
            Work::Store(_, answer) => answer.answer(Err(failure.into())),
            Work::Change(_, fail, revokes) => {
                self.keep(Vec::new(), revokes.into_iter().collect());
                fail(Err(failure));
            }
            Work::Flush(answer) if self.parts.index.is_read_only() => answer.answer(Ok(())),
            Work::Flush(answer) => answer.answer(Err(failure.into())),
            Work::Expect => {}
        }
    }

    /// Gives up a transaction that broke while it was filled.
    fn abandon(&mut self, batch: Batch<'_>, failure: &Failure) {
        self.stats.failures.fetch_add(1, Ordering::Relaxed);
        drop(batch.txn);
        self.parts.journal.unstage();
        self.keep(batch.acknowledged, batch.revoked);
        for fresh in batch.fresh {
            fresh.answer.answer(Err(StoreError::from(failure)));
        }
        for waiter in batch.waiters {
            waiter(Err(failure));
        }
        for (_, waiter) in batch.stores {
            waiter(Err(failure));
        }
    }
}
