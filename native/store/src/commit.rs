//! The only writer of the index: takes the first waiting change and everything else that waits, applies them
//! in one transaction, commits, answers all.
//!
//! There is no timer for durable changes: a lone sender never waits for company, many senders share a commit
//! because they queue while the one before runs. Relaxed stores are answered once applied; their transaction
//! stays open for a few milliseconds or changes, and a flush, a durable change or the limit commits it.
//!
//! Order: changes are applied first in, first out; nothing of a later transaction is answered before an
//! earlier one is committed. A refused change takes nothing of its neighbours along. When a commit fails,
//! every durable change in it is answered with that failure; relaxed stores, answered already, are kept and
//! applied again first thing in the next transaction (and their records stay in `relaxed.journal`, should
//! the process die before). The committer never touches objects' files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use parking_lot::Mutex;

use crate::apply::{Outcome, StoreRefusal, Stored};
use crate::blob::Disk;
use crate::error::StoreError;
use crate::in_flight::InFlight;
use crate::index::{Index, WriteTxn};
use crate::index_error::IndexError;
use crate::job::StoreJob;
use crate::relaxed::RelaxedJournal;
use crate::reply::{Awaited, Promise, promise};

/// Changes in one transaction. LIMIT: with 64 KiB journal objects a batch holds at most 16 MiB.
const BATCH_MAX: usize = 256;
/// Relaxed stores in a transaction that nothing else forces to commit.
const RELAXED_BATCH_MAX: usize = 2048;
/// How long an acknowledged relaxed store stays uncommitted at most.
const RELAXED_DELAY_MAX: Duration = Duration::from_millis(100);
/// Pause before changes of a failed commit are tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What a store got, with the job handed back for its bytes (a relaxed job stays with the committer).
pub(crate) struct StoreAnswer {
    /// The job, when it comes back.
    pub job: Option<Box<StoreJob>>,
    /// What the index did.
    pub result: Result<Stored, StoreError>,
}

/// Called with the commit's outcome.
type Waiter = Box<dyn FnOnce(Result<(), &Failure>) + Send>;
/// A change of the index that is not a store.
type Change = Box<dyn FnOnce(&mut WriteTxn<'_>) -> Result<Waiter, IndexError> + Send>;

enum Work {
    Store(Box<StoreJob>, Promise<StoreAnswer>),
    Change(Change, Waiter),
    Flush(Promise<Result<(), StoreError>>),
}

/// Why a whole transaction failed; said to each change in it.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    Full(String),
    ReadOnly(String),
    Other(String),
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Full(reason) => Self::Full(reason),
            IndexError::ReadOnly => Self::ReadOnly(IndexError::ReadOnly.to_string()),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<&Failure> for StoreError {
    fn from(failure: &Failure) -> Self {
        match failure.clone() {
            Failure::Full(reason) => Self::Full(reason),
            Failure::ReadOnly(reason) => Self::ReadOnly(reason),
            Failure::Other(reason) => Self::Index(reason),
        }
    }
}

impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        Self::from(&Failure::from(error))
    }
}

/// Figures of the committer.
#[derive(Debug, Default)]
pub(crate) struct CommitStats {
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Changes in them.
    pub changes: AtomicU64,
    /// Microseconds spent committing.
    pub commit_us: AtomicU64,
    /// Transactions that failed.
    pub failures: AtomicU64,
    /// Relaxed stores that were answered and are not committed yet.
    pub uncommitted: AtomicU64,
}

/// The way to the committer's thread.
pub(crate) struct Committer {
    queue: Mutex<Option<Sender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Figures, also for the status display.
    pub stats: Arc<CommitStats>,
}

/// What the committer works with.
pub(crate) struct Parts {
    pub index: Arc<Index>,
    pub disk: Arc<dyn Disk>,
    pub in_flight: Arc<InFlight>,
    pub relaxed: Arc<RelaxedJournal>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(parts: Parts) -> Result<Self, StoreError> {
        let (queue, waiting) = crossbeam_channel::unbounded();
        let stats = Arc::new(CommitStats::default());
        let worker = Worker {
            parts,
            waiting,
            stats: Arc::clone(&stats),
            redo: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || worker.run())
            .map_err(|e| StoreError::io("start", std::path::Path::new("committer"), e))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
            stats,
        })
    }

    /// Hands in a store. The answer comes after the commit and brings the job back; for a relaxed object that
    /// replaces nothing it comes without the job, as soon as the store is applied.
    pub(crate) fn store(&self, job: Box<StoreJob>) -> Awaited<StoreAnswer> {
        let (answer, awaited) = promise();
        self.send(Work::Store(job, answer));
        awaited
    }

    /// Applies a change and waits until it is committed.
    pub(crate) fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTxn<'_>) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, awaited) = promise::<Result<T, StoreError>>();
        let answer = Arc::new(Mutex::new(Some(answer)));
        let tell = Arc::clone(&answer);
        let give = move |value: Result<T, StoreError>| {
            if let Some(answer) = tell.lock().take() {
                answer.answer(value);
            }
        };
        let fail = {
            let answer = Arc::clone(&answer);
            move |outcome: Result<(), &Failure>| {
                if let (Err(failure), Some(answer)) = (outcome, answer.lock().take()) {
                    answer.answer(Err(failure.into()));
                }
            }
        };
        let change: Change = Box::new(move |txn| {
            let value = change(txn)?;
            Ok(Box::new(move |outcome| {
                give(outcome.map(|()| value).map_err(Into::into));
            }))
        });
        self.send(Work::Change(change, Box::new(fail)));
        drop(answer);
        awaited.wait().ok_or(StoreError::Closed)?
    }

    /// Waits until every store answered so far is committed, and so visible to readers. A durable store is
    /// committed before it is answered: with none but those there is nothing to wait for.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        if self.stats.uncommitted.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let (answer, awaited) = promise();
        self.send(Work::Flush(answer));
        awaited.wait().ok_or(StoreError::Closed)?
    }

    /// Commits what is open and ends the thread. Later work is answered with "closing".
    pub(crate) fn stop(&self) {
        drop(self.queue.lock().take());
        if let Some(thread) = self.thread.lock().take() {
            let _panicked = thread.join();
        }
    }

    /// Work that cannot be sent is dropped, which abandons its promise.
    fn send(&self, work: Work) {
        let queue = self.queue.lock().clone();
        if let Some(queue) = queue {
            let _closed = queue.send(work);
        }
    }
}

struct Worker {
    parts: Parts,
    waiting: Receiver<Work>,
    stats: Arc<CommitStats>,
    /// Acknowledged relaxed stores of a failed transaction.
    redo: Vec<StoreJob>,
}

/// The open transaction.
struct Batch<'i> {
    txn: WriteTxn<'i>,
    changes: usize,
    waiters: Vec<Waiter>,
    relaxed: Vec<StoreJob>,
    commit_now: bool,
    deadline: Instant,
}

impl Worker {
    fn run(mut self) {
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
                        refuse(work, &failure);
                    }
                    continue;
                }
            };
            open = match self.fill(&mut batch, first) {
                Ok(()) if batch.is_due() => {
                    self.commit(batch);
                    None
                }
                Ok(()) => Some(batch),
                Err(failure) => {
                    self.abandon(batch, &failure);
                    None
                }
            };
        }
        if let Some(batch) = open.take() {
            self.commit(batch);
        }
    }

    /// The next piece of work; nothing when the open transaction is due, or a retry is.
    fn next(&self, open: Option<&Batch<'_>>) -> Result<Option<Work>, ()> {
        let deadline = match open {
            Some(batch) => batch.deadline,
            None if self.redo.is_empty() => return self.waiting.recv().map(Some).map_err(drop),
            None => Instant::now() + RETRY_PAUSE,
        };
        match self.waiting.recv_deadline(deadline) {
            Ok(work) => Ok(Some(work)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    fn begin<'i>(&mut self, index: &'i Index) -> Result<Batch<'i>, Failure> {
        let mut batch = Batch {
            txn: index.write()?,
            changes: 0,
            waiters: Vec::new(),
            relaxed: Vec::new(),
            commit_now: false,
            deadline: Instant::now() + RELAXED_DELAY_MAX,
        };
        for job in &self.redo {
            // A refusal now cannot be told to the sender any more; start-up finds the file by its record.
            if let Err(StoreRefusal::Index(error)) = job.apply(&mut batch.txn) {
                return Err(error.into());
            }
            batch.changes += 1;
            batch.commit_now = true;
        }
        batch.relaxed.append(&mut self.redo);
        Ok(batch)
    }

    /// Applies the first piece of work and everything else that waits.
    fn fill(&mut self, batch: &mut Batch<'_>, first: Option<Work>) -> Result<(), Failure> {
        let mut next = first;
        while let Some(work) = next {
            self.apply(batch, work)?;
            if batch.changes >= BATCH_MAX {
                break;
            }
            next = self.waiting.try_recv().ok();
        }
        Ok(())
    }

    fn apply(&mut self, batch: &mut Batch<'_>, work: Work) -> Result<(), Failure> {
        batch.changes += 1;
        match work {
            Work::Store(job, answer) => return self.apply_store(batch, job, answer),
            Work::Change(change, fail) => match change(&mut batch.txn) {
                Ok(waiter) => batch.waiters.push(waiter),
                Err(error) => {
                    let failure = error.into();
                    fail(Err(&failure));
                    return Err(failure);
                }
            },
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
        &self,
        batch: &mut Batch<'_>,
        mut job: Box<StoreJob>,
        answer: Promise<StoreAnswer>,
    ) -> Result<(), Failure> {
        let stored = match job.apply(&mut batch.txn) {
            Ok(stored) => stored,
            Err(refusal @ StoreRefusal::Link { .. }) => {
                batch.changes -= 1;
                let result = Err(StoreError::refused(job.refusal_status, refusal.to_string()));
                answer.answer(StoreAnswer {
                    job: Some(job),
                    result,
                });
                return Ok(());
            }
            Err(StoreRefusal::Index(error)) => {
                let failure = error.into();
                answer.answer(StoreAnswer {
                    job: Some(job),
                    result: Err(StoreError::from(&failure)),
                });
                return Err(failure);
            }
        };
        if let Some(pending) = stored.pending {
            let in_flight = &self.parts.in_flight;
            in_flight.set_file(&job.uid, pending, stored.device, &stored.file);
        }
        // Only a new file under a name that is free in the committed index, too, may be written before the
        // commit: not a re-store, not a deleted object's name, nothing behind a change that could free one.
        let early = job.relaxed && stored.outcome == Outcome::New && !stored.overwrites;
        if early && !batch.commit_now {
            // Applied again after a failed commit, it must get the name that its file has by then.
            job.file_candidate.clone_from(&stored.file);
            job.candidate_taken = false;
            batch.relaxed.push(*job);
            self.stats.uncommitted.fetch_add(1, Ordering::Release);
            answer.answer(StoreAnswer {
                job: None,
                result: Ok(stored),
            });
            return Ok(());
        }
        batch.commit_now = true;
        batch.waiters.push(Box::new(move |outcome| {
            answer.answer(StoreAnswer {
                job: Some(job),
                result: outcome.map(|()| stored).map_err(Into::into),
            });
        }));
        Ok(())
    }

    fn commit(&mut self, batch: Batch<'_>) {
        let started = Instant::now();
        let outcome = self
            .parts
            .disk
            .commit_point()
            .map_err(|e| Failure::Other(e.to_string()))
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
            let relaxed = batch.relaxed.len() as u64;
            self.stats.uncommitted.fetch_sub(relaxed, Ordering::Release);
            // Everything answered so far is committed, so no record is needed any more. Failing to empty the
            // journal costs start-up time, nothing else.
            let _kept = self.parts.relaxed.clear();
        } else {
            self.stats.failures.fetch_add(1, Ordering::Relaxed);
            self.redo.extend(batch.relaxed);
        }
        for waiter in batch.waiters {
            waiter(outcome.as_ref().copied());
        }
    }

    /// Gives up a transaction that broke while it was filled.
    fn abandon(&mut self, batch: Batch<'_>, failure: &Failure) {
        self.stats.failures.fetch_add(1, Ordering::Relaxed);
        drop(batch.txn);
        self.redo.extend(batch.relaxed);
        for waiter in batch.waiters {
            waiter(Err(failure));
        }
    }
}

impl Batch<'_> {
    fn is_due(&self) -> bool {
        self.commit_now
            || self.relaxed.len() >= RELAXED_BATCH_MAX
            || Instant::now() >= self.deadline
    }
}

/// Answers work that no transaction could be begun for.
fn refuse(work: Work, failure: &Failure) {
    match work {
        Work::Store(job, answer) => answer.answer(StoreAnswer {
            job: Some(job),
            result: Err(failure.into()),
        }),
        Work::Change(_, fail) => fail(Err(failure)),
        Work::Flush(answer) => answer.answer(Err(failure.into())),
    }
}
